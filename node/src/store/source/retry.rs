//! When to try again. Pure.

use std::time::Duration;

use super::{Class, SourceError};

/// How long to wait for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes.
    pub read: Duration,
    /// Before the second attempt; doubled for every further one.
    pub first: Duration,
    /// Between attempts at most, whatever the source asks for.
    pub most: Duration,
    /// Attempts in a row that bring nothing.
    pub attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            read: Duration::from_secs(60),
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            attempts: 8,
        }
    }
}

impl Patience {
    /// How long to wait after `failed` attempts in a row, of which the last ended with `error`; `None` is to give up.
    #[must_use]
    pub fn pause(&self, failed: u32, error: &SourceError) -> Option<Duration> {
        if error.class() != Class::Passing || failed >= self.attempts {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << failed.saturating_sub(1).min(16));
        let asked = match error {
            SourceError::Status { retry_after: Some(after), .. } => *after,
            _ => Duration::ZERO,
        };
        Some(doubled.max(asked).min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn status(code: u16, retry_after: Option<u64>) -> SourceError {
        let status = StatusCode::from_u16(code).unwrap();
        let retry_after = retry_after.map(Duration::from_secs);
        SourceError::Status { url: String::new(), status, retry_after }
    }

    #[test]
    fn what_passes_is_tried_again_ever_later_and_the_rest_is_not() {
        let broken =
            || SourceError::Broken { url: String::new(), bytes: 1, total: None, reason: String::new() };
        let checksum =
            SourceError::Checksum { url: String::new(), found: String::new(), expected: String::new() };
        for (failed, error, seconds) in [
            (1, broken(), Some(1)),
            (2, broken(), Some(2)),
            (5, broken(), Some(16)),
            (7, broken(), Some(60)),
            (8, broken(), None),
            (1, status(500, None), Some(1)),
            (1, status(503, Some(7)), Some(7)),
            (5, status(503, Some(7)), Some(16)),
            (1, status(429, Some(86_400)), Some(60)),
            (1, status(408, None), Some(1)),
            (1, status(401, None), None),
            (1, status(403, None), None),
            (1, status(404, None), None),
            (1, status(501, None), None),
            (1, checksum, None),
        ] {
            let pause = Patience::default().pause(failed, &error);
            assert_eq!(pause, seconds.map(Duration::from_secs), "{failed} × {error}");
        }
    }
}
