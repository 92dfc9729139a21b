//! One decision at a time.

use super::fleet::{Live, Mark, Pod};
use super::gateway::{Gateway, Wire};
use super::*;

pub(super) fn mark(hash: &str, plan: &str) -> Mark {
    Mark { hash: hash.into(), plan: Some(plan.into()) }
}

pub(super) fn pod(ordinal: u32, mark: &Mark, ready: bool) -> Pod {
    Pod { ordinal, mark: mark.clone(), ready, troubled: false, overdue: false, going: false }
}

pub(super) fn live(mark: &Mark, replicas: u32, partition: u32) -> Live {
    Live { mark: mark.clone(), replicas, partition, rolling: false }
}

/// A shard whose pods are all ready, of the template that is live.
pub(super) fn shard(id: u32, replicas: u32, live: &Mark, wanted: &Mark) -> Shard {
    Shard {
        id,
        replicas,
        wanted: wanted.clone(),
        live: Some(self::live(live, replicas, 0)),
        pods: (0..replicas).map(|ordinal| pod(ordinal, live, true)).collect(),
    }
}

/// One that has the wanted image, and serves.
pub(super) fn gateway() -> Gateway {
    let wanted = mark("gateway", "");
    Gateway { pods: vec![pod(0, &wanted, true)], wanted, has_image: true, serves: true, is_refused: false }
}

pub(super) fn fleet(replicas: u32, live: &Mark, wanted: &Mark) -> Fleet {
    let bootstrap = mark("b", "");
    Fleet {
        known: true,
        surge: false,
        bootstrap: shard(0, 1, &bootstrap, &bootstrap),
        wire: Wire::Same,
        moves_image: true,
        is_made: true,
        gateway: gateway(),
        shards: (0..3).map(|id| shard(id, replicas, live, wanted)).collect(),
    }
}

pub(super) fn partitions(fleet: &Fleet) -> Vec<u32> {
    decide(fleet).steps.iter().map(|step| step.partition).collect()
}

#[test]
fn nothing_moves_where_nothing_is_new() {
    let now = mark("1", "a");
    let decision = decide(&fleet(2, &now, &now));
    assert_eq!(decision.rollout, Rollout::Done);
    assert_eq!(decision.leaving, Leaving::Go);
    assert!(decision.steps.iter().all(|step| step.partition == 0 && step.stuck.is_empty() && !step.holds));
}

#[test]
fn another_template_moves_one_shard() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(2, &old, &new);
    assert_eq!(partitions(&all), [0, 2, 2]);
    // It has begun, and one of its pods is away: nobody else begins.
    all.shards[0] = Shard { live: Some(live(&new, 2, 0)), ..all.shards[0].clone() };
    all.shards[0].pods[1] = pod(1, &new, false);
    for held in &mut all.shards[1..] {
        held.live = Some(live(&new, 2, 2));
    }
    assert_eq!(partitions(&all), [0, 2, 2]);
    assert_eq!(decide(&all).rollout, Rollout::Turn { moving: vec![0], waiting: vec![1, 2] });
    all.shards[0].pods = (0..2).map(|ordinal| pod(ordinal, &new, true)).collect();
    assert_eq!(partitions(&all), [0, 0, 2]);
}

#[test]
fn a_shard_that_serves_nothing_goes_first_and_a_broken_one_holds_up_the_others() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(2, &old, &new);
    all.shards[2].pods = vec![pod(0, &old, false), pod(1, &old, false)];
    assert_eq!(partitions(&all), [2, 2, 0]);
    let mut all = fleet(2, &old, &new);
    all.shards[0].wanted = old.clone();
    all.shards[0].pods[0].ready = false;
    assert_eq!(partitions(&all), [0, 2, 2], "shard 0 has nothing new, and is not whole");
    assert_eq!(decide(&all).rollout, Rollout::Turn { moving: vec![], waiting: vec![1, 2] });
}

#[test]
fn trouble_in_many_shards_is_mended_one_shard_at_a_time() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(2, &old, &new);
    for shard in &mut all.shards[1..] {
        shard.pods[0] = Pod { troubled: true, ..pod(0, &old, false) };
    }
    assert_eq!(partitions(&all), [2, 0, 2]);
    // Pods that only take their time are waited for.
    for shard in &mut all.shards {
        shard.pods[0].troubled = false;
    }
    assert_eq!(partitions(&all), [2, 2, 2]);
}

#[test]
fn pods_beyond_those_that_serve_need_no_turn() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(3, &old, &new);
    for shard in &mut all.shards {
        shard.pods[2].ready = false;
    }
    all.shards[1].pods[1].ready = false;
    assert_eq!(partitions(&all), [2, 1, 2]);
    all.shards[1].live = Some(live(&new, 3, 1));
    assert_eq!(decide(&all).steps[1].stuck, [1, 2]);
}

#[test]
fn a_pod_in_trouble_below_the_column_does_not_hold_it_up() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let mut all = fleet(2, &old, &new);
    for shard in &mut all.shards {
        shard.live = Some(live(&new, 2, 1));
    }
    all.shards[1].pods[0] = Pod { troubled: true, ..pod(0, &old, false) };
    let stuck = |fleet: &Fleet| decide(fleet).steps.into_iter().map(|step| step.stuck).collect::<Vec<_>>();
    assert_eq!(stuck(&all), [vec![], vec![1], vec![]]);
    all.shards[1].pods[0] = Pod { overdue: true, ..pod(0, &old, false) };
    assert_eq!(stuck(&all), [vec![], vec![1], vec![]]);
    all.shards[1].pods[1] = pod(1, &new, false);
    assert!(stuck(&all).concat().is_empty(), "it is on its way");
}

#[test]
fn shards_wait_for_the_bootstrap() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(1, &old, &new);
    all.bootstrap.pods[0].ready = false;
    assert_eq!(partitions(&all), [1, 1, 1]);
    assert_eq!(decide(&all).rollout, Rollout::Bootstrap(vec![0, 1, 2]));
    let mut all = fleet(2, &old, &mark("2", "b"));
    all.bootstrap.pods[0].ready = false;
    assert_eq!(partitions(&all), [2, 2, 2]);
}

#[test]
fn another_plan_moves_the_highest_column_of_all() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let mut all = fleet(2, &old, &new);
    assert_eq!(partitions(&all), [1, 1, 1]);
    assert_eq!(decide(&all).leaving, Leaving::Stay);
    for shard in &mut all.shards {
        shard.live = Some(live(&new, 2, 1));
        shard.pods[1] = pod(1, &new, true);
    }
    all.shards[2].pods[1].ready = false;
    assert_eq!(partitions(&all), [1, 1, 1], "the column does not serve yet");
    let waits = Rollout::Column { column: Column::Ordinal(1), waits_for: vec![2] };
    assert_eq!(decide(&all).rollout, waits);
    all.shards[2].pods[1].ready = true;
    assert_eq!(partitions(&all), [0, 0, 0]);
    assert_eq!(decide(&all).leaving, Leaving::Go);
}

#[test]
fn a_new_shard_has_nothing_to_lose_and_a_plan_that_is_not_known_moves_nothing() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let mut all = fleet(2, &old, &new);
    all.shards[2].live = None;
    all.shards[2].pods.clear();
    assert_eq!(partitions(&all), [1, 1, 0]);
    all.known = false;
    let decision = decide(&all);
    assert_eq!(decision.steps.iter().map(|step| step.holds).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((decision.rollout, decision.leaving), (Rollout::Manifest, Leaving::Follow));
}

#[test]
fn a_plan_that_is_held_follows_the_number_of_pods() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    // Wanted and there, whether a column more is wanted meanwhile, and whether those that are wanted serve.
    let table = [
        (("as it is", 2, 2, false, true), 2),
        (("fewer", 1, 3, false, true), 1),
        (("fewer, and none serves", 1, 3, false, false), 1),
        (("more", 3, 1, false, true), 3),
        (("suspended", 0, 2, false, true), 0),
        (("resumed", 2, 0, false, false), 2),
        (("a column more may be what serves", 1, 2, true, false), 2),
        (("a column less, where one more would be wanted meanwhile", 1, 2, true, true), 1),
        (("no column more is made for it", 2, 2, true, false), 2),
        (("fewer, and a column more may be what serves", 1, 3, true, false), 2),
        (("suspended, with a column more", 0, 2, true, false), 0),
    ];
    for ((case, wanted, there, surge, serves), expected) in table {
        let mut all = Fleet { known: false, surge, ..fleet(wanted, &old, &new) };
        for shard in &mut all.shards {
            shard.live = Some(live(&old, there, 1));
            shard.pods.iter_mut().for_each(|pod| pod.ready = serves);
        }
        let Decision { steps, leaving, rollout } = decide(&all);
        let step = Step { holds: true, replicas: expected, partition: 1, stuck: Vec::new() };
        assert!(steps.iter().all(|one| *one == step), "{case}: {steps:?}");
        assert_eq!(leaving, Leaving::Follow, "{case}");
        assert_eq!(rollout == Rollout::Manifest, expected > 0, "{case}");
    }
}

#[test]
fn with_surge_a_column_more_serves_first() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let mut all = Fleet { surge: true, ..fleet(1, &old, &new) };
    let decision = decide(&all);
    assert!(decision.steps.iter().all(|step| (step.replicas, step.partition) == (2, 1)));
    for shard in &mut all.shards {
        shard.live = Some(live(&new, 2, 1));
        shard.pods.push(pod(1, &new, true));
    }
    assert!(decide(&all).steps.iter().all(|step| (step.replicas, step.partition) == (2, 0)));
    for shard in &mut all.shards {
        shard.live = Some(live(&new, 2, 0));
        shard.pods[0] = pod(0, &new, true);
    }
    assert!(decide(&all).steps.iter().all(|step| step.replicas == 1));
}

#[test]
fn a_pod_that_waits_for_what_is_no_longer_asked_goes() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let mut all = fleet(1, &old, &new);
    all.shards[1].pods[0] = Pod { troubled: true, ..pod(0, &old, false) };
    assert!(
        decide(&all).steps[1].stuck.is_empty(),
        "before the template is written it would come back as it is"
    );
    all.shards[1].live = Some(live(&new, 1, 0));
    assert_eq!(decide(&all).steps[1].stuck, [0]);
}

#[test]
fn a_plan_that_has_begun_its_last_column_goes_to_its_end_before_another_begins() {
    let (before, now, next) = (mark("1", "a"), mark("2", "b"), mark("3", "c"));
    let mut all = fleet(2, &now, &next);
    for shard in &mut all.shards {
        shard.live = Some(Live { rolling: true, ..live(&now, 2, 0) });
    }
    all.shards[0].pods[0] = pod(0, &before, true);
    all.shards[1].pods[0] = pod(0, &now, false);
    let decision = decide(&all);
    assert_eq!(decision.rollout, Rollout::Before(vec![0, 1, 2]));
    assert_eq!(decision.leaving, Leaving::Follow);
    assert!(decision.steps.iter().all(|step| step.holds && step.replicas == 2));

    let begins = |fleet: &Fleet| decide(fleet).rollout != Rollout::Before(vec![0, 1, 2]);
    let mut other = all.clone();
    other.shards[1].pods[0].troubled = true;
    assert!(begins(&other), "it may never get there");
    let mut other = all.clone();
    other.shards[1].pods[0].overdue = true;
    assert!(begins(&other), "it has had its time");
    let mut other = all.clone();
    other.shards[1].pods[1].ready = false;
    assert!(begins(&other), "nothing is lost");
    let mut other = all.clone();
    other.shards.iter_mut().for_each(|shard| shard.live = Some(live(&now, 2, 0)));
    assert!(begins(&other), "it was at its end: a pod is away for another reason");
}

#[test]
fn while_it_is_not_known_what_an_image_speaks_only_trouble_is_mended() {
    let (old, new) = (mark("1", "a"), mark("2", "a"));
    let unheard = |moves_image| {
        let mut all = Fleet { wire: Wire::Unheard, moves_image, ..fleet(2, &old, &new) };
        all.shards[0].pods.iter_mut().for_each(|pod| pod.ready = false);
        all.shards[1].pods[1].ready = false;
        all
    };
    let mut all = unheard(true);
    assert_eq!((partitions(&all), decide(&all).rollout), (vec![2, 2, 2], Rollout::Unheard(vec![0, 1, 2])));
    assert!(decide(&all).steps.iter().all(|step| step.stuck.is_empty()));
    all.shards[0].pods[0].troubled = true;
    all.shards[1].pods[1].troubled = true;
    assert_eq!(partitions(&all), [0, 1, 2]);
    // The image stays: what else is new needs no word of it.
    let all = unheard(false);
    assert_eq!(partitions(&all), [0, 1, 2]);
    let all = Fleet { moves_image: false, wire: Wire::Unheard, ..fleet(2, &old, &new) };
    assert_eq!(partitions(&all), [0, 2, 2]);
    let all = Fleet { moves_image: false, wire: Wire::Unheard, ..fleet(2, &old, &mark("2", "b")) };
    assert_eq!(partitions(&all), [1, 1, 1]);
}
