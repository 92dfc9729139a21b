//! Every child that a cluster has. Pure: values in, objects out; [`crate::validate`] made the cluster, `apply` writes the objects.
//!
//! ```text
//!  &Cluster, &Facts ─▶ desired ─┬▶ accounts, secrets
//!                               ├▶ bootstrap ─┐
//!                               ├▶ shard ─────┼─▶ pod ─▶ args, probe, storage, spread      what all pods are
//!                               ├▶ gateway ───┘
//!                               ├▶ service, disruption                                    beside each of the three
//!                               └▶ network                                                who talks to whom
//! ```
//! A child is a field here, so that `apply`, which takes the struct apart, cannot forget one.

mod accounts;
mod args;
mod bootstrap;
mod disruption;
mod gateway;
mod held;
pub(crate) mod meta;
mod network;
mod plan;
mod pod;
mod probe;
pub mod secrets;
mod service;
pub mod shard;
mod spread;
mod storage;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::cluster::Cluster;
pub use held::{Held, HeldSet, StuckPod};
pub use plan::Plan;
use secrets::{Keys, Secrets};

/// What builders need and a spec does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// All keys, those that are new included.
    pub keys: Keys,
    /// The plan that the spec asks for, once its manifest is known: no shard has pods before.
    pub plan: Option<Plan>,
}

/// Every child.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Who the pods are.
    pub accounts: Accounts,
    /// What they know.
    pub secrets: Secrets,
    /// The entry and origin.
    pub bootstrap: BootstrapChildren,
    /// The parts of the model, by id.
    pub shards: Vec<ShardChildren>,
    /// The API.
    pub gateway: GatewayChildren,
    /// Who talks to whom, where policies are wanted.
    pub policies: Option<Policies>,
    /// What is not to be touched, or has to go: [`crate::rollout`] says so, builders do not.
    pub held: Held,
}

/// Accounts without rights; `None` where the user names another one for all pods of the part.
#[derive(Clone, Debug, PartialEq)]
pub struct Accounts {
    /// Of the bootstrap.
    pub bootstrap: Option<ServiceAccount>,
    /// Of all shards.
    pub shard: Option<ServiceAccount>,
    /// Of the gateway.
    pub gateway: Option<ServiceAccount>,
}

/// The entry and origin.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapChildren {
    /// Its pods.
    pub stateful_set: StatefulSet,
    /// A name for each of them.
    pub peers: Service,
    /// One address for all of them.
    pub client: Service,
    /// With a load balancer, the one for TCP.
    pub tcp: Option<Service>,
    /// And the one for UDP: many refuse both in one.
    pub udp: Option<Service>,
    /// How many may be evicted.
    pub disruption: Option<PodDisruptionBudget>,
}

/// One part of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardChildren {
    /// Its pods.
    pub stateful_set: StatefulSet,
    /// A name for each of them.
    pub peers: Service,
    /// How many may be evicted.
    pub disruption: Option<PodDisruptionBudget>,
}

/// The API.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayChildren {
    /// Its pods.
    pub deployment: Deployment,
    /// Its address.
    pub service: Service,
    /// How many may be evicted.
    pub disruption: Option<PodDisruptionBudget>,
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// To and from the bootstrap.
    pub bootstrap: NetworkPolicy,
    /// To and from all shards.
    pub shard: NetworkPolicy,
    /// To and from the gateway.
    pub gateway: NetworkPolicy,
}

/// All children of a cluster.
#[must_use]
pub fn desired(cluster: &Cluster, facts: &Facts) -> Desired {
    Desired {
        accounts: accounts::accounts(cluster),
        secrets: secrets::secrets(cluster, &facts.keys),
        bootstrap: bootstrap::bootstrap(cluster),
        shards: cluster
            .shards
            .iter()
            .map(|shard| shard::shard(cluster, shard, facts.plan.as_ref()))
            .collect(),
        gateway: gateway::gateway(cluster),
        policies: cluster.policy.as_ref().map(|policy| network::policies(cluster, policy)),
        held: Held::default(),
    }
}
