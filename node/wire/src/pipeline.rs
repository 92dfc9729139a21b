//! The object of `GET /api/v1/pipeline`: what the operator, the console and `shardctl status` read.

use serde::{Deserialize, Serialize};

use crate::layers::LayerRange;

/// Where a gateway answers with it.
pub const PATH: &str = "/api/v1/pipeline";

/// How long a question of [`changed_since`] may wait, in seconds.
pub const WAIT_SECONDS: u64 = 25;

/// Path and query of a question that is answered when the object has another revision, or after [`WAIT_SECONDS`].
#[must_use]
pub fn changed_since(revision: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let escaped: String = revision.bytes().map(escape).collect();
    format!("{PATH}?since={escaped}&wait={WAIT_SECONDS}")
}

/// One revision of what a gateway knows about its pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Opaque, unique per gateway process; changes with every change of the rest.
    pub revision: String,
    /// The cluster name.
    pub cluster: String,
    /// The model's name, empty until an announcement or the manifest tells.
    pub model: String,
    /// Hex SHA-256 of the whole model file.
    pub model_sha256: String,
    /// Size of the whole model file.
    pub model_bytes: u64,
    /// Short name of the plan that is served, empty until one is known.
    pub plan: String,
    /// Layers of the model.
    pub total_layers: u32,
    /// Shards of the plan.
    pub expected_shards: u32,
    /// Shards with at least one online replica.
    pub discovered_shards: u32,
    /// One plan is fully covered and a token went through since the last change.
    pub pipeline_complete: bool,
    /// Layers that no loaded, online replica serves.
    pub missing_layers: Vec<LayerRange>,
    /// Every file of the manifest has a complete seeder and the pipeline is complete.
    pub swarm_ready: bool,
    /// Why the pipeline is not complete, in words; when it is, replicas that a probe did not come back from.
    pub reason: String,
    /// How much of the model the origin has fetched.
    pub origin: Origin,
    /// The last probe token.
    pub probe: Probe,
    /// What the manifest says; `None` until it is known.
    pub manifest: Option<ManifestSummary>,
    /// One entry per shard, in order.
    pub shards: Vec<ShardStatus>,
    /// The plan that is to take the place of `plan`: the origin's, where that is another one; `None` where there is none.
    #[serde(default)]
    pub next_plan: Option<NextPlan>,
    /// [`crate::frame::VERSION`] of the gateway: it serves no plan of another one; 0 where it does not say.
    #[serde(default)]
    pub wire_version: u8,
}

/// A plan that is not served yet, while another one is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NextPlan {
    /// Its short name.
    pub plan: String,
    /// Hex SHA-256 of its whole model file; this and what follows is empty until its manifest is known.
    pub model_sha256: String,
    /// Size of the whole model file.
    pub model_bytes: u64,
    /// Layers of the model.
    pub total_layers: u32,
    /// Layers that no loaded, online replica of this plan serves.
    pub missing_layers: Vec<LayerRange>,
    /// Why it is not served yet, in words.
    pub reason: String,
    /// What its manifest says; `None` until it is known.
    pub manifest: Option<ManifestSummary>,
    /// One entry per shard, in order, with the replicas of this plan only.
    pub shards: Vec<ShardStatus>,
}

/// How much of the model the origin has fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// 0 to 100.
    #[serde(deserialize_with = "crate::json::finite")]
    pub percent: f32,
    /// Bytes on the origin's disk.
    pub bytes: u64,
    /// Short name of the plan that it has made; empty while it has made none.
    #[serde(default)]
    pub plan: String,
    /// Why its last attempt to get the model failed, in words; empty while it gets on.
    #[serde(default)]
    pub error: String,
    /// The wire version that its plan is of; 0 while none is connected, or where it does not say.
    #[serde(default)]
    pub wire_version: u8,
    /// What its `--incarnation` says; empty while none is connected, or where it has none.
    #[serde(default)]
    pub incarnation: String,
}

/// The last probe token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// It came back, and so did the last one through every other replica.
    pub ok: bool,
    /// From OPEN to the token.
    #[serde(deserialize_with = "crate::json::finite")]
    pub latency_ms: f32,
    /// Seconds since the Unix epoch; 0 when there was none.
    pub at: u64,
}

/// What the operator needs of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestSummary {
    /// Hex SHA-256 of the manifest's bytes.
    pub manifest_sha256: String,
    /// First layer of every shard.
    pub layer_starts: Vec<u32>,
    /// One entry per shard, in order.
    pub shards: Vec<ManifestShard>,
}

/// One shard of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestShard {
    /// Index of the shard.
    pub shard_id: u32,
    /// First layer.
    pub start: u32,
    /// One past the last layer.
    pub end: u32,
    /// Bytes of its tensors.
    pub weight_bytes: u64,
    /// Bytes of key and value cache for one position.
    pub kv_bytes_per_token: u64,
}

/// One shard as the gateway sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Index of the shard.
    pub shard_id: u32,
    /// Layers it serves.
    pub layers: LayerRange,
    /// At least one loaded replica is connected.
    pub online: bool,
    /// Every replica that announced itself and has not left.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its peer id.
    pub peer_id: String,
    /// Start of its process, milliseconds since the Unix epoch: a newer one replaces an older.
    pub incarnation: u64,
    /// The plan it serves.
    pub plan: String,
    /// Its dialable addresses.
    pub addresses: Vec<String>,
    /// It is connected to the gateway.
    #[serde(default)]
    pub online: bool,
    /// Its weights are loaded.
    pub loaded: bool,
    /// How far its download is.
    pub download: Download,
    /// Sessions that hold a slot there, of this gateway's.
    pub active_requests: u32,
    /// Last round trip.
    #[serde(deserialize_with = "crate::json::finite")]
    pub latency_ms: f32,
}

/// How far a replica's download is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Download {
    /// 0 to 100.
    #[serde(deserialize_with = "crate::json::finite")]
    pub percent: f32,
    /// Bytes a second.
    pub bytes_per_s: u64,
    /// Peers it downloads from.
    pub peers: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_escaped() {
        assert_eq!(changed_since("a-1 &ü"), "/api/v1/pipeline?since=a-1%20%26%C3%BC&wait=25");
    }
}
