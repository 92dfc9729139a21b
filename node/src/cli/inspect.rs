//! `shardctl inspect`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use shard_wire::contract as c;

use super::{Ending, Failure};
use crate::config::Output;
use crate::store::inspect::inspect;

/// Say what is in a model, a shard, a tokenizer or a manifest.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl inspect model.gguf                        hyperparameters, weights by type, metadata
  shardctl inspect shards/shard-0.gguf --tensors     which tensors a shard has
  shardctl inspect shards/manifest.json --output json

Only headers are read. A file that is damaged, or that no node could run, ends with exit code 1 and the reason.")]
pub(super) struct InspectArgs {
    /// GGUF file, or manifest.json
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// List every tensor, too
    #[arg(long)]
    tensors: bool,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// Prints what the file says; an error where no node could run it.
pub(super) fn run(args: &InspectArgs) -> Result<Ending, Failure> {
    let report = inspect(&args.file, args.tensors)?;
    let text = match args.output {
        Output::Text => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    match report.problem() {
        Some(problem) => Err(problem.into()),
        None => Ok(Ending::Done),
    }
}
