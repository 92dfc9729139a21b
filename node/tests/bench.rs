//! `shardctl bench engine` as a user runs it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/tests/data/tiny-tales-q8_0.gguf");

fn bench(arguments: &[&str]) -> std::process::Output {
    let shardctl = env!("CARGO_BIN_EXE_shardctl");
    Command::new(shardctl).args(["bench", "engine"]).args(arguments).output().unwrap()
}

#[test]
fn every_setting_has_its_figures() {
    let short = ["--threads", "1,2", "--sessions", "1,3", "--prompt", "20", "--generate", "3"];
    let output = bench(&[&[MODEL], &short[..], &["--output", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings: Vec<_> = report["engine"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["weights"].as_str().unwrap(), run["threads"].as_u64().unwrap()))
        .collect();
    assert_eq!(settings, [("map", 1), ("packed", 1), ("map", 2), ("packed", 2)]);
    for run in report["engine"].as_array().unwrap() {
        let rates = run["rates"].as_array().unwrap();
        assert_eq!(rates.iter().map(|rate| rate["sessions"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
        assert!(rates.iter().all(|rate| rate["prefill"].as_f64() > Some(0.0)), "{run}");
        assert!(rates.iter().all(|rate| rate["decode"].as_f64() > Some(0.0)), "{run}");
    }
}

#[test]
fn what_cannot_be_measured_is_named() {
    let output = bench(&[MODEL, "--prompt", "600"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("664 positions exceeds the context of 512"), "{errors}");
    let output = bench(&["no-such.gguf"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such.gguf"));
}
