//! The chart and the examples go with the types: neither a chart with an older definition, nor an example without children.
//! And README's table of values goes with the chart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

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

/// Path, default and meaning of every value: the comment above it.
fn values() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(tree("charts/shardcluster-operator/values.yaml")).unwrap();
    let (mut path, mut comment, mut rows) = (Vec::<String>::new(), Vec::<&str>::new(), Vec::new());
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(words) = content.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        if let Some((key, default)) = content.split_once(':') {
            path.truncate((line.len() - content.len()) / 2);
            path.push(key.to_owned());
            if !default.is_empty() {
                rows.push([path.join("."), default.trim().to_owned(), comment.join(" ")]);
            }
        }
        comment.clear();
    }
    rows
}

/// Paths of all that is not a map with something in it.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() && !path.starts_with("resources.") => {
            for (key, value) in map {
                leaves(value, &[path, key].join(if path.is_empty() { "" } else { "." }), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn readme_has_a_table_of_the_values() {
    let rows = values();
    let mut paths: Vec<String> = rows.iter().map(|[path, ..]| path.clone()).collect();
    paths.sort();
    let text = std::fs::read_to_string(tree("charts/shardcluster-operator/values.yaml")).unwrap();
    let mut expected = Vec::new();
    leaves(&serde_yaml::from_str(&text).unwrap(), "", &mut expected);
    expected.sort();
    assert_eq!(paths, expected, "a form of values.yaml that is not understood here");

    let mut table = "| value | default | what |\n|---|---|---|\n".to_owned();
    for [path, default, what] in rows {
        assert!(!what.is_empty(), "{path} has no comment");
        let default = match default.as_str() {
            "\"\"" | "{}" | "[]" => String::new(),
            default => format!("`{default}`"),
        };
        table += &format!("| `{path}` | {default} | {what} |\n");
    }
    let (begin, end) = ("<!-- values -->\n", "<!-- end of values -->");
    let readme = std::fs::read_to_string(tree("README.md")).unwrap();
    let (before, rest) = readme.split_once(begin).expect("README has a place for the table");
    let (there, after) = rest.split_once(end).expect("the table has an end");
    if std::env::var("UPDATE_README").is_ok_and(|value| value == "1") {
        std::fs::write(tree("README.md"), format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    assert!(
        there == table,
        "README's table of values is not that of values.yaml; UPDATE_README=1 cargo test -p shard-operator --test chart writes it:\n{table}"
    );
}
