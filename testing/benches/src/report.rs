//! What was measured, as tables.

use crate::measure::{Compared, Spread};

/// What a ratio shall be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The first side's time by the second's, at most.
    TimeAtMost(f64),
    /// The first side's time by the second's, at least.
    TimeAtLeast(f64),
    /// The first side's throughput by the second's, at least.
    RateAtLeast(f64),
    /// Nothing is asked of the times.
    Time,
    /// Nothing is asked of the throughput.
    Rate,
}

/// Two sides compared.
#[derive(Debug)]
pub struct Row {
    what: String,
    compared: Compared,
    target: Target,
}

impl Row {
    /// Shows it at once too: all of them take minutes.
    pub fn new(what: &str, compared: Compared, target: Target) -> Self {
        let row = Self { what: what.to_owned(), compared, target };
        eprintln!("{}", row.line());
        row
    }

    fn ratio(&self) -> Spread {
        match self.target {
            Target::RateAtLeast(_) | Target::Rate => self.compared.ratio.inverse(),
            _ => self.compared.ratio,
        }
    }

    fn verdict(&self) -> String {
        let ratio = self.ratio().median;
        let (target, is_met) = match self.target {
            Target::TimeAtMost(most) => (format!("at most {most}"), ratio <= most),
            Target::TimeAtLeast(least) | Target::RateAtLeast(least) => {
                (format!("at least {least}"), ratio >= least)
            }
            Target::Time | Target::Rate => return "- | -".to_owned(),
        };
        format!("{target} | {}", if is_met { "met" } else { "MISSED" })
    }

    fn figure(&self, seconds: f64) -> String {
        match self.target {
            Target::RateAtLeast(_) | Target::Rate => rate(seconds),
            _ => time(seconds),
        }
    }

    /// A line of the table.
    fn line(&self) -> String {
        let Spread { low, median, high } = self.ratio();
        let core = match self.target {
            Target::RateAtLeast(_) | Target::Rate => "-".to_owned(),
            _ => format!("{:.2}", self.compared.core_ratio),
        };
        format!(
            "| {} | {} | {} | {median:.2} | {low:.2} to {high:.2} | {core} | {} |",
            self.what,
            self.figure(self.compared.first),
            self.figure(self.compared.second),
            self.verdict()
        )
    }
}

/// The table of comparisons.
pub fn comparisons(sides: [&str; 2], rows: &[Row]) -> String {
    let [first, second] = sides;
    let mut table = format!(
        "| | {first} | {second} | ratio | middle half | by core time | target | |\n|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        table.push_str(&row.line());
        table.push('\n');
    }
    table
}

/// A time, from seconds, in the unit that suits it.
pub fn time(seconds: f64) -> String {
    match seconds {
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        1e-5.. => format!("{:.1} µs", seconds * 1e6),
        1e-6.. => format!("{:.2} µs", seconds * 1e6),
        _ => format!("{:.1} ns", seconds * 1e9),
    }
}

/// Operations a second, from the seconds that one takes.
pub fn rate(seconds: f64) -> String {
    format!("{:.0}/s", 1.0 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: f64, target: Target) -> Row {
        let ratio = Spread { low: ratio, median: ratio, high: ratio };
        Row::new("get", Compared { first: 2e-6, second: 1e-6, ratio, core_ratio: 1.0 }, target)
    }

    #[test]
    fn a_target_that_is_missed_says_so() {
        assert!(row(1.11, Target::TimeAtMost(1.1)).line().ends_with("MISSED |"));
        assert!(row(1.09, Target::TimeAtMost(1.1)).line().ends_with("met |"));
        // Twice the time is half the throughput.
        assert!(row(2.0, Target::RateAtLeast(0.9)).line().ends_with("MISSED |"));
        assert!(row(1.0, Target::RateAtLeast(0.9)).line().ends_with("met |"));
        assert!(row(3.9, Target::TimeAtLeast(4.0)).line().ends_with("MISSED |"));
        assert!(row(4.0, Target::TimeAtLeast(4.0)).line().ends_with("met |"));
        assert!(row(9.0, Target::Time).line().ends_with("| - | - |"));
    }

    #[test]
    fn figures_have_their_units() {
        assert_eq!(time(0.0021), "2.10 ms");
        assert_eq!(time(21e-6), "21.0 µs");
        assert_eq!(time(2.1e-6), "2.10 µs");
        assert_eq!(time(41.23e-9), "41.2 ns");
        assert_eq!(rate(0.001), "1000/s");
    }
}
