//! The DHT: joining it, and what is announced there.

use std::time::Duration;

use libp2p::PeerId;
use shard_wire::layers::LayerRange;

use super::framed;

/// The routing table is being filled.
pub fn dht_started(bootstrap: &PeerId, fallback: Duration) -> String {
    format!(
        "[DHT] ✓ Started Kademlia bootstrap with bootstrap node {bootstrap}\n\
         [DHT] Fallback announcement scheduled in {}s if RoutingUpdated doesn't fire",
        fallback.as_secs()
    )
}

/// The routing table has one more peer; the first one makes it usable.
pub fn routing_updated(peer: &PeerId, first: bool) -> String {
    let line = format!("[DHT] Routing updated: {peer}");
    if !first {
        return line;
    }
    let lines = [format!("Peer: {peer}"), "Status: DHT routing table is now populated".to_owned()];
    format!("{line}\n{}", framed("DHT", "ROUTING TABLE UPDATED", &lines))
}

/// The routing table is as full as it gets.
pub fn dht_bootstrapped(query: u64) -> String {
    format!("[DHT] [QUERY {query}] ✓✓✓ DHT BOOTSTRAP COMPLETED ✓✓✓")
}

/// A shard stands in the DHT.
pub fn announced(cluster: &str, shard: u32, peer: &PeerId, layers: LayerRange, loaded: bool) -> String {
    let (with, status) = match loaded {
        true => ("loaded", "✓ LOADED AND READY"),
        false => ("not loaded", "✗ NOT LOADED"),
    };
    let lines = [
        format!("Cluster: {cluster}"),
        format!("Shard ID: {shard}"),
        format!("Peer ID: {peer}"),
        format!("Layers: {}-{}", layers.start, layers.end),
        format!("Shard Status: {status}"),
    ];
    let block = framed("DHT", &format!("ANNOUNCED SHARD {shard} TO DHT"), &lines);
    format!("[DHT] ✓ Announcing with shard {shard} {with}\n[DHT] ✓ Announced shard {shard} to DHT\n{block}")
}

/// Nobody took the record: it is put again at the next occasion.
pub fn announce_failed(shard: u32, reason: &str) -> String {
    format!("[DHT] ⚠  Announcing shard {shard} failed ({reason}); it is tried again")
}
