//! I/O in: everything that a decision needs, read once, before any is made.
//!
//! ```text
//!  observe ─┬▶ the resource itself        from the API server: the next status is built on the last one
//!           ├▶ Secrets                    by name: they are never listed or watched
//!           ├▶ children, claims, pods     from the shelves; children only where the resource owns them, or nobody does
//!           ├▶ nodes, volumes             from the shelves; a volume by name, where it may be why a pod waits
//!           ├▶ obstacles                  Events, Secrets and ConfigMaps, only where pods are missing or not ready
//!           └▶ gateways                   their last word, and from now on the next ones
//! ```

pub mod obstacles;
mod ownership;
mod volumes;

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing::warn;

use crate::crd::ShardCluster;
use crate::desired::secrets::names;
pub use crate::gateways::{GatewayView, Gateways};
use crate::keys::HeldSecrets;
use crate::nodes::NodeView;
use crate::observe::obstacles::Obstacles;
use crate::watch::{ClusterRef, Shelved, Shelves, UnpackError};
use crate::words::words;
pub(crate) use ownership::{Ownership, ownership};

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
    pub nodes: Arc<[NodeView]>,
    /// Volumes that may be why a pod fits no node.
    pub volumes: Vec<PersistentVolume>,
    /// What pods do not say themselves.
    pub obstacles: Obstacles,
}

#[cfg(test)]
impl Observed {
    /// The resource, and nothing else.
    pub(crate) fn nothing_of(resource: ShardCluster) -> Self {
        Self {
            resource,
            children: Children::default(),
            claims: Vec::new(),
            secrets: HeldSecrets::default(),
            pods: Vec::new(),
            gateway: GatewayView::NotReady,
            nodes: Vec::new().into(),
            volumes: Vec::new(),
            obstacles: Obstacles::default(),
        }
    }
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
    /// Objects could not be listed.
    #[error("cannot list the {kind} objects of {namespace}")]
    List {
        /// Of what.
        kind: String,
        /// Where.
        namespace: String,
        /// Why.
        source: kube::Error,
    },
    /// What is kept here cannot be read: a fault of this program.
    #[error("cannot read the kept {kind} objects of {cluster}")]
    Kept {
        /// Of what.
        kind: String,
        /// Whose.
        cluster: ClusterRef,
        /// Why.
        source: UnpackError,
    },
}

impl ObserveError {
    /// Of one object, which belongs to no namespace where that is empty.
    fn get<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, source: kube::Error) -> Self {
        let (kind, namespace, name) = (K::kind(&()).into_owned(), namespace.to_owned(), name.to_owned());
        Self::Get { kind, namespace, name, source }
    }

    /// What users have to know: a right that the operator lacks, which nobody but a person can give it.
    pub(crate) fn lacking_right(&self) -> Option<String> {
        let (verb, kind, source) = match self {
            Self::Get { kind, source, .. } => ("get", kind, source),
            Self::List { kind, source, .. } => ("list", kind, source),
            Self::Kept { .. } => return None,
        };
        let is_forbidden = matches!(source, kube::Error::Api(status) if status.is_forbidden());
        let why = || {
            let words = words(self);
            format!(
                "{words}; the operator's role needs the verb {verb} for {kind} objects, as its chart has it"
            )
        };
        is_forbidden.then(why)
    }
}

/// Where to look.
pub(crate) struct Sources<'a> {
    pub(crate) client: &'a Client,
    pub(crate) shelves: &'a Shelves,
    pub(crate) gateways: &'a Gateways,
}

impl Sources<'_> {
    /// The resource itself; `None` where it is gone, or going.
    ///
    /// # Errors
    /// What the API server refuses.
    pub(crate) async fn resource(&self, cluster: &ClusterRef) -> Result<Option<ShardCluster>, ObserveError> {
        let resource = self.get::<ShardCluster>(cluster, cluster.name.clone()).await?;
        Ok(resource.filter(|found| found.metadata.deletion_timestamp.is_none()))
    }

    /// Looks at everything else.
    ///
    /// # Errors
    /// What the API server refuses. Gateways that do not answer are an observation, not an error.
    pub(crate) async fn observe(
        &self,
        cluster: &ClusterRef,
        resource: ShardCluster,
    ) -> Result<Observed, ObserveError> {
        let name = &cluster.name;
        let (shared, identities, operator_key) = futures::join!(
            self.get::<Secret>(cluster, names::cluster_secret(name)),
            self.get::<Secret>(cluster, names::identities(name)),
            self.get::<Secret>(cluster, names::operator_key(name)),
        );
        // Where all of them fail the same one is told of every time.
        let secrets = HeldSecrets { cluster: shared?, identities: identities?, operator_key: operator_key? };
        let children = Children {
            service_accounts: self.owned(cluster, &resource)?,
            services: self.owned(cluster, &resource)?,
            stateful_sets: self.owned(cluster, &resource)?,
            deployments: self.owned(cluster, &resource)?,
            disruption_budgets: self.owned(cluster, &resource)?,
            network_policies: self.owned(cluster, &resource)?,
        };
        let (claims, pods) = (self.kept(cluster)?, self.kept::<Pod>(cluster)?);
        let gateway = self.gateways.follow(cluster, &pods, secrets.operator_key().as_deref());
        let nodes = self.shelves.nodes.all();
        let volumes = volumes::volumes(self.client, &pods, &claims, &nodes).await?;
        // They explain, and nothing else depends on them: what cannot be read now is looked at again.
        let looked = obstacles::obstacles(self.client, &resource, &children, &pods).await;
        let obstacles = looked.unwrap_or_else(|error| {
            warn!(error = %words(&error), "it is not known what pods wait for");
            Obstacles { is_open: true, ..Obstacles::default() }
        });
        Ok(Observed { resource, children, claims, secrets, pods, gateway, nodes, volumes, obstacles })
    }

    fn owned<K: Shelved>(
        &self,
        cluster: &ClusterRef,
        resource: &ShardCluster,
    ) -> Result<Vec<K>, ObserveError> {
        let mut all = self.kept::<K>(cluster)?;
        if let Some(owner) = resource.controller_owner_ref(&()) {
            all.retain(|object| matches!(ownership(object, &owner), Ownership::Owned | Ownership::Orphan));
        }
        Ok(all)
    }

    fn kept<K: Shelved>(&self, cluster: &ClusterRef) -> Result<Vec<K>, ObserveError> {
        K::shelf(self.shelves).of(cluster).map_err(|source| ObserveError::Kept {
            kind: K::kind(&()).into_owned(),
            cluster: cluster.clone(),
            source,
        })
    }

    async fn get<K>(&self, cluster: &ClusterRef, name: String) -> Result<Option<K>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespace = cluster.namespace.as_deref().unwrap_or_default();
        let found = Api::<K>::namespaced(self.client.clone(), namespace).get_opt(&name).await;
        found.map_err(|source| ObserveError::get::<K>(namespace, &name, source))
    }
}
