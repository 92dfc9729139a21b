//! Figures of `shardctl bench engine` as a table and as an object. Pure.

use std::fmt;

use serde::Serialize;
use shard_engine::bench::Figures;

use super::{EngineArgs, Rival, Setting};
use crate::cli::bench::model::Measured;
use crate::cli::bench::statistics::{median, round};
use crate::cli::table::Table;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    model: Measured,
    prompt_tokens: usize,
    decode_tokens: usize,
    repeat: usize,
    engine: Vec<Ours>,
    #[serde(skip_serializing_if = "Option::is_none")]
    llama_cpp: Option<LlamaCpp>,
}

/// Medians of one setting.
#[derive(Clone, Debug, Serialize)]
struct Ours {
    threads: usize,
    weights: String,
    load_seconds: f64,
    file_bytes: u64,
    kv_bytes: u64,
    /// With the last of the rows, the most if they ascend.
    resident_bytes: Option<u64>,
    resident_over_file: Option<f64>,
    resident_over_file_and_kv: Option<f64>,
    rows: Vec<Row>,
    /// All products of a forward, as they are and with sums in the fastest order; empty where there are no such kernels.
    batch_invariance: Vec<Invariance>,
}

#[derive(Clone, Debug, Serialize)]
struct Invariance {
    rows: usize,
    in_order_ms: f64,
    free_ms: f64,
    in_order_over_free: f64,
}

/// Tokens per second of all rows together.
#[derive(Clone, Debug, Serialize)]
struct Row {
    rows: usize,
    prefill: f64,
    decode: f64,
    /// Decode over that of one row, where that was measured.
    decode_over_one: Option<f64>,
    /// Over llama.cpp's with as many threads; of one row only.
    prefill_over_llama_cpp: Option<f64>,
    decode_over_llama_cpp: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct LlamaCpp {
    version: String,
    rates: Vec<Theirs>,
}

#[derive(Clone, Debug, Serialize)]
struct Theirs {
    threads: usize,
    prefill: f64,
    decode: f64,
}

impl Report {
    pub(super) fn new(model: &Measured, args: &EngineArgs, settings: &[Setting], rivals: &[Rival]) -> Self {
        let version =
            rivals.iter().flat_map(|rival| &rival.turns).next().map(|theirs| theirs.version.clone());
        let llama_cpp =
            version.map(|version| LlamaCpp { version, rates: rivals.iter().map(theirs).collect() });
        let ours = |setting: &Setting| {
            let rates = llama_cpp.iter().flat_map(|llama| &llama.rates);
            ours(setting, rates.into_iter().find(|theirs| theirs.threads == setting.threads))
        };
        Self {
            model: model.clone(),
            prompt_tokens: args.prompt_tokens,
            decode_tokens: args.decode_tokens,
            repeat: args.repeat,
            engine: settings.iter().map(ours).collect(),
            llama_cpp,
        }
    }
}

fn theirs(rival: &Rival) -> Theirs {
    let turns = || rival.turns.iter();
    Theirs {
        threads: rival.threads,
        prefill: round(median(turns().map(|turn| turn.prefill))),
        decode: round(median(turns().map(|turn| turn.decode))),
    }
}

fn ours(setting: &Setting, rival: Option<&Theirs>) -> Ours {
    let turns = || setting.turns.iter();
    let (file_bytes, kv_bytes) = turns().next().map_or((0, 0), |turn| (turn.file_bytes, turn.kv_bytes));
    let resident_bytes = turns().filter_map(|turn| turn.resident_bytes).max();
    let over = |bytes: u64| resident_bytes.map(|resident| round(resident as f64 / bytes.max(1) as f64));
    let numbers: Vec<usize> =
        turns().next().iter().flat_map(|turn| &turn.rates).map(|r| r.sessions).collect();
    let rate = |at: usize| {
        let rates = || turns().filter_map(move |turn| turn.rates.get(at));
        (median(rates().map(|rate| rate.prefill)), median(rates().map(|rate| rate.decode)))
    };
    let one = numbers.iter().position(|&rows| rows == 1).map(|at| rate(at).1);
    let row = |(at, &rows): (usize, &usize)| {
        let (prefill, decode) = rate(at);
        let rival = rival.filter(|_| rows == 1);
        Row {
            rows,
            prefill: round(prefill),
            decode: round(decode),
            decode_over_one: one.map(|one| round(decode / one)),
            prefill_over_llama_cpp: rival.map(|theirs| round(prefill / theirs.prefill)),
            decode_over_llama_cpp: rival.map(|theirs| round(decode / theirs.decode)),
        }
    };
    Ours {
        threads: setting.threads,
        weights: setting.weights.clone(),
        load_seconds: round(median(turns().map(|turn| turn.load_seconds))),
        file_bytes,
        kv_bytes,
        resident_bytes,
        resident_over_file: over(file_bytes),
        resident_over_file_and_kv: over(file_bytes + kv_bytes),
        rows: numbers.iter().enumerate().map(row).collect(),
        batch_invariance: invariance(&setting.turns),
    }
}

/// Medians over the turns, of each number of rows.
fn invariance(turns: &[Figures]) -> Vec<Invariance> {
    let numbers = turns.first().map_or(0, |turn| turn.invariance.len());
    let of = |at: usize| {
        let measured = || turns.iter().filter_map(move |turn| turn.invariance.get(at));
        Invariance {
            rows: measured().next().map_or(0, |found| found.rows),
            in_order_ms: round(median(measured().map(|found| found.in_order * 1e3))),
            free_ms: round(median(measured().map(|found| found.free * 1e3))),
            in_order_over_free: round(median(measured().map(|found| found.in_order / found.free))),
        }
    };
    (0..numbers).map(of).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, prompt_tokens, decode_tokens, repeat, engine, llama_cpp } = self;
        writeln!(f, "{}, {:.1} MB ({})", model.name, model.bytes as f64 / 1e6, model.path.display())?;
        writeln!(
            f,
            "prompt of {prompt_tokens} tokens, {decode_tokens} generated after it; tokens/s, median of {repeat}\n"
        )?;
        let mut headings = vec!["threads", "weights", "rows", "prefill", "decode", "decode / one row"];
        if llama_cpp.is_some() {
            headings.extend(["prefill / llama.cpp", "decode / llama.cpp"]);
        }
        let mut speed = Table::new(&headings);
        let times = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        for ours in engine {
            for row in &ours.rows {
                let mut cells = vec![
                    ours.threads.to_string(),
                    ours.weights.clone(),
                    row.rows.to_string(),
                    format!("{:.1}", row.prefill),
                    format!("{:.1}", row.decode),
                    times(row.decode_over_one),
                ];
                if llama_cpp.is_some() {
                    cells.extend([times(row.prefill_over_llama_cpp), times(row.decode_over_llama_cpp)]);
                }
                speed.row(cells);
            }
        }
        if let Some(llama) = llama_cpp {
            for theirs in &llama.rates {
                let rates = [format!("{:.1}", theirs.prefill), format!("{:.1}", theirs.decode)];
                let name = [theirs.threads.to_string(), "llama.cpp".into(), "1".into()];
                speed.row(name.into_iter().chain(rates));
            }
        }
        writeln!(f, "{speed}")?;
        if let Some(llama) = llama_cpp {
            writeln!(f, "llama.cpp: {}\n", llama.version)?;
        }
        let mut memory = Table::new(&[
            "threads",
            "weights",
            "load s",
            "file MB",
            "KV MB",
            "resident MB",
            "resident / file",
            "resident / (file + KV)",
        ]);
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        for ours in engine {
            memory.row([
                ours.threads.to_string(),
                ours.weights.clone(),
                format!("{:.2}", ours.load_seconds),
                mb(ours.file_bytes),
                mb(ours.kv_bytes),
                ours.resident_bytes.map_or_else(|| "-".into(), mb),
                times(ours.resident_over_file),
                times(ours.resident_over_file_and_kv),
            ]);
        }
        writeln!(f, "{memory}")?;
        let mut invariance =
            Table::new(&["threads", "weights", "rows", "all products ms", "with free sums ms", "cost"]);
        for ours in engine {
            for found in &ours.batch_invariance {
                invariance.row([
                    ours.threads.to_string(),
                    ours.weights.clone(),
                    found.rows.to_string(),
                    format!("{:.2}", found.in_order_ms),
                    format!("{:.2}", found.free_ms),
                    format!("{:.2}", found.in_order_over_free),
                ]);
            }
        }
        writeln!(
            f,
            "Batch invariance: sums in a fixed order, beside sums that are fused and in the fastest order"
        )?;
        match engine.iter().all(|ours| ours.batch_invariance.is_empty()) {
            true => writeln!(f, "(no figures: only AVX-512 has kernels of both kinds)"),
            false => write!(f, "{invariance}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shard_engine::bench::{self, Rate};

    use super::*;
    use crate::cli::bench::llama;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: EngineArgs,
    }

    fn setting(weights: &str, turns: &[[f64; 4]]) -> Setting {
        let figures = |[prefill, one, four, load_seconds]: &[f64; 4]| Figures {
            threads: 1,
            load_seconds: *load_seconds,
            file_bytes: 600_000_000,
            resident_bytes: Some(660_000_000),
            kv_bytes: 50_000_000,
            rates: vec![
                Rate { sessions: 1, prefill: *prefill, decode: *one },
                Rate { sessions: 4, prefill: *prefill, decode: *four },
            ],
            invariance: [(1, 1.02), (64, 1.05)]
                .map(|(rows, cost)| bench::Invariance { rows, in_order: cost / one, free: 1.0 / one })
                .to_vec(),
        };
        Setting { threads: 1, weights: weights.into(), turns: turns.iter().map(figures).collect() }
    }

    fn report(against: bool) -> Report {
        let model =
            Measured { path: "m.gguf".into(), name: "a model".into(), bytes: 601_000_000, vocabulary: 9 };
        let args = Cli::parse_from(["bench", "--threads", "1", "--rows", "1,4"]).args;
        let settings = [
            setting("map", &[[200.0, 40.0, 100.0, 0.5], [220.0, 50.0, 120.0, 0.4], [100.0, 10.0, 20.0, 9.0]]),
            setting("packed", &[[300.0, 60.0, 180.0, 2.0]]),
        ];
        let theirs =
            |prefill, decode| llama::Theirs { prefill, decode, version: "build 1 (abc), CPU".into() };
        let turns = if against { vec![theirs(100.0, 40.0), theirs(120.0, 30.0)] } else { Vec::new() };
        Report::new(&model, &args, &settings, &[Rival { threads: 1, turns }])
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!("alone", report(false).to_string());
        insta::assert_snapshot!("against", report(true).to_string());
    }

    #[test]
    fn object() {
        let object = serde_json::to_string_pretty(&report(true)).unwrap();
        insta::assert_snapshot!("object", object);
    }
}
