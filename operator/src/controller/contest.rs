//! Children that others write over as soon as they are written: a second operator for the same namespace, a policy of the
//! cluster, a script. Whoever answers each write with one is at it for ever, and nobody hears of it. Pure.
//!
//! ```text
//!  repaired ─▶ the same child, to the same as before ─┬─ a few times ─▶ a hand: repaired at once
//!                                                     └─ again ───────▶ a contest: told of, and repaired ever later
//!  not for a while, or to something else ─▶ forgotten
//! ```

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::policy;
use crate::apply::{Object, Repair};
use crate::error_class::ErrorClass;

/// In a row: hands do it more seldom.
const AT_ONCE: u32 = 5;
/// So many times as long as it rests a contested child is told of.
const TOLD: u32 = 4;
/// Longer than a contested child is told of.
const MEMORY: Duration = Duration::from_secs(600);

/// Of one ShardCluster: as many as it has children at most.
#[derive(Debug, Default)]
pub(super) struct Contests(HashMap<Object, Repairs>);

/// Of one child, in a row.
#[derive(Debug)]
struct Repairs {
    hash: String,
    times: u32,
    last: Instant,
    /// So long it is left as it is.
    rest: Duration,
}

/// What is contested now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contest {
    /// What, and what to do.
    pub(super) words: String,
    /// Until one of them is written again, or told of no more.
    pub(super) rest: Duration,
    objects: Vec<Object>,
}

impl Contest {
    /// One of these is contested.
    pub(super) fn concerns(&self, repaired: &[Repair]) -> bool {
        repaired.iter().any(|repair| self.objects.contains(&repair.object))
    }
}

impl Contests {
    /// These were written; `jitter` is from 0 to 1.
    pub(super) fn note(&mut self, repaired: &[Repair], now: Instant, jitter: f64) {
        self.0.retain(|_, repairs| now.saturating_duration_since(repairs.last) < MEMORY);
        self.0.shrink_to_fit();
        for Repair { object, hash } in repaired {
            let before = self.0.get(object).filter(|repairs| repairs.hash == *hash);
            let times = before.map_or(0, |repairs| repairs.times).saturating_add(1);
            let rest = match times.saturating_sub(AT_ONCE) {
                0 => Duration::ZERO,
                more => policy::delay(ErrorClass::Refused, more, jitter),
            };
            self.0.insert(object.clone(), Repairs { hash: hash.clone(), times, last: now, rest });
        }
    }

    /// What is not to be written yet.
    pub(super) fn resting(&self, now: Instant) -> Vec<Repair> {
        let resting = self.0.iter().filter(|(_, repairs)| now < repairs.last + repairs.rest);
        resting
            .map(|(object, repairs)| Repair { object: object.clone(), hash: repairs.hash.clone() })
            .collect()
    }

    /// What users have to know of: also while it is, for once, as it should be, for whoever writes over it may have his
    /// own rests.
    pub(super) fn current(&self, now: Instant) -> Option<Contest> {
        let told = |repairs: &&Repairs| now < repairs.last + repairs.rest * TOLD;
        let mut objects: Vec<Object> =
            self.0.iter().filter(|(_, repairs)| told(repairs)).map(|(object, _)| object.clone()).collect();
        objects.sort_unstable_by(|one, other| (&one.kind, &one.name).cmp(&(&other.kind, &other.name)));
        let Object { kind, name } = objects.first()?;
        let others = match objects.len() - 1 {
            0 => String::new(),
            1 => " (and so is one more object)".to_owned(),
            more => format!(" (and so are {more} more objects)"),
        };
        let ends = |repairs: &Repairs| [1, TOLD].map(|times| repairs.last + repairs.rest * times);
        let due = self.0.values().flat_map(ends).filter(|due| now < *due);
        let rest = due.min()?.saturating_duration_since(now);
        let words = format!(
            "{kind} {name} is changed by somebody else whenever it is written{others}: let one operator alone look after \
             this namespace; where it is alone, kubectl get {kind} {name} -o yaml --show-managed-fields says who else writes"
        );
        Some(Contest { words, rest, objects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn repair(name: &str, hash: &str) -> Repair {
        Repair { object: Object { kind: "Service".into(), name: name.into() }, hash: hash.into() }
    }

    fn contested(times: u32, now: Instant) -> Contests {
        let mut contests = Contests::default();
        (0..times).for_each(|_| contests.note(&[repair("a", "1")], now, 1.0));
        contests
    }

    #[test]
    fn a_hand_is_answered_at_once_and_who_does_not_stop_ever_later() {
        let now = Instant::now();
        let hand = contested(AT_ONCE, now);
        assert!(hand.resting(now).is_empty() && hand.current(now).is_none());
        let rests: Vec<Duration> =
            (1..20).map(|more| contested(AT_ONCE + more, now).current(now).unwrap().rest).collect();
        assert!(rests.windows(2).all(|pair| pair[0] <= pair[1]) && rests[0] < rests[9], "{rests:?}");
        assert!(rests[18] < MEMORY, "what rests is not forgotten");
        let contests = contested(AT_ONCE + 1, now);
        assert_eq!(contests.resting(now), [repair("a", "1")]);
        assert!(contests.resting(now + rests[0]).is_empty());
        assert!(contests.current(now + rests[0]).is_some(), "who writes over it may have his own rests");
        assert!(contests.current(now + rests[0] * TOLD).is_none());
    }

    #[test]
    fn another_wish_and_a_long_peace_begin_anew() {
        let now = Instant::now();
        let mut other = contested(AT_ONCE + 3, now);
        other.note(&[repair("a", "2")], now, 1.0);
        assert!(other.current(now).is_none());
        let mut late = contested(AT_ONCE + 3, now);
        late.note(&[repair("a", "1")], now + MEMORY, 1.0);
        assert!(late.current(now + MEMORY).is_none());
        let mut soon = contested(AT_ONCE + 3, now);
        soon.note(&[], now + MEMORY - SECOND, 1.0);
        soon.note(&[repair("a", "1")], now + MEMORY - SECOND, 1.0);
        assert!(soon.current(now + MEMORY - SECOND).is_some());
    }

    #[test]
    fn several_are_told_by_the_first_and_their_number() {
        let now = Instant::now();
        let mut contests = Contests::default();
        let both = [repair("b", "1"), repair("a", "1")];
        (0..=AT_ONCE).for_each(|_| contests.note(&both, now, 1.0));
        let words = contests.current(now).unwrap().words;
        assert!(words.starts_with("Service a is changed by somebody else"), "{words}");
        assert!(words.contains("and so is one more object"), "{words}");
    }
}
