//! Another plan, of whose manifest nothing is known yet: the plan that is there goes on, with its templates and partitions
//! as they are.
//!
//! ```text
//!  a shard with a plan ─▶ its template stays; pods: as many as are wanted, none while suspended
//!  a shard without one ─▶ is made, and has no pods: how much memory they need is not known
//!  a shard that leaves ─▶ as one with a plan: it is a part of what serves
//! ```
//! More pods are made from the template that is there, which says what a pod of its plan needs.

use super::fleet::{Fleet, Mark, Shard};
use super::{Decision, Leaving, Rollout, Step};

pub(super) fn decide(fleet: &Fleet) -> Decision {
    let step = |shard: &Shard| match shard.live.as_ref().filter(|live| live.mark.plan.is_some()) {
        Some(live) => Step {
            holds: true,
            replicas: replicas(shard.replicas, live.replicas, fleet.surge && !is_steady(shard, &live.mark)),
            partition: live.partition,
            stuck: Vec::new(),
        },
        None => Step { holds: false, replicas: 0, partition: 0, stuck: Vec::new() },
    };
    let steps: Vec<Step> = fleet.shards.iter().map(step).collect();
    let serves = steps.iter().any(|step| step.holds && step.replicas > 0);
    let leaving = if steps.iter().any(|step| step.holds) { Leaving::Follow } else { Leaving::Go };
    Decision { leaving, rollout: if serves { Rollout::Manifest } else { Rollout::Done }, steps }
}

/// Pods of a shard whose template stays. A column that is there meanwhile stays, too, where it `stands_in`.
pub(super) fn replicas(wanted: u32, live: u32, stands_in: bool) -> u32 {
    live.clamp(wanted, with_surge(wanted, stands_in))
}

/// Needs no column that stands in: as many pods as are wanted serve, of the template that is there.
fn is_steady(shard: &Shard, live: &Mark) -> bool {
    let serves = |ordinal| shard.pod(ordinal).is_some_and(|pod| pod.mark == *live && pod.ready);
    (0..shard.replicas).all(serves)
}

/// With a column more, where it is wanted.
pub(super) fn with_surge(replicas: u32, surge: bool) -> u32 {
    replicas + u32::from(surge && replicas > 0)
}
