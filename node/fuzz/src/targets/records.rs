//! What a DHT and its users hand on: keys, signed announcements, addresses.

use std::time::{Duration, Instant};

use shard_node::cluster::Cluster;
use shard_node::config::{Bootstrap, Transport};
use shard_node::net::{identity, signed};
use shard_wire::announce::{MAX_ADDRESSES, MAX_RECORD_BYTES, Payload, ShardAnnouncement};
use shard_wire::keys::{DhtKey, MAX_SHARDS};
use shard_wire::pipeline::PipelineStatus;

use crate::targets::json;

const CLUSTER: &str = "llama-cluster";

/// A record under keys of both kinds, its own and others.
pub fn record(data: &[u8]) -> bool {
    let keys = (0..3).map(DhtKey::Shard).chain([DhtKey::Replica(1, "nobody".into())]);
    let believed: Vec<_> = keys
        .filter_map(|key| Some((signed::open::<ShardAnnouncement>(CLUSTER, None, &key, data).ok()?, key)))
        .collect();
    let Some((announced, key)) = believed.first() else { return false };
    assert_eq!(believed.len(), 1, "believed under {:?} and {key:?}", believed[1..].first());
    assert!(data.len() <= MAX_RECORD_BYTES);
    let announcement = &announced.announcement;
    assert_eq!(announcement.check(), Ok(()));
    assert_eq!(*key, DhtKey::Shard(announcement.shard.shard_id));
    assert_eq!((&*announcement.cluster, &announcement.peer_id), (CLUSTER, &announced.peer.to_string()));
    let replica = DhtKey::Replica(announcement.shard.shard_id, announcement.peer_id.clone());
    assert_eq!(signed::open(CLUSTER, None, &replica, data).ok().as_ref(), Some(announced));
    assert!(signed::open::<ShardAnnouncement>("another", None, key, data).is_err());
    true
}

/// An announcement that its peer does sign: no signature stands between the bytes and those who read them.
pub fn announcement(data: &[u8]) -> bool {
    let Some(mut announcement) = json::<ShardAnnouncement>(data) else { return false };
    if announcement.check().is_err() {
        return false;
    }
    assert!(announcement.shard.shard_id < MAX_SHARDS && announcement.shard.total_shards <= MAX_SHARDS);
    assert!(announcement.listen_addresses.len() <= MAX_ADDRESSES);
    let keypair = identity::load_or_create(None).expect("a new key");
    announcement.cluster = CLUSTER.into();
    announcement.peer_id = keypair.public().to_peer_id().to_string();
    let Ok(bytes) = signed::seal(&keypair, None, 7, &announcement) else { return false };
    let key = DhtKey::Shard(announcement.shard.shard_id);
    let announced = signed::open::<ShardAnnouncement>(CLUSTER, None, &key, &bytes).expect("sealed by us");
    assert_eq!((announced.sequence, &announced.announcement), (7, &announcement));

    // A gateway tells of it, and whoever asks can read that.
    let mut cluster = Cluster::new(announced.peer, Duration::from_secs(900));
    let now = Instant::now();
    assert!(cluster.on_announced(announced, now));
    cluster.due_dials(now);
    let status = cluster.view().pipeline(&Default::default());
    assert!(json::<PipelineStatus>(&serde_json::to_vec(&status).expect("data of ours")).is_some());
    true
}

/// A key of the DHT.
pub fn key(data: &[u8]) -> bool {
    let Some(key) = DhtKey::parse(CLUSTER, data) else { return false };
    assert_eq!(key.text(CLUSTER).as_bytes(), data);
    if let DhtKey::Shard(id) | DhtKey::Replica(id, _) = key {
        assert!(id < MAX_SHARDS);
    }
    true
}

/// An entry to the network as a user writes it, and a multiaddress.
pub fn address(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(bootstrap) = text.parse::<Bootstrap>() else { return false };
    for transport in [Transport::Dual, Transport::Quic, Transport::Tcp] {
        let addresses = bootstrap.addresses(transport);
        assert_eq!(addresses.len(), if transport == Transport::Dual { 2 } else { 1 });
        for address in &addresses {
            let again: Bootstrap = address.to_string().parse().expect("an address of ours");
            assert_eq!(again, bootstrap, "{address} of {text:?}");
            assert_eq!(again.addresses(transport), addresses);
        }
    }
    let shown: Bootstrap = bootstrap.to_string().parse().expect("as it is shown, it is read");
    assert_eq!(shown.to_string(), bootstrap.to_string());
    true
}
