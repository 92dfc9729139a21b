//! Another template of the same plan: one shard at a time.
//!
//! ```text
//!  not all pods of the wanted template ─┬─ its turn has begun, or none of its pods serves ─▶ its pods move
//!                                       ├─ else: when all that have moved serve, the first ─▶ its pods move
//!                                       └─ else: pods beyond the last one that serves      ─▶ these move
//! ```
//! What does not serve loses nothing by moving; while nobody knows what the image speaks, only what is in trouble moves. A
//! shard that is in trouble goes before those that are not: what is wanted may be what mends it, as more memory does.

use super::fleet::{Fleet, Pod, Shard};
use super::{Decision, Leaving, Rollout, Step};

pub(super) fn decide(fleet: &Fleet) -> Decision {
    let pending: Vec<&Shard> = fleet.shards.iter().filter(|shard| is_pending(shard)).collect();
    // A pod that is back in a moment serves again: not so where its new image speaks otherwise.
    let loses_nothing = |shard: &Shard| fleet.is_heard() || shard.members().any(Pod::is_given_up);
    let moves = |shard: &&&Shard| has_begun(shard) || (is_down(shard) && loses_nothing(shard));
    let mut moving: Vec<u32> = pending.iter().filter(moves).map(|shard| shard.id).collect();
    let waits_for_bootstrap = !fleet.has_bootstrap();
    if moving.is_empty() && !waits_for_bootstrap {
        moving.extend(next(fleet, &pending));
    }
    let waiting: Vec<u32> = pending.iter().map(|shard| shard.id).filter(|id| !moving.contains(id)).collect();
    let step = |shard: &Shard| {
        let partition = match waiting.contains(&shard.id) {
            true if loses_nothing(shard) => beyond_what_serves(shard),
            true => shard.replicas,
            false => 0,
        };
        let stuck = shard.stuck(partition, shard.replicas);
        Step { holds: false, replicas: shard.replicas, partition, stuck }
    };
    let steps = fleet.shards.iter().map(step).collect();
    let rollout = match (moving.is_empty(), waiting.is_empty()) {
        (true, true) => Rollout::Done,
        (true, false) if waits_for_bootstrap => fleet.awaited(waiting),
        _ => Rollout::Turn { moving, waiting },
    };
    Decision { steps, leaving: Leaving::Go, rollout }
}

/// The shard that may begin. One that has moved and does not serve may be the new template's fault: nobody begins then.
/// Where pods only take their time, they are waited for.
fn next(fleet: &Fleet, pending: &[&Shard]) -> Option<u32> {
    if fleet.shards.iter().any(|shard| !is_pending(shard) && !shard.is_whole()) {
        return None;
    }
    let mut broken = pending.iter().filter(|shard| !shard.is_whole()).peekable();
    let next = match broken.peek() {
        Some(_) => broken.find(|shard| shard.members().any(|pod| pod.troubled && !shard.is_new(pod))),
        None => pending.first(),
    };
    next.map(|shard| shard.id)
}

/// The partition of a shard that waits: pods that serve stay.
fn beyond_what_serves(shard: &Shard) -> u32 {
    let serving = shard.members().filter(|pod| pod.ready && !shard.is_new(pod));
    serving.map(|pod| pod.ordinal + 1).max().unwrap_or(0)
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
