//! A write that the API server, a quota or a policy refuses. It is told of at once and as long as it lasts, and sent again
//! ever later: the rest of a reconcile goes on meanwhile. Pure.
//!
//! ```text
//!  last refusal ─▶ resting: the same spec and plan, not yet due ─▶ evict, apply: all but these objects
//!                                                                          │
//!  next refusal ◀── none: all is written · what rests of the last one · a new one: due later than the last ◀┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::policy;
use crate::apply::{ApplyError, Object};
use crate::error_class::ErrorClass;
use crate::status::Refused;
use crate::words::words;

/// What was refused, and when it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What users are told.
    pub(super) refused: Vec<Refused>,
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
        let told: Vec<Refused> = refused.iter().filter_map(|error| told(error, last)).collect();
        if refused.iter().all(|error| matches!(error, ApplyError::Resting { .. })) {
            let last = last.filter(|_| !told.is_empty())?;
            return Some(Self { refused: told, ..last.clone() });
        }
        let times = last.filter(|last| last.basis == basis).map_or(0, |last| last.times).saturating_add(1);
        let until = now + policy::delay(ErrorClass::Refused, times, jitter);
        Some(Self { refused: told, basis, times, until })
    }

    /// What is not to be sent on this basis yet.
    pub(super) fn resting(&self, basis: &Basis, now: Instant) -> Vec<Object> {
        let rests = self.basis == *basis && now < self.until;
        self.refused.iter().filter(|_| rests).map(|it| it.object.clone()).collect()
    }

    /// Time until it is sent again.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }
}

/// Of what rests it is told what was told of it when it was refused.
fn told(error: &ApplyError, last: Option<&Refusal>) -> Option<Refused> {
    let object = error.object()?;
    let known = last.and_then(|last| last.refused.iter().find(|known| known.object == object));
    match error {
        ApplyError::Resting { .. } if known.is_some() => known.cloned(),
        _ => Some(Refused { object, why: words(error) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn object(name: &str) -> Object {
        Object { kind: "Service".into(), name: name.into() }
    }

    fn refused(name: &str, words: &str) -> ApplyError {
        let Object { kind, name } = object(name);
        let status = kube::core::Status { code: 403, message: words.into(), ..Default::default() };
        let source = kube::Error::Api(Box::new(status));
        ApplyError::Write { action: "apply", kind, namespace: "n".into(), name, source }
    }

    fn rests(name: &str) -> ApplyError {
        let Object { kind, name } = object(name);
        ApplyError::Resting { kind, namespace: "n".into(), name }
    }

    fn why(refusal: &Refusal) -> Vec<&str> {
        refusal.refused.iter().map(|it| &*it.why).collect()
    }

    fn basis(generation: i64, plan: Option<&str>) -> Basis {
        Basis { generation: Some(generation), plan: plan.map(str::to_owned) }
    }

    #[test]
    fn what_was_refused_rests_until_it_is_due_or_something_else_is_wanted() {
        let now = Instant::now();
        let first = Refusal::after(&[refused("a", "quota")], None, basis(1, Some("p")), now, 1.0).unwrap();
        let due = first.until;
        assert!(due > now, "{first:?}");
        assert_eq!(why(&first), ["cannot apply Service n/a: quota"]);
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
            Refusal::after(&[refused("a", words)], last, basis(generation, None), now, 1.0)
        };
        let first = one("quota", None, 1).unwrap();
        let second = one("never", Some(&first), 1).unwrap();
        assert_eq!(why(&second), ["cannot apply Service n/a: never"]);
        assert_eq!(second.rest(now), 2 * first.rest(now));
        assert_eq!(second.rest(now + 9 * SECOND), Duration::ZERO);
        let table = [
            ("it rests, and what is told stays", vec![rests("a")], Some(second.clone())),
            (
                "refused of another spec",
                vec![refused("a", "quota")],
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
    fn of_several_all_are_told_and_rest_until_they_are_as_they_should_be() {
        let (now, one) = (Instant::now(), || basis(1, None));
        let first = Refusal::after(&[refused("b", "quota")], None, one(), now, 1.0).unwrap();
        // An apply and an eviction of one pass, say.
        let both = [rests("b"), refused("a", "never")];
        let both = Refusal::after(&both, Some(&first), one(), now, 1.0).unwrap();
        assert_eq!(why(&both), ["cannot apply Service n/b: quota", "cannot apply Service n/a: never"]);
        assert_eq!(both.resting(&one(), now), [object("b"), object("a")]);
        // Somebody has mended the first of them.
        let left = Refusal::after(&[rests("a")], Some(&both), one(), now + SECOND, 1.0).unwrap();
        assert_eq!(why(&left), ["cannot apply Service n/a: never"]);
        assert_eq!(left.resting(&one(), now), [object("a")]);
        assert_eq!((left.times, left.until), (both.times, both.until));
    }
}
