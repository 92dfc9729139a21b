//! Whole rollouts, with a model of the StatefulSet controller: pods from the partition on move one at a time, highest
//! first, and none while another one is not ready. What it and the kubelets do comes in any order.

use proptest::prelude::*;

use super::fleet::{Live, Mark, Pod};
use super::tests::{fleet, mark, pod};
use super::*;

/// More than any rollout takes.
const MAX_STEPS: usize = 4000;

/// Writes what was decided, as `apply` does.
fn write(fleet: &mut Fleet, decision: &Decision) {
    for (shard, step) in fleet.shards.iter_mut().zip(&decision.steps) {
        for ordinal in &step.stuck {
            shard.pods.retain(|pod| pod.ordinal != *ordinal);
        }
        if !step.holds {
            let live = Live { mark: shard.wanted.clone(), partition: step.partition };
            shard.live = Some(live);
        }
    }
}

/// What a StatefulSet controller does next for a shard.
fn control(shard: &mut Shard, before: &Mark, replicas: u32) {
    let Some(live) = shard.live.clone() else { return };
    shard.pods.retain(|pod| pod.ordinal < replicas);
    for ordinal in 0..replicas {
        if shard.pod(ordinal).is_none() {
            let revision = if ordinal >= live.partition { &live.mark } else { before };
            shard.pods.push(pod(ordinal, revision, false));
            return;
        }
    }
    if shard.pods.iter().any(|pod| !pod.ready) {
        return;
    }
    let old = shard.pods.iter().filter(|pod| pod.ordinal >= live.partition && pod.mark != live.mark);
    if let Some(ordinal) = old.map(|pod| pod.ordinal).max() {
        shard.pods.retain(|pod| pod.ordinal != ordinal);
    }
}

fn becomes_ready(shard: &mut Shard, nth: usize) {
    let mut waiting: Vec<&mut Pod> = shard.pods.iter_mut().filter(|pod| !pod.ready).collect();
    if waiting.is_empty() {
        return;
    }
    let nth = nth % waiting.len();
    waiting[nth].ready = true;
}

/// Columns of which every shard has a ready pod of this plan.
fn complete(fleet: &Fleet, plan: &Option<String>) -> bool {
    fleet.shards.iter().all(|shard| shard.pods.iter().any(|pod| pod.ready && pod.mark.plan == *plan))
}

fn is_over(fleet: &Fleet) -> bool {
    let settled = |shard: &Shard| shard.is_settled() && shard.pods.len() == shard.replicas as usize;
    fleet.shards.iter().all(settled)
}

/// Runs to the end; `check` sees every state.
fn run(mut fleet: Fleet, before: &Mark, choices: &[usize], check: impl Fn(&Fleet)) -> usize {
    for step in 0..MAX_STEPS {
        let decision = decide(&fleet);
        if is_over(&fleet) && decision.rollout == Rollout::Done {
            return step;
        }
        let replicas: Vec<u32> = decision.steps.iter().map(|step| step.replicas).collect();
        let choice = choices[step % choices.len()];
        let at = (choice / 3) % fleet.shards.len();
        match choice % 3 {
            0 => write(&mut fleet, &decision),
            1 => control(&mut fleet.shards[at], before, replicas[at]),
            _ => becomes_ready(&mut fleet.shards[at], choice / 9),
        }
        check(&fleet);
    }
    panic!("it does not end: {:?}\n{:#?}", decide(&fleet), fleet.shards);
}

/// Any order, in which each of the things that can happen comes up.
fn order() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..900_usize, 24..48).prop_map(|mut order| {
        order.extend(0..9 * 4);
        order
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn another_template_never_takes_pods_of_two_shards(replicas in 1..4_u32, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "a"));
        run(fleet(replicas, &old, &new), &old, &order, |fleet| {
            let short = fleet.shards.iter().filter(|shard| !shard.is_whole());
            assert!(short.count() <= 1, "{:#?}", fleet.shards);
            let columns = fleet.shards.iter().map(|shard| shard.pods.iter().filter(|pod| pod.ready).count());
            assert!(columns.min().unwrap() + 1 >= replicas as usize);
        });
    }

    #[test]
    fn another_plan_leaves_one_complete(replicas in 1..4_u32, surge: bool, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let all = Fleet { surge, ..fleet(replicas, &old, &new) };
        run(all, &old, &order, |fleet| {
            let whole = complete(fleet, &old.plan) || complete(fleet, &new.plan);
            assert!(whole || (replicas == 1 && !surge), "{:#?}", fleet.shards);
        });
    }

    #[test]
    fn more_shards_join_whole_columns(replicas in 2..4_u32, order in order()) {
        let (old, new) = (mark("1", "a"), mark("2", "b"));
        let mut all = fleet(replicas, &old, &new);
        all.shards[2].pods.clear();
        all.shards[2].live = None;
        // The plan before has the first two only.
        run(all, &old, &order, |fleet| {
            let old = fleet.shards[..2].iter().all(|shard| shard.pods.iter().any(|pod| pod.ready && pod.mark.plan == old.plan));
            assert!(old || complete(fleet, &new.plan), "{:#?}", fleet.shards);
        });
    }

    #[test]
    fn a_template_that_cannot_start_does_not_stop_the_one_after_it(replicas in 1..4_u32, order in order()) {
        let (old, bad, new) = (mark("1", "a"), mark("2", "a"), mark("3", "a"));
        let mut all = fleet(replicas, &old, &new);
        // The first shard went over to the bad one, whose pod never gets ready.
        all.shards[0].live = Some(Live { mark: bad.clone(), partition: 0 });
        all.shards[0].pods[replicas as usize - 1] = Pod { troubled: true, ..pod(replicas - 1, &bad, false) };
        for shard in &mut all.shards[1..] {
            shard.live = Some(Live { mark: bad.clone(), partition: replicas });
        }
        run(all, &old, &order, |_| {});
    }
}
