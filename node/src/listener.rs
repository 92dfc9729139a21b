//! `shard_listener`: a node.
//!
//! ```text
//! 1 who am I        identity, peer id
//! 2 what have I     manifest and files here; its shards, where their files are here, loaded before anybody knows of it
//! 3 listen, join    bootstraps, DHT, announcements, SYNC_TORRENTS
//! 4 what is lacking the plan of an origin (plans), files from peers (shards)
//! 5 serve           sessions (ring::stage), pieces (torrent), commands
//! 6 leave           announcements withdrawn, sessions brought to their end, connections closed
//! ```

mod announce;
mod diagnose;
mod narrate;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use shard_engine::DeviceError;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::clock::now_ms;
use crate::commands::{Commands, Models};
use crate::config::ListenerConfig;
use crate::diagnostics::{self, DiagnosticsError};
use crate::fetching::Fetcher;
use crate::files::Files;
use crate::front::Front;
use crate::joiner::{Joiner, JoinerConfig};
use crate::library::{Library, LibraryError};
use crate::net::{DhtMode, Network};
use crate::plans::{self, Plans};
use crate::replicas::Replicas;
use crate::report::{self, Console};
use crate::ring::gateway::sessions;
use crate::ring::lanes::{INBOX, Inboxes, Lanes};
use crate::ring::stage::driver::Stages;
use crate::ring::stage::table::Limits;
use crate::serving;
use crate::shards::{Obtain, Shards, ShardsConfig};
use crate::shutdown::Shutdown;
use crate::start::{self, Member, StartError};
use crate::torrent::download::Downloads;
use crate::torrent::serve::{Shelf, ShelfOptions};
use crate::torrents::Known;
use crate::watch::WatchConfig;

use self::diagnose::Node;
use self::status::Reporter;

/// Positions of a prefill chunk: large enough for the kernels, small enough that stages overlap.
pub const CHUNK: u32 = 128;

/// Sessions of a node that leaves may go on for so long: half of what a pod is given to end.
const GRACE: Duration = Duration::from_secs(30);

/// Why a node cannot run.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// It has nothing to compute with.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It cannot take part in the network.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its folder cannot be read or written.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The system gives no thread.
    #[error("starting the engine's thread")]
    Thread(#[source] std::io::Error),
    /// A protocol is served twice: a fault of ours.
    #[error("a protocol is served twice")]
    Protocol(#[from] libp2p_stream::AlreadyRegistered),
    /// It cannot serve diagnostics.
    #[error(transparent)]
    Diagnostics(#[from] DiagnosticsError),
}

/// Runs until it is told to end.
///
/// # Errors
/// Where what the user said cannot be, or the network cannot be used. A file or a plan that is missing or wrong is no such
/// error: it is fetched.
pub async fn run(config: ListenerConfig, mut shutdown: Shutdown) -> Result<(), ListenerError> {
    let (console, started) = (Console::new(config.run.log), Instant::now());
    config.engine.device.check()?;
    let identify = shard_wire::keys::identify(&config.net.cluster, config.shard_ids.first().copied());
    let Member { network, keypair, requests } =
        start::member(&config.net, identify, DhtMode::Server, 3 * config.refresh)?;
    let library = here(&config, console)?;
    console.say(&report::configuration(&config, &known_of(&config, library.as_deref())));
    console.say(&report::peer_id(&network.local_peer()));

    let (found, plan) = watch::channel(library);
    let (stages, front) = ring(&config, &network)?;
    let known = Known::new(network.local_peer());
    let upload_limit = config.swarm.upload_limit;
    let shelf = Shelf::new(ShelfOptions { upload_limit, ..ShelfOptions::default() });
    let files = Files::new(shelf.clone(), known.clone());
    let total = plan.borrow().as_ref().map(|library| library.shard_count()).or(config.expected.total_shards);
    files.scan(config.shards_dir.clone(), total, console).await;
    let fetcher = Fetcher {
        network: network.clone(),
        downloads: Downloads::new(network.clone(), shelf.clone(), &config.shards_dir),
        known: known.clone(),
        view: front.view.clone(),
        files: files.clone(),
        console,
    };
    let obtain = Obtain { model_name: config.expected.model_name.clone(), fetcher: fetcher.clone(), console };
    let joined = Arc::new(AtomicBool::new(false));
    let shards = Shards::spawn(
        ShardsConfig {
            wanted: config.shard_ids.clone(),
            engine: config.engine,
            obtain,
            stages: stages.clone(),
            console,
            joined: Arc::clone(&joined),
        },
        plan.clone(),
    );
    shards.settled().await;
    joined.store(true, Ordering::Relaxed);
    if config.shard_ids.is_empty() {
        console.say(&report::spare_waiting());
    }
    let listed = announce::files(files.listed(), plan.clone());
    tokio::spawn(offer(plan.clone(), files));
    shelf.serve(network.streams())?;
    let replicas = Replicas {
        config: config.swarm,
        dir: config.shards_dir.clone(),
        fetcher,
        plan: plan.clone(),
        holdings: shards.holdings(),
        seed: now_ms(),
    };
    tokio::spawn(replicas.run());

    for bootstrap in &config.net.bootstrap {
        for address in bootstrap.addresses(config.net.transport).iter().take(1) {
            console.say(&report::transport(config.net.transport, address));
        }
    }
    start::listen(&network, &start::listen_addresses(&config.net)).await?;
    for address in network.listen_addresses().await {
        console.say(&report::listening(&address));
    }
    let announced = announce::spawn(shards.holdings());
    let joiner_config = JoinerConfig {
        cluster: config.net.cluster.clone(),
        keypair,
        incarnation: now_ms(),
        entries: start::entries(&config.net),
        shards: Some(announced.clone()),
        member: Some(announce::spare(shards.holdings(), config.engine)),
        files: Some(listed),
        refresh_interval: config.refresh,
    };
    let narrator = narrate::Narrator::new(console, &config.net.cluster, &network, &known);
    let joiner = Joiner::spawn(network.clone(), joiner_config, narrator.listen());
    let finder = Plans {
        network: network.clone(),
        dir: config.shards_dir.clone(),
        expected: config.expected.clone(),
        known: known.clone(),
        view: front.view.clone(),
        found,
    };
    tokio::spawn(finder.run());

    let commands = Commands {
        peer_id: network.local_peer().to_string(),
        announced,
        shards: shards.clone(),
        stages: stages.clone(),
        client: front.client.clone(),
        models: Arc::new(Models::new(plan.clone(), config.engine.context)),
        known: known.clone(),
        started,
        console,
    };
    let reporter = Reporter {
        peer_id: network.local_peer().to_string(),
        cluster: config.net.cluster.clone(),
        holdings: shards.holdings(),
        plan,
        stages: stages.clone(),
        view: front.view.clone(),
        known,
    };
    if let Some(address) = config.diagnostics {
        let node =
            Node { network: network.clone(), commands: commands.clone(), reporter: reporter.clone(), shelf };
        diagnostics::start(address, node, shutdown.clone()).await?;
    }
    tokio::spawn(commands.serve(requests));
    console.say(&report::listener_started());
    tokio::spawn(reporter.tell(console));

    shutdown.begun().await;
    console.say(&report::leaving(stages.status().active as u64));
    joiner.leave().await;
    let held: Vec<u32> = shards.holdings().borrow().iter().map(|holding| holding.info.shard_id).collect();
    join_all(held.into_iter().map(|shard| stages.withdraw(shard, GRACE))).await;
    network.shutdown().await;
    console.say(&report::stopped(started.elapsed()));
    Ok(())
}

/// The plan of the folder, where it has one that this node is to serve: a volume may hold that of long ago.
fn here(config: &ListenerConfig, console: Console) -> Result<Option<Arc<Library>>, ListenerError> {
    let library = match Library::open(&config.shards_dir) {
        Ok(library) => library,
        Err(LibraryError::NoManifest { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        // Peers will give another one; what is here stays, for whoever wants to look at it.
        Err(LibraryError::Manifest { path, source }) => {
            let aside = path.with_extension("json.broken");
            std::fs::rename(&path, &aside).map_err(|source| LibraryError::Write { path, source })?;
            tracing::warn!("the manifest is set aside as {}: {source}", aside.display());
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = plans::expect(&config.expected, &library.plan, &library.manifest) {
        console.say(&report::plan_not_used(&config.shards_dir, &library.plan, &error.to_string()));
        return Ok(None);
    }
    Ok(Some(Arc::new(library)))
}

/// What is known of the model at the start.
fn known_of(config: &ListenerConfig, library: Option<&Library>) -> report::Known {
    let layers =
        |library: &Library| config.shard_ids.iter().filter_map(|shard| library.layers(*shard).ok()).collect();
    report::Known {
        total_shards: library.map(Library::shard_count).or(config.expected.total_shards),
        model: library.and_then(Library::model_name).or_else(|| config.expected.model_name.clone()),
        layers: library.map(layers).unwrap_or_default(),
    }
}

/// The two sides of the ring that a node has.
fn ring(config: &ListenerConfig, network: &Network) -> Result<(Stages, Front), ListenerError> {
    let me = network.local_peer();
    let (stage, stage_inbox) = mpsc::channel(INBOX);
    let (gateway, gateway_inbox) = mpsc::channel(INBOX);
    let inboxes = Inboxes { stage: Some(stage), gateway: Some(gateway) };
    let lanes = Lanes::spawn(me, network.streams(), inboxes)?;
    let limits = Limits { max_sessions: config.engine.max_sessions, chunk: CHUNK };
    let activations = serving::activations(config.engine.activations);
    let stages = Stages::spawn(me, limits, activations, lanes.clone(), stage_inbox, network.events())
        .map_err(ListenerError::Thread)?;
    let watch = WatchConfig { cluster: config.net.cluster.clone(), forget_after: 3 * config.refresh };
    let view = crate::watch::spawn(network.clone(), watch);
    let front = Front::spawn(network, lanes, gateway_inbox, view, sessions::Limits::default());
    Ok((stages, front))
}

/// Gives peers the manifest of each plan.
async fn offer(mut plan: watch::Receiver<Option<Arc<Library>>>, files: Files) {
    plan.mark_changed();
    while plan.changed().await.is_ok() {
        if let Some(library) = plan.borrow_and_update().clone() {
            files.plan(&library);
        }
    }
}
