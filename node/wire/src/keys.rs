//! Names that peers agree on: protocols, DHT keys, the identify string.

use std::str::FromStr;

/// Commands and their answers, one JSON object each way.
pub const JSON_MESSAGE: &str = "/json-message/1.0";
/// Counts and times of a node: whatever is asked, the answer is that to `GET_METRICS`.
pub const METRICS: &str = "/metrics/1.0";
/// Binary frames of the pipeline on persistent streams.
pub const ACTIVATION: &str = "/activation/1.0";
/// Manifest and pieces of model files on raw streams.
pub const TORRENT: &str = "/torrent/1.0";

/// Shards of a cluster at most; ids are below it.
pub const MAX_SHARDS: u32 = 256;

/// Protocol name of a cluster's DHT: two clusters never share a routing table.
pub fn kademlia(cluster: &str) -> String {
    format!("/shardcluster/kad/1.0/{cluster}")
}

/// What a shard node calls itself in identify, as started: `shard-listener/{cluster}/{shard_id}`, `spare` without one.
pub fn identify(cluster: &str, shard_id: Option<u32>) -> String {
    match shard_id {
        Some(id) => format!("shard-listener/{cluster}/{id}"),
        None => format!("shard-listener/{cluster}/spare"),
    }
}

/// A key under which shard announcements are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardKey {
    /// `{cluster}/shard/{shard_id}`: the last announcement of any replica, and its providers.
    Shard(u32),
    /// `{cluster}/shard/{shard_id}/{peer_id}`: the announcement of one replica.
    Replica(u32, String),
}

impl ShardKey {
    /// The key as text.
    pub fn text(&self, cluster: &str) -> String {
        match self {
            Self::Shard(id) => format!("{cluster}/shard/{id}"),
            Self::Replica(id, peer) => format!("{cluster}/shard/{id}/{peer}"),
        }
    }

    /// Reads a key of this cluster; `None` for anything else.
    pub fn parse(cluster: &str, key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        let rest = key.strip_prefix(cluster)?.strip_prefix("/shard/")?;
        let (id, peer) = rest.split_once('/').map_or((rest, None), |(id, peer)| (id, Some(peer)));
        let id = u32::from_str(id).ok().filter(|number| *number < MAX_SHARDS && number.to_string() == id)?;
        match peer {
            None => Some(Self::Shard(id)),
            Some(peer) if peer.is_empty() || peer.contains('/') => None,
            Some(peer) => Some(Self::Replica(id, peer.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_read_as_it_is_written(
            cluster in "[a-z/-]{1,12}", id in 0..2 * MAX_SHARDS, peer in prop::option::of("[a-zA-Z0-9/]{0,9}"),
        ) {
            let whole = peer.as_ref().is_none_or(|peer| !peer.is_empty() && !peer.contains('/'));
            let key = peer.map_or(ShardKey::Shard(id), |peer| ShardKey::Replica(id, peer));
            let read = ShardKey::parse(&cluster, key.text(&cluster).as_bytes());
            prop_assert_eq!(read, (id < MAX_SHARDS && whole).then_some(key));
        }

        #[test]
        fn what_is_read_is_written_the_same(rest in "[0-9+]{0,4}(/[a-z0-9/]{0,3})?") {
            let text = format!("c/shard/{rest}");
            if let Some(key) = ShardKey::parse("c", text.as_bytes()) {
                prop_assert_eq!(key.text("c"), text);
            }
        }
    }

    #[test]
    fn keys_are_read_back_and_nothing_else_is() {
        for key in [ShardKey::Shard(0), ShardKey::Shard(255), ShardKey::Replica(3, "12D3KooW".into())] {
            assert_eq!(ShardKey::parse("llama", key.text("llama").as_bytes()), Some(key));
        }
        for text in [
            "llama/shard/256",
            "llama/shard/+1",
            "llama/shard/01",
            "llama/shard/",
            "llama/shard/1/",
            "llama/shard/1/a/b",
            "other/shard/1",
            "llama",
        ] {
            assert_eq!(ShardKey::parse("llama", text.as_bytes()), None, "{text}");
        }
        assert_eq!(ShardKey::parse("llama", b"llama/shard/\xff"), None);
    }
}
