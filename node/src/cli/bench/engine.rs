//! `shardctl bench engine`: one process, no network.
//!
//! ```text
//! write a random model? ─▶ for every number of threads:  every layout ─▶ llama-bench? ─▶ table or JSON
//! ```

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use shard_engine::bench::{self, BenchOptions, Figures};
use shard_engine::config::ModelConfig;
use shard_engine::gguf::GgmlType;
use shard_engine::random::{self, Mix};
use shard_engine::{KvDtype, LoadOptions, Weights};
use shard_wire::contract as c;

use super::llama::{self, LlamaFigures};
use crate::cli::table::Table;
use crate::cli::{Ending, Failure};
use crate::config::{self, Output};

/// Measure prefill, decode and memory of the engine on one model.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl bench engine model.gguf --threads 1,2
  shardctl bench engine random.gguf --random tiny-llama-1b --quant q4-k-m
  shardctl bench engine model.gguf --threads 1 --against /usr/bin/llama-bench

PREFILL and DECODE are tokens per second of all sessions together. MEMORY is what the process holds beyond keys and
values, over the size of the weights in the file. Other programs that use the processor or its memory show in every figure.")]
pub(crate) struct EngineArgs {
    /// GGUF file of a whole model
    #[arg(value_name = "MODEL.gguf")]
    model: PathBuf,
    /// Write a model of random weights to MODEL.gguf first
    #[arg(long, value_name = "SHAPE")]
    random: Option<Shape>,
    /// Types of the random weights
    #[arg(long, value_name = "TYPE", default_value = "q4-k-m", requires = "random")]
    quant: Quant,
    /// Threads, several to compare them; all cores that the process may use where it is not given
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    threads: Vec<NonZeroUsize>,
    /// Sessions that share each forward
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8")]
    sessions: Vec<NonZeroUsize>,
    /// Tokens of a session's prompt
    #[arg(long, value_name = "TOKENS", default_value = "512")]
    prompt: NonZeroUsize,
    /// Tokens that a session generates
    #[arg(long, value_name = "TOKENS", default_value = "64")]
    generate: NonZeroUsize,
    /// How weights lie in memory
    #[arg(long, value_name = "LAYOUT,...", value_delimiter = ',', default_value = "map,packed")]
    weights: Vec<config::Weights>,
    /// How keys and values are stored
    #[arg(long = c::KV_DTYPE.flag, default_value = c::KV_DTYPE.default)]
    kv_dtype: config::KvDtype,
    /// Run llama.cpp's llama-bench on the same file in turn, and print the ratios
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    /// TinyLlama 1.1B
    #[value(name = "tiny-llama-1b")]
    TinyLlama,
    /// Llama 3.2 1B
    #[value(name = "llama-3.2-1b")]
    Llama3,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Quant {
    #[value(name = "q4-k-m", alias = "q4_k_m")]
    Q4KM,
    #[value(name = "q8-0", alias = "q8_0")]
    Q8,
    #[value(name = "q4-0", alias = "q4_0")]
    Q4,
    F16,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: PathBuf,
    prompt: usize,
    generate: usize,
    engine: Vec<Run>,
    llama_cpp: Vec<LlamaFigures>,
}

/// One layout with one number of threads.
#[derive(Debug, Serialize)]
struct Run {
    weights: String,
    threads: usize,
    load_seconds: f64,
    file_bytes: u64,
    resident_bytes: Option<u64>,
    kv_bytes: u64,
    /// Resident memory without keys and values.
    memory_over_file: Option<f64>,
    rates: Vec<Rate>,
    /// One session over one of llama.cpp.
    prefill_over_llama_cpp: Option<f64>,
    decode_over_llama_cpp: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Rate {
    sessions: usize,
    prefill: f64,
    decode: f64,
}

/// A model that would be written over another file.
#[derive(Debug, thiserror::Error)]
#[error("{path} is there already: leave out --random to measure it, or remove it first", path = path.display())]
struct Exists {
    path: PathBuf,
}

/// Measures and prints.
pub(super) fn run(args: &EngineArgs) -> Result<Ending, Failure> {
    if let Some(shape) = args.random {
        if args.model.exists() {
            return Err(Exists { path: args.model.clone() }.into());
        }
        random::write(&args.model, &shape.config(), args.quant.mix(), 1)?;
    }
    let report = measure(args)?;
    let text = match args.output {
        Output::Text => text(&report),
        Output::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

fn measure(args: &EngineArgs) -> Result<Report, Failure> {
    let (prompt, generate) = (args.prompt.get(), args.generate.get());
    let given: Vec<usize> = args.threads.iter().map(|threads| threads.get()).collect();
    let all = if given.is_empty() { vec![LoadOptions::default().threads] } else { given };
    let mut report =
        Report { model: args.model.clone(), prompt, generate, engine: Vec::new(), llama_cpp: Vec::new() };
    for threads in all {
        let first = report.engine.len();
        for &weights in &args.weights {
            let options = BenchOptions {
                load: load_options(threads, weights, args.kv_dtype),
                sessions: args.sessions.iter().map(|sessions| sessions.get()).collect(),
                prompt,
                chunk: prompt,
                generate,
            };
            report.engine.push(Run::new(weights, &bench::run(&args.model, &options)?));
        }
        if let Some(program) = &args.against {
            let figures = llama::run(program, &args.model, threads, prompt, generate)?;
            report.engine.iter_mut().skip(first).for_each(|run| run.compare(&figures));
            report.llama_cpp.push(figures);
        }
    }
    Ok(report)
}

fn load_options(threads: usize, weights: config::Weights, kv_dtype: config::KvDtype) -> LoadOptions {
    let weights = match weights {
        config::Weights::Auto => Weights::Auto,
        config::Weights::Map => Weights::Map,
        config::Weights::Packed => Weights::Packed,
    };
    let kv_dtype = match kv_dtype {
        config::KvDtype::F32 => KvDtype::F32,
        config::KvDtype::F16 => KvDtype::F16,
    };
    LoadOptions { threads, weights, kv_dtype, context_length: None }
}

impl Run {
    fn new(weights: config::Weights, figures: &Figures) -> Self {
        let Figures { threads, load_seconds, file_bytes, resident_bytes, kv_bytes, rates } = figures;
        let over_file = |bytes: u64| bytes.saturating_sub(*kv_bytes) as f64 / (*file_bytes).max(1) as f64;
        Self {
            weights: weights.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned()),
            threads: *threads,
            load_seconds: *load_seconds,
            file_bytes: *file_bytes,
            resident_bytes: *resident_bytes,
            kv_bytes: *kv_bytes,
            memory_over_file: resident_bytes.map(over_file),
            rates: rates
                .iter()
                .map(|rate| Rate { sessions: rate.sessions, prefill: rate.prefill, decode: rate.decode })
                .collect(),
            prefill_over_llama_cpp: None,
            decode_over_llama_cpp: None,
        }
    }

    fn compare(&mut self, other: &LlamaFigures) {
        if let Some(alone) = self.rates.iter().find(|rate| rate.sessions == 1) {
            self.prefill_over_llama_cpp = Some(alone.prefill / other.prefill);
            self.decode_over_llama_cpp = Some(alone.decode / other.decode);
        }
    }
}

impl Shape {
    fn config(self) -> ModelConfig {
        match self {
            Self::TinyLlama => random::tiny_llama_1b(),
            Self::Llama3 => random::llama_3_2_1b(),
        }
    }
}

impl Quant {
    fn mix(self) -> Mix {
        match self {
            Self::Q4KM => Mix::Q4KM,
            Self::Q8 => Mix::Uniform(GgmlType::Q8_0),
            Self::Q4 => Mix::Uniform(GgmlType::Q4_0),
            Self::F16 => Mix::Uniform(GgmlType::F16),
        }
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        "weights",
        "threads",
        "sessions",
        "prefill",
        "decode",
        "memory",
        "load s",
        "vs llama.cpp",
    ]);
    for run in &report.engine {
        for (i, rate) in run.rates.iter().enumerate() {
            let once = |text: String| if i == 0 { text } else { String::new() };
            let ratios = run.prefill_over_llama_cpp.zip(run.decode_over_llama_cpp);
            let ratios = ratios.filter(|_| rate.sessions == 1);
            table.row([
                run.weights.clone(),
                run.threads.to_string(),
                rate.sessions.to_string(),
                format!("{:.1}", rate.prefill),
                format!("{:.1}", rate.decode),
                once(run.memory_over_file.map_or(String::new(), |memory| format!("{memory:.2}"))),
                once(format!("{:.2}", run.load_seconds)),
                ratios.map_or(String::new(), |(prefill, decode)| format!("{prefill:.2}, {decode:.2}")),
            ]);
        }
    }
    for llama in &report.llama_cpp {
        table.row([
            format!("llama.cpp {}", llama.build),
            llama.threads.to_string(),
            "1".to_owned(),
            format!("{:.1}", llama.prefill),
            format!("{:.1}", llama.decode),
        ]);
    }
    format!("{} tokens of prompt, {} generated\n\n{table}", report.prompt, report.generate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_with_ratios() {
        let rates = vec![
            Rate { sessions: 1, prefill: 280.25, decode: 50.0 },
            Rate { sessions: 4, prefill: 281.0, decode: 170.5 },
        ];
        let mut run = Run {
            weights: "packed".to_owned(),
            threads: 2,
            load_seconds: 0.4,
            file_bytes: 1000,
            resident_bytes: Some(1100),
            kv_bytes: 60,
            memory_over_file: Some(1.04),
            rates,
            prefill_over_llama_cpp: None,
            decode_over_llama_cpp: None,
        };
        let llama = LlamaFigures { build: "b1234".to_owned(), threads: 2, prefill: 100.0, decode: 40.0 };
        run.compare(&llama);
        let report = Report {
            model: PathBuf::from("m.gguf"),
            prompt: 512,
            generate: 64,
            engine: vec![run],
            llama_cpp: vec![llama],
        };
        let expected = "\
512 tokens of prompt, 64 generated

WEIGHTS          THREADS  SESSIONS  PREFILL  DECODE  MEMORY  LOAD S  VS LLAMA.CPP
packed           2        1         280.2    50.0    1.04    0.40    2.80, 1.25
packed           2        4         281.0    170.5
llama.cpp b1234  2        1         100.0    40.0
";
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn a_model_that_is_there_is_not_written_over() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let args = EngineArgs {
            model: path.clone(),
            random: Some(Shape::TinyLlama),
            quant: Quant::Q4KM,
            threads: Vec::new(),
            sessions: Vec::new(),
            prompt: NonZeroUsize::MIN,
            generate: NonZeroUsize::MIN,
            weights: Vec::new(),
            kv_dtype: config::KvDtype::F16,
            against: None,
            output: Output::Text,
        };
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
    }
}
