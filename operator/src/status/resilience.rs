//! What loss the fleet stands.

use std::collections::BTreeSet;

use super::cause::{Trouble, grouped};
use super::fleet::{Fleet, ShardView};
use crate::crd::Reason;
use crate::named;
use crate::pods::Problem;

/// Nodes that `tolerates` names.
const MAX_NODES: usize = 32;

/// What the loss of a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resilience {
    /// Nothing, whichever it is.
    AnyNode,
    /// The pipeline breaks with some.
    Not {
        /// Of the first of them.
        reason: Reason,
        /// Of shards that are alike, together.
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
        let critical: BTreeSet<&str> = weak.iter().flat_map(|shard| shard.group.nodes()).collect();
        let complete = fleet.shards.iter().all(|shard| shard.group.ready() > 0);
        let all: BTreeSet<&str> = fleet.shards.iter().flat_map(|shard| shard.group.nodes()).collect();
        let spare = all.difference(&critical).take(if complete { MAX_NODES } else { 0 });
        Self::Not {
            reason: if first.group.ready() > 1 { Reason::ReplicasShareNode } else { Reason::SingleReplica },
            causes: causes(&weak),
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

/// What makes a shard weak.
struct Weakness<'a> {
    ready: u32,
    /// Of several ready pods.
    shared: Option<&'a str>,
    trouble: Option<Trouble>,
    /// Why there are no more pods.
    refused: Option<&'a str>,
}

impl<'a> Weakness<'a> {
    fn of(shard: &'a ShardView<'_>) -> Self {
        let ready = shard.group.ready();
        let shared = shard.group.nodes().first().copied().filter(|_| ready > 1);
        let trouble = shard.group.trouble().filter(|_| shared.is_none());
        let refused = shard.group.refused.filter(|_| trouble.is_none());
        Self { ready, shared, trouble, refused }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.ready, self.shared, self.refused, self.problem())
            == (other.ready, other.shared, other.refused, other.problem())
    }

    fn problem(&self) -> Option<&Problem> {
        self.trouble.as_ref().map(|trouble| &trouble.problem)
    }

    fn words(&self, ids: &[u32]) -> String {
        let who = named::shards(ids);
        let have = if ids.len() == 1 { "has" } else { "each have" };
        if let Some(node) = self.shared {
            return format!("{who} {have} all {} ready pods on node {node}", self.ready);
        }
        let pods = match self.ready {
            0 => "no ready pod".to_owned(),
            1 => "1 ready pod".to_owned(),
            more => format!("{more} ready pods"),
        };
        let why = match &self.trouble {
            None => {
                self.refused.map(|why| format!(", and no more can be created: {why}")).unwrap_or_default()
            }
            Some(trouble) if ids.len() == 1 => format!(": {trouble}"),
            Some(trouble) => format!(", and a pod that {}", trouble.problem.message),
        };
        format!("{who} {have} {pods}{why}")
    }
}

fn causes(weak: &[&ShardView<'_>]) -> Vec<String> {
    let all = weak.iter().map(|shard| (shard.id, Weakness::of(shard)));
    let groups = grouped(all, |one, other| one.is_like(other));
    groups.iter().map(|(ids, weakness)| weakness.words(ids)).collect()
}
