//! One plan after the other, each before the one before it has rolled out: 4 shards, then 6, then 2.

use super::super::gateway::Wire;
use super::super::tests::{gateway, live, shard};
use super::*;

const COUNTS: [u32; 3] = [4, 6, 2];
const MOST: usize = 6;
/// Writing, learning, and for each StatefulSet, the bootstrap's included, its controller and its kubelets.
const KINDS: usize = 2 + 2 * (MOST + 1);

/// A StatefulSet and its pods.
struct Set {
    shard: Shard,
    /// Its current revision: what its last rollout that went to its end has left.
    current: Mark,
}

struct Chain {
    /// Of the plan that the spec asks for, in [`COUNTS`].
    plan: usize,
    known: bool,
    surge: bool,
    careful: bool,
    bootstrap: Set,
    sets: Vec<Set>,
}

fn plan_of(at: usize) -> Mark {
    mark(&at.to_string(), &at.to_string())
}

impl Chain {
    /// The first plan is complete.
    fn new(replicas: u32, surge: bool, careful: bool) -> Self {
        let set = |id: u32| {
            let first = plan_of(0);
            let mut whole = shard(id, replicas, &first, &first);
            if id >= COUNTS[0] {
                (whole.live, whole.pods) = (None, Vec::new());
            }
            Set { shard: whole, current: first }
        };
        let sets = (0..MOST as u32).map(set).collect();
        let origin = mark("origin 0", "");
        let bootstrap = Set { shard: shard(0, 1, &origin, &origin), current: origin };
        Self { plan: 0, known: true, surge, careful, bootstrap, sets }
    }

    /// A user wants the next plan: nobody knows its manifest yet.
    fn change(&mut self) {
        self.plan += 1;
        self.known = false;
        self.bootstrap.shard.wanted = mark(&format!("origin {}", self.plan), "");
    }

    fn count(&self) -> usize {
        COUNTS[self.plan] as usize
    }

    /// As the operator sees it.
    fn fleet(&self) -> Fleet {
        let plan = plan_of(self.plan);
        let wanted = if self.known { plan } else { Mark { plan: None, ..plan } };
        let seen = |set: &Set| {
            let mut shard = Shard { wanted: wanted.clone(), ..set.shard.clone() };
            if let Some(live) = &mut shard.live {
                live.rolling = live.mark != set.current;
            }
            shard
        };
        Fleet {
            known: self.known,
            surge: self.surge,
            bootstrap: self.bootstrap.shard.clone(),
            wire: Wire::Same,
            moves_image: true,
            is_made: true,
            gateway: gateway(),
            shards: self.sets[..self.count()].iter().map(seen).collect(),
        }
    }

    /// Writes what was decided, as `apply` does.
    fn write(&mut self) {
        let (fleet, count) = (self.fleet(), self.count());
        let decision = decide(&fleet);
        let origin = self.bootstrap.shard.wanted.clone();
        self.bootstrap.shard.live = Some(live(&origin, 1, 0));
        for ((set, step), seen) in self.sets.iter_mut().zip(&decision.steps).zip(fleet.shards) {
            for ordinal in &step.stuck {
                delete(&mut set.shard, *ordinal);
            }
            match &mut set.shard.live {
                Some(live) if step.holds => live.replicas = step.replicas,
                Some(now) => *now = live(&seen.wanted, step.replicas, step.partition),
                none => {
                    *none = Some(live(&seen.wanted, step.replicas, step.partition));
                    set.current = seen.wanted;
                }
            }
        }
        if decision.leaving == Leaving::Go {
            for set in &mut self.sets[count..] {
                set.shard.live = None;
                for pod in &mut set.shard.pods {
                    (pod.ready, pod.going) = (false, true);
                }
            }
        }
    }

    /// One of the things that can happen.
    fn step(&mut self, choice: usize) {
        let (kind, more) = (choice % KINDS, choice / KINDS);
        match kind {
            0 => self.write(),
            1 => self.known = true,
            _ => {
                let careful = self.careful;
                let set = self.set((kind - 2) / 2);
                if kind % 2 == 0 {
                    let controller = Controller { before: &set.current, bad: None, careful };
                    controller.act(&mut set.shard);
                } else {
                    advance(&mut set.shard.pods, more);
                }
                set.complete();
            }
        }
    }

    fn set(&mut self, at: usize) -> &mut Set {
        self.sets.get_mut(at).unwrap_or(&mut self.bootstrap)
    }

    /// Whether a plan has a ready pod for each of its shards.
    fn serves(&self, plan: usize) -> bool {
        let shards: Vec<Shard> =
            self.sets[..COUNTS[plan] as usize].iter().map(|it| it.shard.clone()).collect();
        complete(&shards, &plan_of(plan))
    }

    fn is_over(&self) -> bool {
        let gone = self.sets[self.count()..].iter().all(|set| set.shard.pods.is_empty());
        let fleet = self.fleet();
        gone && is_over(&fleet) && self.known && decide(&fleet).rollout == Rollout::Done
    }
}

impl Set {
    /// A rollout at its end makes its revision the current one.
    fn complete(&mut self) {
        let Some(live) = &self.shard.live else { return };
        let moved = |ordinal| self.shard.pod(ordinal).is_some_and(|pod| pod.mark == live.mark && pod.ready);
        if (0..live.replicas).all(moved) {
            self.current = live.mark.clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn one_plan_is_complete_at_all_times(
        replicas in 2..4_u32, surge: bool, careful: bool, first in 1..800_usize, second in 1..800_usize,
        order in proptest::collection::vec(0..KINDS * 12, 100..400),
    ) {
        let mut chain = Chain::new(replicas, surge, careful);
        let mut order = order.iter().copied().chain(0..KINDS * 2).cycle();
        for (changes, steps) in [(1, first), (2, second), (2, MAX_STEPS * 4)] {
            if chain.plan < changes {
                chain.change();
            }
            for _ in 0..steps {
                if chain.is_over() {
                    break;
                }
                chain.step(order.next().unwrap());
                prop_assert!(
                    (0..COUNTS.len()).any(|plan| chain.serves(plan)),
                    "plan {}: {:#?}", chain.plan, chain.sets.iter().map(|it| &it.shard).collect::<Vec<_>>(),
                );
            }
        }
        prop_assert!(chain.is_over(), "it does not end: {:#?}", chain.fleet());
    }
}
