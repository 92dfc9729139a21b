//! `web_server`: the gateway.
//!
//! ```text
//! 1 join the network, with a port of its own or listening on nothing: replicas answer on the connections that it dials
//! 2 watch the DHT, stay connected to every replica, learn the plan from one of them
//! 3 serve the API: a request is a prompt for the ring
//! ```

mod assign;
mod choice;
mod coordinator;
mod facts;
mod pipeline;
mod proof;
mod track;

use std::time::{Duration, Instant};

use libp2p::PeerId;
use prometheus_client::registry::Registry as Metered;
use shard_wire::announce::{Capabilities, MemberInfo};
use shard_wire::command::Command;
use shard_wire::keys::Role;
use shard_wire::message::ErrorCode;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::clock::now_ms;
use crate::commands;
use crate::config::GatewayConfig;
use crate::front::Front;
use crate::gateway::{self, Gateway};
use crate::joiner::{JoinReport, Joiner, JoinerConfig};
use crate::messages;
use crate::net::{DhtMode, Inbound};
use crate::report::{self, Console};
use crate::ring::gateway::sessions;
use crate::ring::lanes::{INBOX, Inboxes, Lanes};
use crate::shutdown::Shutdown;
use crate::start::{self, Member, StartError};
use crate::torrents::{self, Known, Registry};
use crate::watch::WatchConfig;

use assign::Assigner;
pub use pipeline::Pipeline;

/// Between announcements. No connection shows that a gateway lives, so its record does, and goes soon after it.
const REFRESH: Duration = Duration::from_secs(60);

/// Why a gateway cannot run.
#[derive(Debug, Error)]
pub enum WebError {
    /// It cannot take part in the network.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has no keys to check its clients with.
    #[error(transparent)]
    Keys(#[from] gateway::KeysError),
    /// It cannot serve HTTP.
    #[error("cannot listen for HTTP on {address}: {source}; give another port with --http-port")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A protocol is served twice: a fault of ours.
    #[error("a protocol is served twice")]
    Protocol(#[from] libp2p_stream::AlreadyRegistered),
}

/// Runs until it is told to end.
///
/// # Errors
/// Where it can serve no HTTP, or take no part in the network.
pub async fn run(config: GatewayConfig, mut shutdown: Shutdown) -> Result<(), WebError> {
    let (console, started) = (Console::new(config.run.log), Instant::now());
    let keys = gateway::Keys::load(config.api_keys_file.as_deref(), config.operator_key_file.as_deref())?;
    // Before anything else: a port in use is the likeliest mistake.
    let address = config.http;
    let listener = TcpListener::bind(address).await.map_err(|source| WebError::Listen { address, source })?;
    let identify = format!("gateway/{}", config.net.cluster);
    let ttl = start::record_ttl();
    let Member { network, keypair, requests } =
        start::member(&config.net, identify, DhtMode::Client, 3 * REFRESH)?;
    console.say(&report::peer_id(&network.local_peer()));
    if config.listens {
        // Before it dials: QUIC dials from the port that it listens on.
        start::listen(&network, &start::listen_addresses(&config.net)).await?;
    }
    let known = Known::new(network.local_peer());
    tokio::spawn(answer(requests, known.clone(), console));

    let member = MemberInfo { role: Role::Gateway, capabilities: Capabilities::default() };
    let joiner_config = JoinerConfig {
        cluster: config.net.cluster.clone(),
        keypair,
        incarnation: now_ms(),
        entries: start::entries(&config.net),
        shards: None,
        member: Some(watch::channel(Some(member)).1),
        files: None,
        refresh_interval: REFRESH,
    };
    let (bootstraps, reached) = mpsc::channel(torrents::REACHED);
    tokio::spawn(torrents::follow(network.clone(), known.clone(), console, reached));
    let joiner = Joiner::spawn(network.clone(), joiner_config, narrate(console, bootstraps));
    let watching = WatchConfig { cluster: config.net.cluster.clone(), forget_after: ttl };
    let watched = crate::watch::spawn_with_members(network.clone(), watching);
    let view = watched.view.clone();
    let assigner =
        Assigner { network: network.clone(), watched, limit: config.recovery, known: known.clone(), console };
    tokio::spawn(assigner.run());
    let (gateway, inbox) = mpsc::channel(INBOX);
    let lanes = Lanes::spawn(
        network.local_peer(),
        network.streams(),
        Inboxes { stage: None, gateway: Some(gateway) },
    )?;
    let limits = sessions::Limits { recovery: config.recovery, ..sessions::Limits::default() };
    let front = Front::spawn(&network, lanes, inbox, view, limits);
    let Pipeline { model, status } =
        Pipeline::spawn(network.clone(), front.clone(), known, config.net.cluster.clone());

    let gateway = Gateway::new(
        front.client,
        model,
        status,
        keys,
        gateway::Limits { suspended: config.suspended, ..gateway::Limits::default() },
        gateway::Metrics::new(Metered::default()),
    );
    console.say(&report::gateway_started(&address));
    gateway::serve(listener, gateway, async move { shutdown.begun().await }).await;
    joiner.leave().await;
    network.shutdown().await;
    console.say(&report::stopped(started.elapsed()));
    Ok(())
}

/// A gateway hears who has which files, and serves nothing itself.
async fn answer(mut requests: mpsc::Receiver<Inbound>, known: Known, console: Console) {
    while let Some(Inbound { peer, request, responder }) = requests.recv().await {
        messages::received(console, &peer, &request);
        let result = match request.command() {
            Ok(Command::SyncTorrents(told)) => {
                commands::sync_torrents(&known, peer, told, Registry::mine, |_| ())
            }
            Ok(_) => Err((ErrorCode::Unavailable, "this is a gateway: it serves no shard".into())),
            Err(error) => Err((error.code(), error.to_string())),
        };
        let response = commands::respond(request.request_id.clone(), result);
        messages::answer(console, &peer, &request, responder, response).await;
    }
}

fn narrate(console: Console, bootstraps: mpsc::Sender<PeerId>) -> impl FnMut(JoinReport) + Send + 'static {
    move |event| match event {
        JoinReport::Connecting { .. } => console.say(&report::connecting()),
        JoinReport::Connected { peer, address } => {
            console.say(&report::connected(&peer, &address));
            // Full: as many wait already.
            let _ = bootstraps.try_send(peer);
        }
        JoinReport::Unreachable { error, retry_in, .. } => {
            console.say(&report::connect_failed(&error, retry_in));
        }
        JoinReport::Lost { peer, cause } => {
            console.say(&report::peer_disconnected(&peer, cause.as_deref()));
        }
        _ => {}
    }
}
