//! Rate limits in a manifest.

use std::time::Duration;

use serde::Deserialize;

use crate::manifest::Bound;
use crate::rate::RateLimit;

/// The fields of `rate`. Missing ones have the host's values.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateTable {
    operations_per_second: Option<Bound>,
    bytes_per_second: Option<Bound>,
    burst_seconds: Option<f64>,
}

impl RateTable {
    /// Applies this table on top of a rate limit.
    ///
    /// # Errors
    /// What is wrong, without the name of the component.
    pub(crate) fn over(self, base: &RateLimit) -> Result<RateLimit, String> {
        let rate = |own: Option<Bound>, base: Option<u64>| match own {
            None => base,
            Some(bound) => Some(bound.number()).filter(|number| *number != u64::MAX),
        };
        let burst = match self.burst_seconds {
            None => base.burst(),
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("burst_seconds is {seconds}: use a positive number"))?,
        };
        let operations = rate(self.operations_per_second, base.operations_per_second());
        let bytes = rate(self.bytes_per_second, base.bytes_per_second());
        RateLimit::new(operations, bytes, burst).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;

    #[test]
    fn missing_parts_of_a_rate_are_the_hosts() {
        let of = |own: &str| {
            let text = format!(
                "rate = {{ operations_per_second = 10, burst_seconds = 2 }}\n[[component]]\nid = \
                 'a/b/c'\n{own}"
            );
            let manifest: Manifest = text.parse().unwrap();
            assert_eq!(manifest.defaults.rate.operations_per_second(), Some(10));
            manifest.components[0].settings.rate
        };
        let rate = |operations, bytes, seconds| {
            RateLimit::new(operations, bytes, Duration::from_secs_f64(seconds)).unwrap()
        };
        assert_eq!(of(""), rate(Some(10), None, 2.0));
        assert_eq!(of("rate = {}"), rate(Some(10), None, 2.0));
        assert_eq!(of("rate = { bytes_per_second = 7 }"), rate(Some(10), Some(7), 2.0));
        assert_eq!(of("rate = { burst_seconds = 0.5 }"), rate(Some(10), None, 0.5));
        assert_eq!(of("rate = { operations_per_second = 'none' }"), rate(None, None, 2.0));
    }

    #[test]
    fn errors_in_a_rate_name_the_component_and_what_is_possible() {
        let error = |text: &str| text.parse::<Manifest>().unwrap_err().to_string();
        let own = |rate: &str| error(&format!("[[component]]\nid = 'a/b/c'\nrate = {{ {rate} }}"));
        assert_eq!(
            own("operations_per_second = 0"),
            "rate of component a/b/c: a rate of 0 operations per second allows no call: use at \
             least 1"
        );
        assert_eq!(
            own("bytes_per_second = 2\nburst_seconds = 0.25".replace('\n', ", ").as_str()),
            "rate of component a/b/c: a rate of 2 bytes per second with a burst of 0.25 s allows \
             less than one byte at once: use a burst of at least 0.5 s"
        );
        assert_eq!(
            own("burst_seconds = -1"),
            "rate of component a/b/c: burst_seconds is -1: use a positive number"
        );
        assert_eq!(
            error("rate.operations_per_second = 0"),
            "rate: a rate of 0 operations per second allows no call: use at least 1"
        );
        assert!(error("rate.operations = 1").contains("unknown field `operations`"));
        assert!(error("rate.bytes_per_second = 'all'").contains("a number, or \"none\""));
    }
}
