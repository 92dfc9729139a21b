//! Which shards to look up, and when. Pure.
//!
//! A lookup asks several peers, and every node and gateway of a cluster looks up: the pauses grow with what there is
//! to ask, so that the load on each peer stays the same in a large cluster.

use std::time::{Duration, Instant};

use shard_wire::keys::MAX_SHARDS;

/// Between two looks at the shards that nobody serves, and a part of it for each of them.
const LACKING: Duration = Duration::from_secs(1);
const LACKING_EACH: Duration = Duration::from_millis(200);
/// Between two looks at every shard, and a part of it for each.
const ALL: Duration = Duration::from_secs(5);
const ALL_EACH: Duration = Duration::from_millis(250);
/// Between two looks whatever happens: a burst of events is one.
const SOONEST: Duration = Duration::from_millis(200);
/// Ids that are looked up while nobody is known, and how many more the next time.
const PROBE: u32 = 8;

#[derive(Debug)]
pub(super) struct Rounds {
    all: Option<Instant>,
    last: Option<Instant>,
    hurry: bool,
    probe: u32,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self { all: None, last: None, hurry: false, probe: PROBE }
    }

    /// Something happened that a lookup may tell more about.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// The shards to look up now. `named` is how many shards any announcement has named, `lacking` those that nobody
    /// serves.
    pub(super) fn due(&mut self, named: Option<u32>, lacking: &[u32], now: Instant) -> Option<Vec<u32>> {
        let ids = if self.all_at(named, now) <= now {
            self.all = Some(now);
            (0..named.unwrap_or(self.probe)).collect()
        } else if self.lacking_at(lacking, now)? <= now {
            lacking.to_vec()
        } else {
            return None;
        };
        self.last = Some(now);
        self.hurry = false;
        if named.is_none() {
            self.probe = (self.probe + PROBE).min(MAX_SHARDS);
        }
        Some(ids)
    }

    /// When some are due next.
    pub(super) fn next(&self, named: Option<u32>, lacking: &[u32], now: Instant) -> Instant {
        let all = self.all_at(named, now);
        self.lacking_at(lacking, now).map_or(all, |lacking| lacking.min(all))
    }

    fn all_at(&self, named: Option<u32>, now: Instant) -> Instant {
        let Some(last) = self.all else { return now };
        match named {
            Some(shards) => last + ALL.max(ALL_EACH * shards),
            None => last + if self.hurry { SOONEST } else { LACKING },
        }
    }

    fn lacking_at(&self, lacking: &[u32], now: Instant) -> Option<Instant> {
        let count = u32::try_from(lacking.len()).ok().filter(|count| *count > 0)?;
        let Some(last) = self.last else { return Some(now) };
        Some(last + if self.hurry { SOONEST } else { LACKING.max(LACKING_EACH * count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_now_and_then_and_what_is_lacking_often() {
        let mut rounds = Rounds::new();
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let known = Some(4);
        type Row<'a> = (f64, Option<u32>, &'a [u32], Option<Vec<u32>>);
        let table: [Row<'_>; 10] = [
            // Nobody is known: more ids every second.
            (0.0, None, &[], Some((0..8).collect())),
            (0.9, None, &[], None),
            (1.0, None, &[], Some((0..16).collect())),
            // Four shards, two of which are lacking.
            (1.5, known, &[1, 3], None),
            (2.0, known, &[1, 3], Some(vec![1, 3])),
            (3.0, known, &[3], Some(vec![3])),
            // Complete: five seconds after the last look at all.
            (4.0, known, &[], None),
            (6.0, known, &[], Some((0..4).collect())),
            (10.9, known, &[], None),
            (11.0, known, &[], Some((0..4).collect())),
        ];
        for (seconds, named, lacking, due) in table {
            assert_eq!(rounds.due(named, lacking, at(seconds)), due, "at {seconds}");
        }
        assert_eq!(rounds.next(known, &[], at(11.0)), at(16.0));
        assert_eq!(rounds.next(known, &[2], at(11.0)), at(12.0));
        rounds.hurry();
        assert_eq!(rounds.next(known, &[], at(11.0)), at(16.0), "nothing is lacking: nothing to hurry for");
        assert_eq!(rounds.due(known, &[2], at(11.1)), None);
        assert_eq!(rounds.due(known, &[2], at(11.2)), Some(vec![2]));
        assert_eq!(rounds.due(known, &[2], at(11.4)), None, "once");
    }

    #[test]
    fn a_large_cluster_is_asked_less_often() {
        let mut rounds = Rounds::new();
        let start = Instant::now();
        let lacking: Vec<u32> = (0..100).collect();
        assert_eq!(rounds.due(Some(200), &lacking, start).map(|ids| ids.len()), Some(200));
        assert_eq!(rounds.next(Some(200), &lacking, start), start + Duration::from_secs(20));
        assert_eq!(rounds.next(Some(200), &[], start), start + Duration::from_secs(50));
    }
}
