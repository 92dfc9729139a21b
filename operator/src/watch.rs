//! What the API server has, kept here as it changes: a reconcile reads it, and asks for nothing that a watch has told.
//!
//! ```text
//!  watcher per kind ─▶ trim ─▶ Shelf per kind, by ShardCluster ─▶ observe
//!                                     │        ▲
//!                                     │        └── apply: what was just written
//!                                     └▶ news: ShardClusters of which something is not as it was ─▶ controller
//! ```

mod kinds;
mod nodes;
mod reopen;
mod shelf;

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::crd::ShardCluster;
use crate::desired::meta::{MANAGED_BY, MANAGER};
use crate::words::words;
pub use kinds::Shelved;
#[cfg(test)]
pub(crate) use kinds::kept;
pub use nodes::NodeShelf;
pub use shelf::{Shelf, UnpackError};

/// Namespace and name of a ShardCluster.
pub type ClusterRef = ObjectRef<ShardCluster>;

/// ShardClusters with news that no reconcile has taken up; a watch that is ahead of them waits.
const NEWS: usize = 1024;
/// Objects of one answer: they are in memory all at once, in full.
const PAGE: u32 = 100;

/// One shelf per kind.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub struct Shelves {
    pub service_accounts: Shelf<ServiceAccount>,
    pub services: Shelf<Service>,
    pub stateful_sets: Shelf<StatefulSet>,
    pub deployments: Shelf<Deployment>,
    pub disruption_budgets: Shelf<PodDisruptionBudget>,
    pub network_policies: Shelf<NetworkPolicy>,
    pub claims: Shelf<PersistentVolumeClaim>,
    pub pods: Shelf<Pod>,
    pub nodes: NodeShelf,
}

impl Shelves {
    /// Returns when each kind has been listed once: what is not there then does not exist.
    pub async fn filled(&self) {
        let Self {
            service_accounts,
            services,
            stateful_sets,
            deployments,
            disruption_budgets,
            network_policies,
            claims,
            pods,
            nodes,
        } = self;
        service_accounts.filled().await;
        services.filled().await;
        stateful_sets.filled().await;
        deployments.filled().await;
        disruption_budgets.filled().await;
        network_policies.filled().await;
        claims.filled().await;
        pods.filled().await;
        nodes.filled().await;
    }
}

/// The watches, which end when this is dropped.
pub(crate) struct Watches {
    _tasks: JoinSet<()>,
    /// ShardClusters to look at.
    pub(crate) news: mpsc::Receiver<ClusterRef>,
}

/// Watches what is ours, in one namespace or in all.
pub(crate) fn start(client: &Client, namespace: Option<&str>, shelves: &Arc<Shelves>) -> Watches {
    let (sender, news) = mpsc::channel(NEWS);
    let mut watch = Start { client, namespace, shelves, sender, tasks: JoinSet::new() };
    watch.kind::<ServiceAccount>();
    watch.kind::<Service>();
    watch.kind::<StatefulSet>();
    watch.kind::<Deployment>();
    watch.kind::<PodDisruptionBudget>();
    watch.kind::<NetworkPolicy>();
    watch.kind::<PersistentVolumeClaim>();
    watch.kind::<Pod>();
    watch.nodes();
    Watches { _tasks: watch.tasks, news }
}

/// For one watch, in one namespace or in all.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let client = reopen::paced(client);
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

struct Start<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    shelves: &'a Arc<Shelves>,
    sender: mpsc::Sender<ClusterRef>,
    tasks: JoinSet<()>,
}

impl Start<'_> {
    fn kind<K: Shelved>(&mut self) {
        let api = scoped::<K>(self.client, self.namespace);
        let take = |shelves: &Shelves, event| K::shelf(shelves).take(event);
        let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).page_size(PAGE);
        self.tasks.spawn(follow(api, ours, Arc::clone(self.shelves), take, self.sender.clone()));
    }

    /// A lost one may be why a pod waits that was never on it: it is news of all that have pods.
    fn nodes(&mut self) {
        let take = |shelves: &Shelves, event| match shelves.nodes.take(event) {
            true => shelves.pods.clusters(),
            false => Vec::new(),
        };
        let api = Api::<Node>::all(reopen::paced(self.client));
        let all = watcher::Config::default().page_size(PAGE);
        self.tasks.spawn(follow(api, all, Arc::clone(self.shelves), take, self.sender.clone()));
    }
}

async fn follow<K>(
    api: Api<K>,
    which: watcher::Config,
    shelves: Arc<Shelves>,
    take: impl Fn(&Shelves, watcher::Event<K>) -> Vec<ClusterRef> + Send,
    news: mpsc::Sender<ClusterRef>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watcher(api, which).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                for cluster in take(&shelves, event) {
                    if news.send(cluster).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => warn!(kind = %K::kind(&()), error = %words(&error), "a watch was interrupted"),
        }
    }
}
