//! Two sides measured in turns, so that whatever else the machine does falls on
//! both.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::ClockId;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often the whole is repeated.
    pub rounds: usize,
    /// The operations of each side in a round.
    pub operations: usize,
    /// The operations after which it is the other side's turn.
    pub turn: usize,
}

/// Times of one operation, in seconds: medians of the rounds.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// The first side's.
    pub first: f64,
    /// The second side's.
    pub second: f64,
    /// First by second, round by round.
    pub ratio: Spread,
    /// The same of the time in which a thread had a core: what other programs take
    /// does not count, nor does waiting.
    pub core_ratio: f64,
}

/// The median and the quartiles around it.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// A quarter of the numbers is at most this.
    pub low: f64,
    /// Half of them is.
    pub median: f64,
    /// Three quarters are.
    pub high: f64,
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len().saturating_sub(1);
        let at = |quarter: usize| numbers.get(last * quarter / 4).copied().unwrap_or(f64::NAN);
        Self { low: at(1), median: at(2), high: at(3) }
    }

    /// The same of the inverse numbers.
    pub fn inverse(self) -> Self {
        Self { low: 1.0 / self.high, median: 1.0 / self.median, high: 1.0 / self.low }
    }
}

/// The number in the middle.
pub fn median(numbers: Vec<f64>) -> f64 {
    Spread::of(numbers).median
}

/// A side: does the operations of these numbers.
pub type Side<'a> = &'a mut dyn FnMut(Range<usize>) -> Result<()>;

/// Whose time with a core counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// That of the thread that measures, and not that of others.
    OfThread,
    /// That of all threads of the program.
    OfProgram,
}

impl Core {
    /// For how long there has been a core.
    fn time(self) -> Duration {
        let clock = match self {
            Self::OfThread => ClockId::ThreadCPUTime,
            Self::OfProgram => ClockId::ProcessCPUTime,
        };
        Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
    }
}

/// Measures two sides in turns. Both do the operations of the same numbers; no
/// number comes twice. A first round is not counted.
pub fn compare(plan: Plan, first: Side<'_>, second: Side<'_>) -> Result<Compared> {
    compare_by(Core::OfThread, plan, first, second)
}

/// The same, by the time that `core` had a core.
pub fn compare_by(core: Core, plan: Plan, first: Side<'_>, second: Side<'_>) -> Result<Compared> {
    let mut rounds: Vec<[Spent; 2]> = Vec::new();
    let mut number = 0;
    for round in 0..=plan.rounds {
        let mut spent = [Spent::default(); 2];
        let mut done = 0;
        while done < plan.operations {
            let turn = plan.turn.min(plan.operations - done);
            let operations = number + done..number + done + turn;
            let [by_first, by_second] = &mut spent;
            // Always in this order: each finds the processor's caches as the other has
            // left them. One that has two turns in a row finds its own.
            by_first.measure(core, first, operations.clone())?;
            by_second.measure(core, second, operations)?;
            done += turn;
        }
        number += plan.operations;
        if round > 0 {
            rounds.push(spent);
        }
    }
    let of_rounds =
        |figure: fn(&[Spent; 2]) -> f64| Spread::of(rounds.iter().map(figure).collect());
    let operations = plan.operations.max(1) as f64;
    Ok(Compared {
        first: of_rounds(|[first, _]| first.wall.as_secs_f64()).median / operations,
        second: of_rounds(|[_, second]| second.wall.as_secs_f64()).median / operations,
        ratio: of_rounds(|[first, second]| first.wall.div_duration_f64(second.wall)),
        core_ratio: of_rounds(|[first, second]| first.core.div_duration_f64(second.core)).median,
    })
}

/// What a side has taken in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    core: Duration,
}

impl Spent {
    fn measure(&mut self, core: Core, side: Side<'_>, numbers: Range<usize>) -> Result<()> {
        let (start, had) = (Instant::now(), core.time());
        side(numbers)?;
        self.core += core.time().saturating_sub(had);
        self.wall += start.elapsed();
        Ok(())
    }
}

/// Measures one side as [`compare`] does: the median time of one operation, in
/// seconds.
pub fn alone(plan: Plan, side: Side<'_>) -> Result<f64> {
    Ok(compare(plan, side, &mut |_| Ok(()))?.first)
}

/// Does operations from several threads, each taking the next number.
pub fn together(
    threads: usize,
    numbers: Range<usize>,
    operation: &(impl Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    let next = AtomicUsize::new(numbers.start);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return Ok(());
            }
            operation(number)?;
        }
    };
    side_by_side((0..threads).map(|_| work))
}

/// Does operations from several threads, each a chunk of its own: nothing is
/// shared between them but what they operate on.
pub fn in_chunks(
    threads: usize,
    numbers: Range<usize>,
    chunk: &(impl Fn(Range<usize>) -> Result<()> + Sync),
) -> Result<()> {
    let border = |thread: usize| numbers.start + numbers.len() * thread / threads.max(1);
    side_by_side((0..threads).map(|thread| {
        let numbers = border(thread)..border(thread + 1);
        move || chunk(numbers)
    }))
}

/// Does each piece of work in a thread of its own.
pub fn side_by_side(work: impl Iterator<Item = impl FnOnce() -> Result<()> + Send>) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread that measures has panicked"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_do_the_same_and_no_number_comes_twice() {
        let plan = Plan { rounds: 3, operations: 10, turn: 4 };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let by_first = &mut |numbers: Range<usize>| {
            first.extend(numbers);
            Ok(())
        };
        let by_second = &mut |numbers: Range<usize>| {
            second.extend(numbers);
            Ok(())
        };
        compare(plan, by_first, by_second).unwrap();
        assert_eq!(first, (0..40).collect::<Vec<_>>());
        assert_eq!(second, first);
    }

    #[test]
    fn a_side_that_takes_longer_shows() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let inverse = spread.inverse();
        assert_eq!((inverse.low, inverse.median, inverse.high), (0.25, 1.0 / 3.0, 0.5));
    }

    #[test]
    fn each_thread_gets_a_chunk_and_no_number_is_left_out() {
        for threads in [1, 2, 3] {
            let chunks = std::sync::Mutex::new(Vec::new());
            in_chunks(threads, 5..16, &|numbers| {
                chunks.lock().unwrap().push(numbers);
                Ok(())
            })
            .unwrap();
            let mut chunks = chunks.into_inner().unwrap();
            chunks.sort_by_key(|numbers| numbers.start);
            assert_eq!(chunks.len(), threads);
            assert_eq!(
                chunks.into_iter().flatten().collect::<Vec<_>>(),
                (5..16).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn threads_share_the_numbers() {
        let sum = AtomicUsize::new(0);
        let operation = |number| {
            sum.fetch_add(number, Ordering::Relaxed);
            Ok(())
        };
        together(4, 10..1010, &operation).unwrap();
        assert_eq!(sum.into_inner(), (10..1010).sum());
        assert!(together(2, 0..5, &|_| bail!("no")).is_err());
    }
}
