//! What loss the fleet stands.

use std::collections::BTreeSet;

use super::fleet::{Fleet, ShardView};

/// Nodes that `tolerates` names.
const MAX_NODES: usize = 32;

/// What the loss of a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resilience {
    /// Nothing, whichever it is.
    AnyNode,
    /// The pipeline breaks with some.
    Not {
        /// One word.
        reason: &'static str,
        /// Shard by shard.
        causes: Vec<String>,
        /// Nodes without which the pipeline stays complete.
        spare: Vec<String>,
    },
}

impl Resilience {
    pub(super) fn of(fleet: &Fleet<'_>) -> Self {
        let weak: Vec<&ShardView<'_>> =
            fleet.shards.iter().filter(|one| one.group.nodes().len() < 2).collect();
        let Some(first) = weak.first() else { return Self::AnyNode };
        let cause = |shard: &ShardView<'_>| {
            let (id, ready) = (shard.id, shard.group.ready());
            match (shard.group.nodes().first(), shard.group.problem()) {
                (Some(node), _) if ready > 1 => {
                    format!("all {ready} ready pods of shard {id} run on node {node}")
                }
                (_, problem) => {
                    let pods = if ready == 1 { "pod" } else { "pods" };
                    let why = problem.map(|problem| format!(": {}", problem.message)).unwrap_or_default();
                    format!("shard {id} has {ready} ready {pods}{why}")
                }
            }
        };
        let critical: BTreeSet<&str> = weak.iter().flat_map(|shard| shard.group.nodes()).collect();
        let complete = fleet.shards.iter().all(|shard| shard.group.ready() > 0);
        let all: BTreeSet<&str> = fleet.shards.iter().flat_map(|shard| shard.group.nodes()).collect();
        let spare = all.difference(&critical).take(if complete { MAX_NODES } else { 0 });
        Self::Not {
            reason: if first.group.ready() > 1 { "ReplicasShareNode" } else { "SingleReplica" },
            causes: weak.iter().map(|shard| cause(shard)).collect(),
            spare: spare.map(|node| (*node).to_owned()).collect(),
        }
    }

    /// For `plan.tolerates`.
    pub(super) fn tolerates(&self) -> Vec<String> {
        match self {
            Self::AnyNode => vec!["the loss of any one node".into()],
            Self::Not { spare, .. } => spare.iter().map(|node| format!("the loss of node {node}")).collect(),
        }
    }
}
