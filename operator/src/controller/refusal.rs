//! A write that the API server, a quota or a policy refuses. It is told of at once and as long as it lasts, and sent again
//! ever later: the rest of a reconcile goes on meanwhile. Pure.
//!
//! ```text
//!  last refusal ─▶ resting: the same spec and plan, not yet due ─▶ evict, apply: all but these objects
//!                                                                          │
//!  next refusal ◀── none: all is written · the last one: it rests · a new one: due later than the last ◀┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::policy;
use crate::apply::{ApplyError, Object};
use crate::error_class::ErrorClass;
use crate::words::words;

/// What was refused, and when it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    objects: Vec<Object>,
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
    /// What comes of an attempt to write on this basis that left `refused`; `last` is what came of the one before. `jitter`
    /// is from 0 to 1.
    pub(super) fn after(
        refused: &[ApplyError],
        last: Option<&Self>,
        basis: Basis,
        now: Instant,
        jitter: f64,
    ) -> Option<Self> {
        let objects: Vec<Object> = refused.iter().filter_map(ApplyError::object).collect();
        let mut new = refused.iter().filter(|error| !matches!(error, ApplyError::Resting { .. }));
        let Some(first) = new.next() else {
            return last.filter(|_| !objects.is_empty()).cloned();
        };
        let words = match objects.len() - 1 {
            0 => words(first),
            more => format!("{}; and {more} more objects are refused", words(first)),
        };
        let times = last.filter(|last| last.basis == basis).map_or(0, |last| last.times).saturating_add(1);
        let until = now + policy::delay(ErrorClass::Refused, times, jitter);
        Some(Self { objects, words, basis, times, until })
    }

    /// What is not to be sent on this basis yet.
    pub(super) fn resting(&self, basis: &Basis, now: Instant) -> &[Object] {
        if self.basis == *basis && now < self.until { &self.objects } else { &[] }
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

    fn refused(words: &str) -> ApplyError {
        let Object { kind, name } = object();
        let status = kube::core::Status { code: 403, message: words.into(), ..Default::default() };
        let source = kube::Error::Api(Box::new(status));
        ApplyError::Write { action: "apply", kind, namespace: "n".into(), name, source }
    }

    fn rests(name: &str) -> ApplyError {
        ApplyError::Resting { kind: object().kind, namespace: "n".into(), name: name.into() }
    }

    fn basis(generation: i64, plan: Option<&str>) -> Basis {
        Basis { generation: Some(generation), plan: plan.map(str::to_owned) }
    }

    #[test]
    fn what_was_refused_rests_until_it_is_due_or_something_else_is_wanted() {
        let now = Instant::now();
        let first = Refusal::after(&[refused("no")], None, basis(1, Some("p")), now, 1.0).unwrap();
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
            assert_eq!(!first.resting(&basis, at).is_empty(), resting, "{case}");
        }
    }

    #[test]
    fn it_is_due_ever_later_until_it_is_written() {
        let now = Instant::now();
        let one = |words, last: Option<&Refusal>, generation| {
            Refusal::after(&[refused(words)], last, basis(generation, None), now, 1.0)
        };
        let first = one("no", None, 1).unwrap();
        let second = one("never", Some(&first), 1).unwrap();
        assert!(second.words.ends_with("never"), "{second:?}");
        assert_eq!(second.rest(now), 2 * first.rest(now));
        assert_eq!(second.rest(now + 9 * SECOND), Duration::ZERO);
        let table = [
            ("it rests, and what is told stays", vec![rests("a")], Some(second.clone())),
            (
                "refused of another spec",
                vec![refused("no")],
                Some(Refusal { basis: basis(2, None), ..first }),
            ),
            ("written", vec![], None),
        ];
        for (case, refused, expected) in table {
            let found = Refusal::after(&refused, Some(&second), basis(2, None), now, 1.0);
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn of_several_the_first_that_is_new_is_told_and_all_of_them_rest() {
        let now = Instant::now();
        let found = Refusal::after(&[rests("b"), refused("no")], None, basis(1, None), now, 1.0).unwrap();
        assert!(found.words.ends_with("Service n/a; and 1 more objects are refused"), "{}", found.words);
        assert_eq!(found.resting(&basis(1, None), now), [Object { name: "b".into(), ..object() }, object()]);
    }
}
