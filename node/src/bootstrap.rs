//! `server`: the entry to the network.
//!
//! It runs no shard. Nodes and gateways dial it, learn of one another through it, and store their announcements in
//! its DHT; when it is gone those that know one another go on. Its loop only tells what happens. Where it is told of a
//! model, it is the model's origin beside that (`origin.rs`).

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use shard_wire::command::Command;
use shard_wire::message::ErrorCode;
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::commands;
use crate::config::{OriginConfig, ServerConfig};
use crate::diagnostics::{self, DiagnosticsError, Subject};
use crate::files;
use crate::messages;
use crate::net::{DhtMode, Inbound, NetEvent, Network, Snapshot};
use crate::origin::{self, OriginStatus, State};
use crate::report::{self, Console};
use crate::shutdown::Shutdown;
use crate::start::{self, Member, StartError};
use crate::torrent::serve::{Shelf, ShelfOptions};
use crate::torrents::{self, Known};

/// Why a bootstrap cannot run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// It cannot take part in the network.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It cannot serve diagnostics.
    #[error(transparent)]
    Diagnostics(#[from] DiagnosticsError),
    /// A protocol is served twice: a fault of ours.
    #[error("a protocol is served twice")]
    Protocol(#[from] libp2p_stream::AlreadyRegistered),
    /// Its network has ended.
    #[error("the network has ended")]
    Ended,
}

/// Runs until it is told to end.
///
/// # Errors
/// When it cannot listen.
pub async fn run(config: ServerConfig, mut shutdown: Shutdown) -> Result<(), ServerError> {
    let (console, started) = (Console::new(config.run.log), Instant::now());
    console.say(&report::server_configuration(&config));
    let identify = format!("server/{}", config.net.cluster);
    let Member { network, requests, .. } =
        start::member(&config.net, identify, DhtMode::Server, start::record_ttl())?;
    console.say(&report::peer_id(&network.local_peer()));
    let mut events = network.events();
    let known = Known::new(network.local_peer());
    tokio::spawn(torrents::pass_on(network.clone(), known.clone()));
    start::listen(&network, &start::listen_addresses(&config.net)).await?;

    let initial_seeding = matches!(config.origin, Some(OriginConfig::Model { .. }));
    let upload_limit = config.upload_limit;
    let shelf = Shelf::new(ShelfOptions { upload_limit, initial_seeding, ..ShelfOptions::default() });
    shelf.serve(network.streams())?;
    let incarnation = config.incarnation;
    let origin = |origin| origin::spawn(origin, incarnation, shelf.clone(), known.clone(), console);
    let origin = config.origin.map(origin);
    let subject = Bootstrap { network: network.clone(), cluster: config.net.cluster, origin, shelf, started };
    diagnostics::start(config.diagnostics, subject, shutdown.clone()).await?;
    tokio::spawn(answer(network.clone(), requests, known, console));
    console.say(&report::server_started());
    loop {
        let event = tokio::select! {
            () = shutdown.begun() => break,
            event = events.recv() => event,
        };
        match event {
            Ok(event) => tell(console, &event),
            // A burst: the console has gaps, the network has none.
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "console lines left out"),
            Err(RecvError::Closed) => return Err(ServerError::Ended),
        }
    }
    network.shutdown().await;
    console.say(&report::stopped(started.elapsed()));
    Ok(())
}

/// A bootstrap knows of files and of nothing else.
async fn answer(network: Network, mut requests: mpsc::Receiver<Inbound>, known: Known, console: Console) {
    while let Some(Inbound { peer, request, responder }) = requests.recv().await {
        messages::received(console, &peer, &request);
        let result = match request.command() {
            Ok(Command::SyncTorrents(told)) => {
                // Who syncs is a member: it keeps us, and would lose the connection if we did not.
                network.keep(peer, true).await;
                let changed = |files| console.say(&report::sync_changed(&peer, files));
                commands::sync_torrents(&known, peer, told, torrents::Registry::union, changed)
            }
            Ok(Command::ListFiles(params)) => commands::list_files(&known, &params),
            Ok(_) => Err((ErrorCode::Unavailable, "this is the bootstrap: it serves no shard".into())),
            Err(error) => Err((error.code(), error.to_string())),
        };
        let response = commands::respond(request.request_id.clone(), result);
        messages::answer(console, &peer, &request, responder, response).await;
    }
}

fn tell(console: Console, event: &NetEvent) {
    match event {
        NetEvent::Listening { address } => console.say(&report::listening(address)),
        NetEvent::Connected { peer, address, outbound } => {
            console.say(&report::peer_connected(peer, address, *outbound));
        }
        NetEvent::Disconnected { peer, cause } => {
            console.say(&report::peer_disconnected(peer, cause.as_deref()));
        }
        NetEvent::RoutingUpdated { peer } => console.say(&report::routing_updated(peer, false)),
        NetEvent::Bootstrapped { .. }
        | NetEvent::ListeningEnded { .. }
        | NetEvent::NotFound { .. }
        | NetEvent::QuorumFailed { .. }
        | NetEvent::Refused { .. } => {}
    }
}

#[derive(Clone)]
struct Bootstrap {
    network: Network,
    cluster: String,
    origin: Option<watch::Receiver<OriginStatus>>,
    shelf: Shelf,
    started: Instant,
}

impl Bootstrap {
    async fn snapshot(&self) -> Snapshot {
        self.network.snapshot().await.unwrap_or_default()
    }
}

impl Subject for Bootstrap {
    async fn alive(&self) -> Result<(), String> {
        self.network.snapshot().await.map(drop).map_err(|error| error.to_string())
    }

    async fn ready(&self) -> Result<(), String> {
        let snapshot = self.network.snapshot().await.map_err(|error| error.to_string())?;
        if snapshot.listen_addresses.is_empty() { Err("it does not listen yet".into()) } else { Ok(()) }
    }

    async fn status(&self) -> Value {
        let snapshot = self.snapshot().await;
        let peers: Vec<Value> = snapshot
            .peers
            .iter()
            .map(|peer| {
                json!({
                    "peer_id": peer.peer.to_string(),
                    "address": peer.address,
                    "outbound": peer.outbound,
                    "rtt_ms": peer.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                })
            })
            .collect();
        json!({
            "program": "server",
            "cluster": self.cluster,
            "peer_id": self.network.local_peer().to_string(),
            "uptime_s": self.started.elapsed().as_secs(),
            "listen_addresses": snapshot.listen_addresses,
            "external_addresses": snapshot.external_addresses,
            "peers": peers,
            "origin": self.origin.as_ref().map(|origin| origin.borrow().clone()),
            "served": files::served(&self.shelf),
        })
    }

    async fn metrics(&self) -> Registry {
        let mut registry = Registry::with_prefix("shardcluster_server");
        let peers: Gauge = Gauge::default();
        peers.set(i64::try_from(self.snapshot().await.peers.len()).unwrap_or(i64::MAX));
        registry.register("connected_peers", "Peers that are connected", peers);
        let uptime: Gauge = Gauge::default();
        uptime.set(i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX));
        registry.register("uptime_seconds", "Time since the start", uptime);
        if let Some(origin) = &self.origin {
            let status = origin.borrow();
            let number = |bytes: Option<u64>| i64::try_from(bytes.unwrap_or_default()).unwrap_or(i64::MAX);
            for (name, help, value) in [
                (
                    "origin_ready",
                    "1 when the model is given to nodes",
                    i64::from(status.state == State::Ready),
                ),
                (
                    "origin_done_bytes",
                    "Bytes of the model that are fetched or hashed",
                    number(Some(status.bytes)),
                ),
                ("origin_total_bytes", "Bytes of the model, 0 while unknown", number(status.total)),
            ] {
                let gauge: Gauge = Gauge::default();
                gauge.set(value);
                registry.register(name, help, gauge);
            }
        }
        registry
    }
}
