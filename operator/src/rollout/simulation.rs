//! Whole rollouts, with a model of the StatefulSet controller: pods from the partition on move one at a time, highest
//! first. What it, the kubelets and the API server do comes in any order.

mod back;
mod chain;
mod kubernetes;
mod wire;

use proptest::prelude::*;

use super::fleet::{Live, Mark, Pod};
use super::tests::{fleet, mark, pod};
use super::*;
use kubernetes::{Controller, advance, delete};

/// More than any rollout takes.
const MAX_STEPS: usize = 6000;

/// A fleet, and what is not to be seen of it.
struct World {
    fleet: Fleet,
    /// What pods below the partition are made from.
    before: Mark,
    /// Pods with this template never become ready.
    bad: Option<Mark>,
    /// See [`Controller::careful`].
    careful: bool,
}

impl World {
    fn new(fleet: Fleet, before: &Mark, careful: bool) -> Self {
        Self { fleet, before: before.clone(), bad: None, careful }
    }

    /// Writes what was decided, as `apply` does.
    fn write(&mut self, decision: &Decision) {
        for (shard, step) in self.fleet.shards.iter_mut().zip(&decision.steps) {
            for ordinal in &step.stuck {
                delete(shard, *ordinal);
            }
            match &mut shard.live {
                Some(live) if step.holds => live.replicas = step.replicas,
                _ => {
                    let (mark, replicas, partition) = (shard.wanted.clone(), step.replicas, step.partition);
                    shard.live = Some(Live { mark, replicas, partition, rolling: false });
                }
            }
        }
    }

    /// One of the things that can happen.
    fn step(&mut self, decision: &Decision, choice: usize) {
        let at = (choice / 3) % self.fleet.shards.len();
        match choice % 3 {
            0 => self.write(decision),
            1 => {
                let (before, bad) = (&self.before, self.bad.as_ref());
                let controller = Controller { before, bad, careful: self.careful };
                controller.act(&mut self.fleet.shards[at]);
            }
            _ => advance(&mut self.fleet.shards[at].pods, choice / 9),
        }
    }

    /// Runs to the end; `check` sees every state.
    fn run(mut self, choices: &[usize], check: impl Fn(&Fleet)) {
        self.run_until(choices, |fleet, rollout| is_over(fleet) && *rollout == Rollout::Done, check);
    }

    fn run_until(
        &mut self,
        choices: &[usize],
        is_over: impl Fn(&Fleet, &Rollout) -> bool,
        check: impl Fn(&Fleet),
    ) {
        for step in 0..MAX_STEPS {
            let decision = decide(&self.fleet);
            if is_over(&self.fleet, &decision.rollout) {
                return;
            }
            self.step(&decision, choices[step % choices.len()]);
            check(&self.fleet);
        }
        panic!("it does not end: {:?}\n{:#?}", decide(&self.fleet), self.fleet.shards);
    }
}

/// Whether every shard has a ready pod of this plan.
fn complete(shards: &[Shard], plan: &Mark) -> bool {
    let serves = |pod: &Pod| pod.ready && pod.mark.plan == plan.plan;
    shards.iter().all(|shard| shard.pods.iter().any(serves))
}

fn is_over(fleet: &Fleet) -> bool {
    let settled = |shard: &Shard| shard.is_settled() && shard.pods.len() == shard.replicas as usize;
    fleet.shards.iter().all(settled)
}

/// Any order, in which each of the things that can happen comes up.
fn order() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..900_usize, 24..48).prop_map(|mut order| {
        order.extend(0..9 * 4);
        order
    })
}

/// Every shard's pods that something is wrong with, by bits.
fn trouble() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..8_u8, 3)
}

fn in_trouble(mut fleet: Fleet, trouble: &[u8]) -> Fleet {
    for (shard, bits) in fleet.shards.iter_mut().zip(trouble) {
        for pod in shard.pods.iter_mut().filter(|pod| bits >> pod.ordinal & 1 == 1) {
            (pod.ready, pod.troubled) = (false, true);
        }
    }
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn another_template_never_takes_pods_of_two_shards(replicas in 1..4_u32, careful: bool, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "a"));
        World::new(fleet(replicas, &old, &new), &old, careful).run(&order, |fleet| {
            let short = fleet.shards.iter().filter(|shard| !shard.is_whole());
            assert!(short.count() <= 1, "{:#?}", fleet.shards);
            let columns = fleet.shards.iter().map(|shard| shard.pods.iter().filter(|pod| pod.ready).count());
            assert!(columns.min().unwrap() + 1 >= replicas as usize);
        });
    }

    #[test]
    fn another_plan_leaves_one_complete(replicas in 1..4_u32, surge: bool, careful: bool, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let all = Fleet { surge, ..fleet(replicas, &old, &new) };
        World::new(all, &old, careful).run(&order, |fleet| {
            let whole = complete(&fleet.shards, &old) || complete(&fleet.shards, &new);
            assert!(whole || (replicas == 1 && !surge), "{:#?}", fleet.shards);
        });
    }

    #[test]
    fn more_shards_join_whole_columns(replicas in 2..4_u32, surge: bool, careful: bool, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let mut all = Fleet { surge, ..fleet(replicas, &old, &new) };
        all.shards[2].pods.clear();
        all.shards[2].live = None;
        // The plan before has the first two only.
        World::new(all, &old, careful).run(&order, |fleet| {
            let whole = complete(&fleet.shards[..2], &old) || complete(&fleet.shards, &new);
            assert!(whole, "{:#?}", fleet.shards);
        });
    }

    /// A shard that the new plan does not have is a part of the plan before while it stays.
    #[test]
    fn fewer_shards_leave_with_the_last_column(replicas in 2..4_u32, surge: bool, careful: bool, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let all = Fleet { surge, ..fleet(replicas, &old, &new) };
        World::new(all, &old, careful).run(&order, |fleet| {
            let serves_old = decide(fleet).leaving != Leaving::Go && complete(&fleet.shards, &old);
            assert!(serves_old || complete(&fleet.shards, &new), "{:#?}", fleet.shards);
        });
    }

    #[test]
    fn a_plan_that_is_held_is_scaled_and_suspended_and_resumed_and_stays(
        replicas in 1..4_u32, numbers in proptest::collection::vec(0..4_u32, 0..5),
        surge: bool, careful: bool, order in order(),
    ) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let mut world = World::new(Fleet { surge, ..fleet(replicas, &old, &new) }, &old, careful);
        world.fleet.known = false;
        for wanted in numbers.into_iter().chain([replicas]) {
            world.fleet.shards.iter_mut().for_each(|shard| shard.replicas = wanted);
            let serves_all = |fleet: &Fleet, _: &Rollout| {
                let is_all = |shard: &Shard| shard.is_whole() && shard.pods.len() == wanted as usize;
                fleet.shards.iter().all(is_all)
            };
            world.run_until(&order, serves_all, |fleet| {
                let is_old = |shard: &Shard| shard.pods.iter().all(|pod| pod.mark == old);
                assert!(fleet.shards.iter().all(is_old), "{:#?}", fleet.shards);
            });
        }
        world.fleet.known = true;
        world.run(&order, |fleet| {
            let whole = complete(&fleet.shards, &old) || complete(&fleet.shards, &new);
            assert!(whole || (replicas == 1 && !surge), "{:#?}", fleet.shards);
        });
    }

    /// What is wanted ends what was wrong, wherever that was: so it must get there.
    #[test]
    fn trouble_is_mended(replicas in 1..4_u32, plan: bool, surge: bool, careful: bool, trouble in trouble(), order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", if plan { "b" } else { "a" }));
        let all = in_trouble(Fleet { surge, ..fleet(replicas, &old, &new) }, &trouble);
        let bad = Some(old.clone());
        World { bad, ..World::new(all, &old, careful) }.run(&order, |_| {});
    }

    #[test]
    fn a_template_that_cannot_start_does_not_stop_the_one_after_it(
        replicas in 1..4_u32, plan: bool, surge: bool, careful: bool, steps in 1..200_usize, order in order(),
    ) {
        let last = if plan { "b" } else { "a" };
        let (old, bad, new) = (mark("1", "a"), mark("2", last), mark("3", last));
        let all = Fleet { surge, ..fleet(replicas, &old, &bad) };
        let mut world = World { bad: Some(bad), ..World::new(all, &old, careful) };
        for choice in order.iter().cycle().take(steps) {
            let decision = decide(&world.fleet);
            world.step(&decision, *choice);
            let whole = complete(&world.fleet.shards, &old);
            prop_assert!(whole || (replicas == 1 && !(plan && surge)), "{:#?}", world.fleet.shards);
        }
        for shard in &mut world.fleet.shards {
            shard.wanted = new.clone();
        }
        world.run(&order, |_| {});
    }
}
