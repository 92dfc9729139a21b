//! Connections of a route outlive the idle timeout, others end, and announcements are refreshed: with short intervals,
//! and, where somebody asks for it (`--ignored`), with the real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside a test function"
)]

mod common;

use std::time::{Duration, Instant};

use common::{CLUSTER, Peer, deadline};
use libp2p::PeerId;
use shard_node::clock::now_ms;
use shard_node::config::Transport;
use shard_node::joiner::{Entry, JoinReport, Joiner, JoinerConfig};
use shard_node::net::{DhtMode, NetEvent, Network};
use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
use shard_wire::layers::LayerRange;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

fn shard() -> ShardInfo {
    ShardInfo {
        state: ReplicaState::Ready,
        shard_id: 0,
        total_shards: 1,
        total_layers: 2,
        layers: LayerRange { start: 0, end: 2 },
        plan: "0123456789abcdef".into(),
        model_name: "tiny-tales".into(),
        model_sha256: "00".repeat(32),
        download: None,
        capabilities: Capabilities { shard_loaded: true, ..Capabilities::default() },
    }
}

async fn is_connected(network: &Network, peer: PeerId) -> bool {
    network.snapshot().await.unwrap().peers.iter().any(|entry| entry.peer == peer)
}

/// One node with a bootstrap, a neighbour of its route and a peer that it once asked something.
async fn holds(idle: Duration, refresh: Duration, refreshes: usize) {
    let patient = |config: &mut shard_node::net::NetConfig| config.idle_timeout = idle;
    let bootstrap = Peer::with(DhtMode::Server, Transport::Tcp, patient).await;
    // Clients of the DHT: nothing but the route keeps a connection to them.
    let neighbour = Peer::with(DhtMode::Client, Transport::Tcp, patient).await;
    let passer_by = Peer::with(DhtMode::Client, Transport::Tcp, patient).await;
    let node = Peer::with(DhtMode::Server, Transport::Tcp, patient).await;
    let mut events = node.network.events();

    let (reports, mut told) = mpsc::channel(1024);
    let (_shards, announced) = watch::channel(vec![shard()]);
    let config = JoinerConfig {
        cluster: CLUSTER.into(),
        keypair: node.keypair.clone(),
        incarnation: now_ms(),
        entries: vec![Entry { peer: None, addresses: bootstrap.addresses().await }],
        shards: Some(announced),
        member: None,
        files: None,
        refresh_interval: refresh,
    };
    let _joiner = Joiner::spawn(node.network.clone(), config, move |report| {
        reports.try_send(report).expect("the test reads its reports");
    });
    let begun = Instant::now();
    let (kept, other) = (neighbour.network.local_peer(), passer_by.network.local_peer());
    // Each side of a route keeps the other, and a bootstrap its members: one that does not would close the connection.
    let me = node.network.local_peer();
    node.network.keep(kept, true).await;
    neighbour.network.keep(me, true).await;
    bootstrap.network.keep(me, true).await;
    deadline(node.network.dial(None, neighbour.addresses().await)).await.unwrap();
    deadline(node.network.dial(None, passer_by.addresses().await)).await.unwrap();

    // Announced at first, and once for each interval after that, never sooner.
    let mut times = Vec::new();
    while times.len() <= refreshes {
        let report = timeout(2 * refresh + Duration::from_secs(20), told.recv()).await;
        if let JoinReport::Announced { shard } = report.expect("no refresh").unwrap() {
            assert_eq!(shard.shard_id, 0);
            times.push(begun.elapsed());
        }
    }
    let last_two = &times[times.len() - 2..];
    assert!(last_two[1] - last_two[0] >= refresh * 9 / 10, "{times:?}");

    // Ping goes on all the time, and keeps nobody.
    let ended = async {
        loop {
            match events.recv().await.unwrap() {
                NetEvent::Disconnected { peer, .. } if peer == other => return,
                NetEvent::Disconnected { peer, .. } => panic!("{peer} was kept, and is gone"),
                _ => {}
            }
        }
    };
    timeout(2 * idle + Duration::from_secs(20), ended).await.expect("the idle connection stays");
    let more = (3 * idle).saturating_sub(begun.elapsed());
    let quiet = async {
        loop {
            if let NetEvent::Disconnected { peer, .. } = events.recv().await.unwrap() {
                return peer;
            }
        }
    };
    assert_eq!(timeout(more, quiet).await.ok(), None, "a kept connection ended");
    for peer in [kept, bootstrap.network.local_peer()] {
        assert!(is_connected(&node.network, peer).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_outlives_the_idle_timeout_and_others_do_not() {
    holds(Duration::from_millis(500), Duration::from_secs(1), 2).await;
}

/// Eleven minutes: two refreshes of the default interval.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes eleven minutes"]
async fn with_the_real_intervals() {
    holds(Duration::from_secs(60), Duration::from_secs(300), 2).await;
}
