//! Keeps every ShardCluster as its spec says.
//!
//! ```text
//!  ShardClusters ─────────────────────┐
//!  watch: what they own, their pods ──┼▶ queue, one entry per ShardCluster ─▶ reconcile, bounded
//!  gateways: their answers ───────────┘           ▲                                │
//!                                                 └── after a back-off ◀───────────┘
//!  reconcile: observe ─▶ validate ─▶ keys, facts ─▶ desired ─▶ rollout ─▶ loss ─▶ apply ─▶ status ─▶ events
//! ```
//! No step calls an earlier one: what pods and gateways do with a write comes back with the next `observe`.

mod contest;
mod memory;
mod pace;
mod policy;
mod refusal;
mod upgrade;
mod write;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Controller, Error as RunError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, info, warn};

use crate::apply::{self, Applied, ApplyError};
use crate::cluster::Cluster;
use crate::crd::{ShardCluster, ShardClusterStatus};
use crate::desired::{Desired, Facts, desired};
use crate::error_class::ErrorClass;
use crate::events;
use crate::facts;
use crate::keys::{self, KeysError};
use crate::loss::{self, Eviction};
use crate::mismatch;
use crate::observe::{GatewayView, Gateways, ObserveError, Observed, Sources};
use crate::rollout::{self, Rollout};
use crate::settings::Settings;
use crate::status::{self, Outcome};
use crate::telemetry::{NO_DEFINITION, Telemetry, logs};
use crate::validate::validate;
use crate::watch::{self, ClusterRef, Shelves, scoped};
use crate::words::words;
use contest::Contest;
use memory::Memory;
use policy::BackOff;
use refusal::{Basis, Refusal};
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
    let ended = steps(&cluster, &context).instrument(span.clone()).await;
    metrics.reconciled(ended.is_ok(), begun.elapsed());
    Ok(match ended {
        Ok(action) => {
            context.memory.succeeded(&cluster);
            action
        }
        Err(error) => span.in_scope(|| failed(&cluster, generation, &error, &context)),
    })
}

async fn steps(cluster_ref: &ClusterRef, context: &Context) -> Result<Action, ReconcileError> {
    let Context { client, settings, shelves, gateways, turn, .. } = context;
    // Reads the cluster.
    let sources = Sources { client, shelves, gateways };
    let resource = sources.resource(cluster_ref).await.map_err(ReconcileError::Observe)?;
    let Some(resource) = resource else { return Ok(Action::await_change()) };
    let mut observed = match sources.observe(cluster_ref, resource.clone()).await {
        Ok(observed) => observed,
        Err(error) => {
            if let Some(why) = error.lacking_right() {
                let status = status::unread(&resource, why, Timestamp::now());
                if let Err(untold) = tell(cluster_ref, context, &resource, &status).await {
                    warn!(error = %words(&untold), "the status does not tell of it");
                }
            }
            return Err(ReconcileError::Observe(error));
        }
    };
    // No client. A newer image waits until it is this one's turn.
    let last = observed.resource.status.as_ref();
    let is_due = upgrade::is_due(&observed.resource, settings);
    let waits = is_due && !turn.take(cluster_ref, upgrade::stake(last, None), Instant::now());
    let settings = Settings { auto_upgrade: settings.auto_upgrade && !waits, ..settings.clone() };
    let cluster = match validate(&observed.resource, &settings) {
        Ok(cluster) => cluster,
        Err(error) => {
            info!(%error, "the spec is not valid");
            if is_due {
                turn.release(cluster_ref);
            }
            let next = status::invalid(&observed.resource, &error, Timestamp::now());
            tell(cluster_ref, context, &observed.resource, &next).await?;
            return Ok(Action::await_change());
        }
    };
    // No client: random bytes for what has no key.
    let keys = keys::keys(&cluster, &observed.secrets).map_err(ReconcileError::Keys)?;
    // No client.
    let facts = Facts { keys, plan: facts::plan(&cluster, &observed) };
    let desired = desired(&cluster, &facts);
    let (desired, rollout) = rollout::rollout(&cluster, &facts, &observed, desired, Timestamp::now());
    // No client.
    let loss = loss::loss(&cluster, &observed, Timestamp::now());
    let basis = Basis {
        generation: observed.resource.metadata.generation,
        plan: facts.plan.as_ref().map(|plan| plan.name.clone()),
    };
    // Writes the children.
    let written =
        write_children(cluster_ref, context, &cluster, &desired, &observed, &loss.evictions, basis).await?;
    let Written { applied, refusal, contest } = written;
    if applied.writes > 0 {
        info!(writes = applied.writes, "applied");
        // No watch tells of Secrets, and the bootstrap's addresses have the names of their keys.
        observed.secrets.identities = Some(desired.secrets.identities.clone());
    }
    // Their first answer, or silence, is near: until then nothing can be said that would not be wrong a moment later.
    if refusal.is_none() && observed.gateway == GatewayView::Asking {
        return Ok(Action::requeue(PASS));
    }
    let refused = refusal.as_ref().map(|refusal| refusal.refused.clone()).unwrap_or_default();
    let mismatch = mismatch::mismatch(&cluster, &observed, &desired.bootstrap.stateful_set);
    let (contested, leave) = contest.map(|contest| (contest.words, contest.rest)).unzip();
    let outcome = Outcome { notes: applied.notes, refused, contested, mismatch };
    // No client; then writes the status.
    let next = status::status(&cluster, &observed, facts.plan.as_ref(), &rollout, &outcome, Timestamp::now());
    let again = tell(cluster_ref, context, &observed.resource, &next).await?;
    let pass = PASS.mul_f64(1.0 + policy::jitter());
    let rest = refusal.map(|refusal| refusal.rest(Instant::now()));
    let (gone, hidden) = (loss.wait(Timestamp::now()), observed.obstacles.wait());
    let due = [again, gone, hidden, waits.then_some(upgrade::AGAIN), rest, leave];
    let due = due.into_iter().flatten().fold(pass, Duration::min);
    match rollout {
        Rollout::Done => turn.moved(cluster_ref, next.pipeline_complete || cluster.suspended),
        Rollout::Manifest | Rollout::Unmade => {}
        // For as long as an hour: who may lose nothing lets others begin.
        Rollout::Unheard(_) => turn.moved(cluster_ref, false),
        _ if cluster.image == settings.node_image => {
            let began = upgrade::began(&observed.pods, &desired.bootstrap.stateful_set);
            turn.hold(cluster_ref, upgrade::stake(last, began));
        }
        _ => {}
    }
    let mut refused = applied.refused.into_iter();
    if let Some(source) = refused.find(|error| !matches!(error, ApplyError::Resting { .. })) {
        return Err(ReconcileError::Refused { source, again: due });
    }
    Ok(Action::requeue(due))
}

/// What has come of writing.
struct Written {
    applied: Applied,
    /// What is refused, and rests.
    refusal: Option<Refusal>,
    /// What others write over, and rests.
    contest: Option<Contest>,
}

/// Deletes what lost nodes hold on to, then writes the children: but for what was refused a short while ago, or is
/// contested.
async fn write_children(
    of: &ClusterRef,
    context: &Context,
    cluster: &Cluster,
    desired: &Desired,
    observed: &Observed,
    evictions: &[Eviction],
    basis: Basis,
) -> Result<Written, ReconcileError> {
    let Context { client, shelves, memory, .. } = context;
    let last = memory.refusal(of);
    let resting = last.as_ref().map(|refusal| refusal.resting(&basis, Instant::now())).unwrap_or_default();
    let evicted = apply::evict(client, &cluster.namespace, evictions, &resting).await;
    events::write(client, &observed.resource, &events::of_evictions(&evicted.pods)).await;
    let contested = memory.contested(of);
    let applied = apply::apply(client, shelves, cluster, desired, observed, &resting, &contested).await;
    // Of an error that is no refusal the next attempt is near, and may well succeed: no news for users.
    let mut applied = applied.map_err(ReconcileError::Apply)?;
    if let Some(error) = evicted.failure {
        return Err(ReconcileError::Apply(error));
    }
    applied.refused.extend(evicted.refused);
    let (now, jitter) = (Instant::now(), policy::jitter());
    let refusal = Refusal::after(&applied.refused, last.as_ref(), basis, now, jitter);
    memory.refused(of, refusal.clone());
    // What is made for the first time is no repair.
    let repaired = if observed.resource.status.is_some() { &*applied.repaired } else { &[] };
    let contest = memory.repaired(of, repaired, jitter);
    if let Some(contest) = contest.as_ref().filter(|contest| contest.concerns(repaired)) {
        warn!(why = contest.words, again = ?contest.rest, "it is not written at once any more");
    }
    Ok(Written { applied, refusal, contest })
}

/// Writes a status, and Events of what it changes; the time until it is due, where it has to wait.
async fn tell(
    cluster: &ClusterRef,
    context: &Context,
    resource: &ShardCluster,
    next: &ShardClusterStatus,
) -> Result<Option<Duration>, ReconcileError> {
    let Context { client, memory, telemetry, .. } = context;
    telemetry.metrics.phase(cluster.clone(), next.phase);
    let again = write::status(client, memory, resource, next).await.map_err(ReconcileError::Status)?;
    events::write(client, resource, &events::of_change(resource, next)).await;
    Ok(again)
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
