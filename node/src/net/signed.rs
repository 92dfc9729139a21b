//! Announcements as signed records: sealed by the node, opened by whoever stores or reads them.

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, SigningError};
use shard_wire::announce::{
    AnnouncementError, FileAnnouncement, MAX_RECORD_BYTES, MemberAnnouncement, Payload, ShardAnnouncement,
    SignedRecord,
};
use shard_wire::keys::DhtKey;
use thiserror::Error;

use super::hex;
use super::secret::Secrets;

/// An announcement and the proof that its peer made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced<P = ShardAnnouncement> {
    /// Who.
    pub peer: PeerId,
    /// The highest of a peer counts.
    pub sequence: u64,
    /// What.
    pub announcement: P,
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
    /// No member has made it.
    #[error("the record of {peer} is not made with this cluster's secret")]
    Mac {
        /// Whose key it names.
        peer: PeerId,
    },
    /// Nothing is stored under such a key.
    #[error("{key} has providers and no record")]
    NoRecord {
        /// The key.
        key: String,
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

/// Signs an announcement, and proves where there are `secrets` that a member did.
///
/// # Errors
/// When it breaks a bound or the key cannot sign.
pub fn seal<P: Payload>(
    keypair: &Keypair,
    secrets: Option<&Secrets>,
    sequence: u64,
    announcement: &P,
) -> Result<Vec<u8>, RecordError> {
    let peer = keypair.public().to_peer_id();
    announcement.check().map_err(|source| RecordError::Announcement { peer, source })?;
    let payload = serde_json::to_string(announcement)?;
    let signature = keypair.sign(&SignedRecord::signed_bytes(sequence, &payload))?;
    let mut record = SignedRecord {
        payload,
        sequence,
        public_key: hex::encode(&keypair.public().encode_protobuf()),
        signature: hex::encode(&signature),
        mac: None,
    };
    let maced = record.maced_bytes();
    record.mac = secrets.and_then(|secrets| secrets.prove(&maced).next()).map(|proof| hex::encode(&proof));
    let bytes = serde_json::to_vec(&record)?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Checks a record found under `key` in the DHT of `cluster`. With `secrets` only a member's counts.
///
/// # Errors
/// [`RecordError`] says what is wrong with it, and whose it claims to be.
pub fn open<P: Payload>(
    cluster: &str,
    secrets: Option<&Secrets>,
    key: &DhtKey,
    bytes: &[u8],
) -> Result<Announced<P>, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge { bytes: bytes.len() });
    }
    let record: SignedRecord = serde_json::from_slice(bytes)?;
    let public_key = hex::decode(&record.public_key)
        .and_then(|bytes| PublicKey::try_decode_protobuf(&bytes).ok())
        .ok_or(RecordError::PublicKey)?;
    let peer = public_key.to_peer_id();
    if let Some(secrets) = secrets {
        let mac = record.mac.as_deref().and_then(hex::decode).unwrap_or_default();
        if !secrets.accept(&record.maced_bytes(), &mac) {
            return Err(RecordError::Mac { peer });
        }
    }
    let signature = hex::decode(&record.signature).unwrap_or_default();
    if !public_key.verify(&SignedRecord::signed_bytes(record.sequence, &record.payload), &signature) {
        return Err(RecordError::Signature { peer });
    }
    let announcement: P = serde_json::from_str(&record.payload)?;
    announcement.check().map_err(|source| RecordError::Announcement { peer, source })?;
    let theirs = announcement.cluster() == cluster && announcement.peer_id() == peer.to_string();
    if !theirs || !announcement.belongs(key) {
        let what = format!(
            "what {} of {:?} says under {}",
            announcement.peer_id(),
            announcement.cluster(),
            key.text(cluster)
        );
        return Err(RecordError::NotTheirs { peer, what });
    }
    Ok(Announced { peer, sequence: record.sequence, announcement })
}

/// Checks a record of any kind: who made it, and its sequence.
///
/// # Errors
/// As [`open`].
pub(super) fn check(
    cluster: &str,
    secrets: Option<&Secrets>,
    key: &DhtKey,
    bytes: &[u8],
) -> Result<(PeerId, u64), RecordError> {
    fn claim<P>(Announced { peer, sequence, .. }: Announced<P>) -> (PeerId, u64) {
        (peer, sequence)
    }
    match key {
        DhtKey::Shard(_) | DhtKey::Replica(..) => {
            open::<ShardAnnouncement>(cluster, secrets, key, bytes).map(claim)
        }
        DhtKey::Member(..) => open::<MemberAnnouncement>(cluster, secrets, key, bytes).map(claim),
        DhtKey::File(_) => open::<FileAnnouncement>(cluster, secrets, key, bytes).map(claim),
        DhtKey::Members(_) => Err(RecordError::NoRecord { key: key.text(cluster) }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
    use shard_wire::keys::Role;
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

    fn secrets(lines: &str) -> Option<Secrets> {
        Some(Secrets::parse(lines.as_bytes(), "test").unwrap())
    }

    const OLD: &str = "the old secret of thirty-two bytes";
    const NEW: &str = "the new secret of thirty-two bytes";

    #[test]
    fn a_record_counts_when_a_member_made_it() {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id().to_string();
        let (open_cluster, old, new) = (None, secrets(OLD), secrets(NEW));
        let (both, next) = (secrets(&format!("{NEW}\n{OLD}")), secrets(&format!("{OLD}\n{NEW}")));
        // Who made it, who reads it, whether it counts.
        let table = [
            (&open_cluster, &open_cluster, true),
            (&old, &old, true),
            (&old, &new, false),
            (&open_cluster, &old, false),
            // An open reader believes the signature alone.
            (&old, &open_cluster, true),
            // Rotation: the first secret makes the MAC, both count.
            (&old, &next, true),
            (&next, &old, true),
            (&next, &both, true),
            (&both, &next, true),
            (&both, &new, true),
            (&new, &both, true),
            (&both, &old, false),
        ];
        for (row, (maker, reader, counts)) in table.into_iter().enumerate() {
            let bytes = seal(&keypair, maker.as_ref(), 5, &announcement("c", &peer, 1)).unwrap();
            let read = open::<ShardAnnouncement>("c", reader.as_ref(), &DhtKey::Shard(1), &bytes);
            assert_eq!(read.is_ok(), counts, "row {row}: {read:?}");
            assert!(counts || matches!(read, Err(RecordError::Mac { .. })), "row {row}: {read:?}");
        }
        // Another member's MAC and signature do not fit each other.
        let other = Keypair::generate_ed25519();
        let mine = seal(&keypair, old.as_ref(), 5, &announcement("c", &peer, 1)).unwrap();
        let theirs = seal(&other, old.as_ref(), 5, &announcement("c", &peer, 1)).unwrap();
        let [mine, mut theirs]: [SignedRecord; 2] =
            [mine, theirs].map(|bytes| serde_json::from_slice(&bytes).unwrap());
        theirs.mac = mine.mac;
        let read = open::<ShardAnnouncement>(
            "c",
            old.as_ref(),
            &DhtKey::Shard(1),
            &serde_json::to_vec(&theirs).unwrap(),
        );
        assert!(matches!(read, Err(RecordError::Mac { .. })), "{read:?}");
    }

    proptest! {
        /// Whatever is changed in a record, it is refused or says the same.
        #[test]
        fn a_changed_record_is_refused(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), closed in any::<bool>()
        ) {
            let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
            let peer = keypair.public().to_peer_id().to_string();
            let secrets = secrets(OLD).filter(|_| closed);
            let mut bytes = seal(&keypair, secrets.as_ref(), 5, &announcement("c", &peer, 1)).unwrap();
            let open = |bytes: &[u8]| open::<ShardAnnouncement>("c", secrets.as_ref(), &DhtKey::Shard(1), bytes);
            let before = open(&bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(after) = open(&bytes) {
                prop_assert_eq!(after, before);
            }
        }

        #[test]
        fn strangers_bytes_are_no_record(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            for key in [
                DhtKey::Shard(1),
                DhtKey::Replica(1, "p".into()),
                DhtKey::Member(Role::Spare, "p".into()),
                DhtKey::Members(Role::Gateway),
                DhtKey::File("00".repeat(32)),
            ] {
                prop_assert!(check("c", None, &key, &bytes).is_err());
            }
        }
    }
}
