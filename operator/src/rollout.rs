//! Which pods may move to the template that is wanted now. Pure: what is wanted, what is there and
//! the time in, what to write next out.
//!
//! ```text
//!  Observed, Desired ─▶ fleet: each shard's pods, by the template and the plan that they are of
//!                         ├─ gateway: its image stays while only the old one can serve what is complete
//!                         │
//!                         ├─ the new plan's manifest is not known ─▶ hold     templates and partitions stay
//!                         │    or, midway, whether a newer image makes it, too
//!                         ├─ pods of another plan                 ─▶ column   pod r of all shards, highest first
//!                         └─ pods of another template             ─▶ turn     one shard at a time
//!                         ▼
//!                      Decision per shard: template, replicas, partition, stuck pods ─▶ write: into Desired
//! ```
//! Nothing is remembered between two decisions but what the API server holds: pods have the hash of their template and
//! their plan, StatefulSets a partition. A StatefulSet's controller moves the pods from the partition on, highest first,
//! and a pod at a time; the bootstrap goes before all shards, because its loss stops nobody: a bad image ends there.

mod column;
mod fleet;
mod gateway;
mod hold;
mod told;
mod turn;
mod write;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::Cluster;
use crate::desired::{Desired, Facts};
use crate::observe::Observed;
use fleet::{Fleet, Shard};

/// How far pods are on their way to what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// All are of the wanted template; whether they are ready is another matter.
    #[default]
    Done,
    /// Shards serve the plan before until the manifest of the new one is known.
    Manifest,
    /// Midway between two plans: it is not known whether a newer image makes the same one.
    Unmade,
    /// The plan before comes to its end first: these shards are late.
    Before(Vec<u32>),
    /// The bootstrap goes first; the shards with these ids follow.
    Bootstrap(Vec<u32>),
    /// The bootstrap has gone first, and no gateway has heard of it: these shards follow.
    Unheard(Vec<u32>),
    /// One shard after the other.
    Turn {
        /// Whose pods move.
        moving: Vec<u32>,
        /// Whose pods wait.
        waiting: Vec<u32>,
    },
    /// A new plan serves one column: the others wait for the gateway, which is to serve it.
    Gateway,
    /// One column after the other.
    Column {
        /// Which.
        column: Column,
        /// The shards whose pod of this column is not new and ready.
        waits_for: Vec<u32>,
    },
}

/// One replica of every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// The pods with this ordinal.
    Ordinal(u32),
    /// One that is there only while a new plan rolls out: the pods beyond the wanted ones.
    Surge,
}

/// What becomes of one shard now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Template and partition stay as they are, whatever is wanted.
    holds: bool,
    replicas: u32,
    /// Pods below it stay as they are.
    partition: u32,
    /// Ordinals of pods that are to be deleted.
    stuck: Vec<u32>,
}

/// What becomes of the shards that the spec does not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// They go.
    Go,
    /// They stay as they are.
    Stay,
    /// They stay, with as many pods as the fleet has columns.
    Follow,
}

/// What becomes of all shards now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    /// One per shard of the spec, by id.
    steps: Vec<Step>,
    leaving: Leaving,
    rollout: Rollout,
}

/// The children as they are to be written now, and how far they are from what is wanted.
#[must_use]
pub fn rollout(
    cluster: &Cluster,
    facts: &Facts,
    observed: &Observed,
    desired: Desired,
    now: Timestamp,
) -> (Desired, Rollout) {
    let fleet = Fleet::new(cluster, facts, observed, &desired, now);
    let (decision, gateway_stays) = (decide(&fleet), gateway::stays(&fleet));
    // Nothing holds the bootstrap back.
    let bootstrap = fleet.bootstrap.stuck(0, fleet.bootstrap.replicas);
    let desired = write::write(cluster, &decision, &bootstrap, observed, desired);
    let desired = if gateway_stays { write::keep_gateway(cluster, observed, desired) } else { desired };
    (desired, decision.rollout)
}

fn decide(fleet: &Fleet) -> Decision {
    if !fleet.known {
        hold::decide(fleet)
    } else if column::goes_on(fleet) {
        let all = fleet.shards.iter().map(|shard| shard.id).collect();
        let rollout = if fleet.has_bootstrap() { Rollout::Unmade } else { fleet.awaited(all) };
        Decision { rollout, ..hold::decide(fleet) }
    } else if fleet.shards.iter().any(Shard::has_another_plan) || column::stands_in(fleet) {
        column::decide(fleet)
    } else {
        turn::decide(fleet)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
