//! `shardctl plan`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use shard_wire::contract as c;
use shard_wire::layers::MAX_SHARDS;

use super::{Ending, Failure};
use crate::config::Output;
use crate::store::plan::{Plan, propose};

/// Propose where to cut a model so that all shards take equally long.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl plan model.gguf --shards 3
  shardctl split model.gguf --out shards --layers $(shardctl plan model.gguf --shards 3 --output json | jq -r '.layer_starts | join(\",\")')

The time of a shard is that of reading its weights once per token. The head of a small model costs as much as several
layers, so the last shard gets fewer of them. LOAD is a shard's time over the average: 1.00 everywhere is perfect.")]
pub(super) struct PlanArgs {
    /// GGUF file of the model, or the first part of several
    #[arg(value_name = "MODEL.gguf")]
    model: PathBuf,
    /// How many shards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_SHARDS as i64))]
    shards: u16,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// Prints the proposal.
pub(super) fn run(args: &PlanArgs) -> Result<Ending, Failure> {
    let plan = propose(&args.model, usize::from(args.shards))?;
    let text = match args.output {
        Output::Text => text(args, &plan),
        Output::Json => format!("{}\n", serde_json::to_string(&plan)?),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

fn text(args: &PlanArgs, plan: &Plan) -> String {
    let mut text = format!("{:<7} {:<12} {:>15}  LOAD\n", "SHARD", "LAYERS", "BYTES");
    for shard in &plan.shards {
        let layers = shard.layers.to_string();
        text += &format!("{:<7} {layers:<12} {:>15}  {:.2}\n", shard.shard_id, shard.bytes, shard.load);
    }
    let starts: Vec<String> = plan.layer_starts.iter().map(u32::to_string).collect();
    text += &format!("\nshardctl split {} --layers {} --out DIR\n", args.model.display(), starts.join(","));
    text
}
