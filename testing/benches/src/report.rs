//! Tables of measurements.

use crate::measure::{Compared, Spread};

/// The required ratio.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The time of the first side by that of the second is at most this.
    TimeAtMost(f64),
    /// The throughput of the first side by that of the second is at least this.
    RateAtLeast(f64),
    /// Times without a target.
    Time,
    /// Throughput without a target.
    Rate,
}

/// A row of a table: two sides compared.
#[derive(Debug)]
pub struct Row {
    what: String,
    compared: Compared,
    target: Target,
}

impl Row {
    /// Also prints the row, since a whole table takes minutes.
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

    fn target(&self) -> String {
        let ratio = self.ratio().median;
        let (target, is_met) = match self.target {
            Target::TimeAtMost(most) => (format!("at most {most}"), ratio <= most),
            Target::RateAtLeast(least) => (format!("at least {least}"), ratio >= least),
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

    fn line(&self) -> String {
        let Spread { low, median, high } = self.ratio();
        let cpu = match self.target {
            Target::RateAtLeast(_) | Target::Rate => "-".to_owned(),
            _ => format!("{:.2}", self.compared.cpu_ratio),
        };
        format!(
            "| {} | {} | {} | {median:.2} | {low:.2} to {high:.2} | {cpu} | {} |",
            self.what,
            self.figure(self.compared.first),
            self.figure(self.compared.second),
            self.target()
        )
    }
}

/// A table with these rows.
pub fn comparisons(sides: [&str; 2], rows: &[Row]) -> String {
    let [first, second] = sides;
    let mut table = format!(
        "| | {first} | {second} | ratio | quartiles | by CPU time | target | |\n|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        table.push_str(&row.line());
        table.push('\n');
    }
    table
}

/// Formats seconds with a suitable unit.
pub fn time(seconds: f64) -> String {
    match seconds {
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        1e-5.. => format!("{:.1} µs", seconds * 1e6),
        1e-6.. => format!("{:.2} µs", seconds * 1e6),
        _ => format!("{:.1} ns", seconds * 1e9),
    }
}

/// Operations per second, from the seconds per operation.
pub fn rate(seconds: f64) -> String {
    format!("{:.0}/s", 1.0 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: f64, target: Target) -> Row {
        let ratio = Spread { low: ratio, median: ratio, high: ratio };
        Row::new("get", Compared { first: 2e-6, second: 1e-6, ratio, cpu_ratio: 1.0 }, target)
    }

    #[test]
    fn rows_say_whether_the_target_is_met() {
        assert!(row(1.11, Target::TimeAtMost(1.1)).line().ends_with("MISSED |"));
        assert!(row(1.09, Target::TimeAtMost(1.1)).line().ends_with("met |"));
        // Twice the time is half the throughput.
        assert!(row(2.0, Target::RateAtLeast(0.9)).line().ends_with("MISSED |"));
        assert!(row(1.0, Target::RateAtLeast(0.9)).line().ends_with("met |"));
        assert!(row(9.0, Target::Time).line().ends_with("| - | - |"));
    }
}
