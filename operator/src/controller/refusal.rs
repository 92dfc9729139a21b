//! A write that the API server, a quota or a policy refuses. It is told of at once and as long as it lasts, and sent again
//! ever later: the rest of a reconcile goes on meanwhile. Pure.
//!
//! ```text
//!  last refusal ─▶ resting: the same spec and plan, not yet due ─▶ evict, apply: all but that object
//!                                                                          │
//!  next refusal ◀── none: all is written · the last one: it rests · a new one: due later than the last ◀┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{self, Class};
use crate::apply::{Applied, ApplyError, Object};

/// What was refused, and when it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    object: Object,
    /// Why, in words.
    pub(super) words: String,
    basis: Basis,
    /// Refusals in a row.
    times: u32,
    until: Instant,
}

/// What was to be written is of these: another one may be what helps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Basis {
    /// Of the spec.
    pub(super) generation: Option<i64>,
    /// Its plan, where the manifest is known.
    pub(super) plan: Option<String>,
}

impl Refusal {
    /// What comes of an attempt to write on this basis; `last` is what came of the one before. `jitter` is from 0 to 1.
    pub(super) fn after(
        applied: &Result<Applied, ApplyError>,
        last: Option<&Self>,
        basis: Basis,
        now: Instant,
        jitter: f64,
    ) -> Option<Self> {
        let error = match applied {
            Ok(_) => return None,
            Err(ApplyError::Resting { .. }) => return last.cloned(),
            Err(error) => error,
        };
        let times = last.filter(|last| last.basis == basis).map_or(0, |last| last.times).saturating_add(1);
        let until = now + policy::delay(Class::Refused, times, jitter);
        Some(Self { object: error.object()?, words: policy::words(error), basis, times, until })
    }

    /// What is not to be sent on this basis yet.
    pub(super) fn resting(&self, basis: &Basis, now: Instant) -> Option<&Object> {
        (self.basis == *basis && now < self.until).then_some(&self.object)
    }

    /// Time until it is sent again.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn object() -> Object {
        Object { kind: "Service".into(), name: "a".into() }
    }

    fn refused(words: &str) -> Result<Applied, ApplyError> {
        let Object { kind, name } = object();
        let status = kube::core::Status { code: 403, message: words.into(), ..Default::default() };
        let source = kube::Error::Api(Box::new(status));
        Err(ApplyError::Write { action: "apply", kind, namespace: "n".into(), name, source })
    }

    fn rests() -> Result<Applied, ApplyError> {
        Err(ApplyError::Resting { kind: object().kind, namespace: "n".into(), name: object().name })
    }

    fn basis(generation: i64, plan: Option<&str>) -> Basis {
        Basis { generation: Some(generation), plan: plan.map(str::to_owned) }
    }

    #[test]
    fn what_was_refused_rests_until_it_is_due_or_something_else_is_wanted() {
        let now = Instant::now();
        let first = Refusal::after(&refused("no"), None, basis(1, Some("p")), now, 1.0).unwrap();
        let due = first.until;
        assert!(due > now && first.words.contains("no"), "{first:?}");
        let table = [
            ("at once", basis(1, Some("p")), now, true),
            ("when it is due", basis(1, Some("p")), due, false),
            ("later", basis(1, Some("p")), due + SECOND, false),
            ("of another spec", basis(2, Some("p")), now, false),
            ("of another plan", basis(1, Some("q")), now, false),
            ("of no plan", basis(1, None), now, false),
        ];
        for (case, basis, at, resting) in table {
            assert_eq!(first.resting(&basis, at).is_some(), resting, "{case}");
        }
    }

    #[test]
    fn it_is_due_ever_later_until_it_is_written() {
        let now = Instant::now();
        let one = |words, last: Option<&Refusal>, generation| {
            Refusal::after(&refused(words), last, basis(generation, None), now, 1.0)
        };
        let first = one("no", None, 1).unwrap();
        let second = one("never", Some(&first), 1).unwrap();
        assert!(second.words.ends_with("never"), "{second:?}");
        assert_eq!(second.rest(now), 2 * first.rest(now));
        assert_eq!(second.rest(now + 9 * SECOND), Duration::ZERO);
        let table = [
            ("it rests, and what is told stays", rests(), Some(second.clone())),
            ("refused of another spec", refused("no"), Some(Refusal { basis: basis(2, None), ..first })),
            ("written", Ok(Applied::default()), None),
        ];
        for (case, applied, expected) in table {
            let found = Refusal::after(&applied, Some(&second), basis(2, None), now, 1.0);
            assert_eq!(found, expected, "{case}");
        }
    }
}
