//! How the model is cut, and what each part runs on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::pod::{PodBlock, Resources};
use super::{is_default, rules, schema};

/// How the model is cut, and how many pods serve each part.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.layerStarts.size() == 0 || self.layerStarts.size() == self.count")
    .message("shards.layerStarts needs one entry per shard (shards.count), or none"))]
#[x_kube(validation = Rule::new("self.overrides.all(o, o.id < self.count)")
    .message("shards.overrides names a shard that does not exist: ids go from 0 to shards.count - 1"))]
#[x_kube(validation = Rule::new("self.count * self.replicas + self.overrides.map(o, has(o.replicas) ? o.replicas : 0).sum() <= 4096")
    .message("more than 4096 pods: lower shards.count, shards.replicas or the replicas of shards.overrides"))]
pub struct ShardsSpec {
    /// Parts of the model, each served by pods of its own.
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 256))]
    pub count: u32,
    /// Pods that serve each part. 0 suspends, for autoscalers.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// First layer of each shard; sizes as equal as can be where it is empty. `shardctl plan` proposes some.
    #[serde(default)]
    #[schemars(length(max = 256), inner(range(min = 0, max = 1023)))]
    #[x_kube(validation = Rule::new("self.size() == 0 || self[0] == 0").message("layerStarts must begin with layer 0"))]
    #[x_kube(validation = Rule::new("self.isSorted() && self.all(a, self.exists_one(b, a == b))").message("layerStarts must ascend, without one twice"))]
    pub layer_starts: Vec<u32>,
    /// What single shards have of their own.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.id == b.id))").message("overrides names a shard twice"))]
    pub overrides: Vec<ShardOverride>,
    /// Pods of all shards, beside spec.pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: PodBlock,
}

impl Default for ShardsSpec {
    fn default() -> Self {
        Self {
            count: count(),
            replicas: replicas(),
            layer_starts: Vec::new(),
            overrides: Vec::new(),
            pod: PodBlock::default(),
        }
    }
}

fn count() -> u32 {
    4
}

fn replicas() -> u32 {
    1
}

/// What one shard has of its own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ShardOverride {
    /// The shard, from 0.
    #[schemars(range(min = 0, max = 255))]
    pub id: u32,
    /// Pods at least: the larger one of this and shards.replicas holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: Option<u32>,
    /// Resources that it has instead of those of spec.resources, name by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What differs from spec.gpu; count 0 is the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuOverride>,
    /// Its pods, beside spec.pod and shards.pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: PodBlock,
}

/// The GPU of a shard.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GpuSpec {
    /// What the device plugin calls it.
    #[serde(default = "gpu_resource")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::extended_resource("resourceName"))]
    pub resource_name: String,
    /// GPUs of a pod; 0 is the CPU.
    #[serde(default = "gpu_count")]
    #[schemars(range(min = 0, max = 64))]
    pub count: u32,
    /// Labels of nodes with such GPUs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::strings::<32, 63>")]
    #[x_kube(validation = rules::keys("nodeSelector"))]
    #[x_kube(validation = rules::values("nodeSelector"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of such nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), schema_with = "schema::compact::<Vec<Toleration>>")]
    #[x_kube(validation = rules::toleration_key())]
    #[x_kube(validation = rules::toleration_value())]
    #[x_kube(validation = rules::toleration_seconds())]
    pub tolerations: Vec<Toleration>,
    /// RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object("runtimeClassName", "RuntimeClass"))]
    pub runtime_class_name: Option<String>,
}

fn gpu_resource() -> String {
    "nvidia.com/gpu".into()
}

fn gpu_count() -> u32 {
    1
}

impl Default for GpuSpec {
    fn default() -> Self {
        Self {
            resource_name: gpu_resource(),
            count: gpu_count(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            runtime_class_name: None,
        }
    }
}

/// What differs from spec.gpu for one shard.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GpuOverride {
    /// What the device plugin calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::extended_resource("resourceName"))]
    pub resource_name: Option<String>,
    /// GPUs of a pod; 0 is the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub count: Option<u32>,
    /// Labels of nodes with such GPUs, instead of those of spec.gpu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::strings::<32, 63>")]
    #[x_kube(validation = rules::keys("nodeSelector"))]
    #[x_kube(validation = rules::values("nodeSelector"))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of such nodes, instead of those of spec.gpu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), schema_with = "schema::compact::<Vec<Toleration>>")]
    #[x_kube(validation = rules::toleration_key())]
    #[x_kube(validation = rules::toleration_value())]
    #[x_kube(validation = rules::toleration_seconds())]
    pub tolerations: Option<Vec<Toleration>>,
    /// RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object("runtimeClassName", "RuntimeClass"))]
    pub runtime_class_name: Option<String>,
}
