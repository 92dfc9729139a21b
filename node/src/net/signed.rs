//! Announcements as signed records: sealed by the node, opened by whoever stores or reads them.

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, SigningError};
use shard_wire::announce::{AnnouncementError, MAX_RECORD_BYTES, ShardAnnouncement, SignedRecord};
use shard_wire::keys::ShardKey;
use thiserror::Error;

use super::hex;

/// An announcement and the proof that its peer made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// Who.
    pub peer: PeerId,
    /// The highest of a peer counts.
    pub sequence: u64,
    /// What.
    pub announcement: ShardAnnouncement,
}

/// Why a record is not believed, or cannot be made.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is too large.
    #[error("the record has {bytes} bytes, at most {MAX_RECORD_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is no record in JSON.
    #[error("the record is not JSON as it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no public key.
    #[error("the record's public key cannot be read")]
    PublicKey,
    /// The signature does not fit.
    #[error("the record's signature is not by {peer}")]
    Signature {
        /// Whose key it names.
        peer: PeerId,
    },
    /// It speaks for somebody else, or lies under a key that is not its own.
    #[error("{peer} may not announce {what}")]
    NotTheirs {
        /// Who signed it.
        peer: PeerId,
        /// What it says.
        what: String,
    },
    /// It breaks a bound.
    #[error("the announcement of {peer} is refused: {source}")]
    Announcement {
        /// Who signed it.
        peer: PeerId,
        /// Which bound.
        source: AnnouncementError,
    },
    /// Our key cannot sign.
    #[error("cannot sign: {0}")]
    Sign(#[from] SigningError),
}

/// Signs an announcement.
///
/// # Errors
/// When it breaks a bound or the key cannot sign.
pub fn seal(
    keypair: &Keypair,
    sequence: u64,
    announcement: &ShardAnnouncement,
) -> Result<Vec<u8>, RecordError> {
    let peer = keypair.public().to_peer_id();
    announcement.check().map_err(|source| RecordError::Announcement { peer, source })?;
    let payload = serde_json::to_string(announcement)?;
    let signature = keypair.sign(&SignedRecord::signed_bytes(sequence, &payload))?;
    let record = SignedRecord {
        payload,
        sequence,
        public_key: hex::encode(&keypair.public().encode_protobuf()),
        signature: hex::encode(&signature),
        mac: None,
    };
    let bytes = serde_json::to_vec(&record)?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Checks a record found under `key` in the DHT of `cluster`.
///
/// # Errors
/// [`RecordError`] says what is wrong with it, and whose it claims to be.
pub fn open(cluster: &str, key: &ShardKey, bytes: &[u8]) -> Result<Announced, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge { bytes: bytes.len() });
    }
    let record: SignedRecord = serde_json::from_slice(bytes)?;
    let public_key = hex::decode(&record.public_key)
        .and_then(|bytes| PublicKey::try_decode_protobuf(&bytes).ok())
        .ok_or(RecordError::PublicKey)?;
    let peer = public_key.to_peer_id();
    let signature = hex::decode(&record.signature).unwrap_or_default();
    if !public_key.verify(&SignedRecord::signed_bytes(record.sequence, &record.payload), &signature) {
        return Err(RecordError::Signature { peer });
    }
    let announcement: ShardAnnouncement = serde_json::from_str(&record.payload)?;
    announcement.check().map_err(|source| RecordError::Announcement { peer, source })?;
    let theirs = announcement.cluster == cluster
        && announcement.peer_id == peer.to_string()
        && match key {
            ShardKey::Shard(id) => *id == announcement.shard.shard_id,
            ShardKey::Replica(id, name) => {
                *id == announcement.shard.shard_id && *name == announcement.peer_id
            }
        };
    if !theirs {
        let ShardAnnouncement { cluster: named, peer_id, shard, .. } = announcement;
        let what = format!("shard {} of {named:?} for {peer_id} under {}", shard.shard_id, key.text(cluster));
        return Err(RecordError::NotTheirs { peer, what });
    }
    Ok(Announced { peer, sequence: record.sequence, announcement })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
    use shard_wire::layers::LayerRange;

    use super::*;

    pub(in crate::net) fn announcement(cluster: &str, peer_id: &str, shard_id: u32) -> ShardAnnouncement {
        ShardAnnouncement {
            cluster: cluster.into(),
            peer_id: peer_id.into(),
            incarnation: 1,
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            external_addresses: vec![],
            shard: ShardInfo {
                state: ReplicaState::Ready,
                shard_id,
                total_shards: 4,
                total_layers: 4,
                layers: LayerRange { start: shard_id, end: shard_id + 1 },
                plan: "p".into(),
                model_name: "m".into(),
                model_sha256: "s".into(),
                download: None,
                capabilities: Capabilities { shard_loaded: true, ..Capabilities::default() },
            },
        }
    }

    proptest! {
        /// Whatever is changed in a record, it is refused or says the same.
        #[test]
        fn a_changed_record_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
            let peer = keypair.public().to_peer_id().to_string();
            let mut bytes = seal(&keypair, 5, &announcement("c", &peer, 1)).unwrap();
            let before = open("c", &ShardKey::Shard(1), &bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(after) = open("c", &ShardKey::Shard(1), &bytes) {
                prop_assert_eq!(after, before);
            }
        }

        #[test]
        fn strangers_bytes_are_no_record(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(open("c", &ShardKey::Shard(1), &bytes).is_err());
        }
    }
}
