//! The definition in `crds/` is the one that the Rust types make and `operator crd` prints.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_definition_in_the_tree_is_what_the_operator_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/shardcluster.yaml");
    let kept = std::fs::read_to_string(&path).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_operator")).arg("crd").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        kept.as_bytes() == output.stdout,
        "crds/shardcluster.yaml is not what the types in operator/src/crd say; regenerate it: \
         cargo run -p shard-operator -- crd > crds/shardcluster.yaml"
    );
}
