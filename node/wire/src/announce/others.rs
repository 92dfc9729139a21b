//! Members without a shard, and files.

use serde::{Deserialize, Serialize};

use super::{AnnouncementError, Capabilities, MAX_TEXT_BYTES, Payload, check_addresses, check_texts};
use crate::keys::{DhtKey, Role, is_info_hash};

/// A spare node or a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberAnnouncement {
    /// The cluster.
    pub cluster: String,
    /// The peer.
    pub peer_id: String,
    /// Start of its process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// Multiaddresses that it listens on.
    pub listen_addresses: Vec<String>,
    /// Multiaddresses that it was told it is reached at.
    #[serde(default)]
    pub external_addresses: Vec<String>,
    /// It is one no longer.
    #[serde(default)]
    pub left: bool,
    /// What it is.
    #[serde(flatten)]
    pub member: MemberInfo,
}

/// What a member is, and what it could do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its role.
    pub role: Role,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
}

impl Payload for MemberAnnouncement {
    fn check(&self) -> Result<(), AnnouncementError> {
        check_addresses(&[&self.listen_addresses, &self.external_addresses])?;
        check_texts(&[("cluster", &self.cluster), ("peer_id", &self.peer_id)])
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn peer_id(&self) -> &str {
        &self.peer_id
    }

    fn belongs(&self, key: &DhtKey) -> bool {
        matches!(key, DhtKey::Member(role, peer) if *role == self.member.role && *peer == self.peer_id)
    }
}

/// A file that a peer has, whole and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAnnouncement {
    /// The cluster.
    pub cluster: String,
    /// The peer.
    pub peer_id: String,
    /// The file.
    #[serde(flatten)]
    pub file: FileInfo,
}

/// What a file is. Its content is its hash; the name is only what its seeder calls it, and never a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Hex SHA-256 of the content: its key in the DHT.
    pub info_hash: String,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The plan that it belongs to, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// Whether peers take it as the name of a file: it is short, and leads nowhere.
pub fn is_file_name(name: &str) -> bool {
    let wrong = |c: char| c.is_control() || matches!(c, '/' | '\\');
    name.len() <= MAX_TEXT_BYTES && !name.chars().all(|c| c == '.') && !name.contains(wrong)
}

impl Payload for FileAnnouncement {
    fn check(&self) -> Result<(), AnnouncementError> {
        let FileInfo { info_hash, name, plan, .. } = &self.file;
        if !is_info_hash(info_hash) {
            return Err(AnnouncementError::Hash(info_hash.chars().take(MAX_TEXT_BYTES).collect()));
        }
        if !is_file_name(name) {
            return Err(AnnouncementError::FileName(name.chars().take(MAX_TEXT_BYTES).collect()));
        }
        let plan = plan.as_deref().unwrap_or_default();
        check_texts(&[("cluster", &self.cluster), ("peer_id", &self.peer_id), ("plan", plan)])
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn peer_id(&self) -> &str {
        &self.peer_id
    }

    fn belongs(&self, key: &DhtKey) -> bool {
        matches!(key, DhtKey::File(hash) if *hash == self.file.info_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, info_hash: &str) -> FileAnnouncement {
        FileAnnouncement {
            cluster: "c".into(),
            peer_id: "p".into(),
            file: FileInfo { info_hash: info_hash.into(), name: name.into(), size: 7, plan: None },
        }
    }

    #[test]
    fn a_file_has_a_name_and_a_hash_and_no_path() {
        let hash = "0f".repeat(32);
        assert_eq!(file("shard-0.gguf", &hash).check(), Ok(()));
        let long = "x".repeat(257);
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\nb", "\0", &long] {
            assert!(matches!(file(name, &hash).check(), Err(AnnouncementError::FileName(_))), "{name:?}");
        }
        for hash in ["", "0f", &"0F".repeat(32), &"0g".repeat(32), &"0f".repeat(33)] {
            assert!(matches!(file("a", hash).check(), Err(AnnouncementError::Hash(_))), "{hash}");
        }
        let mut of_a_plan = file("a", &hash);
        of_a_plan.file.plan = Some(long);
        assert!(of_a_plan.check().is_err());
    }

    #[test]
    fn each_payload_has_its_key() {
        let hash = "0f".repeat(32);
        let file = file("a", &hash);
        assert!(file.belongs(&DhtKey::File(hash.clone())));
        assert!(!file.belongs(&DhtKey::File("00".repeat(32))) && !file.belongs(&DhtKey::Shard(0)));
        let spare = MemberAnnouncement {
            cluster: "c".into(),
            peer_id: "p".into(),
            incarnation: 1,
            listen_addresses: vec![],
            external_addresses: vec![],
            left: false,
            member: MemberInfo { role: Role::Spare, capabilities: Capabilities::default() },
        };
        assert!(spare.belongs(&DhtKey::Member(Role::Spare, "p".into())));
        for key in [
            DhtKey::Member(Role::Gateway, "p".into()),
            DhtKey::Member(Role::Spare, "q".into()),
            DhtKey::Members(Role::Spare),
            DhtKey::File(hash),
        ] {
            assert!(!spare.belongs(&key), "{key:?}");
        }
    }

    #[test]
    fn both_are_flat_objects() {
        let hash = "0f".repeat(32);
        let value = serde_json::to_value(file("a", &hash)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"cluster": "c", "peer_id": "p", "info_hash": hash, "name": "a", "size": 7})
        );
        let text = r#"{"cluster": "c", "peer_id": "p", "incarnation": 1, "listen_addresses": [], "role": "gateway"}"#;
        let member: MemberAnnouncement = serde_json::from_str(text).unwrap();
        assert_eq!((member.member.role, member.left), (Role::Gateway, false));
    }
}
