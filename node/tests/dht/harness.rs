//! Peers that join and announce themselves, and what a gateway sees of them.

use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use shard_node::clock::now_ms;
use shard_node::cluster::ClusterView;
use shard_node::config::Transport;
use shard_node::joiner::{Entry, JoinReport, Joiner, JoinerConfig};
use shard_node::net::{DhtMode, signed};
use shard_node::watch::WatchConfig;
use shard_wire::announce::{Capabilities, FileAnnouncement, FileInfo, MemberInfo, ReplicaState, ShardInfo};
use shard_wire::keys::{DhtKey, Role};
use shard_wire::layers::LayerRange;
use tokio::sync::{mpsc, watch};

use crate::common::{CLUSTER, Peer, deadline};

/// Shard `id` of three over six layers.
pub(crate) fn shard(id: u32, state: ReplicaState) -> ShardInfo {
    ShardInfo {
        state,
        shard_id: id,
        total_shards: 3,
        total_layers: 6,
        layers: LayerRange { start: 2 * id, end: 2 * id + 2 },
        plan: "0123456789abcdef".into(),
        model_name: "tiny-tales".into(),
        model_sha256: "00".repeat(32),
        download: None,
        capabilities: Capabilities { shard_loaded: state == ReplicaState::Ready, ..Capabilities::default() },
    }
}

/// A file whose hash is made of its number.
pub(crate) fn file(number: u8, name: &str) -> FileInfo {
    FileInfo { info_hash: format!("{number:02x}").repeat(32), name: name.into(), size: 7, plan: None }
}

pub(crate) fn member(role: Role) -> MemberInfo {
    MemberInfo { role, capabilities: Capabilities { cpu_cores: 3, ..Capabilities::default() } }
}

/// What a gateway watches.
pub(crate) fn watch_config() -> WatchConfig {
    WatchConfig { cluster: CLUSTER.into(), forget_after: Duration::from_secs(900) }
}

/// A node that joins through a bootstrap, and what it reports.
pub(crate) struct Member {
    pub(crate) peer: Peer,
    pub(crate) joiner: Joiner,
    pub(crate) shards: watch::Sender<Vec<ShardInfo>>,
    pub(crate) role: watch::Sender<Option<MemberInfo>>,
    pub(crate) files: watch::Sender<Vec<FileInfo>>,
    pub(crate) reports: mpsc::Receiver<JoinReport>,
}

impl Member {
    pub(crate) fn join(peer: Peer, bootstrap: &[Multiaddr], shards: Option<Vec<ShardInfo>>) -> Self {
        Self::join_with(peer, bootstrap, shards, |_| {})
    }

    pub(crate) fn join_with(
        peer: Peer,
        bootstrap: &[Multiaddr],
        shards: Option<Vec<ShardInfo>>,
        change: impl FnOnce(&mut JoinerConfig),
    ) -> Self {
        let announces = shards.is_some();
        let (sender, receiver) = watch::channel(shards.unwrap_or_default());
        let (role, is) = watch::channel(None);
        let (files, has) = watch::channel(Vec::new());
        let (reports, receive) = mpsc::channel(1024);
        let mut config = JoinerConfig {
            cluster: CLUSTER.into(),
            keypair: peer.keypair.clone(),
            incarnation: now_ms(),
            entries: vec![Entry { peer: None, addresses: bootstrap.to_vec() }],
            shards: announces.then_some(receiver),
            member: announces.then_some(is),
            files: announces.then_some(has),
            refresh_interval: Duration::from_secs(300),
        };
        change(&mut config);
        let joiner = Joiner::spawn(peer.network.clone(), config, move |report| {
            reports.try_send(report).expect("the test reads its reports");
        });
        Self { peer, joiner, shards: sender, role, files, reports: receive }
    }

    pub(crate) async fn node(transport: Transport, bootstrap: &[Multiaddr], shards: Vec<ShardInfo>) -> Self {
        Self::join(Peer::start(DhtMode::Server, transport).await, bootstrap, Some(shards))
    }

    /// A gateway: it announces nothing and is told nothing but the bootstrap.
    pub(crate) async fn gateway(transport: Transport, bootstrap: &[Multiaddr]) -> (Self, Shown) {
        let gateway = Self::join(Peer::start(DhtMode::Client, transport).await, bootstrap, None);
        let view = shard_node::watch::spawn(gateway.peer.network.clone(), watch_config());
        (gateway, Shown(view))
    }

    pub(crate) async fn reported(&mut self, wanted: impl Fn(&JoinReport) -> bool) -> JoinReport {
        loop {
            let report = deadline(self.reports.recv()).await.unwrap();
            if wanted(&report) {
                return report;
            }
        }
    }

    pub(crate) async fn announced(&mut self) {
        self.reported(|report| matches!(report, JoinReport::Announced { .. })).await;
    }
}

/// What a gateway shows.
pub(crate) struct Shown(pub(crate) watch::Receiver<Arc<ClusterView>>);

impl Shown {
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ClusterView) -> bool) -> Arc<ClusterView> {
        let last = self.0.clone();
        match tokio::time::timeout(Duration::from_secs(20), self.0.wait_for(|view| wanted(view))).await {
            Ok(view) => view.unwrap().clone(),
            Err(_) => panic!("not within 20 s: {:#?}", last.borrow()),
        }
    }
}

/// What one of the seeders of a file says of it.
pub(crate) async fn described(peer: &Peer, file: &FileInfo) -> Option<FileAnnouncement> {
    let key = DhtKey::File(file.info_hash.clone());
    let mut copies = deadline(peer.network.get_records(key.text(CLUSTER))).await;
    let copy = deadline(copies.recv()).await?;
    Some(signed::open(CLUSTER, peer.network.secrets(), &key, &copy).unwrap().announcement)
}
