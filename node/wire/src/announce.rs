//! What members say in the DHT, and the envelope that proves who said it.
//!
//! | payload | says |
//! |---|---|
//! | [`ShardAnnouncement`] | this node has this shard, and is so far with it |
//! | [`MemberAnnouncement`] | this peer is a spare node, or a gateway |
//! | [`FileAnnouncement`] | this peer has this file |

mod others;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::{DhtKey, MAX_SHARDS};
use crate::layers::LayerRange;
use crate::pipeline::Download;

pub use others::{FileAnnouncement, FileInfo, MemberAnnouncement, MemberInfo, is_file_name};

/// Bytes of a stored record at most.
pub const MAX_RECORD_BYTES: usize = 8 * 1024;
/// Addresses of one kind in an announcement at most.
pub const MAX_ADDRESSES: usize = 16;
/// Bytes of an address, name or hash at most.
pub const MAX_TEXT_BYTES: usize = 256;
/// Layers of a model at most.
pub const MAX_LAYERS: u32 = 4096;

/// Payload with the proof of who published it.
///
/// The signature is over [`SignedRecord::signed_bytes`]. Of several records of one peer under one key the one with
/// the highest sequence counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// JSON of the payload, as signed.
    pub payload: String,
    /// Grows with every record of this peer, also over restarts: milliseconds since the Unix epoch, or one more than the last.
    pub sequence: u64,
    /// Public key in libp2p's protobuf encoding, in hex. The peer id follows from it.
    pub public_key: String,
    /// Signature, in hex.
    pub signature: String,
    /// HMAC-SHA256 under the cluster secret, in hex; `None` in an open cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

impl SignedRecord {
    /// What the HMAC is over: all that is signed, and by whom.
    pub fn maced_bytes(&self) -> Vec<u8> {
        let mut bytes = b"shardcluster record mac 1\n".to_vec();
        bytes.extend_from_slice(&(self.public_key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.public_key.as_bytes());
        bytes.extend_from_slice(&Self::signed_bytes(self.sequence, &self.payload));
        bytes
    }

    /// What is signed: a label of this format, the sequence, the payload. The payload names its cluster and key.
    pub fn signed_bytes(sequence: u64, payload: &str) -> Vec<u8> {
        let mut bytes = b"shardcluster record 1\n".to_vec();
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(payload.as_bytes());
        bytes
    }
}

/// What a record says.
pub trait Payload: Serialize + DeserializeOwned {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first one that does not hold.
    fn check(&self) -> Result<(), AnnouncementError>;
    /// The cluster that it is about.
    fn cluster(&self) -> &str;
    /// Who says so.
    fn peer_id(&self) -> &str;
    /// Whether it may stand under this key.
    fn belongs(&self, key: &DhtKey) -> bool;
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// It has joined and knows of no model yet.
    Joining,
    /// It fetches its shard.
    Downloading,
    /// It loads its shard.
    Loading,
    /// It serves.
    Ready,
    /// It finishes its sessions and takes no new ones.
    Leaving,
    /// It is gone.
    Left,
}

/// One shard on one node. In JSON one flat object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardAnnouncement {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub peer_id: String,
    /// Start of its process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// Multiaddresses that it listens on.
    pub listen_addresses: Vec<String>,
    /// Multiaddresses that it was told it is reached at.
    #[serde(default)]
    pub external_addresses: Vec<String>,
    /// What it serves.
    #[serde(flatten)]
    pub shard: ShardInfo,
}

/// The shard, and how far the node is with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// How far it is.
    pub state: ReplicaState,
    /// The shard.
    pub shard_id: u32,
    /// Shards of the plan; 0 while the node does not know.
    pub total_shards: u32,
    /// Layers of the model; 0 while the node does not know.
    pub total_layers: u32,
    /// Layers of this shard; empty while the node does not know.
    pub layers: LayerRange,
    /// Short name of the plan; empty while the node does not know.
    pub plan: String,
    /// Name of the model; empty while the node does not know.
    pub model_name: String,
    /// Hex SHA-256 of the model; empty while the node does not know.
    pub model_sha256: String,
    /// How far the download of its file is, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Download>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl ShardInfo {
    /// It takes sessions.
    pub fn serves(&self) -> bool {
        self.state == ReplicaState::Ready && self.capabilities.shard_loaded
    }
}

/// What a node can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The shard's weights are loaded.
    pub shard_loaded: bool,
    /// Memory of the machine, in MiB.
    pub memory_mb: u64,
    /// Cores that the process may use.
    pub cpu_cores: u32,
    /// It computes on a GPU.
    pub gpu_available: bool,
    /// Sessions it holds at most.
    pub max_sessions: u32,
    /// Positions a session can have.
    pub context_length: u32,
}

/// Why an announcement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnnouncementError {
    /// Shard id against count.
    #[error("shard {shard_id} of {total_shards}: at most {MAX_SHARDS} shards, ids below the count")]
    ShardOutOfRange {
        /// The shard.
        shard_id: u32,
        /// The count.
        total_shards: u32,
    },
    /// Layers against count.
    #[error("layers {}-{} of {total_layers}: at most {MAX_LAYERS} layers, a loaded shard has at least one", layers.start, layers.end)]
    LayersOutOfRange {
        /// The layers.
        layers: LayerRange,
        /// The count.
        total_layers: u32,
    },
    /// Too many addresses.
    #[error("{count} addresses, at most {MAX_ADDRESSES} of a kind")]
    TooManyAddresses {
        /// How many.
        count: usize,
    },
    /// No SHA-256.
    #[error("the hash {0:?} is not 64 hex digits in lower case")]
    Hash(String),
    /// A name that could be taken for a path.
    #[error(
        "the file name {0:?} is none: 1 to {MAX_TEXT_BYTES} bytes, no slash, no control character, not only dots"
    )]
    FileName(String),
    /// A text that is too long.
    #[error("{field} has {bytes} bytes, at most {MAX_TEXT_BYTES}")]
    TextTooLong {
        /// Which one.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
}

impl Payload for ShardAnnouncement {
    fn check(&self) -> Result<(), AnnouncementError> {
        let ShardInfo { shard_id, total_shards, total_layers, layers, ref capabilities, .. } = self.shard;
        let known = total_shards > 0;
        if shard_id >= MAX_SHARDS || total_shards > MAX_SHARDS || (known && shard_id >= total_shards) {
            return Err(AnnouncementError::ShardOutOfRange { shard_id, total_shards });
        }
        let empty = layers.start >= layers.end;
        if total_layers > MAX_LAYERS
            || layers.end > total_layers
            || layers.start > layers.end
            || (empty && (known || capabilities.shard_loaded))
        {
            return Err(AnnouncementError::LayersOutOfRange { layers, total_layers });
        }
        check_addresses(&[&self.listen_addresses, &self.external_addresses])?;
        check_texts(&[
            ("cluster", &self.cluster),
            ("peer_id", &self.peer_id),
            ("plan", &self.shard.plan),
            ("model_name", &self.shard.model_name),
            ("model_sha256", &self.shard.model_sha256),
        ])
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn peer_id(&self) -> &str {
        &self.peer_id
    }

    fn belongs(&self, key: &DhtKey) -> bool {
        match key {
            DhtKey::Shard(id) => *id == self.shard.shard_id,
            DhtKey::Replica(id, peer) => *id == self.shard.shard_id && *peer == self.peer_id,
            DhtKey::Members(_) | DhtKey::Member(..) | DhtKey::File(_) => false,
        }
    }
}

fn check_addresses(kinds: &[&[String]]) -> Result<(), AnnouncementError> {
    for addresses in kinds {
        if addresses.len() > MAX_ADDRESSES {
            return Err(AnnouncementError::TooManyAddresses { count: addresses.len() });
        }
        for address in *addresses {
            check_texts(&[("address", address)])?;
        }
    }
    Ok(())
}

fn check_texts(texts: &[(&'static str, &str)]) -> Result<(), AnnouncementError> {
    match texts.iter().find(|(_, text)| text.len() > MAX_TEXT_BYTES) {
        Some((field, text)) => Err(AnnouncementError::TextTooLong { field, bytes: text.len() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> ShardAnnouncement {
        ShardAnnouncement {
            cluster: "llama-cluster".into(),
            peer_id: "12D3KooWLc2gCgHfwhTLciZDnD6TfJ6e8UtwrVyRpvKtPQwtL8wa".into(),
            incarnation: 1,
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/51820".into(); MAX_ADDRESSES],
            external_addresses: vec![],
            shard: ShardInfo {
                state: ReplicaState::Ready,
                shard_id: 1,
                total_shards: 4,
                total_layers: 8,
                layers: LayerRange { start: 2, end: 4 },
                plan: "abcdef0123456789".into(),
                model_name: "tiny-tales".into(),
                model_sha256: "00".repeat(32),
                download: None,
                capabilities: Capabilities { shard_loaded: true, ..Capabilities::default() },
            },
        }
    }

    #[test]
    fn bounds_are_checked() {
        type Change = fn(&mut ShardAnnouncement);
        let wrong: [(&str, Change); 9] = [
            ("id", |a| a.shard.shard_id = 4),
            ("count", |a| a.shard.total_shards = 257),
            ("empty", |a| a.shard.layers.end = 2),
            ("reversed", |a| a.shard.layers = LayerRange { start: 4, end: 2 }),
            ("beyond", |a| a.shard.layers.end = 9),
            ("layers", |a| a.shard.total_layers = u32::MAX),
            ("addresses", |a| a.listen_addresses.push(String::new())),
            ("address", |a| a.listen_addresses[0] = "x".repeat(257)),
            ("loaded without layers", |a| {
                (a.shard.total_shards, a.shard.layers) = (0, LayerRange::default());
            }),
        ];
        assert_eq!(announcement().check(), Ok(()));
        for (what, change) in wrong {
            let mut changed = announcement();
            change(&mut changed);
            assert!(changed.check().is_err(), "{what}");
        }
    }

    #[test]
    fn a_node_without_a_manifest_can_announce_itself() {
        let mut joining = announcement();
        joining.shard.state = ReplicaState::Joining;
        joining.shard.total_shards = 0;
        joining.shard.total_layers = 0;
        joining.shard.layers = LayerRange::default();
        joining.shard.capabilities = Capabilities::default();
        assert_eq!(joining.check(), Ok(()));
    }

    #[test]
    fn an_announcement_is_one_flat_object() {
        let value = serde_json::to_value(announcement()).unwrap();
        assert_eq!(
            (&value["incarnation"], &value["shard_id"], &value["state"]),
            (&1.into(), &1.into(), &"ready".into())
        );
        assert_eq!(value["layers"], serde_json::json!({"start": 2, "end": 4}));
        assert_eq!(serde_json::from_value::<ShardAnnouncement>(value).unwrap(), announcement());
    }
}
