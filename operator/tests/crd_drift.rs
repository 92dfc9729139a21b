//! The definition in `crds/` is the one that the Rust types make.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

#[test]
fn the_definition_in_the_tree_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/shardcluster.yaml");
    let kept = std::fs::read_to_string(&path).unwrap();
    let made = shard_operator::crd::yaml().unwrap();
    assert!(
        kept == made,
        "crds/shardcluster.yaml is not what the types in operator/src/crd say; regenerate it: \
         cargo run -p shard-operator -- crd > crds/shardcluster.yaml"
    );
}
