//! `shardctl bench swarm`.
//!
//! ```text
//!  tools      nginx, curl, sha256sum; for limited links ip, tc, unshare, nsenter
//!  namespace  this process again, in a network namespace of its own, where a part needs limited links
//!  loopback   ┐ pair: in turn, curl from nginx ─▶ sha256sum; server ─▶ shard_listener, until its files are whole
//!  link       ┘       on loopback with TLS and without; between two namespaces at 1 Gbit/s
//!  origin     ┐ many: N × curl at once; server ─▶ N × shard_listener; the origin at 200 Mbit/s
//!  seeding    ┘       the origin at 20 Mbit/s, its counts of pieces looked at meanwhile
//!  ─▶ report
//! ```
//! All programs are processes, and nothing of them or of their network outlives this one.

mod counts;
mod fetch;
mod lab;
mod many;
mod namespace;
mod pair;
mod report;
mod tools;
mod watch;
mod web;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use clap::{Args, ValueEnum};
use sha2::Sha256;
use shard_wire::contract as c;
use thiserror::Error;

use self::lab::Lab;
use self::report::{Measured, Report};
use self::tools::{NetTools, Tools};
use super::engine::count;
use super::model::{self, MIN_SIZE};
use super::say;
use crate::cli::up::group::Stop;
use crate::cli::up::run_folder::RunFolder;
use crate::cli::{Ending, Failure, Shutdown, until_stopped};
use crate::config::{Output, Transport, word};
use crate::store::hash;

/// Between one seeder and one node.
const LINK_MBIT: u64 = 1000;
/// Of the origin, where several nodes fetch.
const ORIGIN_MBIT: u64 = 200;
/// Of the origin, where the order counts in which pieces leave it.
const SEEDING_MBIT: u64 = 20;
const SEEDING_NODES: usize = 4;
/// Layers of the model: each shard has one at least.
const MAX_NODES: usize = 16;

/// The swarm beside HTTP: one seeder to one node on loopback and over a limited link; a limited origin and many nodes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl bench swarm                                     everything, some minutes
  shardctl bench swarm --only loopback --size 1GB          without limited links, so without further rights
  shardctl bench swarm --only origin --nodes 2,4,8 --transport tcp --output json

  loopback  curl over TLS and without, from nginx, each followed by sha256sum; and the swarm. Goal: 0.60 of TLS
  link      the same at 1 Gbit/s, without TLS. Goal: 0.95 of curl, with the swarm's hashing and without sha256sum's
  origin    the origin at 200 Mbit/s, N nodes that want the whole model, by HTTP and by swarm.
            Goals: at most 1.1 copies leave the origin; from 4 nodes on at most 2/N of HTTP's time
  seeding   the origin at 20 Mbit/s, 4 nodes. Goal: no piece leaves it twice before all have left once

Seconds of the swarm begin when the node has the manifest; those of `start and join included`, of origin and of seeding when
it is started. They end when its files have their final names: whole and verified. Links are namespaces with a token bucket
(ip, tc): it takes root, or a system where users may make namespaces. On loopback nothing is limited but by the processor,
which all programs share.")]
pub(super) struct SwarmArgs {
    /// What to measure
    #[arg(long, value_delimiter = ',', value_name = "PART", default_value = "loopback,link,origin,seeding")]
    only: Vec<Part>,
    /// Size of the model, such as 500MB or 2GB [default: 256MB; origin 128MB, seeding 32MB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// Numbers of nodes of the part origin
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2,4,8", value_parser = count(MAX_NODES))]
    nodes: Vec<usize>,
    /// Turns of loopback and link; medians count
    #[arg(long, value_name = "N", default_value = "3", value_parser = count(1000))]
    repeat: usize,
    /// What the processes talk over; dual is QUIC first, then TCP
    #[arg(long, default_value = "dual")]
    transport: Transport,
    /// nginx [default: the one in PATH or /usr/sbin]
    #[arg(long, value_name = "PROGRAM")]
    nginx: Option<PathBuf>,
    /// Folder where made models are kept
    #[arg(long, value_name = "DIR", default_value = "models_cache/bench")]
    cache: PathBuf,
    /// Folder for what is fetched; removed at the end [default: in --cache]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
    #[arg(long = namespace::INSIDE, hide = true)]
    inside: bool,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Loopback,
    Link,
    Origin,
    Seeding,
}

#[derive(Debug, Error)]
enum SwarmError {
    #[error("cannot use the folder {}: {action}: {source}; give another one with --{flag}", path.display())]
    Folder { action: &'static str, path: PathBuf, source: io::Error, flag: &'static str },
}

/// What every part needs.
struct Bench {
    tools: Tools,
    transport: Transport,
    repeat: usize,
    /// Links to the programs, and their logs.
    run: PathBuf,
    /// What is fetched.
    data: PathBuf,
    shutdown: Shutdown,
}

/// The model of a part.
struct Sized {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// Measures, and prints the report.
pub(super) fn run(args: &SwarmArgs) -> Result<Ending, Failure> {
    let tools = Tools::find(args.nginx.as_deref())?;
    let limited = args.only.iter().any(|part| *part != Part::Loopback);
    let net = limited.then(NetTools::find).transpose()?;
    if let Some(net) = net.as_ref().filter(|_| !args.inside) {
        return Err(namespace::enter(net));
    }
    until_stopped(async |shutdown| {
        let report = match measure(args, tools, net.as_ref(), shutdown).await {
            Ok(measured) => Report::new(word(&args.transport), &measured),
            Err(Stop::Interrupted) => return Ok(Ending::Interrupted),
            Err(Stop::Failed(failure)) => return Err(failure),
        };
        let text = match args.output {
            Output::Text => report.to_string(),
            Output::Json => format!("{}\n", serde_json::to_string(&report)?),
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(Ending::Done)
    })
}

async fn measure(
    args: &SwarmArgs,
    tools: Tools,
    net: Option<&NetTools>,
    shutdown: Shutdown,
) -> Result<Measured, Stop> {
    let cache = made(&args.cache, "cache")?;
    let folder = RunFolder::make(&cache)?;
    let data = match &args.dir {
        Some(dir) => made(dir, "dir")?.join(format!("bench-swarm-{}", process::id())),
        None => folder.path.join("data"),
    };
    fs::create_dir(&data).map_err(failed("create", &data, "dir"))?;
    let run = folder.path.clone();
    let bench = Bench { tools, transport: args.transport, repeat: args.repeat, run, data, shutdown };
    let measured = parts(args, &bench, net, &cache).await;
    // Left behind in the run's folder, the next run removes it.
    let _ = fs::remove_dir_all(&bench.data);
    match &measured {
        Ok(_) | Err(Stop::Interrupted) => folder.forget(),
        Err(Stop::Failed(_)) => say(&format!("logs are in {}", bench.run.display())),
    }
    measured
}

async fn parts(
    args: &SwarmArgs,
    bench: &Bench,
    net: Option<&NetTools>,
    cache: &Path,
) -> Result<Measured, Stop> {
    let mut measured = Measured::default();
    let wanted = |part: Part| args.only.contains(&part);
    let model = async |part: Part| bench.model(cache, args.size.unwrap_or(part.size())).await;
    let most = args.nodes.iter().copied().chain([SEEDING_NODES]).max().unwrap_or(SEEDING_NODES);
    // First of all: in a namespace of our own there is no loopback before.
    let lab = match net {
        Some(net) => Some(bench.during(async { Ok(Lab::build(net, most).await?) }).await?),
        None => None,
    };
    if wanted(Part::Loopback) {
        measured.loopback = Some(pair::loopback(bench, &model(Part::Loopback).await?).await?);
    }
    let Some(lab) = lab else { return Ok(measured) };
    if wanted(Part::Link) {
        measured.link = Some(pair::link(bench, &lab, &model(Part::Link).await?).await?);
    }
    if wanted(Part::Origin) {
        measured.origin = Some(many::origin(bench, &lab, &model(Part::Origin).await?, &args.nodes).await?);
    }
    if wanted(Part::Seeding) {
        measured.seeding = Some(many::seeding(bench, &lab, &model(Part::Seeding).await?).await?);
    }
    Ok(measured)
}

impl Part {
    /// So that a link is full for seconds, and all parts together take minutes.
    fn size(self) -> u64 {
        match self {
            Self::Loopback | Self::Link => 256_000_000,
            Self::Origin => 128_000_000,
            Self::Seeding => 32_000_000,
        }
    }
}

impl Bench {
    /// Work that the user may interrupt.
    async fn during<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Stop> {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.begun() => Err(Stop::Interrupted),
            done = work => Ok(done?),
        }
    }

    /// A model of about that size, and its hash.
    async fn model(&self, cache: &Path, bytes: u64) -> Result<Sized, Stop> {
        let cache = cache.to_owned();
        let making = tokio::task::spawn_blocking(move || {
            let made = model::sized(&cache, bytes)?;
            let failed = || failed("read", &made.path, "cache");
            let mut hasher = Sha256::default();
            let input = fs::File::open(&made.path).map_err(failed())?;
            hash::update(&mut hasher, input, |_| {}).map_err(failed())?;
            Ok(Sized { bytes: made.bytes, sha256: hash::finish(hasher), path: made.path })
        });
        self.during(async { making.await? }).await
    }
}

/// The folder's path for programs with other working directories.
fn made(folder: &Path, flag: &'static str) -> Result<PathBuf, SwarmError> {
    fs::create_dir_all(folder).map_err(failed("create", folder, flag))?;
    fs::canonicalize(folder).map_err(failed("resolve", folder, flag))
}

fn failed(action: &'static str, path: &Path, flag: &'static str) -> impl FnOnce(io::Error) -> SwarmError {
    let path = path.to_owned();
    move |source| SwarmError::Folder { action, path, source, flag }
}

/// Bytes, with a unit or without.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
    ];
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    match number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(bytes) if bytes >= MIN_SIZE => Ok(bytes),
        _ => Err(format!("expected a size of at least {} MB, such as 500MB or 2GB", MIN_SIZE / 1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("256MB", 256_000_000), ("64 MiB", 64 << 20), ("2GB", 2_000_000_000), ("10000000", MIN_SIZE)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "9MB", "-1GB", "1.5GB", "99999999999GB", "256 kB"] {
            assert!(size(text).unwrap_err().contains("such as"), "{text}");
        }
    }
}
