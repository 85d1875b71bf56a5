//! What a hit costs, beside one of the bare cache below.

use anyhow::Result;
use benches::Size;
use benches::measure;
use benches::report::{Row, Target, comparisons};

use crate::asked::Asked;
use crate::sides::{self, Bare, ByHand, Literal, Moka};
use crate::turns::{Pace, Setting, Turns};

const THREADS: [usize; 2] = [1, 2];
const VALUE_BYTES: [usize; 2] = [100, 4096];
const KEYS: [usize; 3] = [1_000, 10_000, 100_000];

/// Where the document's composition has to be slower than ours.
const KEYS_OF_LITERAL: usize = 10_000;

/// The names of sides that stand in two tables.
const BARE: &str = "bare quick_cache";
const CREATED: &str = "`create_component_storage`";
const LITERAL: &str = "the document, literally";

/// What was measured.
#[derive(Debug)]
pub(crate) struct Hits {
    /// The tables.
    pub(crate) text: String,
    pub(crate) figures: Vec<Figure>,
}

/// What a hit took.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) side: &'static str,
    pub(crate) setting: Setting,
    /// The number of keys.
    pub(crate) keys: usize,
    /// From one hit to the next, of all threads together.
    pub(crate) seconds: f64,
}

/// Measures all sides.
pub(crate) fn run(size: Size) -> Result<Hits> {
    let mut bench = Bench { rounds: size.pick(11, 3), ..Bench::default() };
    let mut text = String::new();
    for threads in THREADS {
        for value_bytes in VALUE_BYTES {
            let setting = Setting { threads, value_bytes, pace: Pace::Ahead };
            eprintln!("\n{}:", setting.name());
            for keys in KEYS.iter().take(size.pick(KEYS.len(), 2)) {
                bench.measure(setting, &Asked::new(*keys, value_bytes))?;
            }
            let table = comparisons(["", BARE], &std::mem::take(&mut bench.rows));
            text.push_str(&format!("{}:\n\n{table}\n", setting.name()));
        }
    }
    text.push_str("1 thread, which looks at each value before it asks for the next key:\n\n");
    text.push_str(&comparisons(["", BARE], &bench.in_turn));
    text.push_str("\nThe document's composition beside ours:\n\n");
    text.push_str(&comparisons([LITERAL, CREATED], &bench.of_literal));
    text.push_str(
        "\nBytes of the value that a hit copies: all of them in the document's, none in all others \
         (two hits of a key return one allocation, which is checked for every key).\n",
    );
    Ok(Hits { text, figures: bench.figures })
}

/// What is measured, and what was so far.
#[derive(Debug, Default)]
struct Bench {
    rounds: usize,
    /// Those of the table that is being made.
    rows: Vec<Row>,
    in_turn: Vec<Row>,
    of_literal: Vec<Row>,
    figures: Vec<Figure>,
}

impl Bench {
    fn measure(&mut self, setting: Setting, asked: &Asked) -> Result<()> {
        let bare = Bare::new(asked);
        let turns = Turns::new(setting, asked, self.rounds, &bare)?;
        let target = target_of_ours(setting, asked.len());
        let place = self.figures.len();
        let mut of_bare = Vec::new();
        let mut add = |name: &'static str, target, compared: measure::Compared| {
            let what = format!("{}: {name}", thousands(asked.len()));
            self.rows.push(Row::new(&what, compared, target));
            let figure = |side, seconds| Figure { side, setting, keys: asked.len(), seconds };
            self.figures.push(figure(name, compared.first));
            of_bare.push(compared.second);
        };
        // Each is gone before the next comes: together they would need gigabytes.
        add(CREATED, target, turns.compare(&sides::created(asked)?, &bare)?);
        add("`StorageHost`", Target::Time, turns.compare(&sides::hosted(asked)?, &bare)?);
        let sharing = sides::sharing(asked)?;
        add("`StorageHost`, shared cache", Target::Time, turns.compare(&sharing, &bare)?);
        drop(sharing);
        add("prefix by hand", Target::Time, turns.compare(&ByHand::new(asked), &bare)?);
        add("moka", Target::Time, turns.compare(&Moka::new(asked), &bare)?);
        add(LITERAL, Target::Time, turns.compare(&Literal::new(asked), &bare)?);
        let seconds = measure::median(of_bare);
        self.figures.insert(place, Figure { side: BARE, setting, keys: asked.len(), seconds });

        let compared = turns.compare(&Literal::new(asked), &sides::created(asked)?)?;
        let what = format!("{}, {} keys", setting.name(), thousands(asked.len()));
        self.of_literal.push(Row::new(&what, compared, target_of_literal(setting, asked.len())));
        if setting.threads == 1 {
            self.measure_in_turn(Setting { pace: Pace::InTurn, ..setting }, asked, &bare)?;
        }
        Ok(())
    }

    fn measure_in_turn(&mut self, setting: Setting, asked: &Asked, bare: &Bare) -> Result<()> {
        let turns = Turns::new(setting, asked, self.rounds, bare)?;
        let what = |name: &str| {
            format!("{} × {} bytes: {name}", thousands(asked.len()), setting.value_bytes)
        };
        let compared = turns.compare(&sides::created(asked)?, bare)?;
        let target = target_of_ours(setting, asked.len());
        self.in_turn.push(Row::new(&what(CREATED), compared, target));
        let compared = turns.compare(&ByHand::new(asked), bare)?;
        self.in_turn.push(Row::new(&what("prefix by hand"), compared, Target::Time));
        Ok(())
    }
}

fn target_of_ours(setting: Setting, keys: usize) -> Target {
    match (setting.threads, keys) {
        (1, 1_000) => Target::TimeAtMost(1.8),
        (1, 100_000) => Target::TimeAtMost(1.35),
        _ => Target::Time,
    }
}

fn target_of_literal(setting: Setting, keys: usize) -> Target {
    match (keys, setting.value_bytes, setting.threads) {
        (KEYS_OF_LITERAL, 100, 1) => Target::TimeAtLeast(4.0),
        (KEYS_OF_LITERAL, 100, _) => Target::TimeAtLeast(6.0),
        (KEYS_OF_LITERAL, ..) => Target::TimeAtLeast(10.0),
        _ => Target::Time,
    }
}

/// A number with a comma before its last three digits, if it is that long.
pub(crate) fn thousands(number: usize) -> String {
    match number {
        1_000.. => format!("{},{:03}", number / 1_000, number % 1_000),
        _ => number.to_string(),
    }
}
