//! The plan, as users read it.

use shard_wire::pipeline::ManifestShard;

use super::resilience::Resilience;
use crate::cluster::Cluster;
use crate::crd::{LayerRange, PlanShard, PlanStatus};
use crate::desired::Plan;
use crate::desired::shard::{kv_bytes, memory_request};

pub(super) fn plan(cluster: &Cluster, plan: &Plan, resilience: &Resilience) -> PlanStatus {
    let one = |known: &ManifestShard| PlanShard {
        id: known.shard_id,
        layers: LayerRange { start: known.start, end: known.end },
        weight_bytes: known.weight_bytes,
        kv_bytes: kv_bytes(&cluster.inference, known),
        memory_request: cluster
            .shards
            .iter()
            .find(|shard| shard.id == known.shard_id)
            .and_then(|shard| memory_request(cluster, shard, known)),
    };
    PlanStatus {
        id: plan.name.clone(),
        shards: plan.shards.iter().map(one).collect(),
        tolerates: resilience.tolerates(),
    }
}
