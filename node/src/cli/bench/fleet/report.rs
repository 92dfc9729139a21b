//! Figures of `shardctl bench fleet` as tables and as an object. Pure.

use std::fmt;

use serde::Serialize;

use super::measure::Aggregate;
use super::memory::ProcessMemory;
use super::{Alone, FleetArgs, Measurement};
use crate::cli::bench::model::Measured;
use crate::cli::bench::statistics::{median, percentile, round};
use crate::cli::table::Table;
use crate::config::word;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    model: Measured,
    threads_per_stage: usize,
    transport: String,
    prompt_tokens: usize,
    decode_tokens: usize,
    repeat: usize,
    fleets: Vec<FleetFigures>,
}

/// One fleet, beside the engine alone just before and after it.
#[derive(Clone, Debug, Serialize)]
struct FleetFigures {
    shards: usize,
    /// First layer of each shard; absent where they are as equal as can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_starts: Option<Vec<u32>>,
    engine: Alone,
    prefill: f64,
    prefill_over_engine: f64,
    decode: f64,
    decode_over_engine: f64,
    first_token_ms: f64,
    /// Absent for one shard, which has no boundary.
    #[serde(skip_serializing_if = "Option::is_none")]
    boundary_ms: Option<Boundary>,
    concurrency: Vec<Concurrent>,
    memory: Vec<ProcessMemory>,
    shards_resident_over_file: Option<f64>,
    shards_proportional_over_file: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Boundary {
    p50: f64,
    p99: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Concurrent {
    #[serde(flatten)]
    aggregate: Aggregate,
    /// Where one request was measured.
    over_one: Option<f64>,
}

impl Report {
    pub(super) fn new(model: &Measured, args: &FleetArgs, measurements: &[Measurement]) -> Self {
        Self {
            model: model.clone(),
            threads_per_stage: args.threads_per_stage,
            transport: word(&args.transport),
            prompt_tokens: args.prompt_tokens,
            decode_tokens: args.decode_tokens,
            repeat: args.repeat,
            fleets: measurements.iter().map(|measurement| fleet(measurement, model.bytes)).collect(),
        }
    }
}

fn fleet(measured: &Measurement, file: u64) -> FleetFigures {
    let engine = Alone {
        prefill: round(median(measured.engine.iter().map(|alone| alone.prefill))),
        decode: round(median(measured.engine.iter().map(|alone| alone.decode))),
    };
    let single = || measured.single.iter();
    let prefill = median(single().map(|single| single.prefill));
    let decode = median(single().map(|single| single.decode));
    let hops: Vec<f64> = single().flat_map(|single| single.boundaries_ms.iter().copied()).collect();
    let boundary = || Boundary { p50: round(percentile(&hops, 50)), p99: round(percentile(&hops, 99)) };
    let one = measured.aggregate.iter().find(|aggregate| aggregate.requests == 1);
    let concurrent = |aggregate: &Aggregate| Concurrent {
        aggregate: *aggregate,
        over_one: one.map(|one| round(aggregate.tokens_per_second / one.tokens_per_second)),
    };
    let shards = || measured.memory.iter().filter(|process| process.process.starts_with("shard_listener"));
    let over_file = |bytes: Option<u64>| bytes.map(|bytes| round(bytes as f64 / file.max(1) as f64));
    FleetFigures {
        shards: measured.shards,
        layer_starts: measured.layer_starts.clone(),
        engine,
        prefill: round(prefill),
        prefill_over_engine: round(prefill / engine.prefill),
        decode: round(decode),
        decode_over_engine: round(decode / engine.decode),
        first_token_ms: round(median(single().map(|single| single.first_token_ms))),
        boundary_ms: (!hops.is_empty()).then(boundary),
        concurrency: measured.aggregate.iter().map(concurrent).collect(),
        memory: measured.memory.clone(),
        shards_resident_over_file: over_file(shards().map(|process| process.resident_bytes).sum()),
        shards_proportional_over_file: over_file(shards().map(|process| process.proportional_bytes).sum()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, threads_per_stage, transport, prompt_tokens, decode_tokens, repeat, fleets } = self;
        writeln!(f, "{}, {:.1} MB ({})", model.name, model.bytes as f64 / 1e6, model.path.display())?;
        writeln!(
            f,
            "{threads_per_stage} threads a stage, {transport}; prompt of {prompt_tokens} tokens, {decode_tokens} \
             generated after it; tokens/s, median of {repeat}\n"
        )?;
        let mut streams = Table::new(&[
            "shards",
            "decode",
            "engine alone",
            "ratio",
            "prefill",
            "engine alone",
            "ratio",
            "first token ms",
            "boundary p50 ms",
            "p99 ms",
        ]);
        for fleet in fleets {
            let boundary = |of: fn(&Boundary) -> f64| {
                fleet.boundary_ms.as_ref().map_or_else(|| "-".to_owned(), |b| format!("{:.3}", of(b)))
            };
            streams.row([
                fleet.shards.to_string(),
                format!("{:.1}", fleet.decode),
                format!("{:.1}", fleet.engine.decode),
                format!("{:.2}", fleet.decode_over_engine),
                format!("{:.1}", fleet.prefill),
                format!("{:.1}", fleet.engine.prefill),
                format!("{:.2}", fleet.prefill_over_engine),
                format!("{:.0}", fleet.first_token_ms),
                boundary(|b| b.p50),
                boundary(|b| b.p99),
            ]);
        }
        writeln!(f, "{streams}")?;
        let mut together = Table::new(&["shards", "requests", "tokens/s", "/ one"]);
        for fleet in fleets {
            for concurrent in &fleet.concurrency {
                together.row([
                    fleet.shards.to_string(),
                    concurrent.aggregate.requests.to_string(),
                    format!("{:.1}", concurrent.aggregate.tokens_per_second),
                    concurrent.over_one.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
                ]);
            }
        }
        writeln!(f, "{together}")?;
        let headings = ["shards", "process", "resident MB", "proportional MB", "peak MB"];
        let mut memory = Table::new(&headings);
        let mb = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), |b| format!("{:.1}", b as f64 / 1e6));
        for fleet in fleets {
            for process in &fleet.memory {
                memory.row([
                    fleet.shards.to_string(),
                    process.process.clone(),
                    mb(process.resident_bytes),
                    mb(process.proportional_bytes),
                    mb(process.peak_bytes),
                ]);
            }
            let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |r| format!("{r:.2}"));
            memory.row([
                fleet.shards.to_string(),
                "all shards / file".into(),
                ratio(fleet.shards_resident_over_file),
                ratio(fleet.shards_proportional_over_file),
            ]);
        }
        write!(f, "{memory}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::measure::Single;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: FleetArgs,
    }

    fn measurement(shards: usize) -> Measurement {
        let single = |decode, hops: &[f64]| Single {
            prefill: 400.0,
            decode,
            first_token_ms: 320.0,
            boundaries_ms: hops.to_vec(),
        };
        let hops: &[f64] = if shards == 1 { &[] } else { &[0.2, 0.1, 0.9] };
        let process = |name: &str, bytes| ProcessMemory {
            process: name.into(),
            resident_bytes: Some(bytes),
            proportional_bytes: Some(bytes - 10_000_000),
            peak_bytes: Some(bytes + 1_000_000),
        };
        let name = |shard| format!("shard_listener-{shard}");
        let nodes = (0..shards).map(|shard| process(&name(shard), 330_000_000));
        Measurement {
            shards,
            layer_starts: (shards > 1).then(|| vec![0, 12]),
            engine: vec![Alone { prefill: 380.0, decode: 40.0 }, Alone { prefill: 420.0, decode: 42.0 }],
            single: vec![single(39.0, hops), single(40.0, hops), single(20.0, hops)],
            aggregate: [(1, 38.0), (4, 114.0)]
                .map(|(requests, tokens_per_second)| Aggregate { requests, tokens_per_second })
                .to_vec(),
            memory: std::iter::once(process("server", 20_000_000)).chain(nodes).collect(),
        }
    }

    fn report() -> Report {
        let model =
            Measured { path: "m.gguf".into(), name: "a model".into(), bytes: 600_000_000, vocabulary: 9 };
        let args = Cli::parse_from(["bench"]).args;
        Report::new(&model, &args, &[measurement(1), measurement(2)])
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!("tables", report().to_string());
    }

    #[test]
    fn object() {
        insta::assert_snapshot!("object", serde_json::to_string_pretty(&report()).unwrap());
    }
}
