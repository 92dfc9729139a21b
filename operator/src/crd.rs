//! The resource: what a user writes, what the operator answers, and the definition that tells an API server of both.
//!
//! ```text
//!  spec    crd.rs ─▶ model, shards, storage, parts, pod      each with its defaults, bounds and rules
//!                                                            those that hold in several places: rules
//!  status  status
//!  YAML    definition() ─▶ schema::tidy ─▶ crds/shardcluster.yaml
//! ```
//! No client here. What a rule of the schema guarantees, [`crate::validate`] does not ask again.

// KubeSchema copies each struct, `pub` included, into a function.
#![allow(unreachable_pub)]

mod model;
mod parts;
mod pod;
mod reason;
mod reference;
mod rules;
pub mod schema;
mod shards;
mod status;
mod storage;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use model::{
    Builtin, BuiltinName, HttpSource, HuggingFaceSource, ImageSource, ModelSpec, PvcSource, SourceSpec,
};
pub use parts::{
    ActivationDtype, BootstrapSpec, GatewaySpec, InferenceSpec, KvDtype, NetworkPolicySpec, RolloutSpec,
    ServiceSpec, ServiceType, Transport, Weights,
};
pub use pod::{PodBlock, PullPolicy, Resources};
pub use reason::{Class, Reason};
pub use reference::{KeyRef, NameRef};
pub use shards::{GpuOverride, GpuSpec, ShardOverride, ShardsSpec};
pub use status::{
    LayerRange, ModelStatus, Phase, PlanShard, PlanStatus, ShardClusterStatus, ShardRow, condition,
};
pub use storage::{Retain, Retention, StorageOverride, StorageSpec};

/// What the names of children leave of a label's 63 bytes: `NAME-shard-255-` and the hash of a revision.
pub const MAX_NAME: usize = 40;

/// What to serve, and on what.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "shardcluster.io",
    version = "v1alpha1",
    kind = "ShardCluster",
    plural = "shardclusters",
    shortname = "shc",
    category = "shardcluster",
    namespaced,
    status = "ShardClusterStatus",
    derive = "PartialEq",
    doc = "A language model in GGUF, cut by layers over several pods and served as one OpenAI-compatible endpoint.",
    scale(
        spec_replicas_path = ".spec.shards.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".spec.shards.count"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.readyShards"),
    printcolumn(
        name = "Pipeline",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="PipelineComplete")].status"#,
        description = "Whether a token went through every shard"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1),
    printcolumn(
        name = "Missing",
        type_ = "string",
        json_path = ".status.missing",
        description = "Layers that no shard serves",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message(
        "metadata.name is longer than 40 characters: the names of pods and Services are made from it"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name becomes part of the names of Services: it needs lower-case letters, digits and '-', and a letter at its beginning"
    ),
    validation = Rule::new(
        "(has(self.spec.clusterName) ? self.spec.clusterName : self.metadata.name) == (has(oldSelf.spec.clusterName) ? oldSelf.spec.clusterName : oldSelf.metadata.name)"
    )
    .message("spec.clusterName is immutable (metadata.name holds where it is not set): nodes of another name are another cluster")
)]
#[x_kube(validation = Rule::new("!has(self.model.totalLayers) || self.shards.count <= self.model.totalLayers")
    .message("shards.count is more than model.totalLayers: every shard holds one layer at least"))]
#[x_kube(validation = Rule::new("!has(self.model.totalLayers) || self.shards.layerStarts.all(l, l < self.model.totalLayers)")
    .message("shards.layerStarts names a layer that the model of model.totalLayers has not"))]
#[x_kube(validation = rules::bootstrap_size_removed())]
#[x_kube(validation = rules::bootstrap_size_set())]
#[serde(rename_all = "camelCase")]
pub struct ShardClusterSpec {
    /// Name of the cluster in the nodes' network; nodes outside Kubernetes join by it. metadata.name where it is not set. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("clusterName must be a DNS label: lower-case letters, digits and '-', such as llama-cluster"))]
    pub cluster_name: Option<String>,
    /// Image with the node's programs, for all parts. The release's own where it is not set, CUDA's for shards with a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::image("image"))]
    pub image: Option<String>,
    /// The model.
    pub model: ModelSpec,
    /// How the model is cut, and how many pods serve each part.
    #[serde(default)]
    pub shards: ShardsSpec,
    /// The GPU of a shard. CPU only where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpec>,
    /// Resources of a shard. A memory request that is not set follows from the model: weights × 1.1, plus sessions × context × cache, plus 256 Mi.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Where shards keep their part of the model.
    #[serde(default)]
    pub storage: StorageSpec,
    /// What nodes listen on and dial: QUIC with TCP to fall back on (dual), or one of the two.
    #[serde(default)]
    pub transport: Transport,
    /// The entry to the network, and the origin of the model.
    #[serde(default)]
    pub bootstrap: BootstrapSpec,
    /// The OpenAI API.
    #[serde(default)]
    pub gateway: GatewaySpec,
    /// What holds for all pods; the same block of a part adds to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: PodBlock,
    /// The engine's settings.
    #[serde(default)]
    pub inference: InferenceSpec,
    /// Seconds between the announcements of a node.
    #[serde(default = "refresh_interval")]
    #[schemars(range(min = 1, max = 86_400))]
    pub refresh_interval_seconds: u32,
    /// Who may reach the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// How a new plan is rolled out.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// Seconds after which the pods of a node that cannot be reached are replaced.
    #[serde(default = "node_loss")]
    #[schemars(range(min = 1, max = 86_400))]
    pub node_loss_seconds: u32,
    /// Stop all pods but the gateway, and keep everything else.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether nothing of it is set: then it is not written, and API servers put no empty blocks into what users see.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn refresh_interval() -> u32 {
    300
}

fn node_loss() -> u32 {
    60
}

/// Why there is no definition: a fault of this program, met by its tests.
#[derive(Debug, Error)]
pub enum DefinitionError {
    /// The derived definition cannot be taken apart and put together again.
    #[error("cannot convert the definition of ShardCluster")]
    Convert(#[source] serde_json::Error),
    /// It cannot be written as YAML.
    #[error("cannot print the definition of ShardCluster")]
    Print(#[source] serde_yaml::Error),
}

/// The definition that an API server takes.
///
/// # Errors
/// [`DefinitionError::Convert`], where the schema is none.
pub fn definition() -> Result<CustomResourceDefinition, DefinitionError> {
    let mut definition = serde_json::to_value(ShardCluster::crd()).map_err(DefinitionError::Convert)?;
    schema::tidy(&mut definition);
    serde_json::from_value(definition).map_err(DefinitionError::Convert)
}

/// The definition as a file.
///
/// # Errors
/// See [`DefinitionError`].
pub fn yaml() -> Result<String, DefinitionError> {
    let mut definition = serde_json::to_value(definition()?).map_err(DefinitionError::Convert)?;
    schema::whole_numbers(&mut definition);
    serde_yaml::to_string(&definition).map_err(DefinitionError::Print)
}
