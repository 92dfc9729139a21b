//! Which shards a node is to have, and how far it is with each. Pure: events and the time in, actions out;
//! [`super`] acts.
//!
//! ```text
//! wanted ─▶ Waiting ─ plan known ─▶ Obtaining ─▶ Obtained ─ those it replaces are gone ─▶ Loading ─▶ serving
//!              ▲                        │ failed                                             │ failed
//!              └─── 1 s, 2 s … 30 s ◀───┴────────────────────────────────────────────────────┘
//! ```
//! Files are obtained beside one another, weights are loaded one shard at a time. What a shard replaces serves on until
//! the new file is there: a node rarely has the memory for both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use thiserror::Error;

const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(30);
/// Shards of one node at most: each is a file, weights and a record.
pub const MAX_SHARDS_OF_A_NODE: usize = 64;

/// Why a shard does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Nobody has its file.
    pub not_found: bool,
    /// In words.
    pub text: String,
}

impl Problem {
    /// Any trouble but a file that nobody has.
    pub fn new(text: impl Into<String>) -> Self {
        Self { not_found: false, text: text.into() }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The plan is known, or another one is to be served from now on. It has so many shards.
    Plan(u32),
    /// The file of a shard is there, whole.
    Obtained(u32),
    /// The weights are in memory and handed to the engine.
    Loaded(u32),
    /// Obtaining or loading a shard did not work.
    Failed(u32, Problem),
    /// The weights of a shard are freed.
    Withdrawn(u32),
    /// A deadline passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the file of a shard: [`Event::Obtained`] or [`Event::Failed`] follows.
    Obtain(u32),
    /// Load it and serve it: [`Event::Loaded`] or [`Event::Failed`] follows.
    Load(u32),
    /// Let its sessions end and free its weights: [`Event::Withdrawn`] follows.
    Withdraw(u32),
    /// Say that the plan has no such shard: it is wanted no longer.
    Impossible(u32),
}

/// How far a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No plan is known yet, or it is tried again later.
    Waiting,
    /// Its file is verified or fetched.
    Obtaining,
    /// Its file is there; other weights have to go first.
    Obtained,
    /// Its weights are loaded.
    Loading,
    /// It serves.
    Serving,
    /// It serves no new sessions and is given up.
    Leaving,
}

/// Why a shard is not taken on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WantError {
    /// The plan has fewer shards.
    #[error("shard {shard} of a plan of {count} shards: ids go from 0 to {}", count - 1)]
    OutOfRange {
        /// The shard asked for.
        shard: u32,
        /// What the plan has.
        count: u32,
    },
    /// One assignment at a time.
    #[error("the node is busy with shard {shard}: it takes on another one when that is loaded")]
    Busy {
        /// The shard.
        shard: u32,
    },
    /// More than one node takes.
    #[error("the node has {MAX_SHARDS_OF_A_NODE} shards, the most that one takes")]
    TooMany,
}

#[derive(Debug)]
struct Wanted {
    phase: Phase,
    failures: u32,
    again: Option<Instant>,
    problem: Option<Problem>,
    replaces: BTreeSet<u32>,
}

impl Wanted {
    fn new(replaces: BTreeSet<u32>) -> Self {
        Self { phase: Phase::Waiting, failures: 0, again: None, problem: None, replaces }
    }
}

/// The shards of a node.
#[derive(Debug, Default)]
pub struct Table {
    count: Option<u32>,
    wanted: BTreeMap<u32, Wanted>,
    /// In the engine, of this plan or the one before.
    serving: BTreeSet<u32>,
    leaving: BTreeSet<u32>,
}

impl Table {
    /// A node that is to have these shards; none of them is looked at before a plan is known.
    pub fn new(shards: impl IntoIterator<Item = u32>) -> Self {
        let wanted = shards.into_iter().map(|shard| (shard, Wanted::new(BTreeSet::new()))).collect();
        Self { wanted, ..Self::default() }
    }

    /// Takes a shard on, beside or instead of the others. One that the node has or is busy with already is no error.
    ///
    /// # Errors
    /// See [`WantError`].
    pub fn want(&mut self, shard: u32, replace: bool, now: Instant) -> Result<Vec<Action>, WantError> {
        if let Some(count) = self.count.filter(|count| shard >= *count) {
            return Err(WantError::OutOfRange { shard, count });
        }
        if self.wanted.contains_key(&shard) {
            return Ok(Vec::new());
        }
        // One that waits for another try is no work that goes on.
        let waits = |wanted: &Wanted| wanted.phase == Phase::Waiting && wanted.problem.is_some();
        let unfinished = |wanted: &Wanted| wanted.phase != Phase::Serving && !waits(wanted);
        let busy = self.wanted.iter().find(|(_, wanted)| unfinished(wanted)).map(|(shard, _)| *shard);
        if let Some(shard) = busy.or(self.leaving.first().copied()) {
            return Err(WantError::Busy { shard });
        }
        if self.wanted.len() >= MAX_SHARDS_OF_A_NODE {
            return Err(WantError::TooMany);
        }
        let replaces = if replace { self.wanted.keys().copied().collect() } else { BTreeSet::new() };
        self.wanted.insert(shard, Wanted::new(replaces));
        Ok(self.advance(now))
    }

    /// Takes one event.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Plan(count) => return self.on_plan(count, now),
            Event::Obtained(shard) => self.step(shard, Phase::Obtaining, Phase::Obtained),
            Event::Loaded(shard) => {
                self.step(shard, Phase::Loading, Phase::Serving);
                self.serving.insert(shard);
            }
            Event::Failed(shard, problem) => self.on_failed(shard, problem, now),
            Event::Withdrawn(shard) => {
                self.leaving.remove(&shard);
            }
            Event::Tick => {}
        }
        self.advance(now)
    }

    /// When to call with [`Event::Tick`], if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wanted.values().filter_map(|wanted| wanted.again).min()
    }

    /// Every shard with how far it is, and what went wrong with it last.
    pub fn shards(&self) -> Vec<(u32, Phase, Option<&Problem>)> {
        let wanted = self.wanted.iter().map(|(shard, wanted)| {
            // One that is to be replaced by itself, of another plan, serves until then.
            let phase = if self.serving.contains(shard) { Phase::Serving } else { wanted.phase };
            (*shard, phase, wanted.problem.as_ref())
        });
        let others = self.serving.iter().filter(|shard| !self.wanted.contains_key(shard));
        let others = others.map(|shard| (*shard, Phase::Serving, None));
        let leaving = self.leaving.iter().filter(|shard| !self.wanted.contains_key(shard));
        wanted.chain(others).chain(leaving.map(|shard| (*shard, Phase::Leaving, None))).collect()
    }

    fn on_plan(&mut self, count: u32, now: Instant) -> Vec<Action> {
        self.count = Some(count);
        let mut actions = Vec::new();
        for (shard, _) in self.wanted.extract_if(count.., |_, _| true) {
            actions.push(Action::Impossible(shard));
            if self.serving.remove(&shard) {
                self.leaving.insert(shard);
                actions.push(Action::Withdraw(shard));
            }
        }
        for wanted in self.wanted.values_mut() {
            let replaces = std::mem::take(&mut wanted.replaces);
            *wanted = Wanted::new(replaces);
        }
        actions.extend(self.advance(now));
        actions
    }

    fn step(&mut self, shard: u32, from: Phase, to: Phase) {
        if let Some(wanted) = self.wanted.get_mut(&shard).filter(|wanted| wanted.phase == from) {
            wanted.phase = to;
            (wanted.problem, wanted.again) = (None, None);
            if to == Phase::Serving {
                wanted.failures = 0;
            }
        }
    }

    fn on_failed(&mut self, shard: u32, problem: Problem, now: Instant) {
        let under_way = |wanted: &&mut Wanted| matches!(wanted.phase, Phase::Obtaining | Phase::Loading);
        let Some(wanted) = self.wanted.get_mut(&shard).filter(under_way) else { return };
        let wait = AGAIN_FIRST.saturating_mul(1 << wanted.failures.min(10)).min(AGAIN_LAST);
        wanted.phase = Phase::Waiting;
        wanted.failures += 1;
        wanted.again = Some(now + wait);
        wanted.problem = Some(problem);
    }

    /// Everything that can begin now.
    fn advance(&mut self, now: Instant) -> Vec<Action> {
        let Some(count) = self.count else { return Vec::new() };
        let mut actions = Vec::new();
        for (&shard, wanted) in &mut self.wanted {
            let due = wanted.again.is_none_or(|again| again <= now);
            if wanted.phase == Phase::Waiting && due && shard < count {
                (wanted.phase, wanted.again) = (Phase::Obtaining, None);
                actions.push(Action::Obtain(shard));
            }
        }
        let loading = self.wanted.values().any(|wanted| wanted.phase == Phase::Loading);
        let next = self.wanted.iter().find(|(_, wanted)| wanted.phase == Phase::Obtained);
        let Some((shard, replaces)) = next.map(|(shard, wanted)| (*shard, wanted.replaces.clone())) else {
            return actions;
        };
        for old in replaces.iter().copied().chain([shard]).filter(|old| self.serving.contains(old)) {
            self.leaving.insert(old);
            actions.push(Action::Withdraw(old));
        }
        self.wanted.retain(|old, _| !replaces.contains(old));
        self.serving.retain(|old| *old != shard && !replaces.contains(old));
        let gone = !self.leaving.contains(&shard) && replaces.is_disjoint(&self.leaving);
        if let Some(wanted) = self.wanted.get_mut(&shard).filter(|_| gone && !loading) {
            wanted.phase = Phase::Loading;
            wanted.replaces.clear();
            actions.push(Action::Load(shard));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn phases(table: &Table) -> Vec<(u32, Phase)> {
        table.shards().into_iter().map(|(shard, phase, _)| (shard, phase)).collect()
    }

    /// A node that serves these shards of four.
    fn serving(shards: &[u32], now: Instant) -> Table {
        let mut table = Table::new(shards.iter().copied());
        table.on(Event::Plan(4), now);
        for &shard in shards {
            table.on(Event::Obtained(shard), now);
            table.on(Event::Loaded(shard), now);
        }
        table
    }

    #[test]
    fn files_come_together_and_weights_one_after_the_other() {
        let now = Instant::now();
        let mut table = Table::new([0, 3]);
        assert_eq!(table.on(Event::Tick, now), [], "no plan, nothing to look for");
        assert_eq!(table.on(Event::Plan(4), now), [Action::Obtain(0), Action::Obtain(3)]);
        assert_eq!(table.on(Event::Obtained(3), now), [Action::Load(3)]);
        assert_eq!(table.on(Event::Obtained(0), now), []);
        assert_eq!(phases(&table), [(0, Phase::Obtained), (3, Phase::Loading)]);
        assert_eq!(table.on(Event::Loaded(3), now), [Action::Load(0)]);
        assert_eq!(table.on(Event::Loaded(0), now), []);
        assert_eq!(phases(&table), [(0, Phase::Serving), (3, Phase::Serving)]);
        assert_eq!(table.next_deadline(), None);
    }

    #[test]
    fn what_failed_is_tried_again_later_each_time() {
        let now = Instant::now();
        let mut table = Table::new([1]);
        table.on(Event::Plan(4), now);
        let mut at = now;
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            let problem = Problem::new("nobody has it");
            assert_eq!(table.on(Event::Failed(1, problem.clone()), at), []);
            assert_eq!(table.shards(), [(1, Phase::Waiting, Some(&problem))]);
            assert_eq!(table.next_deadline(), Some(at + seconds(wait)));
            assert_eq!(table.on(Event::Tick, at), []);
            at += seconds(wait);
            assert_eq!(table.on(Event::Tick, at), [Action::Obtain(1)]);
        }
    }

    #[test]
    fn a_shard_beside_another() {
        let now = Instant::now();
        let mut table = serving(&[0], now);
        assert_eq!(table.want(2, false, now), Ok(vec![Action::Obtain(2)]));
        assert_eq!(table.want(2, false, now), Ok(vec![]), "it is under way");
        assert_eq!(table.want(3, false, now), Err(WantError::Busy { shard: 2 }));
        assert_eq!(table.want(4, false, now), Err(WantError::OutOfRange { shard: 4, count: 4 }));
        table.on(Event::Obtained(2), now);
        table.on(Event::Loaded(2), now);
        assert_eq!(phases(&table), [(0, Phase::Serving), (2, Phase::Serving)]);
    }

    #[test]
    fn a_shard_instead_of_others_waits_until_they_are_gone() {
        let now = Instant::now();
        let mut table = serving(&[0, 1], now);
        assert_eq!(table.want(2, true, now), Ok(vec![Action::Obtain(2)]));
        assert_eq!(phases(&table), [(0, Phase::Serving), (1, Phase::Serving), (2, Phase::Obtaining)]);
        assert_eq!(table.on(Event::Obtained(2), now), [Action::Withdraw(0), Action::Withdraw(1)]);
        assert_eq!(phases(&table), [(2, Phase::Obtained), (0, Phase::Leaving), (1, Phase::Leaving)]);
        assert_eq!(table.on(Event::Withdrawn(1), now), []);
        assert_eq!(table.on(Event::Withdrawn(0), now), [Action::Load(2)]);
        assert_eq!(table.on(Event::Loaded(2), now), []);
        assert_eq!(phases(&table), [(2, Phase::Serving)]);
    }

    #[test]
    fn another_plan_is_fetched_while_the_old_one_serves() {
        let now = Instant::now();
        let mut table = serving(&[0, 3], now);
        let actions = [Action::Impossible(3), Action::Withdraw(3), Action::Obtain(0)];
        assert_eq!(table.on(Event::Plan(2), now), actions);
        assert_eq!(phases(&table), [(0, Phase::Serving), (3, Phase::Leaving)]);
        table.on(Event::Withdrawn(3), now);
        assert_eq!(table.on(Event::Obtained(0), now), [Action::Withdraw(0)]);
        assert_eq!(table.on(Event::Withdrawn(0), now), [Action::Load(0)]);
        table.on(Event::Loaded(0), now);
        assert_eq!(table.shards()[0], (0, Phase::Serving, None));
    }

    #[test]
    fn what_is_tried_again_and_again_is_replaced() {
        let now = Instant::now();
        let mut table = Table::new([1]);
        table.on(Event::Plan(4), now);
        assert_eq!(table.want(2, true, now), Err(WantError::Busy { shard: 1 }));
        table.on(Event::Failed(1, Problem::new("nobody has it")), now);
        assert_eq!(table.want(2, true, now), Ok(vec![Action::Obtain(2)]));
        assert_eq!(table.on(Event::Obtained(2), now), [Action::Load(2)]);
        table.on(Event::Loaded(2), now);
        assert_eq!(phases(&table), [(2, Phase::Serving)]);
    }

    #[test]
    fn a_node_whose_shard_is_out_of_the_plan_is_free_for_another() {
        let now = Instant::now();
        let mut table = Table::new([9]);
        assert_eq!(table.on(Event::Plan(4), now), [Action::Impossible(9)]);
        assert_eq!(phases(&table), []);
        assert_eq!(table.want(1, true, now), Ok(vec![Action::Obtain(1)]));
    }

    #[test]
    fn events_that_come_too_late_change_nothing() {
        let now = Instant::now();
        let mut table = serving(&[0], now);
        for event in [
            Event::Obtained(0),
            Event::Obtained(7),
            Event::Failed(0, Problem::new("late")),
            Event::Withdrawn(9),
        ] {
            assert_eq!(table.on(event.clone(), now), [], "{event:?}");
        }
        assert_eq!(phases(&table), [(0, Phase::Serving)]);
    }
}
