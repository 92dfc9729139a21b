//! Which replicas tokens have gone through since the last change, and which route the next probe takes. Pure.
//!
//! ```text
//!                    token                        token
//!   Unproved ──────────────────▶ Proved ◀──────────────────┐
//!      │                           │ a minute without one: a probe is due
//!      │ a probe brought nothing   ▼                        │
//!      └──────────────────────▶ Doubted ───────────────────┘
//! ```
//! A probe takes of each shard the replica that needs it most, so that as many probes as the most-replicated shard has
//! replicas go through all. Where one brings nothing, its replicas are doubted, and each is tried again among proved
//! ones: what fails then is that replica, and the others keep serving.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::ring::gateway::route::{Route, Stage};

/// A replica without traffic is probed so often.
const IDLE: Duration = Duration::from_secs(60);
/// A replica that failed alone is tried again after this: a probe through a stage that hangs keeps slots of others.
const FAILED_AGAIN: Duration = Duration::from_secs(10);

/// What tokens have shown of one plan's replicas.
#[derive(Debug)]
pub(super) struct Proof {
    plan: String,
    /// Of each shard the replicas that serve it.
    shards: Vec<Vec<PeerId>>,
    /// Older tokens prove nothing.
    changed: Instant,
    passed: HashMap<Stage, Instant>,
    /// The last probe that brought no token, were the fleet only busy.
    tried: HashMap<Stage, Instant>,
    failed: HashMap<Stage, Failed>,
}

/// The last probe that failed, and for which a replica is blamed.
#[derive(Debug)]
struct Failed {
    at: Instant,
    /// It is tried again then, or sooner where its shard has no other replica.
    again: Instant,
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Unproved,
    Proved(Instant),
    Doubted,
}

impl Proof {
    /// Nothing is proved of these replicas of `plan`, by shard.
    pub(super) fn new(plan: String, shards: Vec<Vec<PeerId>>, now: Instant) -> Self {
        Self {
            plan,
            shards,
            changed: now,
            passed: HashMap::new(),
            tried: HashMap::new(),
            failed: HashMap::new(),
        }
    }

    /// When the last token came through each stage.
    pub(super) fn on_tokens(&mut self, passed: HashMap<Stage, Instant>) {
        self.passed = passed;
    }

    /// A replica of the route had no slot: nothing is wrong, and others are probed before it is tried again.
    pub(super) fn on_busy(&mut self, route: &Route, now: Instant) {
        self.tried.extend(route.stages.iter().map(|stage| (*stage, now)));
    }

    /// A probe that was sent at `sent` brought no token.
    pub(super) fn on_failure(&mut self, route: &Route, sent: Instant, why: &str, now: Instant) {
        if sent < self.changed {
            return;
        }
        self.on_busy(route, now);
        let fresh =
            |stage: &&Stage| matches!(self.standing(**stage), Standing::Proved(at) if now < at + IDLE);
        let mut blamed: Vec<Stage> = route.stages.iter().filter(|stage| !fresh(stage)).copied().collect();
        if blamed.is_empty() {
            blamed.clone_from(&route.stages);
        }
        let again = if blamed.len() == 1 { now + FAILED_AGAIN } else { now };
        for stage in blamed {
            self.failed.insert(stage, Failed { at: now, again, why: why.to_owned() });
        }
    }

    /// Tokens went through a replica of every shard.
    pub(super) fn covers(&self) -> bool {
        let proved = |stage| matches!(self.standing(stage), Standing::Proved(_));
        !self.shards.is_empty() && self.stages().all(|mut replicas| replicas.any(proved))
    }

    /// The route of the probe that is due; `None` where none is.
    pub(super) fn next(&self, now: Instant) -> Option<Route> {
        let neediest = |replicas: &mut dyn Iterator<Item = Stage>| {
            replicas.min_by_key(|stage| (self.standing(*stage), self.tried.get(stage).copied(), *stage))
        };
        let mut stages = self.stages().map(|mut of| neediest(&mut of)).collect::<Option<Vec<Stage>>>()?;
        if !stages.iter().any(|stage| self.is_due(*stage, now)) {
            let due = |stage: &Stage| self.is_due(*stage, now);
            let doubted = self.stages().flatten().filter(due);
            let oldest = doubted.min_by_key(|stage| (self.tried.get(stage).copied(), *stage))?;
            *stages.get_mut(oldest.shard as usize)? = oldest;
        }
        (!stages.is_empty()).then(|| Route { plan: self.plan.clone(), stages })
    }

    /// Replicas through which the last probe brought no token, and why; empty where there are none.
    pub(super) fn failures(&self) -> String {
        let doubted = self.stages().flatten().filter(|stage| self.standing(*stage) == Standing::Doubted);
        let failures: Vec<String> = doubted
            .filter_map(|stage| {
                let Failed { why, .. } = self.failed.get(&stage)?;
                Some(format!("no token came through shard {} on {}: {why}", stage.shard, stage.peer))
            })
            .collect();
        failures.join("; ")
    }

    fn stages(&self) -> impl Iterator<Item = impl Iterator<Item = Stage>> {
        (0..).zip(&self.shards).map(|(shard, peers)| peers.iter().map(move |&peer| Stage { peer, shard }))
    }

    fn standing(&self, stage: Stage) -> Standing {
        let passed = self.passed.get(&stage).copied().filter(|at| *at > self.changed);
        let failed = self.failed.get(&stage).map(|failed| failed.at);
        match (passed, failed) {
            (Some(passed), failed) if failed.is_none_or(|failed| passed > failed) => Standing::Proved(passed),
            (_, Some(_)) => Standing::Doubted,
            (_, None) => Standing::Unproved,
        }
    }

    fn is_due(&self, stage: Stage, now: Instant) -> bool {
        match self.standing(stage) {
            Standing::Unproved => true,
            Standing::Proved(at) => now >= at + IDLE,
            Standing::Doubted => {
                !self.covers() || self.failed.get(&stage).is_none_or(|failed| now >= failed.again)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Replicas that answer but for the `broken`; each probe takes a millisecond.
    struct World {
        peers: Vec<PeerId>,
        proof: Proof,
        passed: HashMap<Stage, Instant>,
        now: Instant,
        broken: BTreeSet<&'static str>,
    }

    impl World {
        fn new(replicas: &[usize], broken: &[&'static str]) -> Self {
            let mut peers = [(); 4].map(|()| PeerId::random()).to_vec();
            peers.sort();
            let now = Instant::now();
            let shards = replicas.iter().map(|count| peers[..*count].to_vec()).collect();
            let proof = Proof::new("p".into(), shards, now);
            let broken = broken.iter().copied().collect();
            Self { peers, proof, passed: HashMap::new(), now, broken }
        }

        /// Replica 1 of shard 0 is `a1`.
        fn name(&self, stage: &Stage) -> String {
            let at = self.peers.iter().position(|peer| *peer == stage.peer).unwrap();
            format!("{}{at}", (b'a' + stage.shard as u8) as char)
        }

        fn stage(&self, name: &str) -> Stage {
            let [shard, at] = *name.as_bytes() else { panic!("{name}") };
            Stage { peer: self.peers[usize::from(at - b'0')], shard: u32::from(shard - b'a') }
        }

        fn token(&mut self, stages: &[Stage]) {
            self.passed.extend(stages.iter().map(|stage| (*stage, self.now)));
            self.proof.on_tokens(self.passed.clone());
        }

        /// The probes that are due now, `!` behind those that fail, at most `limit`.
        fn probes(&mut self, limit: usize) -> Vec<String> {
            let mut sent = Vec::new();
            while let Some(route) = self.proof.next(self.now).filter(|_| sent.len() < limit) {
                let (names, asked): (Vec<String>, _) =
                    (route.stages.iter().map(|stage| self.name(stage)).collect(), self.now);
                self.now += Duration::from_millis(1);
                let fails = names.iter().any(|name| self.broken.contains(name.as_str()));
                if fails {
                    self.proof.on_failure(&route, asked, "silence", self.now);
                } else {
                    self.token(&route.stages);
                }
                sent.push(names.join(" ") + if fails { "!" } else { "" });
            }
            sent
        }

        fn doubted(&self) -> Vec<String> {
            let all = self.proof.stages().flatten();
            let doubted = all.filter(|stage| self.proof.standing(*stage) == Standing::Doubted);
            doubted.map(|stage| self.name(&stage)).collect()
        }
    }

    #[test]
    fn every_replica_is_probed_by_as_few_routes_as_can_be() {
        type Case =
            (&'static [usize], &'static [&'static str], &'static [&'static str], &'static [&'static str]);
        // Replicas of each shard, which are broken, the probes until none is due, and who is doubted then.
        let table: [Case; 8] = [
            (&[1], &[], &["a0"], &[]),
            (&[1, 1, 1], &[], &["a0 b0 c0"], &[]),
            (&[2, 2], &[], &["a0 b0", "a1 b1"], &[]),
            (&[2, 1, 3], &[], &["a0 b0 c0", "a1 b0 c1", "a0 b0 c2"], &[]),
            // b0 fails together with a0, and then alone.
            (&[2, 2], &["b0"], &["a0 b0!", "a1 b1", "a0 b1", "a1 b0!"], &["b0"]),
            // a0 has no other replica beside it: it is cleared by the probe that proves b1.
            (&[1, 2], &["b0"], &["a0 b0!", "a0 b1", "a0 b0!"], &["b0"]),
            (&[1, 3], &["b0", "b2"], &["a0 b0!", "a0 b1", "a0 b2!", "a0 b0!"], &["b0", "b2"]),
            (
                &[3, 3],
                &["a1", "b0"],
                &["a0 b0!", "a1 b1!", "a2 b2", "a0 b2", "a2 b0!", "a1 b2!", "a2 b1"],
                &["a1", "b0"],
            ),
        ];
        for (replicas, broken, expected, doubted) in table {
            let mut world = World::new(replicas, broken);
            assert!(!world.proof.covers(), "{replicas:?}");
            let sent = world.probes(20);
            assert_eq!(sent, expected, "{replicas:?} without {broken:?}");
            assert!(world.proof.covers(), "{replicas:?} without {broken:?}");
            assert_eq!(world.doubted(), doubted, "{replicas:?} without {broken:?}");
        }
    }

    #[test]
    fn a_shard_that_nobody_can_serve_is_tried_until_it_answers() {
        let mut world = World::new(&[1, 1], &["b0"]);
        assert_eq!(world.probes(3), ["a0 b0!"; 3]);
        assert!(!world.proof.covers());
        assert_eq!(world.doubted(), ["a0", "b0"]);
        world.broken.clear();
        assert_eq!(world.probes(3), ["a0 b0"]);
        assert!(world.proof.covers() && world.proof.failures().is_empty());
        assert_eq!(World::new(&[1, 0], &[]).proof.next(Instant::now()), None, "no route at all");
    }

    #[test]
    fn a_replica_that_fails_alone_is_named_and_tried_again_later() {
        let mut world = World::new(&[1, 2], &["b1"]);
        assert_eq!(world.probes(9), ["a0 b0", "a0 b1!"]);
        let peer = world.peers[1];
        assert_eq!(world.proof.failures(), format!("no token came through shard 1 on {peer}: silence"));
        world.broken.clear();
        world.now += FAILED_AGAIN - Duration::from_millis(1);
        assert!(world.probes(9).is_empty());
        world.now += Duration::from_millis(1);
        assert_eq!(world.probes(9), ["a0 b1"]);
        assert_eq!(world.proof.failures(), "");
    }

    #[test]
    fn tokens_of_users_count_for_the_replicas_that_they_went_through() {
        let mut world = World::new(&[2, 2], &[]);
        world.now += Duration::from_millis(1);
        world.token(&[world.stage("a1"), world.stage("b0")]);
        assert!(world.proof.covers());
        assert_eq!(world.probes(9), ["a0 b1"]);

        // A minute later those without traffic are due, and only they.
        world.now += IDLE - Duration::from_millis(1);
        assert_eq!(world.probes(1), ["a1 b0"]);
        world.now += Duration::from_millis(1);
        world.token(&[world.stage("a0"), world.stage("b0")]);
        world.now += Duration::from_millis(1);
        assert_eq!(world.probes(9), ["a1 b1"]);

        // A user's token through a replica that failed takes the doubt away.
        world.broken.insert("b1");
        world.now += IDLE;
        assert!(world.probes(9).last().unwrap().ends_with("b1!"));
        assert_eq!(world.doubted(), ["b1"]);
        world.now += Duration::from_millis(1);
        world.token(&[world.stage("a0"), world.stage("b1")]);
        assert!(world.doubted().is_empty());
    }

    #[test]
    fn a_busy_replica_is_no_failure_and_holds_up_no_other_one() {
        let mut world = World::new(&[2], &[]);
        let first = world.proof.next(world.now).unwrap();
        world.proof.on_busy(&first, world.now);
        assert_eq!(world.probes(1), ["a1"]);
        assert!(world.proof.failures().is_empty());
        assert_eq!(world.probes(9), ["a0"]);
    }

    #[test]
    fn what_was_seen_before_a_change_says_nothing_after_it() {
        let mut world = World::new(&[1], &[]);
        let (asked, route) = (world.now, world.proof.next(world.now).unwrap());
        world.token(&route.stages);
        world.now += Duration::from_millis(1);
        world.proof = Proof::new("q".into(), vec![world.peers[..1].to_vec()], world.now);
        world.proof.on_tokens(world.passed.clone());
        world.proof.on_failure(&route, asked, "silence", world.now);
        assert!(!world.proof.covers());
        assert!(world.doubted().is_empty());
        assert_eq!(world.proof.next(world.now).unwrap().plan, "q");
    }
}
