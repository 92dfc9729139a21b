//! Joining through a bootstrap, and being seen by a gateway.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::identity::Keypair;
use shard_node::cluster::ClusterView;
use shard_node::config::Transport;
use shard_node::joiner::JoinReport;
use shard_node::net::DhtMode;
use shard_wire::announce::ReplicaState;
use shard_wire::keys::DhtKey;
use tokio::sync::oneshot;

use crate::common::{CLUSTER, Peer, deadline, multiaddr};
use crate::harness::{Member, shard};

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

/// A lookup that finds nothing is told with its number and key, and not for every lookup.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_yet_is_told() {
    let bootstrap = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let (mut gateway, _shown) = Member::gateway(Transport::Tcp, &bootstrap.addresses().await).await;
    let report = gateway.reported(|report| matches!(report, JoinReport::NotFound { .. })).await;
    let JoinReport::NotFound { key, .. } = report else { unreachable!() };
    assert!(DhtKey::parse(CLUSTER, key.as_bytes()).is_some(), "{key}");
}
