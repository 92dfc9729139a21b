//! Names that peers agree on: protocols, DHT keys, the identify string.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
/// Files that one peer announces at most: four models of 256 shards.
pub const MAX_FILES_PER_PEER: usize = 1024;
/// Digits of a SHA-256 in hex.
const INFO_HASH_DIGITS: usize = 64;

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

/// What a member is that serves no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A node without a shard, which waits for one.
    Spare,
    /// A gateway.
    Gateway,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Spare, Self::Gateway];

    fn name(self) -> &'static str {
        match self {
            Self::Spare => "spare",
            Self::Gateway => "gateway",
        }
    }
}

/// A key of the DHT.
///
/// | key | record | providers |
/// |---|---|---|
/// | `{cluster}/shard/{id}` | the last announcement of any replica | its replicas |
/// | `{cluster}/shard/{id}/{peer}` | the announcement of one replica | – |
/// | `{cluster}/spare`, `{cluster}/gateway` | – | who is one |
/// | `{cluster}/spare/{peer}`, `{cluster}/gateway/{peer}` | the announcement of one | – |
/// | `{info_hash}` | what the file is, by any of its seeders | its seeders |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DhtKey {
    /// A shard, by id.
    Shard(u32),
    /// One replica of a shard.
    Replica(u32, String),
    /// All members of a role.
    Members(Role),
    /// One of them.
    Member(Role, String),
    /// A file, by the hex SHA-256 of its content.
    File(String),
}

impl DhtKey {
    /// The key as text.
    pub fn text(&self, cluster: &str) -> String {
        match self {
            Self::Shard(id) => format!("{cluster}/shard/{id}"),
            Self::Replica(id, peer) => format!("{cluster}/shard/{id}/{peer}"),
            Self::Members(role) => format!("{cluster}/{}", role.name()),
            Self::Member(role, peer) => format!("{cluster}/{}/{peer}", role.name()),
            Self::File(hash) => hash.clone(),
        }
    }

    /// Reads a key of this cluster; `None` for anything else. Each has one spelling.
    pub fn parse(cluster: &str, key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        if is_info_hash(key) {
            return Some(Self::File(key.to_owned()));
        }
        let rest = key.strip_prefix(cluster)?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let (kind, first, second) = (parts.next()?, parts.next(), parts.next());
        if parts.next().is_some() || [first, second].contains(&Some("")) {
            return None;
        }
        if kind == "shard" {
            let id = first?;
            let id =
                u32::from_str(id).ok().filter(|number| *number < MAX_SHARDS && number.to_string() == id)?;
            return Some(second.map_or(Self::Shard(id), |peer| Self::Replica(id, peer.to_owned())));
        }
        let role = Role::ALL.into_iter().find(|role| role.name() == kind)?;
        match (first, second) {
            (None, None) => Some(Self::Members(role)),
            (Some(peer), None) => Some(Self::Member(role, peer.to_owned())),
            _ => None,
        }
    }
}

/// Whether a text is the hex SHA-256 of something, in lower case.
pub fn is_info_hash(text: &str) -> bool {
    text.len() == INFO_HASH_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_nothing_else_is() {
        let hash = "0123456789abcdef".repeat(4);
        for key in [
            DhtKey::Shard(0),
            DhtKey::Shard(255),
            DhtKey::Replica(3, "12D3KooW".into()),
            DhtKey::Members(Role::Spare),
            DhtKey::Members(Role::Gateway),
            DhtKey::Member(Role::Spare, "12D3KooW".into()),
            DhtKey::Member(Role::Gateway, "12D3KooW".into()),
            DhtKey::File(hash.clone()),
        ] {
            assert_eq!(DhtKey::parse("llama", key.text("llama").as_bytes()), Some(key));
        }
        for text in [
            "llama/shard",
            "llama/shard/256",
            "llama/shard/+1",
            "llama/shard/01",
            "llama/shard/",
            "llama/shard/1/",
            "llama/shard/1/a/b",
            "llama/spare/",
            "llama/spare/a/b",
            "llama/gateway//a",
            "llama/bootstrap",
            "llama/",
            "llamas/spare",
            "other/shard/1",
            "llama",
            &hash[1..],
            &hash.to_uppercase(),
            &hash.replace('0', "g"),
        ] {
            assert_eq!(DhtKey::parse("llama", text.as_bytes()), None, "{text}");
        }
        assert_eq!(DhtKey::parse("llama", b"llama/shard/\xff"), None);
    }
}
