//! Another plan: column by column, so that one column is complete at any time where there are two.
//!
//! ```text
//!             pod 0   pod 1   pod 2 (surge)
//!  shard 0     old     old     new      1. where it is wanted, a column more
//!  shard 1     old     old     new      2. when all of its pods serve: partition 1, so the pods 1
//!  shard 2      –       –      new      3. when all of these serve: partition 0
//!  leaving     old     old              a shard that the new plan has not goes when column 0 does
//! ```
//! A column that has begun is not held back again: its pods are on their way. Where it was the last one of the plan before,
//! that plan comes to its end first: it is served by the columns above, which would be the first to leave it.

use super::fleet::{Fleet, Pod, Shard};
use super::hold::{self, with_surge};
use super::{Column, Decision, Leaving, Rollout, Step, gateway};

pub(super) fn decide(fleet: &Fleet) -> Decision {
    let late = late(fleet);
    if !late.is_empty() {
        return Decision { rollout: Rollout::Before(late), ..hold::decide(fleet) };
    }
    // Another plan is new pods everywhere: they need the bootstrap, which has the model.
    if !fleet.has_bootstrap() && !fleet.shards.iter().any(has_begun) {
        return waiting_for_bootstrap(fleet);
    }
    let (waits_for_gateway, column) = (gateway::is_awaited(fleet), column(fleet));
    let step = |shard: &Shard| {
        let replicas = with_surge(shard.replicas, fleet.surge);
        let partition = if waits_for_gateway { reached(shard) } else { partition(shard, column) };
        Step { holds: false, replicas, partition, stuck: shard.stuck(partition, replicas) }
    };
    let is_last = column == Column::Ordinal(0) && (!waits_for_gateway || begun(fleet) == Some(0));
    Decision {
        steps: fleet.shards.iter().map(step).collect(),
        leaving: if is_last { Leaving::Go } else { Leaving::Stay },
        rollout: match waits_for_gateway {
            true => Rollout::Gateway,
            false => Rollout::Column {
                column,
                waits_for: fleet.shards.iter().filter(|it| !is_through(it, column)).map(|it| it.id).collect(),
            },
        },
    }
}

/// The column that is there meanwhile serves for others, of which not all do, or which no gateway serves yet.
pub(super) fn stands_in(fleet: &Fleet) -> bool {
    let has_more = |shard: &Shard| shard.pods.iter().any(|pod| pod.ordinal >= shard.replicas && !pod.going);
    let is_settled = || fleet.shards.iter().all(Shard::is_settled) && !gateway::is_awaited(fleet);
    fleet.surge && fleet.shards.iter().any(has_more) && !is_settled()
}

/// What is there is on its way, and nobody knows yet what an image makes of it that is wanted since: which wire version it
/// speaks, or whether it makes the same plan.
pub(super) fn goes_on(fleet: &Fleet) -> bool {
    let is_on_its_way = |shard: &Shard| {
        let live = shard.live.as_ref().filter(|live| live.mark.plan.is_some() && live.mark != shard.wanted);
        live.is_some_and(|live| {
            let is_mixed = shard.members().any(|pod| pod.mark.plan != live.mark.plan);
            (is_mixed && !fleet.is_made) || ((is_mixed || live.rolling) && !fleet.is_heard())
        })
    };
    fleet.moves_image && fleet.shards.iter().any(is_on_its_way)
}

/// Shards whose last column is on its way to the plan before, while that plan serves. One in trouble, or that has been on
/// its way for long, may never get there: then nobody waits.
fn late(fleet: &Fleet) -> Vec<u32> {
    let mut late = Vec::new();
    for shard in &fleet.shards {
        let Some(live) = shard.live.as_ref().filter(|live| live.mark.plan.is_some()) else { continue };
        let serves = shard.pods.iter().any(|pod| pod.ready && pod.mark.plan == live.mark.plan);
        let is_late = !shard.is_written() && live.rolling && live.partition == 0;
        if !serves || (is_late && shard.pods.iter().any(Pod::is_given_up)) {
            return Vec::new();
        }
        late.extend(is_late.then_some(shard.id));
    }
    late
}

/// Templates are written, and every pod stays, those of a column that is there meanwhile, too.
fn waiting_for_bootstrap(fleet: &Fleet) -> Decision {
    let step = |shard: &Shard| Step {
        holds: false,
        replicas: hold::replicas(
            shard.replicas,
            shard.live.as_ref().map_or(0, |live| live.replicas),
            fleet.surge,
        ),
        partition: shard.replicas.max(reached(shard)),
        stuck: Vec::new(),
    };
    Decision {
        steps: fleet.shards.iter().map(step).collect(),
        leaving: Leaving::Stay,
        rollout: fleet.awaited(fleet.shards.iter().map(|shard| shard.id).collect()),
    }
}

/// The partition of a shard while the gateway is waited for: what is old stays, unless it is on its way.
fn reached(shard: &Shard) -> u32 {
    let old =
        shard.pods.iter().filter(|pod| !shard.is_new(pod)).map(|pod| pod.ordinal + 1).max().unwrap_or(0);
    let live = shard.live.as_ref().filter(|_| has_begun(shard));
    live.map_or(old, |live| old.min(live.partition))
}

/// The lowest column that has begun.
fn begun(fleet: &Fleet) -> Option<u32> {
    let begun = fleet.shards.iter().filter(|shard| has_begun(shard));
    begun.filter_map(|shard| Some(shard.live.as_ref()?.partition)).min()
}

/// The highest column that is not through, unless a lower one has begun.
fn column(fleet: &Fleet) -> Column {
    let begun = begun(fleet);
    if begun.is_none() && fleet.surge && !fleet.shards.iter().all(|it| is_through(it, Column::Surge)) {
        return Column::Surge;
    }
    let top = fleet.shards.iter().map(|shard| shard.replicas).max().unwrap_or(0);
    let ordinal = |ordinal: &u32| !fleet.shards.iter().all(|it| is_through(it, Column::Ordinal(*ordinal)));
    let first = (0..top).rev().find(ordinal).unwrap_or(0);
    Column::Ordinal(begun.map_or(first, |begun| begun.min(first)))
}

/// Pods of the plan before have been let go: the partition is below them.
fn has_begun(shard: &Shard) -> bool {
    shard.is_written()
        && shard.has_another_plan()
        && shard.live.as_ref().is_some_and(|live| live.partition < shard.replicas)
}

/// Of a shard that has such a pod, it is new and serves.
fn is_through(shard: &Shard, column: Column) -> bool {
    match column {
        Column::Ordinal(ordinal) => ordinal >= shard.replicas || shard.is_moved(ordinal),
        Column::Surge => shard.replicas == 0 || shard.is_moved(shard.replicas),
    }
}

/// A shard that is new has nothing that must stay.
fn partition(shard: &Shard, column: Column) -> u32 {
    let is_new = shard.live.as_ref().is_none_or(|live| live.mark.plan.is_none());
    let has_moved = shard.is_written() && shard.members().all(|pod| shard.is_new(pod));
    match column {
        _ if is_new || has_moved => 0,
        Column::Surge => shard.replicas,
        Column::Ordinal(ordinal) => ordinal.min(shard.replicas),
    }
}
