//! Start-up: who the node is, and its shards.

use std::path::Path;

use libp2p::PeerId;

use super::size;
use crate::config::{Bootstrap, ListenerConfig, ServerConfig, word};
use crate::library::Library;

/// What a node was told, and what the manifest says of its shards, where there is one.
pub fn configuration(config: &ListenerConfig, model: Option<&str>, library: Option<&Library>) -> String {
    let bootstrap: Vec<String> = config.net.bootstrap.iter().map(Bootstrap::to_string).collect();
    let total = library.map(Library::shard_count).or(config.expected.total_shards);
    let last = total.map_or_else(|| "?".to_owned(), |total| total.saturating_sub(1).to_string());
    let ids: Vec<String> = config.shard_ids.iter().map(u32::to_string).collect();
    let shards = if ids.is_empty() { "none yet (spare)".to_owned() } else { ids.join(",") };
    let layers = |shard: &u32| library?.layers(*shard).ok().map(|layers| layers.to_string());
    let layers: Vec<String> = config.shard_ids.iter().filter_map(layers).collect();
    let unknown = || "not known yet".to_owned();
    format!(
        "Bootstrap: {}\nCluster: {}\nTransport: {}\nShard ID: {shards} / {last}\nModel: {}\nLayers: {}",
        bootstrap.join(", "),
        config.net.cluster,
        word(&config.net.transport),
        model.map_or_else(unknown, str::to_owned),
        if layers.is_empty() { unknown() } else { layers.join(", ") },
    )
}

/// What a bootstrap was told.
pub fn server_configuration(config: &ServerConfig) -> String {
    format!(
        "Cluster: {}\nTransport: {}\nListen: {} port {}\nDiagnostics: http://{}/",
        config.net.cluster,
        word(&config.net.transport),
        config.net.listen,
        config.net.port,
        config.diagnostics,
    )
}

/// Who the program is.
pub fn peer_id(peer: &PeerId) -> String {
    format!("Peer ID: {peer}")
}

/// A shard file is opened.
pub fn tensor_load_begun(shard: u32, bytes: u64) -> String {
    format!(
        "[TENSOR_LOAD] 📦 Loading tensor file for shard {shard}\n\
         [TENSOR_LOAD]   File size: {}\n\
         [TENSOR_LOAD]   Status: Reading tensor file metadata...",
        size(bytes)
    )
}

/// It is in memory.
pub fn tensor_load_done(shard: u32) -> String {
    format!(
        "[TENSOR_LOAD]   Progress: [████████████████████] 100%\n\
         [TENSOR_LOAD]   ✓ Tensor file loaded successfully for shard {shard}"
    )
}

/// The node has its shard before anybody knows of it.
pub fn shard_loaded(shard: u32, path: &Path, bytes: u64) -> String {
    format!(
        "[SHARD] ✓✓✓ SHARD {shard} LOADED BEFORE JOINING NETWORK ✓✓✓\n\
         [SHARD]   Path: {}\n\
         [SHARD]   Size: {}\n\
         [SHARD]   Status: Ready for inference",
        path.display(),
        size(bytes)
    )
}

/// The node is up.
pub fn listener_started() -> String {
    "✅ Shard listener started! Waiting for connections...".into()
}

/// The gateway serves.
pub fn gateway_started(address: &std::net::SocketAddr) -> String {
    format!("✅ Gateway started! OpenAI API: http://{address}/v1")
}

/// The bootstrap is up.
pub fn server_started() -> String {
    "✅ Bootstrap server started! Waiting for connections...".into()
}
