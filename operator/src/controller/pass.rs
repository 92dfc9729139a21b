//! One reconcile of one ShardCluster: each step is a module, and this is their order.
//!
//! ```text
//!  observe ─▶ validate ─▶ keys, facts ─▶ desired ─▶ rollout ─▶ loss ─▶ apply ─▶ mismatch ─▶ status ─▶ events
//! ```

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use tokio::time::Instant;
use tracing::{info, warn};

use super::contest::Contest;
use super::refusal::{Basis, Refusal};
use super::{Context, PASS, ReconcileError, policy, upgrade, write};
use crate::apply::{self, Applied, ApplyError};
use crate::cluster::Cluster;
use crate::crd::{ShardCluster, ShardClusterStatus};
use crate::desired::{Desired, Facts, desired};
use crate::events;
use crate::facts;
use crate::keys;
use crate::loss::{self, Eviction};
use crate::mismatch;
use crate::observe::{GatewayView, Observed, Sources};
use crate::rollout::{self, Rollout};
use crate::settings::Settings;
use crate::status::{self, Outcome};
use crate::validate::validate;
use crate::watch::ClusterRef;
use crate::words::words;

/// One look at a ShardCluster, and all that follows from it; when the next is due.
pub(super) async fn pass(cluster_ref: &ClusterRef, context: &Context) -> Result<Action, ReconcileError> {
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
