//! Sends what [`super::coordinator`] decides: `LOAD_SHARD` to a spare. While nobody serves, the plan is learned from the
//! origin, so that a fleet of nothing but spares comes up by itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use shard_wire::announce::ReplicaState;
use shard_wire::message::{Request, Status};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::coordinator::{Assignment, Coordinator, Sight};
use crate::cluster::ClusterView;
use crate::messages;
use crate::net::Network;
use crate::report::Console;
use crate::torrent::fetch;
use crate::torrents::Known;
use crate::watch::Watched;

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// A spare says at once whether it takes a shard on.
const ANSWER: Duration = Duration::from_secs(10);

/// What a gateway assigns from.
pub(super) struct Assigner {
    pub(super) network: Network,
    pub(super) watched: Watched,
    /// How long a shard may be missing.
    pub(super) limit: Duration,
    /// What the bootstraps say of files and plans.
    pub(super) known: Known,
    /// Where its operator sees what is asked of spares.
    pub(super) console: Console,
}

impl Assigner {
    /// Assigns until the network ends.
    pub(super) async fn run(self) {
        let me = self.network.local_peer();
        let mut coordinator = Coordinator::new(me, self.limit);
        let mut asked: JoinSet<Option<Assignment>> = JoinSet::new();
        let mut planned = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(Ok(refused)) = asked.join_next() => {
                    if let Some(assignment) = refused {
                        coordinator.refused(assignment, Instant::now());
                    }
                }
                _ = tick.tick() => {
                    if self.watched.view.has_changed().is_err() {
                        return;
                    }
                    let lonely = self.watched.view.borrow().plan.is_none();
                    if lonely && self.watched.members.borrow().spares().next().is_some() {
                        planned = self.learn().await.or(planned);
                    }
                    let sight = self.sight(planned);
                    for assignment in coordinator.look(&sight, Instant::now()) {
                        asked.spawn(ask(self.network.clone(), self.console, assignment));
                    }
                }
            }
        }
    }

    fn sight(&self, planned: Option<u32>) -> Sight {
        let (view, members) = (self.watched.view.borrow(), self.watched.members.borrow());
        let me = self.network.local_peer();
        let gateways = members.gateways().map(|gateway| gateway.peer).filter(|peer| *peer != me);
        let spares = members.spares().filter(|spare| spare.connected).map(|spare| spare.peer);
        let shards = view.plan.as_ref().map(|plan| plan.shards.len() as u32).or(planned).unwrap_or(0);
        Sight { shards, taken: taken(&view), spares: spares.collect(), gateways: gateways.collect() }
    }

    /// How many shards the origin's plan has, or that of whoever has a manifest.
    async fn learn(&self) -> Option<u32> {
        let plan = self.known.read(|registry| registry.plan_to_adopt(None))?;
        let wire = self.known.read(|registry| registry.wire_version(&plan));
        let mut control = self.network.streams();
        for peer in self.known.read(|registry| registry.manifest_seeders(&plan)) {
            match fetch::manifest(&mut control, peer, &plan, wire).await {
                Ok(manifest) => return Some(manifest.layer_starts.len() as u32),
                Err(error) => tracing::debug!(%peer, plan, "the manifest could not be had: {error}"),
            }
        }
        None
    }
}

/// Shards that a connected node has, or is on its way to.
fn taken(view: &ClusterView) -> BTreeSet<u32> {
    let plan = view.plan.as_ref().map(|plan| plan.name.as_str());
    let of_plan = |plan_of: &str| plan_of.is_empty() || plan.is_none_or(|plan| plan == plan_of);
    let goes_on = |state| !matches!(state, ReplicaState::Leaving | ReplicaState::Left);
    let replicas = view
        .replicas
        .iter()
        .filter(|replica| replica.connected && goes_on(replica.shard.state) && of_plan(&replica.shard.plan));
    replicas.map(|replica| replica.shard.shard_id).collect()
}

/// The assignment back where it came to nothing.
async fn ask(network: Network, console: Console, assignment: Assignment) -> Option<Assignment> {
    let request = Request {
        command: "LOAD_SHARD".into(),
        request_id: format!("coordinator-{}", uuid::Uuid::new_v4()),
        // It announces what comes of it.
        params: json!({ "shard_id": assignment.shard, "wait_s": 0 }),
    };
    let answer = timeout(ANSWER, messages::ask(&network, console, assignment.spare, request)).await;
    let why = match answer {
        Ok(Ok(response)) if response.status == Status::Ok => return None,
        Ok(Ok(response)) => response.error.map_or_else(String::new, |error| error.message),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {ANSWER:?}"),
    };
    tracing::warn!(spare = %assignment.spare, shard = assignment.shard, "LOAD_SHARD: {why}");
    Some(assignment)
}
