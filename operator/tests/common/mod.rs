//! Clusters from small files, and their children.
#![allow(dead_code, clippy::unwrap_used, reason = "tests, and not every one uses all of it")]

use k8s_openapi::ByteString;
use shard_operator::cluster::Cluster;
use shard_operator::crd::{ModelStatus, ShardCluster};
use shard_operator::desired::Plan;
use shard_operator::desired::secrets::{Keys, identified_pods};
use shard_operator::desired::{Desired, Facts, desired};
use shard_operator::settings::Settings;
use shard_operator::validate::validate;
use shard_wire::pipeline::ManifestShard;

/// Every file of `fixtures/`.
pub(crate) const FIXTURES: [&str; 8] =
    ["minimal", "everything", "gpu", "claim", "oci-image", "hugging-face", "empty-dir", "suspended"];

pub(crate) fn settings() -> Settings {
    Settings {
        node_image: "shardcluster/node:0.1.0".into(),
        cuda_suffix: "-cuda".into(),
        auto_upgrade: false,
        namespace: "shardcluster-system".into(),
        monitoring_namespaces: vec!["monitoring".into()],
        watch_namespace: None,
        concurrency: 1,
    }
}

pub(crate) fn cluster(fixture: &str) -> Cluster {
    let path = format!("{}/tests/fixtures/{fixture}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut resource: serde_json::Value =
        serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    resource["apiVersion"] = "shardcluster.io/v1alpha1".into();
    resource["kind"] = "ShardCluster".into();
    let resource: ShardCluster = serde_json::from_value(resource).unwrap();
    validate(&resource, &settings()).unwrap()
}

/// Keys that are the same in every run, and the shards of a model of one gigabyte.
pub(crate) fn facts(cluster: &Cluster) -> Facts {
    let line = |text: &str| ByteString(text.as_bytes().to_vec());
    let keys = Keys {
        cluster_secret: line("of 32 bytes or more, and known to all"),
        identities: identified_pods(cluster).map(|pod| (pod, line(&"07".repeat(32)))).collect(),
        operator_key: line("the operator's"),
    };
    let count = cluster.shards.len() as u64;
    let manifest = cluster.shards.iter().map(|shard| ManifestShard {
        shard_id: shard.id,
        start: shard.id,
        end: shard.id + 1,
        weight_bytes: 1_000_000_000 / count,
        kv_bytes_per_token: 4096,
    });
    let model = ModelStatus { total_layers: count as u32, ..ModelStatus::default() };
    Facts { keys, plan: Some(Plan { name: "p1a2b3c4".into(), shards: manifest.collect(), model }) }
}

pub(crate) fn children(fixture: &str) -> Desired {
    let cluster = cluster(fixture);
    desired(&cluster, &facts(&cluster))
}
