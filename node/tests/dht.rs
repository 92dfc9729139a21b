//! Joining, announcing and discovering through a bootstrap, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside a test function"
)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CLUSTER, Peer, deadline, multiaddr, secrets};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use shard_node::clock::now_ms;
use shard_node::cluster::ClusterView;
use shard_node::config::Transport;
use shard_node::joiner::{Entry, JoinReport, Joiner, JoinerConfig};
use shard_node::net::{DhtMode, NetError, NetEvent, signed};
use shard_node::watch::{Members, WatchConfig, Watched};
use shard_wire::announce::{
    Capabilities, FileAnnouncement, FileInfo, MemberInfo, ReplicaState, ShardAnnouncement, ShardInfo,
};
use shard_wire::keys::{DhtKey, Role};
use shard_wire::layers::LayerRange;
use tokio::sync::{mpsc, oneshot, watch};

/// Shard `id` of three over six layers.
fn shard(id: u32, state: ReplicaState) -> ShardInfo {
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

/// A node that joins through a bootstrap, and what it reports.
struct Member {
    peer: Peer,
    joiner: Joiner,
    shards: watch::Sender<Vec<ShardInfo>>,
    role: watch::Sender<Option<MemberInfo>>,
    files: watch::Sender<Vec<FileInfo>>,
    reports: mpsc::Receiver<JoinReport>,
}

/// A file whose hash is made of its number.
fn file(number: u8, name: &str) -> FileInfo {
    FileInfo { info_hash: format!("{number:02x}").repeat(32), name: name.into(), size: 7, plan: None }
}

fn member(role: Role) -> MemberInfo {
    MemberInfo { role, capabilities: Capabilities { cpu_cores: 3, ..Capabilities::default() } }
}

impl Member {
    fn join(peer: Peer, bootstrap: &[Multiaddr], shards: Option<Vec<ShardInfo>>) -> Self {
        Self::join_with(peer, bootstrap, shards, |_| {})
    }

    fn join_with(
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

    async fn node(transport: Transport, bootstrap: &[Multiaddr], shards: Vec<ShardInfo>) -> Self {
        Self::join(Peer::start(DhtMode::Server, transport).await, bootstrap, Some(shards))
    }

    /// A gateway: it announces nothing and is told nothing but the bootstrap.
    async fn gateway(transport: Transport, bootstrap: &[Multiaddr]) -> (Self, Shown) {
        let gateway = Self::join(Peer::start(DhtMode::Client, transport).await, bootstrap, None);
        let config = WatchConfig { cluster: CLUSTER.into(), forget_after: Duration::from_secs(900) };
        let view = shard_node::watch::spawn(gateway.peer.network.clone(), config);
        (gateway, Shown(view))
    }

    async fn reported(&mut self, wanted: impl Fn(&JoinReport) -> bool) -> JoinReport {
        loop {
            let report = deadline(self.reports.recv()).await.unwrap();
            if wanted(&report) {
                return report;
            }
        }
    }

    async fn announced(&mut self) {
        self.reported(|report| matches!(report, JoinReport::Announced { .. })).await;
    }
}

/// What a gateway shows.
struct Shown(watch::Receiver<Arc<ClusterView>>);

impl Shown {
    async fn until(&mut self, wanted: impl Fn(&ClusterView) -> bool) -> Arc<ClusterView> {
        let last = self.0.clone();
        match tokio::time::timeout(Duration::from_secs(20), self.0.wait_for(|view| wanted(view))).await {
            Ok(view) => view.unwrap().clone(),
            Err(_) => panic!("not within 20 s: {:#?}", last.borrow()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_finds_every_shard_through_the_bootstrap_alone() {
    for transport in [Transport::Tcp, Transport::Quic, Transport::Dual] {
        let bootstrap = Peer::start(DhtMode::Server, transport).await;
        let entry = bootstrap.addresses().await;
        let (_gateway, mut shown) = Member::gateway(transport, &entry).await;
        let mut nodes = Vec::new();
        for id in 0..3 {
            nodes.push(Member::node(transport, &entry, vec![shard(id, ReplicaState::Ready)]).await);
        }
        let view = shown.until(ClusterView::complete).await;
        let found: HashMap<u32, PeerId> =
            view.serving().map(|replica| (replica.shard.shard_id, replica.peer)).collect();
        for (id, node) in (0..).zip(&nodes) {
            assert_eq!(found[&id], node.peer.network.local_peer(), "{transport:?}");
        }

        // One dies without a word: gone from the view within seconds. Its successor completes it again.
        let dead = nodes.remove(1);
        let began = Instant::now();
        dead.peer.network.shutdown().await;
        let view = shown.until(|view| !view.complete()).await;
        assert!(began.elapsed() < Duration::from_secs(5), "offline after {:?}", began.elapsed());
        assert_eq!(view.reason(), "shard 1 (layers 2-4) is offline");
        let began = Instant::now();
        nodes.push(Member::node(transport, &entry, vec![shard(1, ReplicaState::Ready)]).await);
        shown.until(ClusterView::complete).await;
        assert!(began.elapsed() < Duration::from_secs(5), "complete again after {:?}", began.elapsed());
    }
}

/// A machine that freezes closes nothing: its sockets stay open and nobody polls them.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_freezes_is_offline_within_seconds() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Quic).await;
    let entry = bootstrap.addresses().await;
    let (_gateway, mut shown) = Member::gateway(Transport::Quic, &entry).await;
    let (freeze, frozen) = oneshot::channel::<()>();
    let (thaw, thawed) = std::sync::mpsc::sync_channel::<()>(0);
    let machine = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let node = runtime.block_on(async {
            let node = Member::node(Transport::Quic, &entry, vec![shard(0, ReplicaState::Ready)]).await;
            frozen.await.unwrap();
            node
        });
        thawed.recv().unwrap();
        runtime.block_on(node.joiner.leave());
    });
    shown.until(|view| view.serving().count() == 1).await;
    let began = Instant::now();
    freeze.send(()).unwrap();
    shown.until(|view| view.serving().count() == 0).await;
    assert!(began.elapsed() < Duration::from_secs(5), "offline after {:?}", began.elapsed());
    thaw.send(()).unwrap();
    machine.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_join_is_the_seeds() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let mut node =
        Member::node(Transport::Tcp, &bootstrap.addresses().await, vec![shard(0, ReplicaState::Ready)]).await;
    let mut order = Vec::new();
    while order.last() != Some(&"announced") {
        order.push(match deadline(node.reports.recv()).await.unwrap() {
            JoinReport::Connecting { .. } => "connecting",
            JoinReport::Connected { peer, .. } => {
                assert_eq!(peer, bootstrap.network.local_peer());
                "connected"
            }
            JoinReport::DhtStarted { .. } => "dht started",
            JoinReport::RoutingUpdated { .. } => "routing updated",
            JoinReport::Announced { shard: announced } => {
                assert_eq!(announced, shard(0, ReplicaState::Ready));
                "announced"
            }
            JoinReport::DhtBootstrapped { .. }
            | JoinReport::NotFound { .. }
            | JoinReport::QuorumFailed { .. } => continue,
            unexpected => panic!("{unexpected:?}"),
        });
    }
    assert_eq!(order, ["connecting", "connected", "dht started", "routing updated", "announced"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_and_leaving_are_seen() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let entry = bootstrap.addresses().await;
    let (_gateway, mut shown) = Member::gateway(Transport::Tcp, &entry).await;
    let node = Member::node(Transport::Tcp, &entry, vec![shard(0, ReplicaState::Loading)]).await;
    shown.until(|view| view.reason().starts_with("shard 0 (layers 0-2) is loading")).await;

    // A second shard on the same node, and the first is loaded.
    node.shards.send_replace(vec![shard(0, ReplicaState::Ready), shard(1, ReplicaState::Ready)]);
    shown.until(|view| view.reason() == "shard 2 has no replica").await;

    // It moves from one shard to another: the one that it left is missing.
    node.shards.send_replace(vec![shard(1, ReplicaState::Ready), shard(2, ReplicaState::Ready)]);
    shown.until(|view| view.reason() == "shard 0 has no replica").await;

    // It leaves: nobody waits for it.
    node.joiner.leave().await;
    shown.until(|view| view.replicas.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_of_a_shard_is_found() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let entry = bootstrap.addresses().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let mut node = Member::node(Transport::Tcp, &entry, vec![shard(0, ReplicaState::Ready)]).await;
        node.announced().await;
        nodes.push(node);
    }
    let (_gateway, mut shown) = Member::gateway(Transport::Tcp, &entry).await;
    shown.until(|view| view.serving().count() == 3).await;
}

/// A tool knows a node by its name alone; the bootstrap knows where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_dialled_by_its_name() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let entry = bootstrap.addresses().await;
    let mut node = Member::node(Transport::Tcp, &entry, vec![shard(0, ReplicaState::Ready)]).await;
    node.announced().await;
    let tool = Peer::start(DhtMode::Client, Transport::Tcp).await.network;
    let at = deadline(tool.dial(None, entry.clone())).await.unwrap();
    tool.add_address(at, entry[0].clone()).await;
    let wanted = node.peer.network.local_peer();
    assert_eq!(deadline(tool.dial(Some(wanted), vec![])).await.unwrap(), wanted);
    assert!(deadline(tool.dial(Some(PeerId::random()), vec![])).await.is_err());
}

/// Nobody is there: the node says so and tries again; when the bootstrap comes, it joins and announces itself. When
/// the bootstrap comes back as a new process that knows nothing, it is told again.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bootstrap_is_dialled_until_it_comes() {
    let keypair = Keypair::generate_ed25519();
    // A port that is free for now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = multiaddr(&format!("/ip4/127.0.0.1/tcp/{port}"));
    let entry = [address.clone()];
    let mut node = Member::node(Transport::Tcp, &entry, vec![shard(0, ReplicaState::Ready)]).await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        let JoinReport::Unreachable { addresses, retry_in, .. } =
            node.reported(|report| matches!(report, JoinReport::Unreachable { .. })).await
        else {
            unreachable!()
        };
        assert_eq!(addresses, entry);
        waits.push(retry_in);
    }
    assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");

    for _ in 0..2 {
        let bootstrap =
            Peer::with(DhtMode::Server, Transport::Tcp, |config| config.keypair = keypair.clone()).await;
        deadline(bootstrap.network.listen(address.clone())).await.unwrap();
        node.announced().await;
        let (_gateway, mut shown) = Member::gateway(Transport::Tcp, &entry).await;
        shown.until(|view| view.serving().count() == 1).await;
        bootstrap.network.shutdown().await;
        node.reported(|report| matches!(report, JoinReport::Lost { .. })).await;
    }
}

/// A bootstrap refuses what is not its peer's own, keeps the newest, and readers get it from there.
#[tokio::test]
async fn the_bootstrap_stores_what_a_peer_says_of_itself() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let writer = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let me = writer.network.local_peer();
    let at = deadline(writer.network.dial(None, bootstrap.addresses().await)).await.unwrap();
    let key = DhtKey::Replica(1, me.to_string());
    let put = async |key: &DhtKey, sequence| {
        let announcement = ShardAnnouncement {
            cluster: CLUSTER.into(),
            peer_id: me.to_string(),
            incarnation: 1,
            listen_addresses: vec![],
            external_addresses: vec![],
            shard: shard(1, ReplicaState::Ready),
        };
        let value = signed::seal(&writer.keypair, None, sequence, &announcement).unwrap();
        deadline(writer.network.put_record_to(at, key.text(CLUSTER), value)).await
    };
    put(&key, 7).await.unwrap();
    put(&key, 8).await.unwrap();
    let others = DhtKey::Replica(1, PeerId::random().to_string());
    let refused = futures::future::join(put(&key, 7), put(&others, 9)).await;
    assert!(matches!(refused, (Err(NetError::Dht(_)), Err(NetError::Dht(_)))), "{refused:?}");

    let reader = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let mut events = reader.network.events();
    let at = deadline(reader.network.dial(None, bootstrap.addresses().await)).await.unwrap();
    while deadline(events.recv()).await.unwrap() != (NetEvent::RoutingUpdated { peer: at }) {}
    let value = deadline(deadline(reader.network.get_records(key.text(CLUSTER))).await.recv()).await.unwrap();
    let read = signed::open::<ShardAnnouncement>(CLUSTER, None, &key, &value).unwrap();
    assert_eq!((read.peer, read.sequence, read.announcement.shard), (me, 8, shard(1, ReplicaState::Ready)));
}

/// What a peer finds of a file: its seeders, and what one of them says of it.
async fn seeders(peer: &Peer, file: &FileInfo) -> Vec<PeerId> {
    let mut found = deadline(peer.network.get_providers(file.info_hash.clone())).await;
    let mut all = Vec::new();
    while let Some(peer) = deadline(found.recv()).await {
        all.push(peer);
    }
    all.sort();
    // Several peers may tell of the same one.
    all.dedup();
    all
}

async fn described(peer: &Peer, file: &FileInfo) -> Option<FileAnnouncement> {
    let key = DhtKey::File(file.info_hash.clone());
    let mut copies = deadline(peer.network.get_records(key.text(CLUSTER))).await;
    let copy = deadline(copies.recv()).await?;
    Some(signed::open(CLUSTER, peer.network.secrets(), &key, &copy).unwrap().announcement)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_registered_and_found_by_their_hash() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let entry = bootstrap.addresses().await;
    let (a, b) = (file(0xa, "shard-0.gguf"), file(0xb, "shard-1.gguf"));
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let mut node = Member::node(Transport::Tcp, &entry, vec![]).await;
        node.files.send_replace(vec![a.clone(), b.clone()]);
        for _ in 0..2 {
            node.reported(|report| matches!(report, JoinReport::FileRegistered { .. })).await;
        }
        nodes.push(node);
    }
    let reader = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let mut events = reader.network.events();
    let at = deadline(reader.network.dial(None, entry)).await.unwrap();
    while deadline(events.recv()).await.unwrap() != (NetEvent::RoutingUpdated { peer: at }) {}
    let mut both: Vec<PeerId> = nodes.iter().map(|node| node.peer.network.local_peer()).collect();
    both.sort();
    // The records are there with the report; the walk that tells of the seeders may end a little later.
    while seeders(&reader, &a).await != both || seeders(&reader, &b).await != both {}
    let said = described(&reader, &a).await.unwrap();
    assert_eq!(said.file, a);
    assert!(both.iter().any(|peer| said.peer_id == peer.to_string()));
    assert_eq!(described(&reader, &file(0xc, "nobody's")).await, None);

    // One file vanishes from a node, which says so and provides it no longer; the other is still there.
    let node = &mut nodes[0];
    node.files.send_replace(vec![b.clone()]);
    let gone = node.reported(|report| matches!(report, JoinReport::FileWithdrawn { .. })).await;
    assert_eq!(gone, JoinReport::FileWithdrawn { file: a.clone() });
    // A third one comes: registered after the other was withdrawn.
    let c = file(0xc, "new.gguf");
    node.files.send_replace(vec![b.clone(), c.clone()]);
    let new = node.reported(|report| matches!(report, JoinReport::FileRegistered { .. })).await;
    assert_eq!(new, JoinReport::FileRegistered { file: c });
    for other in nodes.drain(1..) {
        other.peer.network.shutdown().await;
    }
    bootstrap.network.shutdown().await;
    let me = nodes[0].peer.network.local_peer();
    assert_eq!(seeders(&nodes[0].peer, &a).await.iter().filter(|peer| **peer == me).count(), 0);
    assert!(seeders(&nodes[0].peer, &b).await.contains(&me));
}

/// Who does not announce itself again is forgotten after three intervals, and who does is not.
#[tokio::test(flavor = "multi_thread")]
async fn records_live_for_three_intervals() {
    let ttl = Duration::from_millis(1500);
    let short = |config: &mut shard_node::net::NetConfig| config.record_ttl = ttl;
    let bootstrap = Peer::with(DhtMode::Server, Transport::Tcp, short).await;
    let entry = bootstrap.addresses().await;
    let mut nodes = Vec::new();
    for (number, refresh) in [(1, ttl / 3), (2, Duration::from_secs(300))] {
        let peer = Peer::with(DhtMode::Client, Transport::Tcp, short).await;
        let mut node =
            Member::join_with(peer, &entry, Some(vec![shard(number, ReplicaState::Ready)]), |config| {
                config.refresh_interval = refresh;
            });
        node.files.send_replace(vec![file(u8::try_from(number).unwrap(), "f")]);
        node.reported(|report| matches!(report, JoinReport::FileRegistered { .. })).await;
        node.announced().await;
        nodes.push(node);
    }
    let began = Instant::now();
    let replica = |number: u32, node: &Member| {
        DhtKey::Replica(number, node.peer.network.local_peer().to_string()).text(CLUSTER)
    };
    let (stays, goes) = (replica(1, &nodes[0]), replica(2, &nodes[1]));
    // The bootstrap's own store is what is asked: nodes are clients here.
    let found = async |key: &String| {
        deadline(deadline(bootstrap.network.get_records(key.clone())).await.recv()).await.is_some()
    };
    assert!(found(&stays).await);
    while found(&goes).await || described(&bootstrap, &file(2, "f")).await.is_some() {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert!(began.elapsed() < ttl + Duration::from_secs(1), "gone after {:?}", began.elapsed());
    // Seen twice over that time: once more than it could live by itself.
    while began.elapsed() < 2 * ttl {
        assert!(found(&stays).await && described(&bootstrap, &file(1, "f")).await.is_some());
    }
}

/// Nobody stores anything: the bootstrap speaks another cluster's DHT. That is a warning for each thing that was told,
/// the connection stays, and all is told again.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_stores_is_a_warning_and_told_again() {
    let bootstrap =
        Peer::with(DhtMode::Server, Transport::Tcp, |config| config.cluster = "another".into()).await;
    let mut node =
        Member::node(Transport::Tcp, &bootstrap.addresses().await, vec![shard(0, ReplicaState::Ready)]).await;
    node.files.send_replace(vec![file(1, "f")]);
    node.role.send_replace(Some(member(Role::Spare)));
    let (mut shards, mut files, mut roles) = (0, 0, 0);
    while shards < 2 || files < 2 || roles < 2 {
        match deadline(node.reports.recv()).await.unwrap() {
            JoinReport::NotStored { shard_id: 0, .. } => shards += 1,
            JoinReport::FileNotRegistered { .. } => files += 1,
            JoinReport::MemberNotStored { role: Role::Spare, .. } => roles += 1,
            _ => {}
        }
    }
    assert_eq!(node.peer.network.snapshot().await.unwrap().peers.len(), 1);
}

struct Others(watch::Receiver<Arc<Members>>);

impl Others {
    async fn until(&mut self, wanted: impl Fn(&Members) -> bool) -> Arc<Members> {
        let last = self.0.clone();
        match tokio::time::timeout(Duration::from_secs(40), self.0.wait_for(|members| wanted(members))).await
        {
            Ok(members) => members.unwrap().clone(),
            Err(_) => panic!("not within 40 s: {:#?}", last.borrow()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_and_gateways_are_found_and_leave() {
    for closed in [false, true] {
        let start = async |dht| {
            Peer::with(dht, Transport::Tcp, |config| config.secrets = secrets(&["a"]).filter(|_| closed))
                .await
        };
        let bootstrap = start(DhtMode::Server).await;
        let entry = bootstrap.addresses().await;
        let spare = Member::join(start(DhtMode::Server).await, &entry, Some(vec![]));
        spare.role.send_replace(Some(member(Role::Spare)));
        let gateway = Member::join(start(DhtMode::Client).await, &entry, Some(vec![]));
        gateway.role.send_replace(Some(member(Role::Gateway)));

        let coordinator = Member::join(start(DhtMode::Client).await, &entry, Some(vec![]));
        coordinator.role.send_replace(Some(member(Role::Gateway)));
        let config = WatchConfig { cluster: CLUSTER.into(), forget_after: Duration::from_secs(900) };
        let Watched { view, members } =
            shard_node::watch::spawn_with_members(coordinator.peer.network.clone(), config);
        let (mut shown, mut others) = (Shown(view), Others(members));
        let of = |members: &Members, wanted: &Member| {
            members.all.iter().find(|one| one.peer == wanted.peer.network.local_peer()).cloned()
        };
        let all = others
            .until(|now| now.spares().any(|spare| spare.connected) && now.gateways().count() == 2)
            .await;
        let found = of(&all, &spare).unwrap();
        assert_eq!((found.role, found.capabilities.cpu_cores), (Role::Spare, 3));
        assert!(found.announced_ms >= found.incarnation && !found.addresses.is_empty());
        assert!(of(&all, &coordinator).unwrap().connected && !of(&all, &gateway).unwrap().connected);

        // The spare gets a shard: it is a spare no longer.
        spare.shards.send_replace(vec![shard(0, ReplicaState::Ready)]);
        spare.role.send_replace(None);
        others.until(|now| now.spares().count() == 0).await;
        shown.until(|view| view.serving().count() == 1).await;
        gateway.joiner.leave().await;
        others.until(|now| now.gateways().count() == 1).await;
    }
}

/// Every program is in another step of the change from one secret to the next: who is beside it still finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_changes_its_secret_without_an_outage() {
    for (first, second) in
        [(&["old"][..], &["old", "new"][..]), (&["old", "new"], &["new", "old"]), (&["new", "old"], &["new"])]
    {
        let bootstrap = Peer::member(DhtMode::Server, Transport::Tcp, first).await;
        let entry = bootstrap.addresses().await;
        let mut nodes = Vec::new();
        for (id, names) in [(0, first), (1, second), (2, second)] {
            let peer = Peer::member(DhtMode::Server, Transport::Tcp, names).await;
            nodes.push(Member::join(peer, &entry, Some(vec![shard(id, ReplicaState::Ready)])));
        }
        for names in [first, second] {
            let peer = Peer::member(DhtMode::Client, Transport::Tcp, names).await;
            let reader = Member::join(peer, &entry, None);
            let config = WatchConfig { cluster: CLUSTER.into(), forget_after: Duration::from_secs(900) };
            let mut shown = Shown(shard_node::watch::spawn(reader.peer.network.clone(), config));
            shown.until(ClusterView::complete).await;
        }
    }
}

/// A lookup that finds nothing is told with its number and key, and not for every lookup.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_yet_is_told() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let (mut gateway, _shown) = Member::gateway(Transport::Tcp, &bootstrap.addresses().await).await;
    let report = gateway.reported(|report| matches!(report, JoinReport::NotFound { .. })).await;
    let JoinReport::NotFound { key, .. } = report else { unreachable!() };
    assert!(DhtKey::parse(CLUSTER, key.as_bytes()).is_some(), "{key}");
}
