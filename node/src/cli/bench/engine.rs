//! `shardctl bench engine`.
//!
//! ```text
//!  turn 1 … n:  for every number of threads:  ours, in each layout of weights ─▶ llama-bench, where asked for
//!  ─▶ medians over the turns ─▶ report
//! ```

mod report;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use shard_engine::bench::{self, BenchOptions, Figures};
use shard_engine::{KvDtype, LoadOptions, Weights};
use shard_wire::contract as c;

use super::llama::{self, Theirs};
use super::model::{Measured, ModelArgs};
use super::say;
use crate::cli::{Ending, Failure};
use crate::config::{MAX_CONTEXT, Output, word};

use report::Report;

/// Rows of a prefill chunk: llama.cpp's default, too (`--ubatch-size`).
const CHUNK: usize = 512;

/// The engine alone: prefill, decode of one and of several sessions, memory; beside llama.cpp where that is at hand.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl bench engine --shape tinyllama-1.1b --quant q8_0 --threads 1,2
  shardctl bench engine --model model.gguf --against /usr/bin/llama-bench --output json

Tokens are generated at the positions after the prompt, by both programs. Each setting is measured --repeat times in
turn, and the median counts. ROWS are sessions that share each step; their rates are of all of them together.")]
pub(super) struct EngineArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Numbers of threads to measure
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2", value_parser = count(1024))]
    threads: Vec<usize>,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value = "512", value_parser = count(MAX_CONTEXT as usize))]
    prompt_tokens: usize,
    /// Tokens to generate after it
    #[arg(long, value_name = "N", default_value = "64", value_parser = count(MAX_CONTEXT as usize))]
    decode_tokens: usize,
    /// Numbers of sessions that share a step
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4,8", value_parser = count(1024))]
    rows: Vec<usize>,
    /// Layouts of weights in memory to measure
    #[arg(long, value_delimiter = ',', default_value = "map,packed")]
    weights: Vec<crate::config::Weights>,
    /// Type of the key and value cache
    #[arg(long = c::KV_DTYPE.flag, default_value = c::KV_DTYPE.default)]
    kv_dtype: crate::config::KvDtype,
    /// llama.cpp's llama-bench, to run on the same file in turn
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Turns
    #[arg(long, value_name = "N", default_value = "3", value_parser = count(1000))]
    repeat: usize,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// At least 1.
pub(super) fn count(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(format!("expected a number from 1 to {most}")),
    }
}

/// All turns of one setting.
#[derive(Clone, Debug)]
struct Setting {
    threads: usize,
    weights: String,
    turns: Vec<Figures>,
}

/// llama.cpp's turns with one number of threads.
#[derive(Clone, Debug)]
struct Rival {
    threads: usize,
    turns: Vec<Theirs>,
}

/// Measures, and prints the report.
pub(super) fn run(args: &EngineArgs) -> Result<Ending, Failure> {
    let model = args.model.find()?;
    let (settings, rivals) = measure(args, &model)?;
    let report = Report::new(&model, args, &settings, &rivals);
    let text = match args.output {
        Output::Text => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

fn measure(args: &EngineArgs, model: &Measured) -> Result<(Vec<Setting>, Vec<Rival>), Failure> {
    let mut settings = Vec::new();
    for &threads in &args.threads {
        for weights in &args.weights {
            settings.push(Setting { threads, weights: word(weights), turns: Vec::new() });
        }
    }
    let mut rivals: Vec<Rival> =
        args.threads.iter().map(|&threads| Rival { threads, turns: Vec::new() }).collect();
    for turn in 1..=args.repeat {
        for (at, rival) in rivals.iter_mut().enumerate() {
            let ours = settings.iter_mut().skip(at * args.weights.len()).zip(&args.weights);
            for (setting, weights) in ours {
                let options = options(args, rival.threads, *weights);
                let figures = bench::run(&model.path, &options)?;
                say(&progress(turn, setting, &figures));
                setting.turns.push(figures);
            }
            if let Some(program) = &args.against {
                let (prompt, decode) = (args.prompt_tokens, args.decode_tokens);
                let theirs = llama::run(program, &model.path, rival.threads, prompt, decode)?;
                say(&format!(
                    "turn {turn}: llama.cpp, {} threads: prefill {:.1}, decode {:.1} tokens/s",
                    rival.threads, theirs.prefill, theirs.decode
                ));
                rival.turns.push(theirs);
            }
        }
    }
    Ok((settings, rivals))
}

fn options(args: &EngineArgs, threads: usize, weights: crate::config::Weights) -> BenchOptions {
    let weights = match weights {
        crate::config::Weights::Auto => Weights::Auto,
        crate::config::Weights::Map => Weights::Map,
        crate::config::Weights::Packed => Weights::Packed,
    };
    let kv_dtype = match args.kv_dtype {
        crate::config::KvDtype::F32 => KvDtype::F32,
        crate::config::KvDtype::F16 => KvDtype::F16,
    };
    BenchOptions {
        load: LoadOptions { threads, weights, kv_dtype, context_length: None },
        sessions: args.rows.clone(),
        prompt: args.prompt_tokens,
        chunk: CHUNK,
        generate: args.decode_tokens,
    }
}

fn progress(turn: usize, setting: &Setting, figures: &Figures) -> String {
    let rates = figures.rates.iter().map(|rate| format!("{} rows {:.1}", rate.sessions, rate.decode));
    let rates: Vec<String> = rates.collect();
    let prefill = figures.rates.first().map_or(0.0, |rate| rate.prefill);
    let Setting { threads, weights, .. } = setting;
    format!(
        "turn {turn}: {threads} threads, {weights}: prefill {prefill:.1}, decode of {} tokens/s",
        rates.join(", ")
    )
}
