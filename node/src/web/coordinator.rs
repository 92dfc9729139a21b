//! Gives spares the shards that nobody serves. Pure: what is seen and the time in, assignments out;
//! [`super::assign`] sends them.
//!
//! ```text
//! shard without a replica for longer than the recovery limit ─▶ a spare that is connected ─▶ LOAD_SHARD
//!                                  ▲                                     │ refused, or nothing came of it
//!                                  └────────── the next spare ◀──────────┘
//! ```
//! Of several gateways the one with the lowest peer id among those that live does it. That two do it for a moment harms
//! nobody: a node refuses a second assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// A spare that took a shard on has this long until it announces it; then it counts as one that did not.
const PATIENCE: Duration = Duration::from_secs(30);
/// A spare that refused or did nothing is not asked for so long.
const REST: Duration = Duration::from_secs(60);

/// What a gateway sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// Shards of the plan; 0 while none is known.
    pub(super) shards: u32,
    /// Shards that a connected node serves, or has taken on: loading and downloading count.
    pub(super) taken: BTreeSet<u32>,
    /// Spares that are connected.
    pub(super) spares: BTreeSet<PeerId>,
    /// Other gateways that live.
    pub(super) gateways: BTreeSet<PeerId>,
}

/// One spare and the shard that it is to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) spare: PeerId,
    pub(super) shard: u32,
}

/// What was seen and asked before.
#[derive(Debug)]
pub(super) struct Coordinator {
    me: PeerId,
    limit: Duration,
    /// Shards that nobody has, and since when.
    missing: BTreeMap<u32, Instant>,
    /// Shards that a spare was asked for.
    asked: BTreeMap<u32, (PeerId, Instant)>,
    resting: BTreeMap<PeerId, Instant>,
}

impl Coordinator {
    /// Nothing was seen yet. A shard may be missing for `limit`.
    pub(super) fn new(me: PeerId, limit: Duration) -> Self {
        Self { me, limit, missing: BTreeMap::new(), asked: BTreeMap::new(), resting: BTreeMap::new() }
    }

    /// What to ask of whom now; the longest missing first.
    pub(super) fn look(&mut self, sight: &Sight, now: Instant) -> Vec<Assignment> {
        let missing = (0..sight.shards).filter(|shard| !sight.taken.contains(shard));
        let since = |shard| (shard, self.missing.get(&shard).copied().unwrap_or(now));
        self.missing = missing.map(since).collect();
        self.expire(sight, now);
        if sight.gateways.iter().any(|other| *other < self.me) {
            return Vec::new();
        }
        let busy: BTreeSet<PeerId> = self.asked.values().map(|(spare, _)| *spare).collect();
        let free = |spare: &&PeerId| !busy.contains(spare) && !self.resting.contains_key(spare);
        let mut spares = sight.spares.iter().filter(free).copied().collect::<Vec<_>>().into_iter();
        let mut due: Vec<(Instant, u32)> = self
            .missing
            .iter()
            .filter(|(shard, since)| now >= **since + self.limit && !self.asked.contains_key(shard))
            .map(|(shard, since)| (*since, *shard))
            .collect();
        due.sort_unstable();
        let assignments: Vec<Assignment> = due
            .into_iter()
            .map_while(|(_, shard)| spares.next().map(|spare| Assignment { spare, shard }))
            .collect();
        self.asked.extend(assignments.iter().map(|one| (one.shard, (one.spare, now))));
        assignments
    }

    /// A spare refused, or did not answer.
    pub(super) fn refused(&mut self, assignment: Assignment, now: Instant) {
        if self.asked.get(&assignment.shard).is_some_and(|(spare, _)| *spare == assignment.spare) {
            self.asked.remove(&assignment.shard);
        }
        self.resting.insert(assignment.spare, now);
    }

    fn expire(&mut self, sight: &Sight, now: Instant) {
        self.resting.retain(|spare, since| now < *since + REST && sight.spares.contains(spare));
        let missing = &self.missing;
        let over =
            self.asked.extract_if(.., |shard, (_, at)| !missing.contains_key(shard) || now >= *at + PATIENCE);
        let idle: Vec<PeerId> = over
            .filter(|(shard, _)| missing.contains_key(shard))
            .map(|(_, (spare, _))| spare)
            .filter(|spare| sight.spares.contains(spare))
            .collect();
        self.resting.extend(idle.into_iter().map(|spare| (spare, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn peers<const N: usize>() -> [PeerId; N] {
        let mut peers = [(); N].map(|()| PeerId::random());
        peers.sort_unstable();
        peers
    }

    fn sight(taken: &[u32], spares: &[PeerId]) -> Sight {
        Sight {
            shards: 3,
            taken: taken.iter().copied().collect(),
            spares: spares.iter().copied().collect(),
            gateways: BTreeSet::new(),
        }
    }

    #[test]
    fn a_shard_that_is_missing_for_long_goes_to_a_spare_once() {
        let [me, spare, other] = peers();
        let mut coordinator = Coordinator::new(me, LIMIT);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(coordinator.look(&sight(&[0, 2], &[spare]), at(0)), []);
        assert_eq!(coordinator.look(&sight(&[0, 1, 2], &[spare]), at(20)), [], "it came back");
        assert_eq!(coordinator.look(&sight(&[0, 2], &[spare]), at(25)), []);
        assert_eq!(coordinator.look(&sight(&[0, 2], &[spare]), at(54)), []);
        let one = Assignment { spare, shard: 1 };
        assert_eq!(coordinator.look(&sight(&[0, 2], &[spare, other]), at(55)), [one]);
        assert_eq!(coordinator.look(&sight(&[0, 2], &[spare, other]), at(56)), [], "it is asked");
        assert_eq!(coordinator.look(&sight(&[0, 1, 2], &[other]), at(57)), []);
        assert!(coordinator.asked.is_empty());
    }

    #[test]
    fn a_spare_that_refuses_or_does_nothing_is_passed_over() {
        let [me, first, second] = peers();
        let mut coordinator = Coordinator::new(me, LIMIT);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = sight(&[0, 2], &[first, second]);
        coordinator.look(&seen, at(0));
        let one = Assignment { spare: first, shard: 1 };
        assert_eq!(coordinator.look(&seen, at(30)), [one]);
        coordinator.refused(one, at(31));
        let two = Assignment { spare: second, shard: 1 };
        assert_eq!(coordinator.look(&seen, at(31)), [two]);
        // The second took it on and announced nothing.
        assert_eq!(coordinator.look(&seen, at(61)), []);
        assert_eq!(coordinator.look(&seen, at(91)), [one], "the first has rested");
    }

    #[test]
    fn several_shards_go_to_several_spares_the_longest_missing_first() {
        let [me, a, b] = peers();
        let mut coordinator = Coordinator::new(me, LIMIT);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        coordinator.look(&sight(&[0, 1], &[]), at(0));
        coordinator.look(&sight(&[1], &[]), at(10));
        coordinator.look(&sight(&[], &[]), at(11));
        let due = coordinator.look(&sight(&[], &[a, b]), at(100));
        assert_eq!(due, [Assignment { spare: a, shard: 2 }, Assignment { spare: b, shard: 0 }]);
        assert_eq!(coordinator.look(&Sight::default(), at(101)), [], "no plan, nothing is missing");
    }

    #[test]
    fn only_the_gateway_with_the_lowest_id_does_it() {
        let [lower, me, higher, spare] = peers();
        let start = Instant::now();
        let late = start + LIMIT;
        for (others, does) in [(vec![lower], 0), (vec![higher], 1), (vec![], 1)] {
            let mut coordinator = Coordinator::new(me, LIMIT);
            let seen = Sight { gateways: others.into_iter().collect(), ..sight(&[0, 2], &[spare]) };
            coordinator.look(&seen, start);
            assert_eq!(coordinator.look(&seen, late).len(), does);
        }
    }
}
