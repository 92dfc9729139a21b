//! The model and its cut, as a gateway has them from the manifest.

use shard_wire::pipeline::ManifestShard;

use super::fleet::Fleet;
use super::resilience::Resilience;
use crate::cluster::Cluster;
use crate::crd::{LayerRange, ModelStatus, PlanShard, PlanStatus};
use crate::desired::shard::{kv_bytes, memory_request};

/// `None` until the manifest is known.
pub(super) fn model(fleet: &Fleet<'_>) -> Option<ModelStatus> {
    let pipeline = fleet.pipeline.filter(|pipeline| pipeline.manifest.is_some())?;
    Some(ModelStatus {
        total_layers: pipeline.total_layers,
        sha256: pipeline.model_sha256.clone(),
        size_bytes: pipeline.model_bytes,
    })
}

/// `None` until the manifest is known, or while no gateway answers.
pub(super) fn plan(
    cluster: &Cluster,
    fleet: &Fleet<'_>,
    manifest: &[ManifestShard],
    resilience: &Resilience,
) -> Option<PlanStatus> {
    let pipeline = fleet.pipeline.filter(|pipeline| pipeline.manifest.is_some())?;
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
    Some(PlanStatus {
        id: pipeline.plan.clone(),
        shards: manifest.iter().map(one).collect(),
        tolerates: resilience.tolerates(),
    })
}
