//! The status report of a node: on the console at the start, when a shard comes or goes, and every minute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval_at, sleep};

use crate::cluster::ClusterView;
use crate::library::Library;
use crate::report::Console;
use crate::report::status::{Cluster, Local, LocalShard, Presence, Status, status};
use crate::ring::stage::driver::Stages;
use crate::shards::Holding;

/// Between two reports where nothing changes.
const REPEAT: Duration = Duration::from_secs(60);
/// Changes come in bursts, as when a fleet starts: they are one report.
const SETTLE: Duration = Duration::from_secs(1);

/// What a report is made of.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) peer_id: String,
    pub(super) cluster: String,
    pub(super) holdings: watch::Receiver<Vec<Holding>>,
    pub(super) plan: watch::Receiver<Option<Arc<Library>>>,
    pub(super) stages: Stages,
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
}

impl Reporter {
    /// As it is now.
    pub(super) fn now(&self) -> Status {
        let stages = self.stages.status();
        let local = Local {
            peer_id: self.peer_id.clone(),
            shards: self.holdings.borrow().iter().map(local_shard).collect(),
            active_requests: stages.active as u64,
            max_requests: stages.max_sessions as u64,
            total_requests: stages.ended.successful + stages.ended.failed + stages.active as u64,
            successful_requests: stages.ended.successful,
            downloads: Vec::new(),
        };
        Status { local, cluster: self.cluster_now() }
    }

    fn cluster_now(&self) -> Cluster {
        let holdings = self.holdings.borrow();
        let loaded = holdings.iter().filter(|holding| holding.info.serves());
        let ours = loaded.map(|holding| holding.info.shard_id).collect();
        let total = self.plan.borrow().as_ref().map_or(0, |library| library.shard_count());
        let online = presences(&self.view.borrow(), &ours, total);
        Cluster { name: self.cluster.clone(), expected_shards: total, online, swarm_ready: false }
    }

    /// Prints until the network ends.
    pub(super) async fn tell(mut self, console: Console) {
        let mut repeat = interval_at(Instant::now() + REPEAT, REPEAT);
        let mut told = None;
        // The first one is no change of anything.
        self.view.mark_changed();
        loop {
            let due = tokio::select! {
                _ = repeat.tick() => true,
                changed = self.view.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                changed = self.holdings.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
            };
            if !due {
                sleep(SETTLE).await;
                self.view.mark_unchanged();
                self.holdings.mark_unchanged();
            }
            let report = self.now();
            if due || told.as_ref() != Some(&report.cluster) {
                console.say(&status(&report));
                told = Some(report.cluster);
            }
        }
    }
}

fn local_shard(holding: &Holding) -> LocalShard {
    let (file, bytes) = holding.file.clone().unwrap_or_default();
    LocalShard { shard_id: holding.info.shard_id, loaded: holding.info.serves(), file, bytes }
}

/// Where each shard of the plan is.
fn presences(view: &ClusterView, ours: &BTreeSet<u32>, total: u32) -> Vec<Presence> {
    let serving: BTreeSet<u32> = view.serving().map(|replica| replica.shard.shard_id).collect();
    let presence = |id: u32| match (ours.contains(&id), serving.contains(&id)) {
        (true, _) => Presence::Local,
        (false, true) => Presence::Online,
        (false, false) => Presence::Offline,
    };
    (0..total).map(presence).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
    use shard_wire::layers::LayerRange;

    use super::*;
    use crate::cluster::Replica;

    fn replica(shard_id: u32, connected: bool) -> Replica {
        let shard = ShardInfo {
            state: ReplicaState::Ready,
            shard_id,
            total_shards: 4,
            total_layers: 8,
            layers: LayerRange { start: shard_id * 2, end: shard_id * 2 + 2 },
            plan: "p".into(),
            model_name: "m".into(),
            model_sha256: String::new(),
            download: None,
            capabilities: Capabilities { shard_loaded: true, ..Capabilities::default() },
        };
        Replica { peer: PeerId::random(), incarnation: 1, addresses: Vec::new(), connected, shard }
    }

    #[test]
    fn a_shard_is_here_or_on_somebody_who_is_connected_or_nowhere() {
        let view =
            ClusterView { replicas: vec![replica(0, true), replica(1, false), replica(2, true)], plan: None };
        assert_eq!(
            presences(&view, &BTreeSet::from([0]), 4),
            [Presence::Local, Presence::Offline, Presence::Online, Presence::Offline]
        );
        assert_eq!(
            presences(&ClusterView::default(), &BTreeSet::from([1]), 2),
            [Presence::Offline, Presence::Local]
        );
    }
}
