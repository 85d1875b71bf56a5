//! Measures two sides in turns, so that other load on the machine affects both.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::ClockId;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The number of rounds. One more comes first, which is not counted.
    pub rounds: usize,
    /// The operations of each side in a round.
    pub operations: usize,
    /// The operations after which the other side takes its turn.
    pub turn: usize,
}

/// Seconds per operation: medians of the rounds.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// The first side's.
    pub first: f64,
    /// The second side's.
    pub second: f64,
    /// The first by the second, per round.
    pub ratio: Spread,
    /// The same of the CPU time, which excludes waiting and other programs.
    pub cpu_ratio: f64,
}

/// A median and its quartiles.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The lower quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub high: f64,
}

impl Spread {
    /// The spread of some numbers.
    pub fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len().saturating_sub(1);
        let at = |quarter: usize| numbers.get(last * quarter / 4).copied().unwrap_or(f64::NAN);
        Self { low: at(1), median: at(2), high: at(3) }
    }

    /// The spread of the inverse numbers.
    pub fn inverse(self) -> Self {
        Self { low: 1.0 / self.high, median: 1.0 / self.median, high: 1.0 / self.low }
    }
}

/// The median of some numbers.
pub fn median(numbers: Vec<f64>) -> f64 {
    Spread::of(numbers).median
}

/// Does the operations with these numbers.
pub type Side<'a> = &'a mut dyn FnMut(Range<usize>) -> Result<()>;

/// Which CPU time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuTime {
    /// That of the measuring thread.
    OfThread,
    /// That of all threads.
    OfProcess,
}

impl CpuTime {
    fn now(self) -> Duration {
        let clock = match self {
            Self::OfThread => ClockId::ThreadCPUTime,
            Self::OfProcess => ClockId::ProcessCPUTime,
        };
        Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
    }
}

/// Measures two sides in turns. Both do operations with the same numbers. No number
/// repeats.
pub fn compare(plan: Plan, first: Side<'_>, second: Side<'_>) -> Result<Compared> {
    compare_by(CpuTime::OfThread, plan, first, second)
}

/// Like [`compare`], with this CPU time.
pub fn compare_by(cpu: CpuTime, plan: Plan, first: Side<'_>, second: Side<'_>) -> Result<Compared> {
    let mut rounds: Vec<[Spent; 2]> = Vec::new();
    let mut number = 0;
    for round in 0..=plan.rounds {
        let mut spent = [Spent::default(); 2];
        let mut done = 0;
        while done < plan.operations {
            let turn = plan.turn.min(plan.operations - done);
            let operations = number + done..number + done + turn;
            let [by_first, by_second] = &mut spent;
            // Always in this order, so that each side finds the processor's caches as the
            // other one left them.
            by_first.measure(cpu, first, operations.clone())?;
            by_second.measure(cpu, second, operations)?;
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
        cpu_ratio: of_rounds(|[first, second]| first.cpu.div_duration_f64(second.cpu)).median,
    })
}

/// Seconds per operation of one of several sides, for each round.
#[derive(Debug, Clone, Default)]
pub struct Rounds {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Rounds {
    /// The median of the rounds.
    pub fn wall(&self) -> f64 {
        median(self.wall.clone())
    }

    /// The median of the CPU time of the measuring thread.
    pub fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }

    /// The time of this side by that of another, round by round.
    pub fn by(&self, other: &Self) -> Spread {
        Self::ratios(&self.wall, &other.wall)
    }

    /// The same of the CPU time, for sides that do not wait.
    pub fn cpu_by(&self, other: &Self) -> Spread {
        Self::ratios(&self.cpu, &other.cpu)
    }

    fn ratios(one: &[f64], other: &[f64]) -> Spread {
        Spread::of(one.iter().zip(other).map(|(one, other)| one / other).collect())
    }
}

/// Measures several sides in turns. Each has the number of operations of its turns. A
/// round is one turn of each side, always in the same order. One more round comes first,
/// which is not counted.
pub fn in_turns(rounds: usize, sides: &mut [(usize, Side<'_>)]) -> Result<Vec<Rounds>> {
    let mut measured = vec![Rounds::default(); sides.len()];
    for round in 0..=rounds {
        for ((operations, side), measured) in sides.iter_mut().zip(&mut measured) {
            let mut spent = Spent::default();
            spent.measure(
                CpuTime::OfThread,
                side,
                round * *operations..(round + 1) * *operations,
            )?;
            if round > 0 {
                measured.wall.push(spent.wall.as_secs_f64() / *operations as f64);
                measured.cpu.push(spent.cpu.as_secs_f64() / *operations as f64);
            }
        }
    }
    Ok(measured)
}

/// The time that a side took in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

impl Spent {
    fn measure(&mut self, cpu: CpuTime, side: Side<'_>, numbers: Range<usize>) -> Result<()> {
        let (start, cpu_before) = (Instant::now(), cpu.now());
        side(numbers)?;
        self.cpu += cpu.now().saturating_sub(cpu_before);
        self.wall += start.elapsed();
        Ok(())
    }
}

/// Measures one side: the median of the seconds per operation.
pub fn alone(plan: Plan, side: Side<'_>) -> Result<f64> {
    Ok(compare(plan, side, &mut |_| Ok(()))?.first)
}

/// Does operations from several threads. Each thread takes the next number.
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

/// Does operations from several threads. Each thread gets a chunk of the numbers.
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

fn side_by_side(work: impl Iterator<Item = impl FnOnce() -> Result<()> + Send>) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a measuring thread panicked"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_do_the_same_operations_once() {
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
    fn several_sides_take_turns() {
        let calls = std::cell::RefCell::new(Vec::new());
        let side = |name: char| {
            let calls = &calls;
            move |numbers: Range<usize>| {
                calls.borrow_mut().push((name, numbers));
                Ok(())
            }
        };
        let (mut a, mut b) = (side('a'), side('b'));
        let measured = in_turns(1, &mut [(2, &mut a), (3, &mut b)]).unwrap();
        assert_eq!(*calls.borrow(), [('a', 0..2), ('b', 0..3), ('a', 2..4), ('b', 3..6)]);
        assert_eq!(measured.iter().map(|side| side.wall.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn chunks_cover_all_numbers() {
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
}
