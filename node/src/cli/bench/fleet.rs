//! `shardctl bench fleet`.
//!
//! ```text
//!  for every number of shards:
//!    engine alone, in this process
//!    split ─▶ server, shard_listener × N: processes of their own, on loopback
//!    ring: this process joins as a gateway does ─▶ one stream, repeated ─▶ several at once ─▶ memory of each process
//!    stop ─▶ engine alone once more
//!  ─▶ report
//! ```
//! Tokens are timed where a gateway gets them, before they become text and HTTP.

mod measure;
mod memory;
mod report;
mod ring;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shard_engine::bench::{self, BenchOptions};
use shard_engine::{Device, KvDtype, LoadOptions, Weights};
use shard_wire::contract as c;
use shard_wire::layers::MAX_SHARDS;

use self::measure::{Aggregate, Single};
use self::memory::ProcessMemory;
use self::report::Report;
use self::ring::Ring;
use super::engine::count;
use super::model::{Measured, ModelArgs};
use super::say;
use crate::cli::up::children::Fleet;
use crate::cli::up::group::Stop;
use crate::cli::up::home::Home;
use crate::cli::up::ports::Ports;
use crate::cli::up::progress;
use crate::cli::{Ending, Failure, Shutdown};
use crate::config::args::UpPorts;
use crate::config::{ActivationDtype, EngineConfig, MAX_CONTEXT, Output, Transport};
use crate::listener::CHUNK;
use crate::store::plan::propose;
use crate::store::split::Shards;

/// Any free ones: nobody else needs to know them.
const PORTS: UpPorts = UpPorts { http_port: None, port: None, diagnostics_port: None };

/// Whole fleets on loopback, each shard a process, beside the engine alone: speed, cost of each boundary, memory.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl bench fleet --model model.gguf --shards 1,2,4 --balanced
  shardctl bench fleet --shape llama-3.2-1b --quant q8_0 --concurrency 1,4 --output json

BOUNDARY is the time between two tokens that no stage spends on its engine or waits for it, over the hops that a token
makes: one for each shard, back to the first included.")]
pub(super) struct FleetArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Fleets to measure, by their number of shards
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4", value_parser = count(MAX_SHARDS))]
    shards: Vec<usize>,
    /// Cut where `shardctl plan` proposes, instead of into equal numbers of layers
    #[arg(long)]
    balanced: bool,
    /// Engine threads of each shard, and of the engine alone
    #[arg(long, value_name = "N", default_value = "1", value_parser = count(1024))]
    threads_per_stage: usize,
    /// Requests at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4,8", value_parser = count(1024))]
    concurrency: Vec<usize>,
    /// What the processes talk over; dual is QUIC first, then TCP
    #[arg(long, default_value = "dual")]
    transport: Transport,
    /// Tokens of the single stream's prompt
    #[arg(long, value_name = "N", default_value = "128", value_parser = count(MAX_CONTEXT as usize))]
    prompt_tokens: usize,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value = "64", value_parser = count(MAX_CONTEXT as usize))]
    decode_tokens: usize,
    /// Single streams, one after the other; medians count
    #[arg(long, value_name = "N", default_value = "3", value_parser = count(1000))]
    repeat: usize,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// One fleet, and the engine alone at the same time.
#[derive(Clone, Debug, Serialize)]
struct Measurement {
    shards: usize,
    layer_starts: Option<Vec<u32>>,
    /// The engine alone, before and after.
    engine: Vec<Alone>,
    single: Vec<Single>,
    aggregate: Vec<Aggregate>,
    memory: Vec<ProcessMemory>,
}

/// Tokens a second of the engine without a fleet.
#[derive(Clone, Copy, Debug, Serialize)]
struct Alone {
    prefill: f64,
    decode: f64,
}

/// Measures, and prints the report.
pub(super) async fn run(args: FleetArgs, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let preparing = args.model.clone();
    let model = tokio::task::spawn_blocking(move || preparing.find());
    let model = tokio::select! {
        model = model => model??,
        () = shutdown.begun() => return Ok(Ending::Interrupted),
    };
    let mut measurements = Vec::new();
    for &shards in &args.shards {
        match fleet(&args, &model, shards, &mut shutdown).await {
            Ok(measurement) => measurements.push(measurement),
            Err(Stop::Interrupted) => return Ok(Ending::Interrupted),
            Err(Stop::Failed(failure)) => return Err(failure),
        }
    }
    let report = Report::new(&model, &args, &measurements);
    let text = match args.output {
        Output::Text => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

async fn fleet(
    args: &FleetArgs,
    model: &Measured,
    shards: usize,
    shutdown: &mut Shutdown,
) -> Result<Measurement, Stop> {
    let before = alone(args, model, shutdown).await?;
    let layer_starts = match args.balanced {
        true => Some(propose(&model.path, shards)?.layer_starts),
        false => None,
    };
    let cut = layer_starts.clone().map_or(Shards::Count(shards), Shards::Starts);
    let (path, state): (PathBuf, PathBuf) = (model.path.clone(), args.model.cache.clone());
    let home = tokio::task::spawn_blocking(move || Home::prepare(Some(&path), Some(&state), &cut));
    let home = tokio::select! {
        home = home => home??,
        () = shutdown.begun() => return Err(Stop::Interrupted),
    };
    let ports = Ports::choose(&PORTS, true)?;
    let mut fleet = Fleet::new(&home, args.transport, engine(args), &ports, shutdown.clone());
    let served = serve(args, model, shards, &ports, &mut fleet).await;
    fleet.stop().await;
    let (single, aggregate, memory) = served?;
    home.forget();
    let after = alone(args, model, shutdown).await?;
    Ok(Measurement { shards, layer_starts, engine: vec![before, after], single, aggregate, memory })
}

type Figures = (Vec<Single>, Vec<Aggregate>, Vec<ProcessMemory>);

async fn serve(
    args: &FleetArgs,
    model: &Measured,
    shards: usize,
    ports: &Ports,
    fleet: &mut Fleet,
) -> Result<Figures, Stop> {
    fleet.start_server()?;
    fleet.during(progress::until_ready(ports.diagnostics)).await?;
    for shard in 0..shards {
        fleet.start_shard(u32::try_from(shard)?)?;
    }
    let mut ring = Ring::join(ports.port, args.transport, fleet.secret())?;
    say(&format!("{shards} shards: waiting for the pipeline"));
    fleet.during(ring.complete()).await?;
    let single = fleet.during(measure::single(&ring.client, args, model.vocabulary)).await?;
    let decode = single.iter().map(|single| format!("{:.1}", single.decode)).collect::<Vec<_>>();
    say(&format!("{shards} shards: one stream decodes at {} tokens/s", decode.join(", ")));
    let mut aggregate = Vec::new();
    for &requests in &args.concurrency {
        let measuring = measure::aggregate(&ring.client, args, model.vocabulary, requests);
        let figures = fleet.during(measuring).await?;
        say(&format!("{shards} shards: {requests} at once {:.1} tokens/s", figures.tokens_per_second));
        aggregate.push(figures);
    }
    let memory = fleet.processes().map(|(name, pid)| memory::of(name, pid)).collect();
    ring.leave().await;
    Ok((single, aggregate, memory))
}

/// The engine in this process, with a shard's settings.
async fn alone(args: &FleetArgs, model: &Measured, shutdown: &mut Shutdown) -> Result<Alone, Stop> {
    let options = BenchOptions {
        load: LoadOptions {
            threads: args.threads_per_stage,
            weights: Weights::Auto,
            kv_dtype: KvDtype::F16,
            context_length: None,
        },
        sessions: vec![1],
        prompt: args.prompt_tokens,
        chunk: CHUNK as usize,
        generate: args.decode_tokens,
    };
    let path = model.path.clone();
    let running = tokio::task::spawn_blocking(move || bench::run(&path, &options));
    let figures = tokio::select! {
        figures = running => figures??,
        () = shutdown.begun() => return Err(Stop::Interrupted),
    };
    let alone = figures.rates.first().map(|rate| Alone { prefill: rate.prefill, decode: rate.decode });
    let alone = alone.unwrap_or(Alone { prefill: 0.0, decode: 0.0 });
    say(&format!("engine alone: prefill {:.1}, decode {:.1} tokens/s", alone.prefill, alone.decode));
    Ok(alone)
}

fn engine(args: &FleetArgs) -> EngineConfig {
    EngineConfig {
        threads: Some(args.threads_per_stage),
        device: Device::Cpu,
        weights: crate::config::Weights::Auto,
        kv: crate::config::KvDtype::F16,
        activations: ActivationDtype::F32,
        max_sessions: args.concurrency.iter().copied().max().unwrap_or(1),
        context: None,
    }
}
