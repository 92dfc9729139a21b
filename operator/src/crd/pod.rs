//! What users say of pods: the same block for all pods, a part, or one shard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::NameRef;
use super::{rules, schema};

/// Pods: where they run, and what they have beside what the operator gives them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodBlock {
    /// Labels that a node must have; a narrower block adds to a wider one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::strings::<32, 63>")]
    #[x_kube(validation = rules::keys("nodeSelector"))]
    #[x_kube(validation = rules::values("nodeSelector"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated; a narrower block adds to a wider one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), schema_with = "schema::compact::<Vec<Toleration>>")]
    #[x_kube(validation = rules::toleration_key())]
    #[x_kube(validation = rules::toleration_value())]
    #[x_kube(validation = rules::toleration_seconds())]
    pub tolerations: Vec<Toleration>,
    /// Affinity. Each of its three parts replaces that of a wider block, and the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::compact::<Affinity>")]
    pub affinity: Option<Affinity>,
    /// PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object("priorityClassName", "PriorityClass"))]
    pub priority_class_name: Option<String>,
    /// Secrets to pull images with; a narrower block adds to a wider one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<NameRef>,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Further labels; the operator's own win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::strings::<64, 63>")]
    #[x_kube(validation = rules::keys("labels"))]
    #[x_kube(validation = rules::values("labels"))]
    #[x_kube(validation = rules::not_ours("labels"))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::strings::<64, 4096>")]
    #[x_kube(validation = rules::annotation_keys())]
    #[x_kube(validation = rules::not_ours("annotations"))]
    pub annotations: BTreeMap<String, String>,
    /// Further variables, such as HTTPS_PROXY or a LLAMA_… one; a flag that the operator sets wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), schema_with = "schema::compact::<Vec<EnvVar>>")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(e, e.name != 'POD_NAME')").message("the variable POD_NAME is the operator's: it names the identity of a pod"))]
    #[x_kube(validation = Rule::new("self.all(e, e.name.matches('^[ -<>-~]+$'))").message("env has an invalid name: it must be printable ASCII, without '='"))]
    #[x_kube(validation = Rule::new("self.all(e, !has(e.valueFrom) || !has(e.value) || e.value == '')").message("env has an entry with both value and valueFrom: leave one of the two out"))]
    #[x_kube(validation = Rule::new("self.all(e, !has(e.valueFrom) || [has(e.valueFrom.fieldRef), has(e.valueFrom.resourceFieldRef), has(e.valueFrom.configMapKeyRef), has(e.valueFrom.secretKeyRef)].filter(s, s).size() == 1)").message("env has an entry whose valueFrom is not exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef"))]
    pub env: Vec<EnvVar>,
    /// ServiceAccount instead of the operator's own one without rights. Its token is not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object("serviceAccountName", "ServiceAccount"))]
    pub service_account_name: Option<String>,
}

/// When an image is pulled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    #[allow(missing_docs)]
    Always,
    #[allow(missing_docs)]
    IfNotPresent,
    #[allow(missing_docs)]
    Never,
}

impl PullPolicy {
    /// Kubernetes' word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Resources of a container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::within())]
pub struct Resources {
    /// What a node must have free for it, such as cpu and memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    #[x_kube(validation = rules::amounts("requests"))]
    #[x_kube(validation = rules::resources("requests"))]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may take at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    #[x_kube(validation = rules::amounts("limits"))]
    #[x_kube(validation = rules::resources("limits"))]
    pub limits: BTreeMap<String, Quantity>,
}
