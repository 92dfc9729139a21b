//! Where pods keep the model.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Where shards keep their part of the model.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
    .message("storage.storageClassName is immutable: volumes of the old class are there already; make another ShardCluster instead"))]
#[x_kube(validation = Rule::new("self.emptyDir == oldSelf.emptyDir")
    .message("storage.emptyDir is immutable: the pods' volumes are there already; make another ShardCluster instead"))]
#[x_kube(validation = Rule::new("self.emptyDir || !isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
    .message("storage.size cannot become smaller: volumes only grow"))]
pub struct StorageSpec {
    /// Size of each shard's volume; with emptyDir, its limit. It can grow, where the storage class allows it.
    #[serde(default = "size")]
    #[schemars(schema_with = "size_schema")]
    #[x_kube(validation = rules::size("storage.size"))]
    pub size: Quantity,
    /// Class of the volumes; the cluster's default where it is not set. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::class("storage.storageClassName"))]
    pub storage_class_name: Option<String>,
    /// Keep the model with the pod instead of on a volume: a new pod fetches it again. Immutable.
    #[serde(default)]
    pub empty_dir: bool,
    /// What becomes of volumes that nobody needs any more.
    #[serde(default)]
    pub retention: Retention,
    /// Keep a volume that is bound to a node which is lost, and wait for the node. Else the shard starts elsewhere and fetches its part again.
    #[serde(default)]
    pub retain_on_node_loss: bool,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            size: size(),
            storage_class_name: None,
            empty_dir: false,
            retention: Retention::default(),
            retain_on_node_loss: false,
        }
    }
}

fn size() -> Quantity {
    Quantity("20Gi".into())
}

/// A string, not a number: a size without a unit is nearly always a mistake.
fn size_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 32 })
}

/// Where the bootstrap keeps the whole model. What is not set is as in spec.storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
    .message("bootstrap.storage.storageClassName is immutable: a volume of the old class is there already; make another ShardCluster instead"))]
#[x_kube(validation = Rule::new("has(self.emptyDir) == has(oldSelf.emptyDir) && (!has(self.emptyDir) || self.emptyDir == oldSelf.emptyDir)")
    .message("bootstrap.storage.emptyDir is immutable: the pod's volume is there already; make another ShardCluster instead"))]
#[x_kube(validation = Rule::new("!has(self.size) || !has(oldSelf.size) || !isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
    .message("bootstrap.storage.size cannot become smaller: volumes only grow"))]
pub struct StorageOverride {
    /// Size of the volume: it holds the whole model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    #[x_kube(validation = rules::size("bootstrap.storage.size"))]
    pub size: Option<Quantity>,
    /// Class of the volume. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::class("bootstrap.storage.storageClassName"))]
    pub storage_class_name: Option<String>,
    /// Keep the model with the pod instead of on a volume. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<bool>,
    /// What becomes of a volume that nobody needs any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What becomes of volumes that nobody needs any more.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// When the ShardCluster is deleted.
    #[serde(default)]
    pub when_deleted: Retain,
    /// When a shard has fewer pods.
    #[serde(default)]
    pub when_scaled: Retain,
}

/// Keep a volume, or delete it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retain {
    #[default]
    #[allow(missing_docs)]
    Retain,
    #[allow(missing_docs)]
    Delete,
}

impl Retain {
    /// The word of a StatefulSet for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}
