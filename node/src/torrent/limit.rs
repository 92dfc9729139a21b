//! A rate that several share: each waits until its bytes fit in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Unused time that may be made up for at once: short, so that the rate holds over any second.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit {
    bucket: Option<Arc<Mutex<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// When all that was let through so far has flowed off.
    empty_at: Instant,
}

impl Limit {
    /// At most so many bytes per second; `None` is no limit.
    pub(super) fn new(per_second: Option<u64>) -> Self {
        let bucket = |per_second: u64| {
            Arc::new(Mutex::new(Bucket { per_second: per_second.max(1), empty_at: Instant::now() }))
        };
        Self { bucket: per_second.map(bucket) }
    }

    /// There is a limit: bytes are to be taken in small parts.
    pub(super) fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    /// Waits until `bytes` more may go out. Who asked first goes first.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let until = bucket.lock().unwrap_or_else(PoisonError::into_inner).reserve(bytes, Instant::now());
        sleep_until(until).await;
    }
}

impl Bucket {
    /// When the last of `bytes` may have gone out.
    fn reserve(&mut self, bytes: usize, now: Instant) -> Instant {
        let idle = now.checked_sub(BURST).unwrap_or(now);
        let time = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        self.empty_at = self.empty_at.max(idle) + time;
        self.empty_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_together_keep_to_the_rate_and_idle_time_is_not_made_up_for() {
        let begin = Instant::now();
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let mut bucket = Bucket { per_second: 1_000_000, empty_at: begin };
        // Four that each ask again when they may: 10 MB at 1 MB/s.
        let mut next = [begin; 4];
        for _ in 0..200 {
            next.sort_unstable();
            next[0] = bucket.reserve(50_000, next[0]);
        }
        let elapsed = seconds(begin, next[3].max(next[0]));
        assert!((9.9..=10.0).contains(&elapsed), "{elapsed}");
        let later = begin + Duration::from_secs(3600);
        let end = (0..40).fold(later, |now, _| bucket.reserve(50_000, now));
        assert!((1.85..=2.0).contains(&seconds(later, end)));
    }
}
