//! Keeps every ShardCluster as its spec says.
//!
//! ```text
//!  ShardClusters ─────────────────────┐
//!  watch: what they own, their pods ──┼▶ queue, one entry per ShardCluster ─▶ pass, bounded
//!  gateways: their answers ───────────┘           ▲                                │
//!                                                 └── after a back-off ◀───────────┘
//! ```
//! No step calls an earlier one: what pods and gateways do with a write comes back with the next `observe`.

mod contest;
mod memory;
mod pace;
mod pass;
mod policy;
mod refusal;
mod upgrade;
mod write;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Controller, Error as RunError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, info, warn};

use crate::apply::ApplyError;
use crate::crd::ShardCluster;
use crate::error_class::ErrorClass;
use crate::keys::KeysError;
use crate::observe::{Gateways, ObserveError};
use crate::settings::Settings;
use crate::telemetry::{NO_DEFINITION, Telemetry, logs};
use crate::watch::{self, ClusterRef, Shelves, scoped};
use crate::words::words;
use memory::Memory;
use policy::BackOff;
use upgrade::Turn;
pub use write::WriteStatusError;

/// What no watch tells of is looked at so often: a Secret that somebody has deleted.
const PASS: Duration = Duration::from_secs(600);
/// What is under way when the operator is told to stop may take so long: less than the 30 s that Kubernetes gives a pod.
const GRACE: Duration = Duration::from_secs(20);
/// Several events of one cause are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// A ShardCluster as it is watched: that it is there. A reconcile reads it, so that one which cannot be read, because it
/// is of a newer definition, holds up no other.
type Seen = PartialObjectMeta<ShardCluster>;

/// What all reconciles share.
struct Context {
    client: Client,
    settings: Settings,
    shelves: Arc<Shelves>,
    gateways: Gateways,
    memory: Memory,
    turn: Turn,
    telemetry: Telemetry,
}

/// Why a ShardCluster is not as its spec says.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// See [`ObserveError`].
    #[error("cannot observe: {0}")]
    Observe(#[source] ObserveError),
    /// See [`KeysError`].
    #[error("cannot make keys: {0}")]
    Keys(#[source] KeysError),
    /// See [`ApplyError`].
    #[error("cannot apply: {0}")]
    Apply(#[source] ApplyError),
    /// Of which the status tells; all else is done.
    #[error("cannot apply: {source}")]
    Refused {
        /// What was refused.
        source: ApplyError,
        /// When to look again.
        again: Duration,
    },
    /// See [`WriteStatusError`].
    #[error("cannot write the status: {0}")]
    Status(#[source] WriteStatusError),
}

/// The port on which gateways answer.
#[derive(Clone, Copy, Debug)]
pub struct GatewayPort(pub u16);

/// Watches and reconciles until `shutdown`, then until what is under way is done, or has taken 20 s.
pub async fn run(
    client: Client,
    settings: Settings,
    gateways: GatewayPort,
    telemetry: Telemetry,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let shutdown = shutdown.shared();
    let namespace = settings.watch_namespace.clone();
    let shelves = Arc::new(Shelves::default());
    let watches = watch::start(&client, namespace.as_deref(), &shelves);
    tokio::select! {
        // What is not on a shelf would be made again.
        () = shelves.filled() => info!("all that is there is known"),
        () = shutdown.clone() => return info!("the operator ends before it knew what is there"),
    }
    let (gateways, answers) = Gateways::on_port(gateways.0);
    let Telemetry { metrics, health } = telemetry.clone();
    let (memory, turn) = (Memory::default(), Turn::new(Instant::now()));
    let context = Arc::new(Context { client, settings, shelves, gateways, memory, turn, telemetry });

    let (reader, writer) = reflector::store();
    let told = health.clone();
    let remembered = Arc::clone(&context);
    let all = scoped::<Seen>(&context.client, namespace.as_deref());
    let clusters = watcher(all, watcher::Config::default())
        .default_backoff()
        .inspect(move |event| match event {
            Ok(watcher::Event::InitDone) => told.in_sync(),
            Err(error) if is_undefined(error) => told.no_definition(),
            Ok(_) | Err(_) => {}
        })
        .modify(|resource| resource.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .try_filter(move |resource| {
            let is_echo =
                remembered.memory.is_echo(&cluster_of(resource), resource.resource_version().as_deref());
            std::future::ready(!is_echo)
        });

    let own = metrics.clone();
    let queued = move |cluster: &ClusterRef| metrics.queued(cluster.clone());
    let config = Config::default().concurrency(context.settings.concurrency).debounce(DEBOUNCE);
    let clusters = clusters.inspect_ok(move |resource| own.queued(cluster_of(resource)));
    let reconciles = Controller::for_stream(clusters, reader.clone())
        .with_config(config)
        .reconcile_on(stream(watches.news).inspect(queued.clone()).map(seen))
        .reconcile_on(stream(answers).inspect(queued).map(seen))
        .graceful_shutdown_on(shutdown.clone())
        .run(reconcile, |_, never, _| match *never {}, Arc::clone(&context))
        .for_each(|ended| {
            take_note(ended, &context);
            std::future::ready(())
        });
    let limit = async {
        shutdown.await;
        // kube's runner takes no notice of a shutdown before it knows what there is: nothing is under way then.
        if reader.wait_until_ready().now_or_never().is_some() {
            sleep(GRACE).await;
        }
    };
    tokio::select! {
        () = reconciles => info!("all reconciles are done"),
        () = limit => info!("the operator ends with what it has"),
    }
}

/// How a reconcile has ended, or why there was none.
fn take_note(
    ended: Result<(ObjectRef<Seen>, Action), RunError<Infallible, watcher::Error>>,
    context: &Context,
) {
    match ended {
        Ok((cluster, _)) => debug!(%cluster, "reconciled"),
        Err(RunError::ObjectNotFound(gone)) => {
            let cluster = ClusterRef::new(&gone.name).within(gone.namespace.as_deref().unwrap_or_default());
            context.memory.forget(&cluster);
            context.turn.release(&cluster);
            context.gateways.forget(&cluster);
            context.telemetry.metrics.forget(&cluster);
            debug!(%cluster, "gone");
        }
        Err(RunError::QueueError(error)) if is_undefined(&error) => warn!("{NO_DEFINITION}"),
        Err(error) => warn!(error = %words(&error), "a watch was interrupted"),
    }
}

/// The kind is none that the API server has. A list that succeeds says that it is there again.
fn is_undefined(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

fn cluster_of(seen: &Seen) -> ClusterRef {
    ClusterRef::new(&seen.name_any()).within(&seen.namespace().unwrap_or_default())
}

fn seen(cluster: ClusterRef) -> ObjectRef<Seen> {
    cluster.into_kind_unchecked(())
}

fn stream<T: Send + 'static>(
    mut receiver: mpsc::Receiver<T>,
) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// In a span of its own; a failure is told of in it, and is one to try again.
async fn reconcile(resource: Arc<Seen>, context: Arc<Context>) -> Result<Action, Infallible> {
    let cluster = cluster_of(&resource);
    let span = logs::reconcile(&cluster);
    let generation = resource.metadata.generation;
    let metrics = &context.telemetry.metrics;
    metrics.started(&cluster);
    if let Some(rest) = context.memory.rest(&cluster, generation) {
        return Ok(Action::requeue(rest));
    }
    let begun = Instant::now();
    let ended = pass::pass(&cluster, &context).instrument(span.clone()).await;
    metrics.reconciled(ended.is_ok(), begun.elapsed());
    Ok(match ended {
        Ok(action) => {
            context.memory.succeeded(&cluster);
            action
        }
        Err(error) => span.in_scope(|| failed(&cluster, generation, &error, &context)),
    })
}

/// When to try again.
fn failed(
    cluster: &ClusterRef,
    generation: Option<i64>,
    error: &ReconcileError,
    context: &Context,
) -> Action {
    let class = policy::class(error);
    context.telemetry.metrics.failed(class);
    if let ReconcileError::Refused { again, .. } = error {
        context.memory.succeeded(cluster);
        warn!(error = %words(error), ?class, ?again, "reconcile failed");
        return Action::requeue(*again);
    }
    let failures = context.memory.failed(cluster);
    let delay = policy::delay(class, failures, policy::jitter()).max(policy::asked_to_wait(error));
    let back_off = BackOff { generation, until: Instant::now() + delay };
    // An API server that fails is not asked more often because much happens; who wrote in between is best known at once.
    context.memory.waits(cluster, (class != ErrorClass::Conflict).then_some(back_off));
    warn!(error = %words(error), ?class, failures, ?delay, "reconcile failed");
    Action::requeue(delay)
}
