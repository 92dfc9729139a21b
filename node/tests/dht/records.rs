//! What the DHT holds: who may write it, how long it lives, and files by their hash.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_node::config::Transport;
use shard_node::joiner::JoinReport;
use shard_node::net::{DhtMode, NetError, NetEvent, signed};
use shard_wire::announce::{FileInfo, ReplicaState, ShardAnnouncement};
use shard_wire::keys::{DhtKey, Role};

use crate::common::{CLUSTER, Peer, deadline};
use crate::harness::{Member, described, file, member, shard};

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
