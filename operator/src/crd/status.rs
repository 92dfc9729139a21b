//! What the operator answers.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The types of conditions.
pub mod condition {
    /// A bootstrap answers.
    pub const BOOTSTRAP_READY: &str = "BootstrapReady";
    /// The origin has the model, and the manifest is known.
    pub const MODEL_AVAILABLE: &str = "ModelAvailable";
    /// Every shard has a pod that serves it.
    pub const SHARDS_READY: &str = "ShardsReady";
    /// A gateway answers.
    pub const GATEWAY_READY: &str = "GatewayReady";
    /// A token went through every shard.
    pub const PIPELINE_COMPLETE: &str = "PipelineComplete";
    /// The loss of a node leaves the pipeline complete.
    pub const RESILIENT: &str = "Resilient";
    /// It can be used.
    pub const READY: &str = "Ready";
}

/// What is there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ShardClusterStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for it all: Pending, Downloading, Loading and Running on its way up; Degraded where something is missing of what has served; Suspended; Failed where the spec makes no sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// A token went through every shard since the last change.
    #[serde(default)]
    pub pipeline_complete: bool,
    /// Every file of the model has a complete seeder among the shards.
    #[serde(default)]
    pub swarm_ready: bool,
    /// Shards with a pod that serves them, of all: 3/4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_shards: Option<String>,
    /// Shards with a pod that serves them.
    #[serde(default)]
    pub ready_shard_count: u32,
    /// Layers that nobody serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_layers: Vec<LayerRange>,
    /// missingLayers as people read them: 12-16, 20-24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Where the API is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Multiaddrs, with peer id, by which nodes outside enter.
    #[serde(default)]
    pub bootstrap_address: Vec<String>,
    /// Columns, each a pod of every shard: what autoscalers count.
    #[serde(default)]
    pub replicas: u32,
    /// Label selector of the pods of shard 0, one per column: what autoscalers measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The node image in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// How it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// One row per shard.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub shards: Vec<ShardRow>,
    /// What holds, and why the rest does not: BootstrapReady, ModelAvailable, ShardsReady, GatewayReady, PipelineComplete (a token went through every shard), Resilient (the loss of a node would leave it complete), Ready (it can be used).
    #[serde(default)]
    #[schemars(schema_with = "super::schema::conditions")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One word for it all.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Phase {
    Pending,
    Downloading,
    Loading,
    Running,
    Degraded,
    Suspended,
    Failed,
}

/// A half-open range of layers: 12 to 16 are those from 12 to 15.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerRange {
    /// First layer.
    pub start: u32,
    /// One past the last layer.
    pub end: u32,
}

/// `12-16`: half-open like the range itself.
impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

impl From<shard_wire::layers::LayerRange> for LayerRange {
    fn from(range: shard_wire::layers::LayerRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// What the model is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Its layers.
    pub total_layers: u32,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Bytes of its file.
    pub size_bytes: u64,
}

/// How the model is cut.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Short hash of model, cut and wire version.
    pub id: String,
    /// One entry per shard.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub shards: Vec<PlanShard>,
    /// What may be lost while the pipeline stays complete, and what may not.
    #[serde(default)]
    pub tolerates: Vec<String>,
}

/// One shard of the plan.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlanShard {
    /// The shard.
    pub id: u32,
    /// Its layers.
    pub layers: LayerRange,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Bytes of the cache of all its sessions at full length.
    pub kv_bytes: u64,
    /// The memory that its pods request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<String>,
}

/// One shard as it is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShardRow {
    /// The shard.
    pub id: u32,
    /// Its layers, once they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<LayerRange>,
    /// Pods that it is to have.
    pub desired_replicas: u32,
    /// Pods that are ready.
    pub ready_replicas: u32,
    /// Pods whose weights are loaded.
    pub loaded_replicas: u32,
    /// How far the pod is whose download is furthest, in steps of 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_percent: Option<u32>,
    /// Peer ids of its pods.
    #[serde(default)]
    pub peer_ids: Vec<String>,
    /// Nodes that they run on.
    #[serde(default)]
    pub nodes: Vec<String>,
}
