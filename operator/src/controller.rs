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
use std::convert::Infallible;
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
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, info, warn};

use crate::apply::{self, ApplyError};
use crate::crd::{ShardCluster, ShardClusterStatus};
use crate::desired::meta::{INSTANCE, MANAGED_BY, MANAGER};
use crate::desired::{Facts, desired};
use crate::facts;
use crate::keys::{self, KeysError};
use crate::observe::{self, GatewayView, Gateways, ObserveError};
use crate::settings::Settings;
use crate::status::{self, Outcome};
use crate::telemetry::{Key, ReconcileResult, Telemetry, logs};
use crate::validate::validate;
pub use policy::Class;
pub(crate) use policy::words;
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
    telemetry: Telemetry,
    /// Failures in a row, of ShardClusters that have any, by namespace and name.
    failures: Mutex<HashMap<Key, u32>>,
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
    telemetry: Telemetry,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let scope = Scope { client: client.clone(), namespace: settings.watch_namespace.clone() };
    let config = Config::default().concurrency(settings.concurrency).debounce(DEBOUNCE);
    let Telemetry { metrics, health } = telemetry.clone();
    let context = Arc::new(Context { client, settings, gateways, telemetry, failures: Mutex::default() });
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
        .watches(scope.api::<PartialObjectMeta<Pod>>(), ours(), move |pod| {
            cluster_of(&pod).inspect(|cluster| metrics.queued(key_of(cluster)))
        })
        .graceful_shutdown_on(shutdown.clone())
        .run(reconcile, |_, never, _| match *never {}, Arc::clone(&context))
        .for_each(|result| {
            match result {
                Ok((cluster, _)) => debug!(%cluster, "reconciled"),
                Err(RunError::ObjectNotFound(gone)) => {
                    let key = (gone.namespace.clone().unwrap_or_default(), gone.name.clone());
                    context.forget(&key);
                    context.telemetry.metrics.forget(&key);
                    debug!(cluster = %gone, "gone");
                }
                Err(error) => warn!(error = %words(&error), "a watch was interrupted"),
            }
            std::future::ready(())
        });
    let in_sync = async {
        if clusters.wait_until_ready().await.is_ok() {
            health.in_sync();
        }
        std::future::pending::<()>().await;
    };
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
        () = in_sync => {}
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

/// In a span of its own; a failure is told of in it, and is one to try again.
async fn reconcile(resource: Arc<ShardCluster>, context: Arc<Context>) -> Result<Action, Infallible> {
    let key = key(&resource);
    let metrics = &context.telemetry.metrics;
    metrics.started(&key);
    let begun = Instant::now();
    let span = logs::reconcile(&key.0, &key.1);
    let ended = steps(&resource, &context).instrument(span.clone()).await;
    let result = if ended.is_ok() { ReconcileResult::Success } else { ReconcileResult::Error };
    metrics.reconciled(result, begun.elapsed());
    match ended {
        Ok(action) => {
            context.forget(&key);
            Ok(action)
        }
        Err(error) => Ok(span.in_scope(|| context.failed(&key, &error))),
    }
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
            info!(%error, "the spec is not valid");
            let status = status::invalid(&observed.resource, &error, Timestamp::now());
            context.shows(&observed.resource, &status);
            write::status(client, &observed.resource, &status).await.map_err(ReconcileError::Status)?;
            return Ok(Action::await_change());
        }
    };
    // No client: random bytes for what has no key.
    let keys = keys::keys(&cluster, &observed.secrets).map_err(ReconcileError::Keys)?;
    // No client.
    let manifest = facts::manifest(&cluster, &observed.resource, &observed.gateway);
    let facts = Facts { keys, manifest };
    let desired = desired(&cluster, &facts);
    // Writes the children.
    let applied = apply::apply(client, &cluster, &desired, &observed).await;
    let applied = match applied {
        // The next attempt is near, and may well succeed: no news for users.
        Err(error) if policy::of_apply(&error) != Class::Refused => return Err(ReconcileError::Apply(error)),
        applied => applied,
    };
    let outcome: Outcome<'_> = applied.as_ref().map_err(|error| words(error));
    // No client; then writes the status.
    let next = status::status(&cluster, &observed, &facts.manifest, &outcome, Timestamp::now());
    context.shows(&observed.resource, &next);
    write::status(client, &observed.resource, &next).await.map_err(ReconcileError::Status)?;
    let applied = applied.map_err(ReconcileError::Apply)?;
    if applied.writes > 0 {
        info!(writes = applied.writes, "applied");
    }
    // A pod that becomes ready is an event: only gateways that are there are worth asking again.
    let settled = next.pipeline_complete || cluster.suspended || observed.gateway == GatewayView::NotReady;
    Ok(Action::requeue(if settled { LATER } else { SOON }))
}

impl Context {
    /// Counts a failure, tells of it, and says when to try again.
    fn failed(&self, key: &Key, error: &ReconcileError) -> Action {
        let class = policy::of(error);
        let failures = self.count(key);
        let delay = policy::delay(class, failures, policy::jitter());
        self.telemetry.metrics.failed(class);
        warn!(error = %words(error), ?class, failures, ?delay, "reconcile failed");
        Action::requeue(delay)
    }

    /// Failures in a row, with this one.
    fn count(&self, key: &Key) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn forget(&self, key: &Key) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn shows(&self, resource: &ShardCluster, status: &ShardClusterStatus) {
        if let Some(phase) = status.phase {
            self.telemetry.metrics.phase(key(resource), phase);
        }
    }
}

fn key(resource: &ShardCluster) -> Key {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

fn key_of(cluster: &ObjectRef<ShardCluster>) -> Key {
    (cluster.namespace.clone().unwrap_or_default(), cluster.name.clone())
}
