//! `[STATUS]`: what a node knows, for the console and for `/status`.

use std::path::PathBuf;

use serde::Serialize;

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
}

/// A shard that the node serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LocalShard {
    /// Its index.
    pub shard_id: u32,
    /// It is in memory.
    pub loaded: bool,
    /// Its file.
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
}

/// Where a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Here.
    Local,
    /// On another node that has announced it, loaded.
    Online,
    /// Nowhere.
    Offline,
}

impl Cluster {
    /// Shards that other nodes have announced.
    pub fn discovered(&self) -> usize {
        self.online.iter().filter(|presence| **presence == Presence::Online).count()
    }

    /// Every shard is somewhere.
    pub fn complete(&self) -> bool {
        !self.online.contains(&Presence::Offline)
    }
}

/// The block that a node prints at join, on change and every minute.
pub fn status(status: &Status) -> String {
    let Status { local, cluster } = status;
    let mut lines = vec!["Local Node:".to_owned()];
    for shard in &local.shards {
        let last = cluster.expected_shards.saturating_sub(1);
        lines.push(format!("  Shard ID: {} / {last}", shard.shard_id));
    }
    lines.push(format!("  Peer ID: {}", local.peer_id));
    for shard in &local.shards {
        let megabytes = shard.bytes as f64 / f64::from(1 << 20);
        lines.push(format!("  Shard Loaded: {}", yes(shard.loaded)));
        lines.push(format!("  Shard File: {} ({megabytes:.2} MB)", shard.file.display()));
    }
    lines.push(format!("  Active Requests: {}/{}", local.active_requests, local.max_requests));
    lines.push(format!("  Total Requests: {}", local.total_requests));
    lines.push("Cluster Discovery:".into());
    lines.push(format!("  Cluster: {}", cluster.name));
    lines.push(format!("  Expected Shards: {}", cluster.expected_shards));
    lines.push(format!("  Discovered Shards: {}", cluster.discovered()));
    lines.push(format!("  Pipeline Complete: {}", yes(cluster.complete())));
    lines.push("Shard Online Status:".into());
    for (shard, presence) in cluster.online.iter().enumerate() {
        let presence = match presence {
            Presence::Local => "★ LOCAL",
            Presence::Online => "✓ ONLINE",
            Presence::Offline => "✗ OFFLINE",
        };
        lines.push(format!("  Shard {shard}: {presence}"));
    }
    lines.iter().map(|line| format!("[STATUS] {line}")).collect::<Vec<_>>().join("\n")
}

fn yes(yes: bool) -> &'static str {
    if yes { "✓ YES" } else { "✗ NO" }
}
