//! Another template of the same plan: one shard at a time.
//!
//! ```text
//!  not all pods of the wanted template ─┬─ its turn has begun, or none of its pods serves ─▶ its pods move
//!                                       └─ else: when all others' pods serve, the first   ─▶ its pods move
//! ```
//! A shard without a pod that serves loses nothing; one of which some serve goes before those of which all do.

use super::fleet::{Fleet, Shard};
use super::{Decision, Rollout, Step};

pub(super) fn decide(fleet: &Fleet) -> Decision {
    let pending: Vec<&Shard> = fleet.shards.iter().filter(|shard| is_pending(shard)).collect();
    let mut moving: Vec<u32> =
        pending.iter().filter(|shard| has_begun(shard) || is_down(shard)).map(|shard| shard.id).collect();
    let waits_for_bootstrap = !fleet.bootstrap.is_settled();
    if moving.is_empty() && !waits_for_bootstrap {
        moving.extend(next(fleet, &pending));
    }
    let waiting: Vec<u32> = pending.iter().map(|shard| shard.id).filter(|id| !moving.contains(id)).collect();
    let step = |shard: &Shard| {
        let partition = if waiting.contains(&shard.id) { shard.replicas } else { 0 };
        Step {
            holds: false,
            replicas: shard.replicas,
            partition,
            stuck: if moving.contains(&shard.id) { shard.stuck(partition) } else { Vec::new() },
        }
    };
    let steps = fleet.shards.iter().map(step).collect();
    let rollout = match (moving.is_empty(), waiting.is_empty()) {
        (true, true) => Rollout::Done,
        (true, false) if waits_for_bootstrap => Rollout::Bootstrap(waiting),
        _ => Rollout::Turn { moving, waiting },
    };
    Decision { steps, leaving_stay: false, rollout }
}

/// The shard that may begin: all others' pods serve, and its own do, or those that do not are the next to go.
fn next(fleet: &Fleet, pending: &[&Shard]) -> Option<u32> {
    let mut broken = fleet.shards.iter().filter(|shard| !shard.is_whole());
    match (broken.next(), broken.next()) {
        (None, _) => pending.first().map(|shard| shard.id),
        (Some(one), None) => (is_pending(one) && loses_nothing(one)).then_some(one.id),
        (Some(_), Some(_)) => None,
    }
}

/// The pod that a StatefulSet's controller takes first does not serve anyway, or another one has a trouble that waiting
/// does not end.
fn loses_nothing(shard: &Shard) -> bool {
    let old = || shard.members().filter(|pod| !shard.is_new(pod));
    let first = old().max_by_key(|pod| pod.ordinal);
    first.is_some_and(|pod| !pod.ready) || old().any(|pod| pod.troubled)
}

fn is_pending(shard: &Shard) -> bool {
    shard.members().any(|pod| !shard.is_new(pod))
}

fn has_begun(shard: &Shard) -> bool {
    shard.is_written() && shard.live.as_ref().is_some_and(|live| live.partition == 0)
}

fn is_down(shard: &Shard) -> bool {
    !shard.members().any(|pod| pod.ready)
}
