//! One part of the model: pods that fetch it, load it and serve its layers.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::Toleration;
use shard_wire::contract::{self as c, BOOTSTRAP_PORT, DIAGNOSTICS_PORT, Program};
use shard_wire::pipeline::ManifestShard;

use super::Plan;
use super::ShardChildren;
use super::args::Args;
use super::disruption::budget;
use super::meta::{Part, marked, matching};
use super::pod::{self, DIAGNOSTICS, Template};
use super::probe::Probes;
use super::service;
use super::spread::columns_together;
use super::storage::{SHARDS_DIR, folder};
use crate::cluster::{Cluster, Shard};
use crate::crd::{InferenceSpec, KvDtype};

/// A node holds its weights at 1.0 × their size, its tables and copies at a tenth of that.
const WEIGHT_PERCENT: u64 = 110;
/// What a node takes without a model.
const BASE_BYTES: u64 = 256 << 20;
const MIB: u64 = 1 << 20;
/// A node that is gone is replaced by another replica's traffic in seconds; its pod need not wait 5 minutes.
const GONE_SECONDS: i64 = 30;

/// Bytes that a pod of this shard needs: weights, the cache of all sessions at full length, and what a node takes itself.
#[must_use]
pub fn memory_bytes(inference: &InferenceSpec, shard: &ManifestShard) -> u64 {
    shard
        .weight_bytes
        .saturating_mul(WEIGHT_PERCENT)
        .div_ceil(100)
        .saturating_add(kv_bytes(inference, shard))
        .saturating_add(BASE_BYTES)
}

/// Bytes of the cache of all sessions at full length. The manifest counts two bytes a value.
#[must_use]
pub fn kv_bytes(inference: &InferenceSpec, shard: &ManifestShard) -> u64 {
    let sessions = u64::from(inference.max_sessions) * u64::from(inference.context_length);
    let width = match inference.kv_dtype {
        KvDtype::F16 => 1,
        KvDtype::F32 => 2,
    };
    sessions.saturating_mul(width).saturating_mul(shard.kv_bytes_per_token)
}

/// The memory that a pod of this shard requests: the user's, else what the model needs; `None` where a limit says as much.
#[must_use]
pub fn memory_request(cluster: &Cluster, shard: &Shard, known: &ManifestShard) -> Option<String> {
    let all = pod::resources(&shard.resources, &[memory(&cluster.inference, known)], None);
    all.requests?.get("memory").map(|memory| memory.0.clone())
}

/// What a pod requests where the user says nothing.
fn memory(inference: &InferenceSpec, known: &ManifestShard) -> (&'static str, String) {
    ("memory", format!("{}Mi", memory_bytes(inference, known).div_ceil(MIB)))
}

/// Until the plan is known nobody knows how much memory a pod needs, so there is none.
pub(super) fn shard(cluster: &Cluster, shard: &Shard, plan: Option<&Plan>) -> ShardChildren {
    let part = Part::Shard(shard.id);
    ShardChildren {
        stateful_set: stateful_set(cluster, shard, part, plan),
        peers: service::peers(cluster, part, part.name(cluster)),
        disruption: budget(cluster, part, shard.replicas),
    }
}

fn stateful_set(cluster: &Cluster, shard: &Shard, part: Part, plan: Option<&Plan>) -> StatefulSet {
    let folder = folder(cluster, part, &cluster.storage);
    let known = plan.and_then(|plan| plan.shard(shard.id));
    let plan = plan.filter(|_| known.is_some()).map(|plan| plan.name.as_str());
    let defaults: Vec<_> = known.map(|known| memory(&cluster.inference, known)).into_iter().collect();
    let template = Template {
        part,
        program: Program::ShardListener,
        image: &shard.image,
        pod: &shard.pod,
        args: args(cluster, shard, plan),
        resources: pod::resources(&shard.resources, &defaults, shard.gpu.as_ref()),
        probes: Probes::after_loading(DIAGNOSTICS),
        mounts: vec![pod::cluster_secret(cluster), pod::identity(cluster), folder.mount],
        gpu: shard.gpu.as_ref(),
        affinity: columns_together(cluster),
        tolerations: ["unreachable", "not-ready"].map(gone).into(),
        grace_seconds: 60,
    };
    StatefulSet {
        metadata: part.meta(cluster),
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(if known.is_some() { shard.replicas } else { 0 }).ok(),
            service_name: Some(part.name(cluster)),
            pod_management_policy: Some("Parallel".into()),
            selector: matching(part.selector(cluster)),
            template: marked(pod::template(cluster, template), plan),
            volume_claim_templates: folder.claims,
            persistent_volume_claim_retention_policy: folder.retention,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn args(cluster: &Cluster, shard: &Shard, plan: Option<&str>) -> Args {
    let inference = &cluster.inference;
    Args::dialling(cluster)
        .identified()
        .with(&c::NODE_PORT, BOOTSTRAP_PORT)
        .with(&c::NODE_DIAGNOSTICS_PORT, DIAGNOSTICS_PORT)
        .with(&c::SHARD_ID, shard.id)
        .with_some(&c::PLAN, plan)
        .with_some(&c::TOTAL_LAYERS, cluster.model.total_layers)
        .with(&c::SHARDS_DIR, SHARDS_DIR)
        .with(&c::REFRESH_INTERVAL, cluster.refresh_interval)
        .with(&c::DEVICE, if shard.gpu.is_some() { "cuda" } else { "cpu" })
        .with(&c::WEIGHTS, inference.weights.word())
        .with(&c::KV_DTYPE, inference.kv_dtype.word())
        .with(&c::ACTIVATION_DTYPE, inference.activation_dtype.word())
        .with(&c::MAX_SESSIONS, inference.max_sessions)
        .with(&c::CONTEXT_LENGTH, inference.context_length)
}

fn gone(how: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{how}")),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(GONE_SECONDS),
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_weights_and_cache_and_the_node_itself() {
        let known =
            ManifestShard { weight_bytes: 1_000_000_001, kv_bytes_per_token: 1000, ..Default::default() };
        let inference = InferenceSpec { max_sessions: 3, context_length: 2000, ..Default::default() };
        assert_eq!(memory_bytes(&inference, &known), 1_100_000_002 + 3 * 2000 * 1000 + (256 << 20));
        let wide = InferenceSpec { kv_dtype: KvDtype::F32, ..inference };
        assert_eq!(kv_bytes(&wide, &known), 2 * kv_bytes(&inference, &known));
        let endless = ManifestShard { weight_bytes: u64::MAX, kv_bytes_per_token: u64::MAX, ..known };
        assert!(memory_bytes(&inference, &endless) > u64::MAX / 200, "it does not wrap");
    }
}
