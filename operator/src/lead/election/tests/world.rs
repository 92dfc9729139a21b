//! Some candidates and an API server. Messages are late or lost, processes sleep, clocks differ and go at different
//! rates, and the lease is deleted by hand.

use super::*;

const CANDIDATES: u64 = 3;
const STEPS: usize = 1500;
/// In milliseconds, as all times here.
const LOOK: u64 = 1000;
const RENEW: u64 = 2000;
const PATIENCE: u64 = 2000;

/// What a candidate does next, and what it knows then.
enum Next {
    Read,
    Answer(Option<Lease>),
    Claim,
    Write { lease: Lease, sent: Duration },
    Written { lease: Lease, sent: Duration },
    Refused,
}

struct Candidate {
    election: Election,
    due: u64,
    next: Next,
    ahead: f64,
    rate: f64,
    /// From when to when it led.
    terms: Vec<(f64, f64)>,
}

impl Candidate {
    fn clock(&self, now: u64) -> Duration {
        Duration::from_secs_f64((self.ahead + now as f64 * self.rate) / 1e3)
    }

    fn leads(&mut self, now: u64, sent: Duration) {
        let now = now as f64;
        let end = ((sent + TERM).as_secs_f64() * 1e3 - self.ahead) / self.rate;
        match self.terms.last_mut() {
            Some((_, old)) if *old > now => *old = old.max(end),
            _ if end > now => self.terms.push((now, end)),
            _ => {}
        }
    }

    fn is_leading(&self, now: u64) -> bool {
        self.terms.last().is_some_and(|(_, end)| *end > now as f64)
    }
}

pub(super) struct World {
    random: u64,
    faults: bool,
    version: u64,
    lease: Option<Lease>,
    candidates: Vec<Candidate>,
}

impl World {
    pub(super) fn new(seed: u64, faults: bool) -> Self {
        let mut world = Self { random: seed, faults, version: 0, lease: None, candidates: Vec::new() };
        for id in 0..CANDIDATES {
            let (ahead, rate) = (world.below(1_000_000) as f64, 0.97 + world.below(60) as f64 / 1000.0);
            let (due, next) = (100 * id, Next::Read);
            let election = election(&id.to_string());
            world.candidates.push(Candidate { election, due, next, ahead, rate, terms: Vec::new() });
        }
        world
    }

    /// SplitMix64.
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn happens(&mut self, per_thousand: u64) -> bool {
        self.faults && self.below(1000) < per_thousand
    }

    fn delay(&mut self) -> u64 {
        if self.happens(20) { self.below(20_000) } else { 1 + self.below(50) }
    }

    pub(super) fn run(mut self) -> Self {
        for _ in 0..STEPS {
            let due = |at: &usize| self.candidates[*at].due;
            let first = (0..self.candidates.len()).min_by_key(due).unwrap();
            self.step(first);
            let all_know = self.candidates.iter().all(|one| one.election.seen.is_some());
            if all_know && self.happens(2) {
                self.lease = None;
            }
        }
        self
    }

    fn step(&mut self, at: usize) {
        let now = self.candidates[at].due;
        let (pause, next) = match std::mem::replace(&mut self.candidates[at].next, Next::Read) {
            Next::Read if self.happens(30) => (PATIENCE, Next::Read),
            Next::Read => (self.delay(), Next::Answer(self.lease.clone())),
            Next::Answer(lease) => {
                let one = &mut self.candidates[at];
                one.election.observe(lease, one.clock(now));
                (0, Next::Claim)
            }
            Next::Claim => {
                let one = &self.candidates[at];
                let sent = one.clock(now);
                match one.election.step(sent, wall((now / 1000) as i64)) {
                    Step::Wait => (LOOK, Next::Read),
                    Step::Create(lease) | Step::Replace(lease) => (self.delay(), Next::Write { lease, sent }),
                }
            }
            Next::Write { .. } if self.happens(30) => (PATIENCE, self.again(at, now + PATIENCE)),
            Next::Write { lease, sent } => match self.write(lease) {
                Some(_) if self.happens(30) => (PATIENCE, self.again(at, now + PATIENCE)),
                Some(lease) => (self.delay(), Next::Written { lease, sent }),
                None => (self.delay(), Next::Refused),
            },
            Next::Written { lease, sent } => {
                let one = &mut self.candidates[at];
                one.election.observe(Some(lease), one.clock(now));
                one.leads(now, sent);
                (RENEW, self.again(at, now + RENEW))
            }
            Next::Refused => (0, Next::Read),
        };
        let sleeps = if self.happens(10) { self.below(40_000) } else { 0 };
        self.candidates[at].due = now + pause + sleeps;
        self.candidates[at].next = next;
    }

    fn again(&self, at: usize, then: u64) -> Next {
        if self.candidates[at].is_leading(then) { Next::Claim } else { Next::Read }
    }

    /// As API servers do: on the version that it was made from, or where there is none.
    fn write(&mut self, mut lease: Lease) -> Option<Lease> {
        let there = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if there != lease.metadata.resource_version {
            return None;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(lease)
    }

    /// How many terms there were, of which no two were at the same time.
    pub(super) fn check(self, seed: u64) -> usize {
        let mut terms: Vec<_> = self.candidates.into_iter().flat_map(|one| one.terms).collect();
        terms.sort_by(|one, other| one.0.total_cmp(&other.0));
        for pair in terms.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "seed {seed}: {:?} and {:?}", pair[0], pair[1]);
        }
        terms.len()
    }
}
