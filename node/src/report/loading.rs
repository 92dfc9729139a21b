//! Files become shards that are served.

use std::path::Path;

use libp2p::PeerId;

use super::bar::blocks;
use super::{Notice, foreign, size};

/// A bar as long as the documents'.
const WIDTH: u64 = 20;

/// A shard file is opened.
pub fn tensor_load_begun(shard: u32, bytes: u64) -> Notice {
    let text = format!(
        "[TENSOR_LOAD] 📦 Loading tensor file for shard {shard}\n\
         [TENSOR_LOAD]   File size: {}\n\
         [TENSOR_LOAD]   Status: Reading tensor file metadata...",
        size(bytes)
    );
    Notice::info("tensor_load_begun", text).with("shard", shard).with("bytes", bytes)
}

/// So much of it is verified and loaded: [`super::Bar::load`] says it.
pub(super) fn tensor_load_progress(shard: u32, percent: u64) -> Notice {
    let text = format!("[TENSOR_LOAD]   Progress: [{}] {percent}%", blocks(percent, WIDTH));
    Notice::info("tensor_load_progress", text).with("shard", shard).with("percent", percent)
}

/// It is in memory.
pub fn tensor_load_done(shard: u32) -> Notice {
    let text = format!("[TENSOR_LOAD]   ✓ Tensor file loaded successfully for shard {shard}");
    Notice::info("tensor_load_done", text).with("shard", shard)
}

/// The node has its shard before anybody knows of it.
pub fn shard_loaded(shard: u32, path: &Path, bytes: u64) -> Notice {
    loaded(shard, " BEFORE JOINING NETWORK", None, path, bytes).with("joined", false)
}

/// How a shard came to a node that had joined already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was fetched from peers.
    Download,
    /// LOAD_SHARD asked for it, and its file was there.
    Command,
}

/// The node has one more shard, and announces it.
pub fn shard_loaded_later(shard: u32, path: &Path, bytes: u64, source: Source) -> Notice {
    let (word, line) = match source {
        Source::Download => ("download", "downloaded from peers"),
        Source::Command => ("command", "loaded on command"),
    };
    loaded(shard, "", Some(line), path, bytes).with("joined", true).with("source", word)
}

fn loaded(shard: u32, when: &str, source: Option<&str>, path: &Path, bytes: u64) -> Notice {
    let source = source.map_or_else(String::new, |source| format!("[SHARD]   Source: {source}\n"));
    let path = path.display().to_string();
    let text = format!(
        "[SHARD] ✓✓✓ SHARD {shard} LOADED{when} ✓✓✓\n\
         [SHARD]   Path: {}\n\
         [SHARD]   Size: {}\n\
         {source}\
         [SHARD]   Status: Ready for inference",
        foreign(&path),
        size(bytes)
    );
    Notice::info("shard_loaded", text).with("shard", shard).with("path", path).with("bytes", bytes)
}

/// The node joins without its shard.
pub fn shard_missing(shard: u32, path: &Path) -> Notice {
    let path = path.display().to_string();
    let text = format!(
        "[SHARD] ⚠  ASSIGNED SHARD {shard} NOT FOUND LOCALLY ⚠\n\
         [SHARD]   Path: {}\n\
         [SHARD]   Status: Joining the network without it; it is downloaded from peers that seed it",
        foreign(&path)
    );
    Notice::warn("shard_missing", text).with("shard", shard).with("path", path)
}

/// A shard file is there and cannot be used.
pub fn shard_not_loaded(shard: u32, reason: &str) -> Notice {
    let text = format!("[SHARD] ✗ Shard {shard} could not be loaded: {}", foreign(reason));
    Notice::error("shard_not_loaded", text).with("shard", shard).with("reason", reason)
}

/// The node serves a shard no more: another took its place, or it was told to.
pub fn shard_given_up(shard: u32, reason: &str) -> Notice {
    let text = format!(
        "[SHARD] Shard {shard} given up ({}): its sessions end, its announcement is withdrawn",
        foreign(reason)
    );
    Notice::info("shard_given_up", text).with("shard", shard).with("reason", reason)
}

/// The node has no shard and says so to the network.
pub fn spare_waiting() -> Notice {
    Notice::info(
        "spare_waiting",
        "[SHARD] No shard assigned: this node is a spare and waits for an assignment",
    )
}

/// Somebody gives the node a shard.
pub fn shard_assigned(shard: u32, by: &PeerId) -> Notice {
    Notice::info("shard_assigned", format!("[SHARD] Shard {shard} assigned by {by}"))
        .with("shard", shard)
        .shown("peer", by)
}
