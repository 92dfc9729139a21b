//! What nodes tell one another of files and plans: `SYNC_TORRENTS`, and the entries of a list of files.

use serde::{Deserialize, Serialize};

use crate::message::RequestError;

/// Files that one message lists at most: 256 shards of four plans.
pub const MAX_FILES: usize = 1024;
/// Plans that one message lists at most.
pub const MAX_PLANS: usize = 16;
/// Seeders that one message names for a file or plan at most; with all bounds reached it stays below the limit of a request.
pub const MAX_SEEDERS: usize = 12;
/// Bytes of an error's words at most.
pub const MAX_ERROR: usize = 512;
/// Bytes of a file's name at most.
pub const MAX_NAME: usize = 255;
/// Bytes of what marks a start of an origin at most.
pub const MAX_INCARNATION: usize = 64;

/// A file that a node seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorrentFile {
    /// Its name: never a path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256 of the file.
    pub info_hash: String,
    /// Peers that have it whole; in a `LIST_FILES` answer none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeders: Vec<String>,
}

/// Parameters and answer of `SYNC_TORRENTS`: what the sender knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Torrents {
    /// Files and who has them, the sender included.
    pub files: Vec<TorrentFile>,
    /// Plans and who has their manifest.
    pub plans: Vec<TorrentPlan>,
    /// How much of the model the origin has fetched, where the sender is one or knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginProgress>,
}

/// How much of the model an origin has fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginProgress {
    /// 0 to 100, in steps of 5.
    pub percent: u8,
    /// Bytes on its disk.
    pub bytes: u64,
    /// Why its last attempt failed, in words; empty while it gets on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// [`crate::frame::VERSION`] of the origin, which its plan's name contains; 0 where it does not say.
    pub wire_version: u8,
    /// What whoever started it called this start of it, at most [`MAX_INCARNATION`] bytes; empty where nobody did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub incarnation: String,
}

/// A plan and who has its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TorrentPlan {
    /// Its short name.
    pub plan: String,
    /// The sender made it of the model itself: it is what the cluster is to serve.
    pub origin: bool,
    /// Peers that have the manifest.
    pub seeders: Vec<String>,
}

impl Torrents {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`RequestError::BadParams`] with the first that does not hold.
    pub fn check(&self) -> Result<(), RequestError> {
        let wrong = |reason: String| Err(RequestError::BadParams { command: "SYNC_TORRENTS", reason });
        if self.files.len() > MAX_FILES || self.plans.len() > MAX_PLANS {
            return wrong(format!(
                "{} files and {} plans, at most {MAX_FILES} and {MAX_PLANS}",
                self.files.len(),
                self.plans.len()
            ));
        }
        if let Some(OriginProgress { percent, error, incarnation, .. }) = &self.origin
            && (*percent > 100 || error.len() > MAX_ERROR || incarnation.len() > MAX_INCARNATION)
        {
            let (error, incarnation) = (error.len(), incarnation.len());
            return wrong(format!(
                "an origin that has fetched {percent} %, an error of {error} bytes, an incarnation of {incarnation}: at most 100, {MAX_ERROR} and {MAX_INCARNATION}"
            ));
        }
        for file in &self.files {
            let TorrentFile { name, info_hash, seeders, .. } = file;
            let hash = info_hash.len() == 64 && info_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\\', '\0']) || !hash {
                let name: String = name.chars().take(64).collect();
                return wrong(format!("{name:?} is no file name, or its info_hash is not 64 hex digits"));
            }
            if seeders.len() > MAX_SEEDERS {
                return wrong(format!("{name} has {} seeders, at most {MAX_SEEDERS}", seeders.len()));
            }
        }
        for TorrentPlan { plan, seeders, .. } in &self.plans {
            if plan.is_empty() || plan.len() > 32 || seeders.len() > MAX_SEEDERS {
                let plan: String = plan.chars().take(64).collect();
                return wrong(format!("plan {plan:?}: 1 to 32 bytes, at most {MAX_SEEDERS} seeders"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::{MAX_REQUEST_BYTES, Request};

    #[test]
    fn the_largest_list_fits_a_request() {
        let peer = "12D3KooWKk3zSVNqbNdPFsNXQkWVSAKrhJFXwGubV7WZ13fh6wBt".to_owned();
        let file = TorrentFile {
            name: "shard-255.gguf".into(),
            size: u64::MAX,
            info_hash: "f".repeat(64),
            seeders: vec![peer.clone(); MAX_SEEDERS],
        };
        let plan =
            TorrentPlan { plan: "f".repeat(16), origin: true, seeders: vec![peer.clone(); MAX_SEEDERS] };
        let all = Torrents { files: vec![file; MAX_FILES], plans: vec![plan; MAX_PLANS], origin: None };
        all.check().unwrap();
        let request = Request { command: "SYNC_TORRENTS".into(), request_id: "r".into(), params: json!(all) };
        assert!(serde_json::to_vec(&request).unwrap().len() < MAX_REQUEST_BYTES);
    }
}
