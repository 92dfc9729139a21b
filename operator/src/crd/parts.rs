//! The bootstrap, the gateway, and what holds for the whole cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pod::{PodBlock, Resources};
use super::reference::NameRef;
use super::storage::StorageOverride;
use super::{is_default, rules, schema};

/// The entry to the network, and the origin of the model.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapSpec {
    /// Pods. Nodes enter by each of them.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u32,
    /// How nodes outside the Kubernetes cluster reach it.
    #[serde(default)]
    pub service: ServiceSpec,
    /// Where it keeps the whole model. What is not set is as in spec.storage.
    #[serde(default)]
    pub storage: StorageOverride,
    /// Its resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Its pods, beside spec.pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: PodBlock,
}

impl Default for BootstrapSpec {
    fn default() -> Self {
        Self {
            replicas: one(),
            service: ServiceSpec::default(),
            storage: StorageOverride::default(),
            resources: Resources::default(),
            pod: PodBlock::default(),
        }
    }
}

fn one() -> u32 {
    1
}

/// The OpenAI API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Pods.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: u32,
    /// How clients reach it.
    #[serde(default)]
    pub service: ServiceSpec,
    /// Secret with the clients' API keys: every entry is one key. Everybody may ask where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys_secret_ref: Option<NameRef>,
    /// Who may reach it, besides the operator; anybody where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), schema_with = "schema::compact::<Vec<NetworkPolicyPeer>>")]
    #[x_kube(validation = Rule::new("self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))").message("allowFrom has an entry that is not exactly one of an ipBlock and selectors (podSelector, namespaceSelector, or both)"))]
    #[x_kube(validation = Rule::new("self.all(p, !has(p.ipBlock) || isCIDR(p.ipBlock.cidr) && (!has(p.ipBlock.except) || p.ipBlock.except.all(e, isCIDR(e) && cidr(p.ipBlock.cidr).containsCIDR(e))))").message("allowFrom has an ipBlock that is not a network, such as 192.0.2.0/24, or whose except is not inside it"))]
    pub allow_from: Vec<NetworkPolicyPeer>,
    /// Its resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Its pods, beside spec.pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: PodBlock,
}

impl Default for GatewaySpec {
    fn default() -> Self {
        Self {
            replicas: one(),
            service: ServiceSpec::default(),
            api_keys_secret_ref: None,
            allow_from: Vec::new(),
            resources: Resources::default(),
            pod: PodBlock::default(),
        }
    }
}

/// A Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Its type.
    #[serde(default, rename = "type")]
    pub service_type: ServiceType,
    /// Its annotations, for load balancers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::strings::<64, 4096>")]
    #[x_kube(validation = rules::annotation_keys())]
    pub annotations: BTreeMap<String, String>,
}

/// The type of a Service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    #[allow(missing_docs)]
    ClusterIp,
    #[allow(missing_docs)]
    NodePort,
    #[allow(missing_docs)]
    LoadBalancer,
}

impl ServiceType {
    /// Kubernetes' word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What nodes listen on and dial.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    #[default]
    #[allow(missing_docs)]
    Dual,
    #[allow(missing_docs)]
    Tcp,
    #[allow(missing_docs)]
    Quic,
}

impl Transport {
    /// The node's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Dual => "dual",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }

    /// Whether TCP is on.
    #[must_use]
    pub fn tcp(self) -> bool {
        self != Self::Quic
    }

    /// Whether QUIC, so UDP, is on.
    #[must_use]
    pub fn quic(self) -> bool {
        self != Self::Tcp
    }
}

/// The engine's settings.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InferenceSpec {
    /// Answers that a pod works on at a time.
    #[serde(default = "max_sessions")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_sessions: u32,
    /// Tokens of prompt and answer together; the model's own limit where that is lower.
    #[serde(default = "context_length")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub context_length: u32,
    /// Type of the numbers that shards send to one another.
    #[serde(default)]
    pub activation_dtype: ActivationDtype,
    /// Type of the key and value cache.
    #[serde(default)]
    pub kv_dtype: KvDtype,
    /// How weights lie in memory: mapped from the file, packed for speed, or packed where memory allows (auto).
    #[serde(default)]
    pub weights: Weights,
}

impl Default for InferenceSpec {
    fn default() -> Self {
        Self {
            max_sessions: max_sessions(),
            context_length: context_length(),
            activation_dtype: ActivationDtype::default(),
            kv_dtype: KvDtype::default(),
            weights: Weights::default(),
        }
    }
}

fn max_sessions() -> u32 {
    4
}

fn context_length() -> u32 {
    4096
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $first:ident = $word:literal $(, $other:ident = $other_word:literal)* }) => {
        $(#[$doc])*
        #[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[serde(rename_all = "lowercase")]
        #[allow(missing_docs)]
        pub enum $name { #[default] $first $(, $other)* }

        impl $name {
            /// The node's word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { Self::$first => $word $(, Self::$other => $other_word)* }
            }
        }
    };
}

words!(
    /// Type of the activations between shards.
    ActivationDtype { F32 = "f32", F16 = "f16", Bf16 = "bf16" }
);
words!(
    /// Type of the key and value cache.
    KvDtype { F16 = "f16", F32 = "f32" }
);
words!(
    /// How weights lie in memory.
    Weights { Auto = "auto", Map = "map", Packed = "packed" }
);

/// Who may reach the pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Make NetworkPolicies, drawn from who talks to whom.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Networks of nodes that are not pods of this cluster, such as 192.0.2.0/24.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("networkPolicy.externalPeers must be networks, such as 192.0.2.0/24 or 2001:db8::/32"))]
    pub external_peers: Vec<String>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true, external_peers: Vec::new() }
    }
}

fn yes() -> bool {
    true
}

/// How a new plan is rolled out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Add one pod per shard while a new plan rolls out, so that one pipeline is always complete.
    #[serde(default)]
    pub surge: bool,
}
