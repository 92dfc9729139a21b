//! `shardctl split`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use shard_wire::contract as c;
use shard_wire::layers::MAX_SHARDS;

use super::{Ending, Failure};
use crate::config::Output;
use crate::store::split::{OnProgress, Shards, Split, SplitRequest, Step, split};

/// Cut a model into shards, each with some of its layers.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl split model.gguf --shards 4 --out models_cache/shards
  shardctl split model-00001-of-00003.gguf --shards 8 --out shards     the other parts lie beside the first
  shardctl split model.gguf --layers 0,9,16 --out shards               three shards: layers 0-8, 9-15 and the rest

The folder gets shard-0.gguf, shard-1.gguf, …, tokenizer.gguf and manifest.json; the files take as much room as the
model, and while they replace others twice as much. A split that is there already is checked and kept.
`shardctl plan` says which layers to cut at so that all shards take equally long.")]
pub(super) struct SplitArgs {
    /// GGUF file of the model, or the first part of several
    #[arg(value_name = "MODEL.gguf")]
    model: PathBuf,
    /// How many shards [default: as --layers says]
    #[arg(long, value_name = "N", required_unless_present = "layers", value_parser = clap::value_parser!(u16).range(1..=MAX_SHARDS as i64))]
    shards: Option<u16>,
    /// First layer of every shard [default: sizes as equal as can be, the larger ones first]
    #[arg(long, value_name = "0,9,16", value_delimiter = ',')]
    layers: Vec<u32>,
    /// Folder for the shards
    #[arg(long, value_name = "DIR", default_value = c::SHARDS_DIR.default)]
    out: PathBuf,
    /// Replace the shards of another model
    #[arg(long)]
    force: bool,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// Splits, with a progress bar on a terminal, and prints the files.
pub(super) fn run(args: &SplitArgs) -> Result<Ending, Failure> {
    let request =
        SplitRequest { model: &args.model, out: &args.out, shards: shards(args)?, force: args.force };
    let split = with_progress(|progress| split(&request, progress))?;
    let text = match args.output {
        Output::Text => text(&args.out, &split),
        Output::Json => format!("{}\n", json(&args.out, &split)),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

fn shards(args: &SplitArgs) -> Result<Shards, Failure> {
    match (args.shards.map(usize::from), args.layers.len()) {
        (Some(shards), 0) => Ok(Shards::Count(shards)),
        (Some(shards), starts) if shards != starts => {
            Err(format!("--shards {shards} does not fit --layers, which names {starts} shards").into())
        }
        _ => Ok(Shards::Starts(args.layers.clone())),
    }
}

/// Runs `work` below a bar on standard error; without a terminal there is none.
pub(super) fn with_progress<T>(work: impl FnOnce(OnProgress<'_>) -> T) -> T {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let current = Mutex::new(None);
    let result = work(&|step, more, total| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Some(step) {
            *current = Some(step);
            bar.set_message(match step {
                Step::Hash => "reading",
                Step::Describe | Step::Verify => "verifying",
                Step::Copy => "writing",
            });
            bar.set_length(total);
            bar.reset();
        }
        bar.inc(more);
    });
    bar.finish_and_clear();
    result
}

pub(super) fn text(out: &Path, split: &Split) -> String {
    let manifest = &split.manifest;
    let shards = manifest.layer_starts.len();
    let done = if split.reused { "already there, verified" } else { "written" };
    let mut text = format!("{shards} shards of {} layers {done}\n", manifest.total_layers);
    for file in &manifest.files {
        let layers = if file.layers().is_empty() {
            "vocabulary".to_owned()
        } else {
            format!("layers {}", file.layers())
        };
        text += &format!("  {:<16} {layers:<16} {:>15} bytes\n", file.name, file.size);
    }
    text += &format!("model    {}\n", manifest.model_sha256);
    text += &format!("manifest {}\nin {}\n", split.manifest_sha256, out.display());
    text
}

pub(super) fn json(out: &Path, split: &Split) -> serde_json::Value {
    let manifest = &split.manifest;
    let files: Vec<_> = manifest
        .files
        .iter()
        .map(|file| json!({"name": file.name, "size": file.size, "sha256": file.sha256, "start": file.start, "end": file.end}))
        .collect();
    json!({
        "out": out,
        "reused": split.reused,
        "manifest_sha256": split.manifest_sha256,
        "model_sha256": manifest.model_sha256,
        "model_bytes": manifest.model_bytes,
        "total_layers": manifest.total_layers,
        "layer_starts": manifest.layer_starts,
        "files": files,
    })
}
