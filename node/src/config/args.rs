//! The arguments of every program, as clap reads them, and the one conversion of each into its Config.

mod client;
mod engine;
mod net;
mod run;
mod source;
mod swarm;
mod up;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shard_wire::contract as c;

pub use client::{AskArgs, CallArgs, GatewayAddress, GenerateArgs, StatusArgs};
pub use engine::EngineArgs;
pub use net::{DialArgs, NetArgs, SECRET_VARIABLE, SecretArgs};
pub use run::{RunArgs, UNTIL_STDIN_CLOSES};
pub use source::{FetchArgs, FetchConfig, SourceArgs};
pub use swarm::{SwarmArgs, UploadArgs};
pub use up::{UpArgs, UpPorts};

use self::source::OriginArgs;
use super::values::{duration, incarnation, plan, port};
use super::{ConfigError, Expected, GatewayConfig, ListenerConfig, MAX_SHARDS, ServerConfig};

/// The bootstrap of a fleet: the DHT entry that stores its records, and the origin of its model.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  server --listen-addr 0.0.0.0 --port 51820
  server --model-source https://host/model.gguf --shards 4       is up at once, fetches, then gives nodes their shards
  server --model-source model.gguf --layers 0,9,16               the shards are views of the file: nothing is written
  server --shards-dir models_cache/shards                        what `shardctl split` has written

Then http://HOST:51821/status tells who is there, and how far the model is.")]
pub struct ServerArgs {
    #[command(flatten)]
    net: NetArgs,
    /// Port for TCP and QUIC
    #[arg(long = c::SERVER_PORT.flag, env = c::SERVER_PORT.env, default_value = c::SERVER_PORT.default, value_parser = port)]
    port: u16,
    /// Port of /healthz, /readyz, /metrics and /status
    #[arg(long = c::SERVER_DIAGNOSTICS_PORT.flag, env = c::SERVER_DIAGNOSTICS_PORT.env, default_value = c::SERVER_DIAGNOSTICS_PORT.default, value_name = "PORT", value_parser = port)]
    diagnostics_port: u16,
    #[command(flatten)]
    origin: OriginArgs,
    /// Name of this start of the origin; /api/v1/pipeline repeats it, so that whoever replaces the program sees when the new one is heard
    #[arg(long = c::INCARNATION.flag, env = c::INCARNATION.env, value_name = "NAME", value_parser = incarnation)]
    incarnation: Option<String>,
    #[command(flatten)]
    upload: UploadArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl ServerArgs {
    /// Everything resolved.
    ///
    /// # Errors
    /// Where flags contradict one another.
    pub fn resolve(self) -> Result<ServerConfig, ConfigError> {
        let net = self.net.resolve(self.port, Vec::new());
        let diagnostics = SocketAddr::new(net.listen, self.diagnostics_port);
        let (origin, upload_limit) = (self.origin.resolve()?, self.upload.upload_limit);
        let (incarnation, run) = (self.incarnation.unwrap_or_default(), self.run.resolve());
        Ok(ServerConfig { net, origin, incarnation, diagnostics, upload_limit, run })
    }
}

/// A node: it joins the network, loads its shards and serves its stages of the pipeline.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example, the second of four shards (`shardctl split MODEL.gguf --shards 4 --out models_cache/shards` makes the files):
  shard_listener --bootstrap 192.0.2.10:51820 --shard-id 1

A folder without these files is filled from peers: the manifest and the node's own shards, verified piece by piece.
Total shards, layers and model name are read from the manifest; where they are given, they must agree with it.")]
pub struct ListenerArgs {
    #[command(flatten)]
    dial: DialArgs,
    #[command(flatten)]
    net: NetArgs,
    /// Shard to serve, or several: 0,3; without it the node is a spare and waits to be given one
    #[arg(long = c::SHARD_ID.flag, env = c::SHARD_ID.env, value_delimiter = ',', value_name = "ID", value_parser = clap::value_parser!(u32).range(0..i64::from(MAX_SHARDS)))]
    shard_id: Vec<u32>,
    /// Shards of the plan; read from the manifest
    #[arg(long = c::TOTAL_SHARDS.flag, env = c::TOTAL_SHARDS.env, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    total_shards: Option<u32>,
    /// The only plan to serve, as /api/v1/pipeline names it [default: that of the folder, until an origin names another]
    #[arg(long = c::PLAN.flag, env = c::PLAN.env, value_name = "PLAN", value_parser = plan)]
    plan: Option<String>,
    /// Layers of the model; read from the manifest
    #[arg(long = c::TOTAL_LAYERS.flag, env = c::TOTAL_LAYERS.env, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    total_layers: Option<u32>,
    /// Name of the model; read from the shard file
    #[arg(long = c::MODEL_NAME.flag, env = c::MODEL_NAME.env, value_name = "NAME")]
    model_name: Option<String>,
    /// Port for TCP and QUIC; 0 is any free one
    #[arg(long = c::NODE_PORT.flag, env = c::NODE_PORT.env, default_value = c::NODE_PORT.default, value_parser = port)]
    port: u16,
    /// Folder for manifest.json and the shard files; what is missing is fetched
    #[arg(long = c::SHARDS_DIR.flag, env = c::SHARDS_DIR.env, default_value = c::SHARDS_DIR.default, value_name = "DIR")]
    shards_dir: PathBuf,
    /// Time between announcements, in seconds or as 5m
    #[arg(long = c::REFRESH_INTERVAL.flag, env = c::REFRESH_INTERVAL.env, default_value = c::REFRESH_INTERVAL.default, value_name = "TIME", value_parser = duration)]
    refresh_interval: Duration,
    #[command(flatten)]
    swarm: SwarmArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Engine threads [default: the cores that this process may use]
    #[arg(long = c::THREADS.flag, env = c::THREADS.env, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Port of /healthz, /readyz, /metrics and /status; without it there is none
    #[arg(long = c::NODE_DIAGNOSTICS_PORT.flag, env = c::NODE_DIAGNOSTICS_PORT.env, value_name = "PORT", value_parser = port)]
    diagnostics_port: Option<u16>,
    #[command(flatten)]
    run: RunArgs,
}

impl ListenerArgs {
    /// Everything resolved.
    ///
    /// # Errors
    /// Where flags contradict one another.
    pub fn resolve(mut self) -> Result<ListenerConfig, ConfigError> {
        self.shard_id.sort_unstable();
        if let Some(pair) = self.shard_id.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::ShardTwice(pair[0]));
        }
        if let (Some(total), Some(&shard)) = (self.total_shards, self.shard_id.last())
            && shard >= total
        {
            return Err(ConfigError::NoSuchShard { shard, total });
        }
        let net = self.net.resolve(self.port, self.dial.bootstrap);
        let diagnostics = self.diagnostics_port.map(|port| SocketAddr::new(net.listen, port));
        Ok(ListenerConfig {
            net,
            expected: Expected {
                plan: self.plan,
                shards: self.shard_id.clone(),
                total_shards: self.total_shards,
                total_layers: self.total_layers,
                model_name: self.model_name,
            },
            shard_ids: self.shard_id,
            shards_dir: self.shards_dir,
            refresh: self.refresh_interval,
            swarm: self.swarm.resolve(),
            engine: self.engine.resolve(self.threads),
            diagnostics,
            run: self.run.resolve(),
        })
    }
}

/// The gateway: it finds the shards and answers the OpenAI API.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  web_server --bootstrap 192.0.2.10:51820 --http-port 8080
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\
       -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 64}'")]
pub struct GatewayArgs {
    #[command(flatten)]
    dial: DialArgs,
    #[command(flatten)]
    net: NetArgs,
    /// Port for TCP and QUIC, where peers and firewalls are to know it [default: none, the gateway only dials]
    #[arg(long = c::GATEWAY_PORT.flag, env = c::GATEWAY_PORT.env, value_parser = port)]
    port: Option<u16>,
    /// Port of the OpenAI API, /api/v1/pipeline, /healthz and /metrics
    #[arg(long = c::GATEWAY_HTTP_PORT.flag, env = c::GATEWAY_HTTP_PORT.env, default_value = c::GATEWAY_HTTP_PORT.default, value_name = "PORT", value_parser = port)]
    http_port: u16,
    /// File with the API keys of clients, one per line, or a folder of such files; without it everybody may ask
    #[arg(long = c::API_KEYS_FILE.flag, env = c::API_KEYS_FILE.env, value_name = "FILE")]
    api_keys_file: Option<PathBuf>,
    /// File with a key that is good for /api/v1/pipeline only
    #[arg(long = c::OPERATOR_KEY_FILE.flag, env = c::OPERATOR_KEY_FILE.env, value_name = "FILE")]
    operator_key_file: Option<PathBuf>,
    /// Tell whoever asks that the cluster is suspended: its shards are stopped on purpose
    #[arg(long = c::SUSPENDED.flag, env = c::SUSPENDED.env)]
    suspended: bool,
    /// An answer that lost a shard waits so long for another replica, and a spare is given a shard that nobody serves after it
    #[arg(long = c::RECOVERY_TIMEOUT.flag, env = c::RECOVERY_TIMEOUT.env, default_value = c::RECOVERY_TIMEOUT.default, value_name = "TIME", value_parser = duration)]
    recovery_timeout: Duration,
    #[command(flatten)]
    run: RunArgs,
}

impl GatewayArgs {
    /// Everything resolved.
    pub fn resolve(self) -> GatewayConfig {
        let listens = self.port.is_some();
        let net = self.net.resolve(self.port.unwrap_or_default(), self.dial.bootstrap);
        let http = SocketAddr::new(net.listen, self.http_port);
        let (api_keys_file, operator_key_file) = (self.api_keys_file, self.operator_key_file);
        let (suspended, recovery, run) = (self.suspended, self.recovery_timeout, self.run.resolve());
        GatewayConfig { net, listens, http, api_keys_file, operator_key_file, suspended, recovery, run }
    }
}
