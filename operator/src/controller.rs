//! Keeps every ShardCluster as its spec says.
//!
//! ```text
//!  watches: ShardClusters, what they own, their pods ─▶ queue, one entry per ShardCluster ─▶ reconcile, bounded
//!                                                        ▲                                       │
//!                                                        └── after a while, or a back-off ◀──────┤
//!  reconcile: observe ─▶ validate ─▶ keys ─▶ desired ─▶ apply ─▶ status ─────────────────────────┘
//! ```
//! No step calls an earlier one: what pods and gateways do with a write comes back with the next `observe`.

mod policy;
mod write;

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller, Error as RunError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::apply::{self, ApplyError};
use crate::crd::ShardCluster;
use crate::desired::meta::{INSTANCE, MANAGED_BY, MANAGER};
use crate::desired::{Facts, desired};
use crate::events;
use crate::facts;
use crate::keys::{self, KeysError};
use crate::loss;
use crate::observe::{self, GatewayView, Gateways, ObserveError};
use crate::settings::Settings;
use crate::status::{self, Outcome};
use crate::validate::validate;
use policy::Class;
pub use write::WriteStatusError;

/// While something is on its way that no watch tells of: a gateway's word.
const SOON: Duration = Duration::from_secs(2);
/// When all is well, what only a gateway sees is looked at again.
const LATER: Duration = Duration::from_secs(30);
/// What is under way when the operator is told to stop may take so long: less than the 30 s that Kubernetes gives a pod.
const GRACE: Duration = Duration::from_secs(20);
/// Several events of one cause are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What all reconciles share.
struct Context {
    client: Client,
    settings: Settings,
    gateways: Gateways,
    /// Failures in a row, of ShardClusters that have any, by namespace and name.
    failures: Mutex<HashMap<(String, String), u32>>,
}

/// Why a ShardCluster is not as its spec says.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// It has no namespace: an object of no API server.
    #[error("a ShardCluster without a namespace")]
    Namespace,
    /// See [`ObserveError`].
    #[error("cannot observe: {0}")]
    Observe(#[source] ObserveError),
    /// See [`KeysError`].
    #[error("cannot make keys: {0}")]
    Keys(#[source] KeysError),
    /// See [`ApplyError`].
    #[error("cannot apply: {0}")]
    Apply(#[source] ApplyError),
    /// See [`WriteStatusError`].
    #[error("cannot write the status: {0}")]
    Status(#[source] WriteStatusError),
}

/// Watches and reconciles until `shutdown`, then until what is under way is done, or has taken 20 s.
pub async fn run(
    client: Client,
    settings: Settings,
    gateways: Gateways,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let scope = Scope { client: client.clone(), namespace: settings.watch_namespace.clone() };
    let config = Config::default().concurrency(settings.concurrency).debounce(DEBOUNCE);
    let context = Arc::new(Context { client, settings, gateways, failures: Mutex::default() });
    let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let shutdown = shutdown.shared();
    // Only the metadata of pods and children is kept in memory or sent here; a reconcile reads the bodies that it needs.
    let controller = Controller::new(scope.api::<ShardCluster>(), watcher::Config::default());
    let clusters = controller.store();
    let reconciles = controller
        .with_config(config)
        .owns(scope.api::<StatefulSet>(), ours())
        .owns(scope.api::<Deployment>(), ours())
        .owns(scope.api::<Service>(), ours())
        .owns(scope.api::<ServiceAccount>(), ours())
        .owns(scope.api::<PodDisruptionBudget>(), ours())
        .owns(scope.api::<NetworkPolicy>(), ours())
        .watches(scope.api::<PartialObjectMeta<Pod>>(), ours(), |pod| cluster_of(&pod))
        .graceful_shutdown_on(shutdown.clone())
        .run(reconcile, error_policy, Arc::clone(&context))
        .for_each(|result| {
            match result {
                Ok((cluster, _)) => debug!(%cluster, "reconciled"),
                Err(RunError::ObjectNotFound(gone)) => {
                    context.forget(&(gone.namespace.clone().unwrap_or_default(), gone.name.clone()));
                    debug!(cluster = %gone, "gone");
                }
                // error_policy has told of it.
                Err(RunError::ReconcilerFailed(..)) => {}
                Err(error) => warn!(error = %policy::words(&error), "a watch was interrupted"),
            }
            std::future::ready(())
        });
    let limit = async {
        shutdown.await;
        // kube's runner takes no notice of a shutdown before it knows what there is: nothing is under way then.
        if clusters.wait_until_ready().now_or_never().is_some() {
            sleep(GRACE).await;
        }
    };
    tokio::select! {
        () = reconciles => info!("all reconciles are done"),
        () = limit => info!("the operator ends with what it has"),
    }
}

/// One namespace, or all.
struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// A pod is owned by a StatefulSet; its label says whose it is in the end.
fn cluster_of(pod: &PartialObjectMeta<Pod>) -> Option<ObjectRef<ShardCluster>> {
    let name = pod.labels().get(INSTANCE)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile(resource: Arc<ShardCluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let action = steps(&resource, &context).await?;
    context.forget(&key(&resource));
    Ok(action)
}

async fn steps(resource: &ShardCluster, context: &Context) -> Result<Action, ReconcileError> {
    let Context { client, settings, gateways, .. } = context;
    let namespace = resource.namespace().ok_or(ReconcileError::Namespace)?;
    let name = resource.name_any();

    // Reads the cluster.
    let observed = observe::observe(client, gateways, &namespace, &name).await;
    let Some(observed) = observed.map_err(ReconcileError::Observe)? else {
        return Ok(Action::await_change());
    };
    // No client.
    let cluster = match validate(&observed.resource, settings) {
        Ok(cluster) => cluster,
        Err(error) => {
            info!(%namespace, name, %error, "the spec is not valid");
            let status = status::invalid(&observed.resource, &error, Timestamp::now());
            write::status(client, &observed.resource, &status).await.map_err(ReconcileError::Status)?;
            events::write(client, &observed.resource, &events::of_change(&observed.resource, &status)).await;
            return Ok(Action::await_change());
        }
    };
    // No client: random bytes for what has no key.
    let keys = keys::keys(&cluster, &observed.secrets).map_err(ReconcileError::Keys)?;
    // No client.
    let manifest = facts::manifest(&cluster, &observed.resource, &observed.gateway);
    let facts = Facts { keys, manifest };
    let desired = desired(&cluster, &facts);
    // No client; then deletes what lost nodes hold on to.
    let loss = loss::loss(&cluster, &observed, Timestamp::now());
    let evicted = apply::evict(client, &namespace, &loss.evictions).await;
    events::write(client, &observed.resource, &events::of_evictions(&evicted.pods)).await;
    // Writes the children.
    let applied = apply::apply(client, &cluster, &desired, &observed).await;
    let applied = applied.and_then(|applied| evicted.failure.map_or(Ok(applied), Err));
    let applied = match applied {
        // The next attempt is near, and may well succeed: no news for users.
        Err(error) if policy::of_apply(&error) != Class::Refused => return Err(ReconcileError::Apply(error)),
        applied => applied,
    };
    let outcome: Outcome<'_> = applied.as_ref().map_err(|error| policy::words(error));
    // No client; then writes the status.
    let next = status::status(&cluster, &observed, &facts.manifest, &outcome, Timestamp::now());
    write::status(client, &observed.resource, &next).await.map_err(ReconcileError::Status)?;
    events::write(client, &observed.resource, &events::of_change(&observed.resource, &next)).await;
    let applied = applied.map_err(ReconcileError::Apply)?;
    if applied.writes > 0 {
        info!(%namespace, name, writes = applied.writes, "applied");
    }
    // A pod that becomes ready is an event: only gateways that are there are worth asking again.
    let settled = next.pipeline_complete || cluster.suspended || observed.gateway == GatewayView::NotReady;
    let wait = if settled { LATER } else { SOON };
    Ok(Action::requeue(loss.wait(Timestamp::now()).map_or(wait, |due| due.min(wait))))
}

#[allow(clippy::needless_pass_by_value, reason = "what kube calls")]
fn error_policy(resource: Arc<ShardCluster>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.failed(&resource);
    let delay = policy::delay(policy::of(error), failures, policy::jitter());
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    warn!(%namespace, name, error = %policy::words(error), failures, ?delay, "reconcile failed");
    Action::requeue(delay)
}

impl Context {
    /// Counts a failure, and says how many there are in a row.
    fn failed(&self, resource: &ShardCluster) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key(resource)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn forget(&self, key: &(String, String)) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn key(resource: &ShardCluster) -> (String, String) {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}
