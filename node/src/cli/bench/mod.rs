//! `shardctl bench`: speed and memory on this machine.
//!
//! ```text
//!  model   the file that the user names, or one of random weights, made once and kept
//!  engine  one process: engine ─▶ figures; with --against also llama.cpp's, in turn ─▶ medians ─▶ report
//!  fleet   engine alone, then fleets of real processes on loopback ─▶ report
//!  swarm   nginx and curl, then an origin and nodes, on loopback and over limited links ─▶ report
//! ```

mod engine;
mod fleet;
mod llama;
mod model;
mod statistics;
mod swarm;

use clap::{Args, Subcommand};

use super::{Ending, Failure, until_stopped};
use crate::telemetry::tell;

/// Measure the engine, whole fleets, or the swarm, on this machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl bench engine --model model.gguf --against /usr/bin/llama-bench
  shardctl bench fleet --shape tinyllama-1.1b --shards 1,2,4 --balanced
  shardctl bench swarm --only loopback,link

Speed depends on shapes and types and not on what a model knows: without --model the weights are random.")]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    Engine(engine::EngineArgs),
    Fleet(fleet::FleetArgs),
    Swarm(swarm::SwarmArgs),
}

/// Measures, and prints a table or an object.
pub(super) fn run(args: BenchArgs) -> Result<Ending, Failure> {
    // As in a node; and what one setting has taken is gone before the memory of the next is counted.
    shard_engine::give_back_freed_memory();
    match args.what {
        What::Engine(args) => engine::run(&args),
        What::Fleet(args) => until_stopped(async |shutdown| fleet::run(args, shutdown).await),
        What::Swarm(args) => swarm::run(&args),
    }
}

/// What happens meanwhile, on standard error.
fn say(line: &str) {
    tell(&format!("{line}\n"));
}
