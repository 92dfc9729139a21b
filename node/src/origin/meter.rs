//! How fast something goes, and when it will be done. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The rate is of this time: long enough to be calm, short enough to show a change.
const WINDOW: Duration = Duration::from_secs(5);
/// Between samples, so that there are few.
const SAMPLE: Duration = Duration::from_millis(250);

/// Measures a rate.
#[derive(Debug)]
pub(super) struct Meter {
    samples: VecDeque<(Instant, u64)>,
    is_first: bool,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]), is_first: true }
    }

    /// Bytes per second, now that `bytes` are done. Those that were there at the first look count for nothing.
    pub(super) fn at(&mut self, now: Instant, bytes: u64) -> f64 {
        let is_back = self.samples.back().is_some_and(|(_, last)| bytes < *last);
        if self.is_first || is_back {
            self.samples = VecDeque::from([(now, bytes)]);
            self.is_first = false;
        }
        while let [Some(_), Some((second, _))] = [self.samples.front(), self.samples.get(1)]
            && now.duration_since(*second) >= WINDOW
        {
            self.samples.pop_front();
        }
        if self.samples.back().is_some_and(|(last, _)| now.duration_since(*last) >= SAMPLE) {
            self.samples.push_back((now, bytes));
        }
        let Some((since, before)) = self.samples.front() else { return 0.0 };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds > 0.0 { (bytes - before) as f64 / seconds } else { 0.0 }
    }
}

/// 0 to 100; whole only when all is done.
pub(super) fn percent(bytes: u64, total: u64) -> f64 {
    if bytes >= total { 100.0 } else { (bytes as f64 * 1000.0 / total as f64).floor() / 10.0 }
}

/// Seconds until all is done; `None` while nothing moves.
pub(super) fn eta(bytes: u64, total: u64, rate: f64) -> Option<u64> {
    (rate >= 1.0).then(|| (total.saturating_sub(bytes) as f64 / rate).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        // What an earlier run has fetched.
        assert_eq!(meter.at(at(1000), 5_000_000), 0.0);
        assert_eq!(meter.at(at(2000), 6_000_000), 1e6);
        for second in 3..=60 {
            meter.at(at(second * 1000), 6_000_000 + (second - 2) * 2_000_000);
        }
        assert_eq!(meter.at(at(61_000), 124_000_000), 2e6);
        // It stands still.
        assert_eq!(meter.at(at(71_000), 124_000_000), 0.0);
        // From the beginning.
        assert_eq!(meter.at(at(72_000), 1000), 0.0);
        assert_eq!(meter.at(at(73_000), 2000), 1000.0);
        assert!(meter.samples.len() < 30);
    }

    #[test]
    fn all_is_all() {
        assert_eq!(percent(0, 10), 0.0);
        assert_eq!(percent(999_999, 1_000_000), 99.9);
        assert_eq!(percent(10, 10), 100.0);
        assert_eq!(percent(0, 0), 100.0);
        assert_eq!(eta(0, 10, 0.0), None);
        assert_eq!(eta(0, 10, 3.0), Some(4));
    }
}
