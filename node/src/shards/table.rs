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
mod tests;
