//! The program itself: who it is, what it was told, that it is up and that it leaves.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use libp2p::PeerId;
use serde_json::json;
use shard_wire::layers::LayerRange;

use super::{Notice, foreign, plural, seconds, time};
use crate::config::{Bootstrap, ListenerConfig, ServerConfig, word};

/// What a node knows of its model when it starts: all of it where a manifest lies in its folder, else what flags say.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Shards of the plan.
    pub total_shards: Option<u32>,
    /// The model's name.
    pub model: Option<String>,
    /// The layers of its shards, in their order.
    pub layers: Vec<LayerRange>,
}

/// What a node was told, and what it knows of its model.
pub fn configuration(config: &ListenerConfig, known: &Known) -> Notice {
    let bootstraps: Vec<String> = config.net.bootstrap.iter().map(Bootstrap::to_string).collect();
    let (cluster, transport) = (&config.net.cluster, word(&config.net.transport));
    let of = known.total_shards.map_or_else(String::new, |total| format!(" / {}", total.saturating_sub(1)));
    let shards = match config.shard_ids.as_slice() {
        [] => "Shard ID: none (a spare: it waits for an assignment)".to_owned(),
        ids => format!("{}{of}", ids_of(ids)),
    };
    let later = || "not known yet (the manifest comes from peers)".to_owned();
    let model = known.model.as_deref().map_or_else(later, foreign);
    let layers: Vec<String> = known.layers.iter().map(LayerRange::to_string).collect();
    let layers = if layers.is_empty() { later() } else { layers.join(", ") };
    let bootstrap = bootstraps.join(", ");
    let text = format!(
        "Bootstrap: {bootstrap}\nCluster: {cluster}\nTransport: {transport}\n{shards}\nModel: {model}\nLayers: {layers}"
    );
    let layers: Vec<_> = known.layers.iter().map(|range| layer_range(*range)).collect();
    Notice::info("configuration", text)
        .with("bootstrap", bootstraps)
        .with("cluster", cluster.as_str())
        .with("transport", transport)
        .with("shard_ids", config.shard_ids.clone())
        .with("total_shards", known.total_shards)
        .with("model", known.model.clone())
        .with("layers", layers)
}

/// `Shard ID: 0`, `Shard IDs: 0, 3`
pub(super) fn ids_of(ids: &[u32]) -> String {
    let word = if ids.len() == 1 { "Shard ID" } else { "Shard IDs" };
    format!("{word}: {}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
}

/// A range as the announcements have it.
pub(super) fn layer_range(LayerRange { start, end }: LayerRange) -> serde_json::Value {
    json!({ "start": start, "end": end })
}

/// The folder has the files of a plan that the node is not to serve.
pub fn plan_not_used(folder: &Path, plan: &str, reason: &str) -> Notice {
    let folder = folder.display().to_string();
    let text = format!(
        "[PLAN] ⚠  The plan in {} is not used: {}. Another one is asked of peers",
        foreign(&folder),
        foreign(reason)
    );
    Notice::warn("plan_not_used", text).with("folder", folder).with("plan", plan).with("reason", reason)
}

/// What a bootstrap was told.
pub fn server_configuration(config: &ServerConfig) -> Notice {
    let (cluster, transport) = (&config.net.cluster, word(&config.net.transport));
    let (listen, port, diagnostics) = (config.net.listen, config.net.port, config.diagnostics);
    let text = format!(
        "Cluster: {cluster}\nTransport: {transport}\nListen: {listen} port {port}\nDiagnostics: http://{diagnostics}/"
    );
    Notice::info("configuration", text)
        .with("cluster", cluster.as_str())
        .with("transport", transport)
        .shown("listen", listen)
        .with("port", port)
        .shown("diagnostics", diagnostics)
}

/// Who the program is.
pub fn peer_id(peer: &PeerId) -> Notice {
    Notice::info("peer_id", format!("Peer ID: {peer}")).shown("peer", peer)
}

/// The node is up.
pub fn listener_started() -> Notice {
    Notice::info("started", "✅ Shard listener started! Waiting for connections...")
        .with("program", "shard_listener")
}

/// The gateway serves.
pub fn gateway_started(address: &SocketAddr) -> Notice {
    Notice::info("started", format!("✅ Gateway started! OpenAI API: http://{address}/v1"))
        .with("program", "web_server")
        .shown("address", address)
}

/// The bootstrap is up.
pub fn server_started() -> Notice {
    Notice::info("started", "✅ Bootstrap server started! Waiting for connections...")
        .with("program", "server")
}

/// The program was told to end.
pub fn leaving(sessions: u64) -> Notice {
    let sessions_text = plural(sessions, "session");
    let text = format!("👋 Leaving the network: announcements are withdrawn, {sessions_text} under way");
    Notice::info("leaving", text).with("sessions", sessions)
}

/// The program ends.
pub fn stopped(uptime: Duration) -> Notice {
    Notice::info("stopped", format!("✅ Stopped after {}", time(uptime))).with("uptime_s", seconds(uptime))
}
