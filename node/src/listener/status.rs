//! The status report of a node: on the console at the start, when a shard comes or goes, and every minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use shard_wire::announce::{ReplicaState, ShardInfo};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at, sleep};

use crate::cluster::{ClusterView, Replica};
use crate::library::Library;
use crate::report::status::{Cluster, Local, LocalShard, Presence, Status, status};
use crate::report::{Console, Download};
use crate::ring::stage::driver::Stages;
use crate::shards::Holding;
use crate::torrents::Known;

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
    pub(super) known: Known,
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
            downloads: self.downloads(),
        };
        Status { local, cluster: self.cluster_now() }
    }

    fn cluster_now(&self) -> Cluster {
        let holdings = self.holdings.borrow();
        let loaded = holdings.iter().filter(|holding| holding.info.serves());
        let ours = loaded.map(|holding| holding.info.shard_id).collect();
        let total = self.plan.borrow().as_ref().map_or(0, |library| library.shard_count());
        let own = holdings.iter().map(|holding| &holding.info);
        let plan = self.plan.borrow().as_ref().map(|library| library.plan.clone()).unwrap_or_default();
        let others =
            |replica: &Replica| replica.shard.plan == plan && replica.peer.to_string() != self.peer_id;
        let online = presences(&self.view.borrow(), others, own, &ours, total);
        let mut cluster =
            Cluster { name: self.cluster.clone(), expected_shards: total, online, swarm_ready: false };
        cluster.swarm_ready = cluster.complete() && self.seeded();
        cluster
    }

    /// Every file of the plan is whole somewhere.
    fn seeded(&self) -> bool {
        let plan = self.plan.borrow().clone();
        plan.is_some_and(|library| {
            let hashes = library.manifest.files.iter().map(|file| file.sha256.as_str());
            self.known.read(|registry| registry.all_seeded(hashes))
        })
    }

    /// Shards that are fetched.
    fn downloads(&self) -> Vec<Download> {
        let plan = self.plan.borrow().clone();
        let download = |holding: &Holding| {
            let (library, now) = (plan.as_ref()?, holding.info.download?);
            let file = library.file(holding.info.shard_id).ok()?;
            let done = (file.size as f64 * f64::from(now.percent) / 100.0) as u64;
            Some(Download {
                file: file.name.clone(),
                done,
                total: file.size,
                rate: now.bytes_per_s,
                peers: now.peers,
            })
        };
        self.holdings.borrow().iter().filter_map(download).collect()
    }

    /// Prints until the network ends.
    pub(super) async fn tell(mut self, console: Console) {
        let mut repeat = interval_at(Instant::now() + REPEAT, REPEAT);
        let mut seeders = self.known.changes();
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
                // This task has a sender of it.
                _ = seeders.changed() => false,
            };
            if !due {
                sleep(SETTLE).await;
                self.view.mark_unchanged();
                self.holdings.mark_unchanged();
                seeders.mark_unchanged();
            }
            let report = self.now();
            let seen = without_progress(&report.cluster);
            if due || told.as_ref() != Some(&seen) {
                console.say(&status(&report));
                told = Some(seen);
            }
        }
    }
}

fn local_shard(holding: &Holding) -> LocalShard {
    let (file, bytes) = holding.file.clone().unwrap_or_default();
    LocalShard { shard_id: holding.info.shard_id, loaded: holding.info.serves(), file, bytes }
}

/// That a download goes on is no change worth a report.
fn without_progress(cluster: &Cluster) -> Cluster {
    let mut cluster = cluster.clone();
    for presence in &mut cluster.online {
        if let Presence::Downloading(percent) = presence {
            *percent = 0;
        }
    }
    cluster
}

/// Where each shard of the plan is; `own` are those that are to be here, `ours` those that are. Of the view only replicas
/// count that are `others`: of this plan, on another node.
fn presences<'a>(
    view: &'a ClusterView,
    others: impl Fn(&Replica) -> bool,
    own: impl Iterator<Item = &'a ShardInfo>,
    ours: &BTreeSet<u32>,
    total: u32,
) -> Vec<Presence> {
    let elsewhere = || view.replicas.iter().filter(|replica| replica.connected && others(replica));
    let mut fetched: BTreeMap<u32, u8> = BTreeMap::new();
    for info in elsewhere()
        .map(|replica| &replica.shard)
        .chain(own)
        .filter(|info| info.state == ReplicaState::Downloading)
    {
        let percent = info.download.map_or(0, |download| download.percent as u8);
        let most = fetched.entry(info.shard_id).or_default();
        *most = percent.max(*most);
    }
    let serving: BTreeSet<u32> =
        elsewhere().filter(|replica| replica.serves()).map(|replica| replica.shard.shard_id).collect();
    let presence = |id: u32| match (ours.contains(&id), serving.contains(&id)) {
        (true, _) => Presence::Local,
        (false, true) => Presence::Online,
        (false, false) => {
            fetched.get(&id).map_or(Presence::Offline, |percent| Presence::Downloading(*percent))
        }
    };
    (0..total).map(presence).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use shard_wire::announce::Capabilities;
    use shard_wire::layers::LayerRange;

    use super::*;

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
        let replicas = vec![replica(0, true), replica(1, false), replica(2, true)];
        let view = ClusterView { replicas, ..ClusterView::default() };
        assert_eq!(
            presences(&view, |_| true, [].iter(), &BTreeSet::from([0]), 4),
            [Presence::Local, Presence::Offline, Presence::Online, Presence::Offline]
        );
        assert_eq!(
            presences(&ClusterView::default(), |_| true, [].iter(), &BTreeSet::from([1]), 2),
            [Presence::Offline, Presence::Local]
        );
    }

    #[test]
    fn who_fetches_a_shard_counts_while_nobody_serves_it() {
        let fetching = |shard_id, connected, percent| {
            let mut replica = replica(shard_id, connected);
            replica.shard.state = ReplicaState::Downloading;
            replica.shard.download =
                Some(shard_wire::pipeline::Download { percent, bytes_per_s: 1, peers: 1 });
            replica
        };
        let replicas = vec![
            fetching(0, true, 41.9),
            fetching(0, true, 12.0),
            replica(1, true),
            fetching(1, true, 50.0),
            fetching(2, false, 80.0),
        ];
        let (view, own) = (ClusterView { replicas, ..ClusterView::default() }, fetching(3, true, 7.0).shard);
        assert_eq!(
            presences(&view, |_| true, [own].iter(), &BTreeSet::new(), 4),
            [Presence::Downloading(41), Presence::Online, Presence::Offline, Presence::Downloading(7)]
        );
    }
}
