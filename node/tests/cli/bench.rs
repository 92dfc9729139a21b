//! `shardctl bench`: what it says, not how fast it is.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::SOON;
use super::{Folder, default_model, program, text};

fn bench(arguments: &[&str]) -> Value {
    let output = program("shardctl").arg("bench").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn the_engine_has_figures_for_every_setting() {
    let model = default_model();
    let measured = bench(
        &[
            &["engine", "--model", model.to_str().unwrap(), "--threads", "1,2", "--rows", "1,2"][..],
            &["--prompt-tokens", "8", "--decode-tokens", "4", "--repeat", "1", "--output", "json"],
        ]
        .concat(),
    );
    assert_eq!(measured["model"]["bytes"], std::fs::metadata(&model).unwrap().len());
    let settings = measured["engine"].as_array().unwrap();
    let expected = [(1, "map"), (1, "packed"), (2, "map"), (2, "packed")];
    for (setting, (threads, weights)) in settings.iter().zip(expected) {
        assert_eq!((&setting["threads"], &setting["weights"]), (&threads.into(), &weights.into()));
        // 2 sessions of 12 positions in 8 layers: keys and values of 4 heads of 32, two bytes each.
        assert_eq!(setting["kv_bytes"], 2 * 12 * 8 * 2 * 4 * 32 * 2);
        assert!(setting["file_bytes"].as_u64() < measured["model"]["bytes"].as_u64());
        for (row, rows) in setting["rows"].as_array().unwrap().iter().zip([1, 2]) {
            assert_eq!(row["rows"], rows);
            assert!(positive(&row["prefill"]) && positive(&row["decode"]), "{row}");
        }
        assert_eq!(setting["rows"][0]["decode_over_one"], 1.0);
    }
    assert_eq!(settings.len(), expected.len());
    assert!(measured.get("llama_cpp").is_none());
}

#[test]
fn a_fleet_has_figures_for_every_number_of_shards() {
    let cache = Folder::new("bench-fleet");
    let model = default_model();
    let measured = bench(
        &[
            &["fleet", "--model", model.to_str().unwrap(), "--cache", cache.0.to_str().unwrap()][..],
            &["--shards", "1,2", "--balanced", "--transport", "tcp", "--concurrency", "1,3", "--repeat", "1"],
            &["--prompt-tokens", "8", "--decode-tokens", "4", "--output", "json"],
        ]
        .concat(),
    );
    let fleets = measured["fleets"].as_array().unwrap();
    assert_eq!(fleets.len(), 2);
    for (fleet, shards) in fleets.iter().zip([1, 2]) {
        assert_eq!(fleet["shards"], shards);
        for figure in ["decode", "prefill", "first_token_ms", "decode_over_engine", "prefill_over_engine"] {
            assert!(positive(&fleet[figure]), "{figure} of {fleet}");
        }
        assert_eq!(fleet["layer_starts"].as_array().unwrap().len(), shards);
        let requests: Vec<_> = fleet["concurrency"].as_array().unwrap().iter().collect();
        assert_eq!((&requests[0]["requests"], &requests[1]["requests"]), (&1.into(), &3.into()));
        // The bootstrap and the shards; this process is the gateway.
        let processes = fleet["memory"].as_array().unwrap();
        assert_eq!(processes.len(), 1 + shards);
        assert!(
            processes
                .iter()
                .all(|process| process["peak_bytes"].as_u64() >= process["resident_bytes"].as_u64())
        );
    }
    assert!(fleets[0].get("boundary_ms").is_none(), "one shard has no boundary");
    let boundary = &fleets[1]["boundary_ms"];
    assert!(boundary["p50"].as_f64() <= boundary["p99"].as_f64(), "{boundary}");
}

#[test]
fn the_swarm_bench_names_a_program_that_is_missing() {
    let empty = Folder::new("bench-swarm-path");
    let mut bench = program("shardctl");
    // Any file is an nginx that is there; the next one to be looked for is curl.
    bench.args(["bench", "swarm", "--nginx"]).arg(default_model()).env("PATH", &empty.0);
    let output = bench.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("curl is not in PATH: install it"), "{said}");
}

/// A small one of everything.
#[test]
#[ignore = "takes a minute, nginx, curl, and root or user namespaces"]
fn the_swarm_has_figures_beside_http() {
    let cache = Folder::new("bench-swarm");
    let measured = bench(
        &[
            &["swarm", "--cache", cache.0.to_str().unwrap(), "--size", "20MB", "--nodes", "2"][..],
            &["--repeat", "1", "--output", "json"],
        ]
        .concat(),
    );
    for part in ["loopback", "link"] {
        let part = &measured[part];
        let ways: Vec<_> = part["ways"].as_array().unwrap().iter().collect();
        assert!(ways.iter().all(|way| positive(&way["seconds"]) && positive(&way["over_first"])), "{part}");
        assert_eq!(part["goal"]["reached"], part["goal"]["is"].as_f64() >= part["goal"]["goal"].as_f64());
    }
    let origin = &measured["origin"][0];
    assert_eq!(origin["nodes"], 2);
    // Whatever left the origin went over its link, and every piece left it.
    assert!(origin["copies"]["is"].as_f64() >= Some(1.0), "{origin}");
    assert!(origin["copies_on_link"].as_f64() > origin["copies"]["is"].as_f64(), "{origin}");
    // 20 MB at 200 Mbit/s.
    assert!(origin["last_node_s"].as_f64() > Some(0.8) && origin["http_s"].as_f64() > Some(1.6), "{origin}");
    let seeding = &measured["seeding"];
    assert!(positive(&seeding["first_round"]["complete_s"]), "{seeding}");
    assert_eq!(left_behind(&cache), ["random-20000000-bytes.gguf"]);
}

/// Ctrl-C in the middle of a copy over the slow link.
#[test]
#[ignore = "takes nginx, curl, and root or user namespaces"]
fn an_interrupted_swarm_bench_leaves_nothing() {
    let cache = Folder::new("bench-swarm-interrupted");
    let mut bench = program("shardctl");
    bench.args(["bench", "swarm", "--only", "origin", "--size", "100MB", "--cache"]).arg(&cache.0);
    let mut bench = bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = cache.0.join(format!("run-{}", bench.id()));
    let deadline = Instant::now() + SOON;
    while !run.join("data/copy-0").exists() {
        assert!(Instant::now() < deadline && bench.try_wait().unwrap().is_none(), "nothing was copied");
        std::thread::sleep(Duration::from_millis(10));
    }
    let of_the_run = run.to_str().unwrap();
    assert!(!processes(of_the_run).is_empty());
    assert!(Command::new("kill").args(["-INT", &bench.id().to_string()]).status().unwrap().success());
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    assert_eq!(processes(of_the_run), [""; 0]);
    assert_eq!(left_behind(&cache), ["random-100000000-bytes.gguf"]);
}

/// Command lines of processes that name this.
fn processes(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(name)).collect()
}

fn left_behind(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(&folder.0).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
