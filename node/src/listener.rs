//! `shard_listener`: a node.
//!
//! ```text
//! 1 who am I        identity, peer id
//! 2 what have I     manifest, shard files: verified, loaded, handed to the engine thread
//! 3 listen, join    bootstraps, DHT, announcements
//! 4 serve           sessions (ring::stage), pieces (torrent), commands
//! 5 leave           announcements withdrawn, connections closed
//! ```

mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use shard_wire::announce::ShardInfo;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::clock::now_ms;
use crate::commands::Commands;
use crate::config::{Expected, ListenerConfig};
use crate::diagnostics::{self, DiagnosticsError, Subject};
use crate::front::Front;
use crate::joiner::{JoinReport, Joiner, JoinerConfig};
use crate::library::{Library, LibraryError, model_name};
use crate::model::{About, Model, ModelError};
use crate::net::{DhtMode, Network};
use crate::report::status::LocalShard;
use crate::report::{self, Console};
use crate::ring::gateway::sessions;
use crate::ring::lanes::{INBOX, Inboxes, Lanes};
use crate::ring::stage::driver::Stages;
use crate::ring::stage::table::Limits;
use crate::serving::{self, LoadShardError, Loaded};
use crate::shutdown::Shutdown;
use crate::start::{self, Member, StartError};
use crate::torrent::serve::Shelf;
use crate::watch::WatchConfig;

use self::status::Reporter;

/// Positions of a prefill chunk: large enough for the kernels, small enough that stages overlap.
pub const CHUNK: u32 = 128;
/// A forward that takes longer is an engine that hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Why a node cannot run.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// It cannot take part in the network.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has no usable files.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The user expects another model.
    #[error(
        "{flag} says {given}, the manifest says {found}: leave the flag out, or use the files of that model"
    )]
    Unexpected {
        /// Which flag.
        flag: &'static str,
        /// What it says.
        given: String,
        /// What the files say.
        found: String,
    },
    /// A shard cannot be served.
    #[error(transparent)]
    Load(#[from] LoadShardError),
    /// The vocabulary in the shard's file cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
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
/// Where the files or the network cannot be used.
pub async fn run(config: ListenerConfig, mut shutdown: Shutdown) -> Result<(), ListenerError> {
    let console = Console::new(config.run.log);
    let library = Arc::new(Library::open(&config.shards_dir)?);
    expect(&config.expected, &library)?;
    let first = config.shard_ids.first().copied().unwrap_or_default();
    let identify = shard_wire::keys::identify(&config.net.cluster, config.shard_ids.first().copied());
    let Member { network, keypair, requests } =
        start::member(&config.net, identify, DhtMode::Server, 3 * config.refresh)?;
    let model = Arc::new(model(&config, &library, first)?);
    let layers = library.layers(first)?;
    console.say(&report::configuration(&config, first, library.shard_count(), &model.name, layers));
    console.say(&report::peer_id(&network.local_peer()));

    let loaded = load_all(&config, &library, console).await?;
    let files: Vec<LocalShard> = loaded.iter().map(file).collect();
    let infos: Vec<ShardInfo> = loaded.iter().map(|shard| shard.info.clone()).collect();
    let Node { stages, front } = node(&config, &network, loaded).await?;
    let shelf = Shelf::default();
    shelf.offer(&library);
    shelf.serve(network.streams())?;
    let (announce, shards) = watch::channel(infos);

    for bootstrap in &config.net.bootstrap {
        for address in bootstrap.addresses(config.net.transport).iter().take(1) {
            console.say(&report::transport(config.net.transport, address));
        }
    }
    start::listen(&network, &start::listen_addresses(&config.net)).await?;
    for address in network.listen_addresses().await {
        console.say(&report::listening(&address));
    }
    let joiner_config = JoinerConfig {
        cluster: config.net.cluster.clone(),
        keypair,
        incarnation: now_ms(),
        entries: start::entries(&config.net),
        shards: Some(shards.clone()),
        member: None,
        files: None,
        refresh_interval: config.refresh,
    };
    let joiner = Joiner::spawn(network.clone(), joiner_config, narrate(console, &config, &network));
    let commands = Commands {
        peer_id: network.local_peer().to_string(),
        shards,
        stages,
        client: front.client.clone(),
        model,
        started: Instant::now(),
    };
    let reporter = Reporter {
        peer_id: network.local_peer().to_string(),
        cluster: config.net.cluster.clone(),
        shards: files,
        total_shards: library.shard_count(),
        stages: commands.stages.clone(),
        view: front.view.clone(),
    };
    if let Some(address) = config.diagnostics {
        let reporter = reporter.clone();
        let subject = Subjects { network: network.clone(), commands: commands.clone(), reporter };
        diagnostics::start(address, subject, shutdown.clone()).await?;
    }
    tokio::spawn(commands.serve(requests));
    console.say(&report::listener_started());
    tokio::spawn(reporter.tell(console));

    shutdown.begun().await;
    joiner.leave().await;
    network.shutdown().await;
    drop(announce);
    Ok(())
}

/// The files are the truth; a flag that says otherwise is a mistake worth stopping for.
fn expect(expected: &Expected, library: &Library) -> Result<(), ListenerError> {
    let differs = |flag, given: Option<u32>, found: u32| match given {
        Some(given) if given != found => {
            Err(ListenerError::Unexpected { flag, given: given.to_string(), found: found.to_string() })
        }
        _ => Ok(()),
    };
    differs("--total-shards", expected.total_shards, library.shard_count())?;
    differs("--total-layers", expected.total_layers, library.manifest.total_layers)
}

async fn load_all(
    config: &ListenerConfig,
    library: &Arc<Library>,
    console: Console,
) -> Result<Vec<Loaded>, ListenerError> {
    let mut loaded = Vec::new();
    for &shard in &config.shard_ids {
        let file = library.manifest.file(&shard_wire::manifest::shard_name(shard as usize));
        if let Some(file) = file {
            console.say(&report::tensor_load_begun(shard, file.size));
        }
        let one = serving::load(Arc::clone(library), shard, config.engine, |_, _| {}).await?;
        for warning in &one.warnings {
            tracing::warn!(shard, "{warning}");
        }
        console.say(&report::tensor_load_done(shard));
        console.say(&report::shard_loaded(shard, &one.file.path, one.file.size));
        loaded.push(one);
    }
    Ok(loaded)
}

fn file(loaded: &Loaded) -> LocalShard {
    LocalShard {
        shard_id: loaded.info.shard_id,
        loaded: loaded.info.capabilities.shard_loaded,
        file: loaded.file.path.clone(),
        bytes: loaded.file.size,
    }
}

/// Every shard file has the whole vocabulary: a node can answer prompts in text.
fn model(config: &ListenerConfig, library: &Library, shard: u32) -> Result<Model, ListenerError> {
    let gguf = library.header(shard)?;
    let name = model_name(&gguf);
    if let Some(given) = config.expected.model_name.clone().filter(|given| *given != name) {
        return Err(ListenerError::Unexpected { flag: "--model-name", given, found: name });
    }
    let about =
        About { name, sha256: library.manifest.model_sha256.clone(), context_length: config.engine.context };
    Ok(Model::from_gguf(&gguf, about)?)
}

/// The two sides of the ring that a node has.
struct Node {
    stages: Stages,
    front: Front,
}

async fn node(
    config: &ListenerConfig,
    network: &Network,
    loaded: Vec<Loaded>,
) -> Result<Node, ListenerError> {
    let me = network.local_peer();
    let (stage, stage_inbox) = mpsc::channel(INBOX);
    let (gateway, gateway_inbox) = mpsc::channel(INBOX);
    let inboxes = Inboxes { stage: Some(stage), gateway: Some(gateway) };
    let lanes = Lanes::spawn(me, network.streams(), inboxes)?;
    let context = loaded.iter().map(|shard| shard.info.capabilities.context_length).min().unwrap_or_default();
    let limits = Limits { max_sessions: config.engine.max_sessions, context, chunk: CHUNK };
    let activations = serving::activations(config.engine.activations);
    let stages = Stages::spawn(me, limits, activations, lanes.clone(), stage_inbox, network.events())
        .map_err(ListenerError::Thread)?;
    for Loaded { info, served, model, .. } in loaded {
        stages.serve(info.shard_id, served, model).await;
    }
    let watch = WatchConfig { cluster: config.net.cluster.clone(), forget_after: 3 * config.refresh };
    let view = crate::watch::spawn(network.clone(), watch);
    let front = Front::spawn(network, lanes, gateway_inbox, view, sessions::Limits::default());
    Ok(Node { stages, front })
}

/// Tells the console what happens while joining.
fn narrate(
    console: Console,
    config: &ListenerConfig,
    network: &Network,
) -> impl FnMut(JoinReport) + Send + 'static {
    let (cluster, me) = (config.net.cluster.clone(), network.local_peer());
    let mut routed = false;
    move |event| match event {
        JoinReport::Connecting { .. } => console.say(&report::connecting()),
        JoinReport::Connected { peer, address } => console.say(&report::connected(&peer, &address)),
        JoinReport::Unreachable { error, retry_in, .. } => {
            console.say(&report::connect_failed(&error, retry_in));
        }
        JoinReport::Lost { peer } => console.say(&report::peer_disconnected(&peer)),
        JoinReport::DhtStarted { peer } => console.say(&report::dht_started(&peer, crate::join::FALLBACK)),
        JoinReport::RoutingUpdated { peer } => {
            console.say(&report::routing_updated(&peer, !std::mem::replace(&mut routed, true)));
        }
        JoinReport::DhtBootstrapped => console.say(&report::dht_bootstrapped(0)),
        JoinReport::Announced { shard } => {
            let loaded = shard.capabilities.shard_loaded;
            console.say(&report::announced(&cluster, shard.shard_id, &me, shard.layers, loaded));
        }
        JoinReport::Registering { .. }
        | JoinReport::FileRegistered { .. }
        | JoinReport::FileNotRegistered { .. }
        | JoinReport::FileWithdrawn { .. }
        | JoinReport::MemberAnnounced { .. }
        | JoinReport::MemberNotStored { .. }
        | JoinReport::NotFound { .. } => {}
        JoinReport::NotStored { shard_id, error } => {
            console.say(&report::announce_failed(shard_id, &error));
        }
    }
}

/// What diagnostics are about.
#[derive(Clone)]
struct Subjects {
    network: Network,
    commands: Commands,
    reporter: Reporter,
}

impl Subject for Subjects {
    async fn alive(&self) -> Result<(), String> {
        self.network.snapshot().await.map_err(|error| error.to_string())?;
        let busy = self.commands.stages.busy_for();
        if busy > HANGS { Err(format!("the engine has been in one forward for {busy:?}")) } else { Ok(()) }
    }

    async fn ready(&self) -> Result<(), String> {
        let snapshot = self.network.snapshot().await.map_err(|error| error.to_string())?;
        if snapshot.peers.is_empty() { Err("no peer is connected".into()) } else { Ok(()) }
    }

    async fn status(&self) -> Value {
        let snapshot = self.network.snapshot().await.unwrap_or_default();
        json!({
            "program": "shard_listener",
            "peer_id": self.commands.peer_id,
            "shards": *self.commands.shards.borrow(),
            "metrics": self.commands.metrics(),
            "report": self.reporter.now(),
            "listen_addresses": snapshot.listen_addresses,
            "peers": snapshot.peers.len(),
        })
    }

    async fn metrics(&self) -> Registry {
        let mut registry = Registry::with_prefix("shardcluster_node");
        let status = self.commands.stages.status();
        let drops = status.drops;
        let values = [
            ("sessions_active", "Slots that are taken", status.active as u64),
            ("sessions_admitted", "Sessions that were admitted", status.total),
            ("forwards", "Forwards that ended", status.forwards),
            ("forwards_failed", "Forwards that failed", status.failed),
            ("rows", "Rows of the forwards", status.rows),
            ("busy_microseconds", "Time in forwards", status.busy_us),
            (
                "frames_dropped",
                "Frames that were dropped",
                drops.unknown + drops.epoch + drops.sender + drops.position,
            ),
        ];
        for (name, help, value) in values {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        registry
    }
}
