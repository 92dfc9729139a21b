//! A ShardCluster with nothing left to resolve or to doubt: what [`crate::validate`] makes, and all that builders read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, Toleration};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::crd::{InferenceSpec, KeyRef, PullPolicy, Resources, Retention, ServiceSpec, Transport};

/// One fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Of the resource; children are named after it.
    pub name: String,
    /// Of the resource and its children.
    pub namespace: String,
    /// The resource, as its children's owner.
    pub owner: OwnerReference,
    /// In the nodes' network.
    pub cluster_name: String,
    /// The node image, without what a GPU adds to it.
    pub image: String,
    /// The model.
    pub model: Model,
    /// Its parts, by id.
    pub shards: Vec<Shard>,
    /// Pods that each shard has at least: the fleet's columns.
    pub columns: u32,
    /// Where shards keep their parts.
    pub storage: Storage,
    /// A volume that is bound to a lost node is kept.
    pub retain_on_node_loss: bool,
    /// The entry and origin.
    pub bootstrap: Bootstrap,
    /// The API.
    pub gateway: Gateway,
    /// What nodes listen on and dial.
    pub transport: Transport,
    /// The engine's settings.
    pub inference: InferenceSpec,
    /// Between announcements, in seconds.
    pub refresh_interval: u32,
    /// Who may reach the pods; `None` where no policy is wanted.
    pub policy: Option<Policy>,
    /// A new plan gets a column of its own meanwhile.
    pub surge: bool,
    /// How long a node may be out of reach, in seconds.
    pub node_loss: u32,
    /// Everything but the gateway is stopped.
    pub suspended: bool,
}

/// The model, and how it is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What people call it.
    pub name: String,
    /// What its layers must be.
    pub total_layers: Option<u32>,
    /// Where it comes from.
    pub source: Source,
    /// First layer of every shard; empty where the node decides.
    pub layer_starts: Vec<u32>,
}

/// Where the model comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// An address.
    Http {
        /// Of the file.
        url: String,
        /// What it must hash to.
        sha256: Option<String>,
        /// Entry of a Secret with the token.
        token: Option<KeyRef>,
        /// Entry of a ConfigMap with certificates.
        ca: Option<KeyRef>,
    },
    /// A model hub.
    Hub {
        /// `hf:OWNER/NAME/FILE@REVISION`.
        reference: String,
        /// Where the hub is, if not at its usual place.
        endpoint: Option<String>,
        /// Entry of a Secret with the token.
        token: Option<KeyRef>,
    },
    /// A volume that is there already.
    Claim {
        /// Its claim.
        name: String,
        /// The file on it.
        path: String,
    },
    /// An OCI image.
    Image {
        /// Its name.
        reference: String,
        /// The file in it.
        path: String,
    },
    /// In the node image.
    Builtin {
        /// The file in it.
        path: &'static str,
    },
}

impl Source {
    /// Whether the bootstrap has to fetch the model, and so needs room for it.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Hub { .. })
    }
}

/// One part of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// From 0.
    pub id: u32,
    /// Pods that it is to have.
    pub replicas: u32,
    /// Image of its pods.
    pub image: String,
    /// `None`: the CPU.
    pub gpu: Option<Gpu>,
    /// As the user says.
    pub resources: Resources,
    /// Its pods.
    pub pod: Pod,
}

/// GPUs of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// What the device plugin calls them.
    pub resource: String,
    /// At least 1.
    pub count: u32,
    /// Labels of nodes that have them.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of such nodes.
    pub tolerations: Vec<Toleration>,
    /// How containers get at them.
    pub runtime_class: Option<String>,
}

/// A folder that outlives a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// With the pod.
    EmptyDir {
        /// Its limit.
        size: Quantity,
    },
    /// On a volume.
    Claim {
        /// Its size.
        size: Quantity,
        /// Its class; `None` is the default one.
        class: Option<String>,
        /// When it goes.
        retention: Retention,
    },
}

/// The entry and origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// Pods that it is to have.
    pub replicas: u32,
    /// Pods that it has when nothing is suspended, and 1 at least: nodes dial these.
    pub entries: u32,
    /// How it is reached.
    pub service: ServiceSpec,
    /// Where it keeps the model; `None` where it only reads it.
    pub storage: Option<Storage>,
    /// As the user says.
    pub resources: Resources,
    /// Its pods.
    pub pod: Pod,
}

/// The API.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Pods that it is to have.
    pub replicas: u32,
    /// How it is reached.
    pub service: ServiceSpec,
    /// Secret whose entries are clients' keys.
    pub api_keys: Option<String>,
    /// As the user says.
    pub resources: Resources,
    /// Its pods.
    pub pod: Pod,
}

/// Who may reach the pods, beside one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Networks of nodes that are no pods of the cluster.
    pub external_peers: Vec<String>,
    /// Clients of the gateway; empty is anybody.
    pub clients: Vec<NetworkPolicyPeer>,
    /// Where the operator runs.
    pub operator_namespace: String,
    /// Whose pods may read metrics.
    pub monitoring_namespaces: Vec<String>,
}

/// What users say of pods, all blocks that hold for one put together.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the names are those of crd::PodBlock")]
pub struct Pod {
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    pub affinity: Affinity,
    pub priority_class: Option<String>,
    pub image_pull_secrets: Vec<String>,
    pub image_pull_policy: Option<PullPolicy>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub env: Vec<EnvVar>,
    pub service_account: Option<String>,
}
