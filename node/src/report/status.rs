//! `[STATUS]`: what a node knows, for the console and for `/status`.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::start::ids_of;
use super::{Download, Notice, download, foreign, mega};

/// The status report of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The node itself.
    pub local: Local,
    /// What it sees of its cluster.
    pub cluster: Cluster,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Local {
    /// Its peer id.
    pub peer_id: String,
    /// Its shards.
    pub shards: Vec<LocalShard>,
    /// Sessions that hold a slot.
    pub active_requests: u64,
    /// Slots.
    pub max_requests: u64,
    /// Sessions since the start.
    pub total_requests: u64,
    /// Those that ended as they should.
    pub successful_requests: u64,
    /// Files that it fetches.
    pub downloads: Vec<Download>,
}

/// A shard that the node serves, or is to serve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LocalShard {
    /// Its index.
    pub shard_id: u32,
    /// It is in memory.
    pub loaded: bool,
    /// Its file.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// The file's size.
    pub bytes: u64,
}

/// What a node sees of its cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Shards of the plan.
    pub expected_shards: u32,
    /// One entry for each shard of the plan.
    pub online: Vec<Presence>,
    /// Every shard is online and every file of the plan is seeded: nodes can come and go.
    pub swarm_ready: bool,
}

/// Where a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Here.
    Local,
    /// On another node that has announced it, loaded.
    Online,
    /// Nowhere, but a node fetches it: so many percent of it.
    Downloading(u8),
    /// Nowhere.
    Offline,
}

impl Cluster {
    /// Shards that other nodes have announced.
    pub fn discovered(&self) -> usize {
        self.online.iter().filter(|presence| **presence == Presence::Online).count()
    }

    /// Every shard is somewhere; of a plan that is not known yet none is.
    pub fn complete(&self) -> bool {
        !self.online.is_empty()
            && self.online.iter().all(|presence| matches!(presence, Presence::Local | Presence::Online))
    }
}

/// The block that a node prints at join, on change and every minute.
pub fn status(status: &Status) -> Notice {
    let Status { local, cluster } = status;
    let mut lines = self::local(local, cluster.expected_shards);
    lines.extend(self::cluster(cluster));
    let text = lines.iter().map(|line| format!("[STATUS] {line}")).collect::<Vec<_>>().join("\n");
    let mut notice = Notice::info("status", text);
    // Plain data of ours: serde_json cannot fail on it.
    if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
        notice.fields = fields;
    }
    notice
}

fn local(local: &Local, expected_shards: u32) -> Vec<String> {
    let mut lines = vec!["Local Node:".to_owned()];
    let ids: Vec<u32> = local.shards.iter().map(|shard| shard.shard_id).collect();
    lines.push(match ids.as_slice() {
        [] => "  Shard ID: none (a spare)".to_owned(),
        ids => format!("  {} / {}", ids_of(ids), expected_shards.saturating_sub(1)),
    });
    lines.push(format!("  Peer ID: {}", local.peer_id));
    for shard in &local.shards {
        let name = if ids.len() == 1 { "Shard".to_owned() } else { format!("Shard {}", shard.shard_id) };
        let file = foreign(&shard.file.display().to_string());
        lines.push(format!("  {name} Loaded: {}", yes(shard.loaded)));
        lines.push(format!("  {name} File: {file} ({:.2} MB)", mega(shard.bytes)));
    }
    lines.push(format!("  Active Requests: {}/{}", local.active_requests, local.max_requests));
    let (total, successful) = (local.total_requests, local.successful_requests);
    lines.push(format!("  Total Requests: {total} ({successful} successful)"));
    lines.extend(local.downloads.iter().map(|one| format!("  Download: {}", download::progress(one))));
    lines
}

fn cluster(cluster: &Cluster) -> Vec<String> {
    let mut lines = vec![
        "Cluster Discovery:".to_owned(),
        format!("  Cluster: {}", cluster.name),
        format!("  Expected Shards: {}", cluster.expected_shards),
        format!("  Discovered Shards: {}", cluster.discovered()),
        format!("  Pipeline Complete: {}", yes(cluster.complete())),
        format!("  Swarm Ready: {}", yes(cluster.swarm_ready)),
        "Shard Online Status:".to_owned(),
    ];
    for (shard, presence) in cluster.online.iter().enumerate() {
        let presence = match presence {
            Presence::Local => "★ LOCAL".to_owned(),
            Presence::Online => "✓ ONLINE".to_owned(),
            Presence::Downloading(percent) => format!("✗ OFFLINE (downloading: {percent} %)"),
            Presence::Offline => "✗ OFFLINE".to_owned(),
        };
        lines.push(format!("  Shard {shard}: {presence}"));
    }
    lines
}

fn yes(yes: bool) -> &'static str {
    if yes { "✓ YES" } else { "✗ NO" }
}

/// A path that is no text would have no JSON form.
fn lossy<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
