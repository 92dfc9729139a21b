//! `shardctl bench` with real weights: what it says, not how fast it is.

use serde_json::Value;

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
