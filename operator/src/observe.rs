//! I/O in: everything that a decision needs, read once, before any is made.
//!
//! ```text
//!  observe ─┬▶ the resource itself        not from a cache: the next status is built on the last one
//!           ├▶ children, claims, pods     by label; children only where the resource owns them
//!           ├▶ Secrets                    by name: they are never listed or watched
//!           └▶ gateway                    each ready gateway's /api/v1/pipeline, and the best answer
//! ```

pub mod gateway;
mod nodes;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::crd::ShardCluster;
use crate::desired::meta::{INSTANCE, NAME, PRODUCT};
use crate::desired::secrets::names;
use crate::keys::HeldSecrets;
use crate::loss::NodeView;
pub use gateway::{GatewayView, Gateways};

/// What is there.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The resource.
    pub resource: ShardCluster,
    /// What it owns.
    pub children: Children,
    /// Claims of its pods.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Its Secrets.
    pub secrets: HeldSecrets,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What its gateways say.
    pub gateway: GatewayView,
    /// All nodes there are.
    pub nodes: Vec<NodeView>,
    /// Volumes that may be why a pod fits no node.
    pub volumes: Vec<PersistentVolume>,
}

/// What a resource owns.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub struct Children {
    pub service_accounts: Vec<ServiceAccount>,
    pub services: Vec<Service>,
    pub stateful_sets: Vec<StatefulSet>,
    pub deployments: Vec<Deployment>,
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    pub network_policies: Vec<NetworkPolicy>,
}

/// Why nothing was seen.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// A list failed.
    #[error("cannot list the {kind} objects of ShardCluster {namespace}/{name}")]
    List {
        /// Of what.
        kind: String,
        /// Of the resource.
        namespace: String,
        /// Of the resource.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// One object could not be read.
    #[error("cannot read {kind} {namespace}/{name}")]
    Get {
        /// Of what.
        kind: String,
        /// Of it.
        namespace: String,
        /// Of it.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

impl ObserveError {
    /// What the API server said.
    #[must_use]
    pub fn api(&self) -> &kube::Error {
        let (Self::List { source, .. } | Self::Get { source, .. }) = self;
        source
    }
}

/// Looks at everything; `None` where the resource is gone, or going.
///
/// # Errors
/// What the API server refuses. Gateways that do not answer are an observation, not an error.
pub async fn observe(
    client: &Client,
    gateways: &Gateways,
    namespace: &str,
    name: &str,
) -> Result<Option<Observed>, ObserveError> {
    let read = Reader { client, namespace, name };
    let Some(resource) = read.get::<ShardCluster>(name.to_owned()).await? else { return Ok(None) };
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let uid = resource.uid().unwrap_or_default();
    let (service_accounts, services, stateful_sets, deployments, disruption_budgets, network_policies) = futures::try_join!(
        read.owned(&uid),
        read.owned(&uid),
        read.owned(&uid),
        read.owned(&uid),
        read.owned(&uid),
        read.owned(&uid),
    )?;
    let (claims, pods, cluster, identities, operator_key) = futures::try_join!(
        read.list(),
        read.list::<Pod>(),
        read.get::<Secret>(names::cluster_secret(name)),
        read.get::<Secret>(names::identities(name)),
        read.get::<Secret>(names::operator_key(name)),
    )?;
    let secrets = HeldSecrets { cluster, identities, operator_key };
    let gateway = gateways.ask(&pods, secrets.operator_key().as_deref()).await;
    let nodes = nodes::nodes(client).await?;
    let volumes = nodes::volumes(client, &pods, &claims, &nodes).await?;
    let children = Children {
        service_accounts,
        services,
        stateful_sets,
        deployments,
        disruption_budgets,
        network_policies,
    };
    Ok(Some(Observed { resource, children, claims, secrets, pods, gateway, nodes, volumes }))
}

/// Whether the resource with this uid is the controller of the object.
pub(crate) fn is_owned<K: Resource>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    name: &'a str,
}

impl Reader<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn list<K>(&self) -> Result<Vec<K>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let labels = format!("{NAME}={PRODUCT},{INSTANCE}={}", self.name);
        let list = self.api::<K>().list(&ListParams::default().labels(&labels)).await;
        list.map(|list| list.items).map_err(|source| ObserveError::List {
            kind: K::kind(&()).into_owned(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            source,
        })
    }

    async fn owned<K>(&self, uid: &str) -> Result<Vec<K>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let mut all = self.list::<K>().await?;
        all.retain(|object| is_owned(object, uid));
        Ok(all)
    }

    async fn get<K>(&self, name: String) -> Result<Option<K>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().get_opt(&name).await.map_err(|source| ObserveError::Get {
            kind: K::kind(&()).into_owned(),
            namespace: self.namespace.to_owned(),
            name,
            source,
        })
    }
}
