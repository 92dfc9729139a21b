//! What the manifest says, from the gateway, and from the last status while no gateway answers: pods stay as they are
//! when a gateway is restarted. Pure.

use shard_wire::pipeline::ManifestShard;

use crate::cluster::Cluster;
use crate::crd::{PlanShard, ShardCluster};
use crate::desired::shard::kv_bytes;
use crate::observe::GatewayView;

/// The shards whose size is known.
#[must_use]
pub fn manifest(cluster: &Cluster, resource: &ShardCluster, gateway: &GatewayView) -> Vec<ManifestShard> {
    if let GatewayView::Answered(pipeline) = gateway
        && let Some(manifest) = &pipeline.manifest
    {
        return manifest.shards.clone();
    }
    let plan = resource.status.as_ref().and_then(|status| status.plan.as_ref());
    plan.map(|plan| plan.shards.iter().map(|shard| remembered(cluster, shard)).collect()).unwrap_or_default()
}

/// A status has the cache of all sessions at full length; the manifest, that of one position.
fn remembered(cluster: &Cluster, shard: &PlanShard) -> ManifestShard {
    let one = ManifestShard { kv_bytes_per_token: 1, ..ManifestShard::default() };
    let positions = kv_bytes(&cluster.inference, &one).max(1);
    ManifestShard {
        shard_id: shard.id,
        start: shard.layers.start,
        end: shard.layers.end,
        weight_bytes: shard.weight_bytes,
        kv_bytes_per_token: shard.kv_bytes.div_ceil(positions),
    }
}
