//! The dependency rule: which crate may know what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Normal dependencies of every member of the workspace.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let normal = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies.iter().filter(|dependency| dependency["kind"].is_null()).map(name).collect()
    };
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (name(package), normal(package))).collect()
}

#[test]
fn every_crate_knows_only_what_it_may() {
    let members = members();
    let only = |what: fn(&str) -> bool, owners: &[&str]| {
        for (member, dependencies) in &members {
            let strays: Vec<_> = dependencies.iter().filter(|name| what(name)).collect();
            assert!(strays.is_empty() || owners.contains(&member.as_str()), "{member} depends on {strays:?}");
        }
    };
    only(|name| name.starts_with("libp2p"), &["shard-node"]);
    only(|name| name.starts_with("candle"), &["shard-engine"]);
    only(|name| name.starts_with("kube") || name == "k8s-openapi", &["shard-operator", "shard-e2e"]);
    only(|name| name == "shard-kernels", &["shard-engine"]);
    // Synchronous, and without a network: the engine; data only: the wire; nothing at all: the kernels.
    only(|name| name == "tokio" || name == "axum", &["shard-node", "shard-operator", "shard-e2e"]);
    let exactly = |member: &str, allowed: &[&str]| {
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let strays: Vec<_> = members[member].difference(&allowed).collect();
        assert!(strays.is_empty(), "{member} depends on {strays:?}");
    };
    exactly("shard-kernels", &["libc"]);
    exactly("shard-wire", &["serde", "serde_json", "thiserror"]);
}
