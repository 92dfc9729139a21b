//! The chart and the examples go with the types: neither a chart with an older definition, nor an example without children.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;
use shard_operator::crd::ShardCluster;
use shard_operator::desired::{ShardChildren, desired};
use shard_operator::validate::validate;

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_chart_has_the_definition_of_the_tree() {
    let copy = std::fs::read(tree("charts/shardcluster-operator/files/shardcluster.yaml")).unwrap();
    let definition = std::fs::read(tree("crds/shardcluster.yaml")).unwrap();
    assert!(
        copy == definition,
        "the chart's definition is not that of crds/: \
         cp crds/shardcluster.yaml charts/shardcluster-operator/files/shardcluster.yaml"
    );
}

#[test]
fn the_chart_installs_this_version() {
    let chart = std::fs::read_to_string(tree("charts/shardcluster-operator/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_example_is_valid_and_has_children() {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(tree("examples")).unwrap() {
        let path = entry.unwrap().path();
        let mut resource: ShardCluster =
            serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        resource.metadata.namespace = Some("llm".into());
        resource.metadata.uid = Some("6a0b".into());
        let cluster = validate(&resource, &common::settings())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let desired = desired(&cluster, &common::facts(&cluster));
        assert_eq!(desired.shards.len(), resource.spec.shards.count as usize, "{}", path.display());
        let pods = |shard: &ShardChildren| shard.stateful_set.spec.as_ref().and_then(|spec| spec.replicas);
        assert!(desired.shards.iter().all(|shard| pods(shard) >= Some(1)), "{}", path.display());
        names.push(cluster.name);
    }
    names.sort();
    let all = names.len();
    names.dedup();
    assert!(all >= 7 && names.len() == all, "examples can be applied side by side: {names:?}");
}
