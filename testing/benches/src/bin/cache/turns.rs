//! Two sides asked in turns.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use benches::measure::{self, Compared, Core, Plan};

use crate::asked::Asked;
use crate::sides::{self, Found as _, Side};

/// Long beside the start of a thread.
const TURN: Duration = Duration::from_millis(25);

/// How the sides are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) threads: usize,
    pub(crate) value_bytes: usize,
    pub(crate) pace: Pace,
}

/// When the next key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Whenever the processor gets to it. It works on several gets at once, as
    /// far ahead as it sees, and so waits for memory once for all of these.
    Ahead,
    /// When the value before has been looked at, which is what a caller does who
    /// does anything with it.
    InTurn,
}

impl Setting {
    /// It, in words.
    pub(crate) fn name(self) -> String {
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        format!("{} {threads}, values of {} bytes", self.threads, self.value_bytes)
    }

    /// Gets the keys of these operations; each thread those of its own chunk.
    fn ask(self, side: &impl Side, asked: &Asked, numbers: Range<usize>) -> Result<()> {
        let ask = |numbers: Range<usize>| {
            let all_there = match self.pace {
                Pace::Ahead => ask_ahead(side, asked, numbers),
                Pace::InTurn => ask_in_turn(side, asked, numbers),
            };
            ensure!(all_there, "a key is missing");
            Ok(())
        };
        match self.threads {
            1 => ask(numbers),
            threads => measure::in_chunks(threads, numbers, &ask),
        }
    }
}

#[inline(never)]
fn ask_ahead(side: &impl Side, asked: &Asked, mut numbers: Range<usize>) -> bool {
    numbers.all(|number| black_box(&side.get(asked.key(number))).bytes().is_some())
}

#[inline(never)]
fn ask_in_turn(side: &impl Side, asked: &Asked, mut numbers: Range<usize>) -> bool {
    // Always zero, as values begin with a digit; but that only the value says.
    let mut high_bit = 0;
    numbers.all(|number| {
        let found = side.get(asked.key(number + high_bit));
        let first = black_box(&found).bytes().and_then(|value| value.first());
        high_bit = first.map_or(0, |byte| usize::from(byte >> 7));
        first.is_some()
    })
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns<'a> {
    setting: Setting,
    asked: &'a Asked,
    rounds: usize,
    /// The operations of a turn.
    operations: usize,
}

impl<'a> Turns<'a> {
    /// Turns in which the fastest side, which is full, takes long enough.
    pub(crate) fn new(
        setting: Setting,
        asked: &'a Asked,
        rounds: usize,
        fastest: &impl Side,
    ) -> Result<Self> {
        const TRIED: usize = 200_000;
        let mut least = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            setting.ask(fastest, asked, 0..TRIED)?;
            least = least.min(start.elapsed());
        }
        let operations = (TRIED as f64 * TURN.div_duration_f64(least)) as usize;
        Ok(Self { setting, asked, rounds, operations })
    }

    /// Fills both sides and measures them; anew, if that took so long that entries
    /// expired meanwhile.
    pub(crate) fn compare(self, first: &impl Side, second: &impl Side) -> Result<Compared> {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            if let Some(compared) = self.compare_once(first, second)? {
                return Ok(compared);
            }
            eprintln!("entries have expired while they were asked for: once more");
        }
        bail!("entries expire while they are asked for: the machine is too busy")
    }

    /// `None` if not every get was a hit.
    fn compare_once(self, first: &impl Side, second: &impl Side) -> Result<Option<Compared>> {
        let Self { setting, asked, rounds, operations } = self;
        let core = if setting.threads == 1 { Core::OfThread } else { Core::OfProgram };
        sides::fill(second, asked)?;
        sides::fill(first, asked)?;
        let missed = || (first.missed(), second.missed());
        let missed_before = missed();
        let compared = measure::compare_by(
            core,
            Plan { rounds, operations, turn: operations },
            &mut |numbers| setting.ask(first, asked, numbers),
            &mut |numbers| setting.ask(second, asked, numbers),
        )?;
        Ok((missed() == missed_before).then_some(compared))
    }
}
