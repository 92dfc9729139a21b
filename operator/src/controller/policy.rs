//! When a failed reconcile is tried again: by the class of its error. Pure, but for the dice.

use std::time::Duration;

use tokio::time::Instant;

use super::{ReconcileError, WriteStatusError};
use crate::apply::ApplyError;
use crate::error_class::ErrorClass;
use crate::observe::ObserveError;

/// Conflicts that are retried at once; with more, two writers are at odds.
const AT_ONCE: u32 = 5;
const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(120);
const DOUBLINGS: u32 = 8;

pub(super) fn class(error: &ReconcileError) -> ErrorClass {
    match error {
        ReconcileError::Apply(error) => error.class(),
        ReconcileError::Refused { .. } => ErrorClass::Refused,
        error => api(error).map_or(ErrorClass::Internal, ErrorClass::of_request),
    }
}

/// What a busy API server says of when to come again.
pub(super) fn asked_to_wait(error: &ReconcileError) -> Duration {
    let Some(kube::Error::Api(status)) = api(error) else { return Duration::ZERO };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into()).min(LAST)
}

fn api(error: &ReconcileError) -> Option<&kube::Error> {
    match error {
        ReconcileError::Observe(ObserveError::Get { source, .. } | ObserveError::List { source, .. })
        | ReconcileError::Apply(ApplyError::Write { source, .. })
        | ReconcileError::Status(WriteStatusError::Write { source, .. }) => Some(source),
        ReconcileError::Observe(ObserveError::Kept { .. })
        | ReconcileError::Apply(_)
        | ReconcileError::Refused { .. }
        | ReconcileError::Keys(_)
        | ReconcileError::Status(WriteStatusError::Json(_)) => None,
    }
}

/// After so many failures in a row, the next attempt is due in this time. `jitter` is from 0 to 1: many ShardClusters that
/// fail together are not tried together.
pub(super) fn delay(class: ErrorClass, failures: u32, jitter: f64) -> Duration {
    if class == ErrorClass::Conflict && failures <= AT_ONCE {
        return Duration::ZERO;
    }
    let doubled = FIRST * 2u32.pow(failures.saturating_sub(1).min(DOUBLINGS));
    doubled.min(LAST).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// What failed, and when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BackOff {
    /// Of the spec that was tried.
    pub(super) generation: Option<i64>,
    pub(super) until: Instant,
}

impl BackOff {
    /// How much longer news has to wait, if at all. Another spec may be what helps.
    pub(super) fn rest(&self, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let rest = self.until.saturating_duration_since(now);
        (self.generation == generation && !rest.is_zero()).then_some(rest)
    }
}

/// From 0 to 1. Without random bytes there is no jitter, which is no reason to stop.
pub(super) fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_retried_at_once_and_the_rest_ever_later_within_bounds() {
        assert_eq!(delay(ErrorClass::Conflict, 1, 0.7), Duration::ZERO);
        assert!(delay(ErrorClass::Conflict, AT_ONCE + 1, 0.7) > Duration::ZERO);
        let full: Vec<_> = (1..=20).map(|failures| delay(ErrorClass::Api, failures, 1.0)).collect();
        assert_eq!(full[0], FIRST);
        assert!(full.windows(2).all(|pair| pair[0] <= pair[1]), "{full:?}");
        assert_eq!(full[19], LAST);
        assert_eq!(delay(ErrorClass::Api, u32::MAX, 0.0), LAST / 2);
    }

    #[test]
    fn news_waits_for_the_next_attempt_and_another_spec_does_not() {
        let now = Instant::now();
        let (long, second) = (Duration::from_secs(9), Duration::from_secs(1));
        let back_off = BackOff { generation: Some(1), until: now + long };
        let table = [
            (Some(1), now, Some(long)),
            (Some(1), now + long - second, Some(second)),
            (Some(1), now + long, None),
            (Some(1), now + long + second, None),
            (Some(2), now, None),
            (None, now, None),
        ];
        for (generation, at, rest) in table {
            assert_eq!(back_off.rest(generation, at), rest, "{generation:?}, {:?}", at - now);
        }
    }
}
