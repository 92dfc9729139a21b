//! The DHT: joining it, what is announced there, what is looked for.

use std::time::Duration;

use libp2p::PeerId;
use shard_wire::layers::LayerRange;

use super::start::layer_range;
use super::{Notice, foreign, framed};

/// The routing table is being filled.
pub fn dht_started(bootstrap: &PeerId, fallback: Duration) -> Notice {
    let text = format!(
        "[DHT] ✓ Started Kademlia bootstrap with bootstrap node {bootstrap}\n\
         [DHT] Fallback announcement scheduled in {}s if RoutingUpdated doesn't fire",
        fallback.as_secs()
    );
    Notice::info("dht_started", text).shown("peer", bootstrap).with("fallback_s", fallback.as_secs())
}

/// The routing table has one more peer; the first one makes it usable.
pub fn routing_updated(peer: &PeerId, first: bool) -> Notice {
    let mut text = format!("[DHT] Routing updated: {peer}");
    if first {
        let lines = [format!("Peer: {peer}"), "Status: DHT routing table is now populated".to_owned()];
        text = format!("{text}\n{}", framed("DHT", "ROUTING TABLE UPDATED", &lines));
    }
    Notice::info("routing_updated", text).shown("peer", peer).with("first", first)
}

/// The routing table is as full as it gets.
pub fn dht_bootstrapped(query: u64) -> Notice {
    Notice::info("dht_bootstrapped", format!("[DHT] [QUERY {query}] ✓✓✓ DHT BOOTSTRAP COMPLETED ✓✓✓"))
        .with("query", query)
}

/// The routing table said nothing in time.
pub fn fallback_announcement(waited: Duration) -> Notice {
    let text =
        format!("[DHT] ⚠  RoutingUpdated did not fire within {}s: announcing all the same", waited.as_secs());
    Notice::warn("fallback_announcement", text).with("waited_s", waited.as_secs())
}

/// A shard stands in the DHT.
pub fn announced(cluster: &str, shard: u32, peer: &PeerId, layers: LayerRange, loaded: bool) -> Notice {
    let (with, status) = match loaded {
        true => ("loaded", "✓ LOADED AND READY"),
        false => ("not loaded", "✗ NOT LOADED"),
    };
    let lines = [
        format!("Cluster: {cluster}"),
        format!("Shard ID: {shard}"),
        format!("Peer ID: {peer}"),
        format!("Layers: {layers}"),
        format!("Shard Status: {status}"),
    ];
    let block = framed("DHT", &format!("ANNOUNCED SHARD {shard} TO DHT"), &lines);
    let text = format!(
        "[DHT] ✓ Announcing with shard {shard} {with}\n[DHT] ✓ Announced shard {shard} to DHT\n{block}"
    );
    Notice::info("announced", text)
        .with("cluster", cluster)
        .with("shard", shard)
        .shown("peer", peer)
        .with("layers", layer_range(layers))
        .with("loaded", loaded)
}

/// Nobody took the record: it is put again at the next occasion.
pub fn announce_failed(shard: u32, reason: &str) -> Notice {
    let text = format!("[DHT] ⚠  Announcing shard {shard} failed ({}); it is tried again", foreign(reason));
    Notice::warn("announce_failed", text).with("shard", shard).with("reason", reason)
}

/// A shard stands in the DHT as gone.
pub fn withdrawn(shard: u32) -> Notice {
    Notice::info("withdrawn", format!("[DHT] ✓ Withdrew the announcement of shard {shard}"))
        .with("shard", shard)
}

/// Too few peers took a record: usual while the network is small.
pub fn quorum_failed(query: u64, key: &str, stored: usize, quorum: usize) -> Notice {
    let text = format!(
        "[DHT] [QUERY {query}] ⚠  Quorum failed: {stored} of {quorum} peers stored {} (normal in a small network; \
         it is put again)",
        foreign(key)
    );
    Notice::warn("quorum_failed", text)
        .with("query", query)
        .with("key", key)
        .with("stored", stored)
        .with("quorum", quorum)
}

/// Nobody has a record.
pub fn record_not_found(query: u64, key: &str) -> Notice {
    let text = format!("[DHT] [QUERY {query}] ⚠  Record not found in DHT (node may not have announced yet)");
    Notice::warn("record_not_found", text).with("query", query).with("key", key)
}
