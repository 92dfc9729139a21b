//! `shardctl bench`: how fast the parts are on this machine.

mod engine;
mod llama;

use clap::{Args, Subcommand};

use super::{Ending, Failure};

/// Measure speed and memory on this machine.
#[derive(Args, Clone, Debug)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Engine(engine::EngineArgs),
}

/// Measures what the arguments say.
pub(super) fn run(args: &BenchArgs) -> Result<Ending, Failure> {
    match &args.what {
        What::Engine(args) => engine::run(args),
    }
}
