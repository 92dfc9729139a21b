//! The definition of ShardCluster in a real API server: every bad spec is refused with a message that a person
//! understands, every good one is taken with its defaults, and the subresources work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

#[path = "../../operator/tests/specs/mod.rs"]
mod specs;

use std::path::Path;
use std::process::Command;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use shard_e2e::{ControlPlane, namespace, shared, until};
use shard_operator::crd::{
    LayerRange, ModelStatus, Phase, PlanShard, PlanStatus, ShardCluster, ShardClusterStatus, ShardRow,
    condition,
};
use specs::{Case, Good, Table, patched, table};

/// The definition is there, and served.
async fn installed() -> Option<(&'static ControlPlane, Client)> {
    let plane = shared().await.unwrap()?;
    let client = plane.client().await.unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = shard_operator::crd::definition().unwrap();
    match definitions.create(&PostParams::default(), &definition).await {
        // Another test was first.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        made => drop(made.unwrap()),
    }
    let clusters = Api::<ShardCluster>::default_namespaced(client.clone());
    until("the definition is served", || async { clusters.list(&Default::default()).await.ok() }).await;
    Some((plane, client))
}

struct Server {
    client: Client,
    path: String,
    namespace: String,
}

impl Server {
    async fn new(client: Client, test: &str) -> Self {
        let namespace = namespace(&client, test).await.unwrap();
        let path = format!("/apis/shardcluster.io/v1alpha1/namespaces/{namespace}/shardclusters");
        Self { client, path, namespace }
    }

    /// What becomes of an object, or why it is refused.
    async fn send(&self, method: &str, path: &str, object: &Value) -> Result<Value, String> {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.namespace.clone().into();
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(serde_json::to_vec(&object).unwrap()).unwrap();
        match self.client.request::<Value>(request).await {
            Ok(made) => Ok(made),
            Err(kube::Error::Api(status)) => Err(status.message.clone()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Tries a case without leaving anything behind.
    async fn judge(&self, base: &Value, before: Option<&Value>, patch: &Value) -> Result<Value, String> {
        const DRY: &str = "dryRun=All&fieldValidation=Strict";
        let object = patched(base, patch);
        let Some(before) = before else {
            return self.send("POST", &format!("{}?{DRY}", self.path), &object).await;
        };
        let made = self.send("POST", &self.path, &patched(base, before)).await.expect("what was before");
        let name = made["metadata"]["name"].as_str().unwrap();
        let mut object = object;
        object["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        let judged = self.send("PUT", &format!("{}/{name}?{DRY}", self.path), &object).await;
        let clusters = Api::<ShardCluster>::namespaced(self.client.clone(), &self.namespace);
        clusters.delete(name, &DeleteParams::default()).await.unwrap();
        judged
    }
}

/// One object that the operator cannot read would end its watch of all.
fn unreadable(taken: &Value) -> Option<String> {
    let read = ShardCluster::deserialize(taken);
    read.err().map(|error| format!("{taken} is taken, and cannot be read: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_spec_is_refused_with_its_message_and_every_good_one_is_taken() {
    let Some((_, client)) = installed().await else { return };
    let server = Server::new(client, "specs").await;
    let Table { base, cases, good } = table();
    let mut wrong = Vec::new();
    for Case { before, patch, rule, schema } in &cases {
        let expected = rule.as_ref().or(schema.as_ref()).expect("a message");
        match server.judge(&base, before.as_ref(), patch).await {
            Ok(_) => wrong.push(format!("{patch} is taken, and should not be: {expected}")),
            Err(said) if !said.contains(expected) => wrong.push(format!("{patch}: {said} lacks {expected}")),
            Err(_) => {}
        }
    }
    for Good { before, patch } in &good {
        match server.judge(&base, before.as_ref(), patch).await {
            Ok(taken) => wrong.extend(unreadable(&taken)),
            Err(said) => wrong.push(format!("{patch} is refused: {said}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 90 && good.len() > 10, "the table is not all there");
}

/// Tools write `null` for what is not set, and numbers in their own way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_can_be_read() {
    let Some((_, client)) = installed().await else { return };
    let server = Server::new(client, "nulls").await;
    let base = table().base;
    let path = format!("{}?dryRun=All", server.path);
    for (at, value) in [
        ("pod", Value::Null),
        (
            "pod",
            json!({ "nodeSelector": null, "tolerations": null, "affinity": null, "env": null, "labels": null }),
        ),
        ("pod", json!({ "nodeSelector": { "a": null }, "affinity": { "nodeAffinity": null } })),
        ("pod", json!({ "env": [{ "name": "A", "value": null, "valueFrom": null }] })),
        ("pod", json!({ "tolerations": [{ "key": null, "operator": "Exists", "tolerationSeconds": null }] })),
        ("resources", json!({ "requests": null, "limits": { "cpu": null } })),
        ("shards", Value::Null),
        ("shards", json!({ "count": null, "replicas": null, "layerStarts": null, "overrides": null })),
        (
            "shards",
            json!({ "overrides": [{ "id": 0, "replicas": null, "resources": null, "gpu": null, "pod": null }] }),
        ),
        ("gpu", json!({ "resourceName": null, "count": null, "nodeSelector": null, "tolerations": null })),
        ("storage", json!({ "size": null, "storageClassName": null, "retention": null, "emptyDir": null })),
        (
            "bootstrap",
            json!({ "replicas": null, "service": null, "storage": null, "resources": null, "pod": null }),
        ),
        (
            "gateway",
            json!({ "service": { "type": null, "annotations": null }, "apiKeysSecretRef": null, "allowFrom": null }),
        ),
        ("networkPolicy", json!({ "enabled": null, "externalPeers": null })),
        ("inference", json!({ "maxSessions": 4e0, "contextLength": null, "weights": null })),
        ("refreshIntervalSeconds", json!(3e2)),
        ("suspend", Value::Null),
    ] {
        let mut object = base.clone();
        object["spec"][at] = value;
        let taken = server.send("POST", &path, &object).await.unwrap();
        assert_eq!(unreadable(&taken), None);
    }
}

/// The operator's tests build pods from these; so users can have them.
#[tokio::test(flavor = "multi_thread")]
async fn fixtures_are_what_an_api_server_takes() {
    let Some((_, client)) = installed().await else { return };
    let server = Server::new(client, "fixtures").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/tests/fixtures");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let mut object: Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        object["apiVersion"] = "shardcluster.io/v1alpha1".into();
        object["kind"] = "ShardCluster".into();
        object.as_object_mut().unwrap().remove("status");
        object["metadata"].as_object_mut().unwrap().remove("uid");
        let path = format!("{}?dryRun=All&fieldValidation=Strict", server.path);
        let taken = server.send("POST", &path, &object).await;
        assert_eq!(unreadable(&taken.unwrap_or_else(|said| panic!("{}: {said}", file.display()))), None);
    }
}

/// Nothing of a status is pruned or refused, and people see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_kept_as_it_is_written() {
    let Some((plane, client)) = installed().await else { return };
    let server = Server::new(client, "status").await;
    server.send("POST", &server.path, &table().base).await.unwrap();
    let layers = LayerRange { start: 12, end: 16 };
    let status = ShardClusterStatus {
        observed_generation: Some(1),
        phase: Some(Phase::Degraded),
        pipeline_complete: true,
        swarm_ready: true,
        ready_shards: Some("3/4".into()),
        ready_shard_count: 3,
        missing_layers: vec![layers],
        missing: Some("12-16".into()),
        endpoint: Some("http://llama-gateway".into()),
        bootstrap_address: vec!["/dns/llama-bootstrap/tcp/51820/p2p/12D3".into()],
        replicas: 2,
        selector: Some("app.kubernetes.io/instance=llama".into()),
        image: Some("node:1".into()),
        model: Some(ModelStatus {
            total_layers: 16,
            sha256: "ab".into(),
            size_bytes: u64::from(u32::MAX) * 99,
        }),
        plan: Some(PlanStatus {
            id: "1234".into(),
            shards: vec![PlanShard {
                id: 3,
                layers,
                weight_bytes: 1 << 40,
                kv_bytes: 7,
                memory_request: Some("1Ti".into()),
            }],
            tolerates: vec!["any node".into()],
        }),
        shards: vec![ShardRow {
            id: 3,
            layers: Some(layers),
            desired_replicas: 2,
            ready_replicas: 1,
            loaded_replicas: 1,
            download_percent: Some(40),
            peer_ids: vec!["12D3".into()],
            nodes: vec!["node-a".into()],
        }],
        conditions: vec![Condition {
            type_: condition::PIPELINE_COMPLETE.into(),
            status: "False".into(),
            reason: "ShardsMissing".into(),
            message: "layers 12-16: shard 3 is downloading, 40 %, from 2 peers".into(),
            observed_generation: Some(1),
            last_transition_time: Time("2026-01-02T03:04:05Z".parse().unwrap()),
        }],
    };
    let clusters = Api::<ShardCluster>::namespaced(server.client.clone(), &server.namespace);
    let patch = json!({ "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "status": status });
    clusters.patch_status("llama", &PatchParams::apply("operator"), &Patch::Apply(patch)).await.unwrap();
    assert_eq!(clusters.get("llama").await.unwrap().status, Some(status));
    let (_, rows) = kubectl(plane, &server.namespace, &["get", "shc", "-o", "wide"]);
    for cell in ["tiny", "3/4", "False", "Degraded", "http://llama-gateway", "12-16"] {
        assert!(rows.contains(cell), "{cell} is not in {rows}");
    }
    // What an autoscaler reads.
    let scale = clusters.get_scale("llama").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!((status.replicas, status.selector.as_deref()), (2, Some("app.kubernetes.io/instance=llama")));
}

/// As a person asks: whether it worked, and all that it said.
fn kubectl(plane: &ControlPlane, namespace: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(plane.program("kubectl"));
    command.env("KUBECONFIG", plane.kubeconfig()).args(["-n", namespace]).args(arguments);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_filled_in_and_replicas_are_scaled() {
    let Some((plane, client)) = installed().await else { return };
    let server = Server::new(client, "defaults").await;
    let made = server.send("POST", &server.path, &table().base).await.unwrap();
    let spec = &made["spec"];
    for (at, value) in [
        ("/shards/count", json!(4)),
        ("/shards/replicas", json!(1)),
        ("/transport", json!("dual")),
        ("/storage/size", json!("20Gi")),
        ("/storage/retention/whenDeleted", json!("Retain")),
        ("/inference/contextLength", json!(4096)),
        ("/refreshIntervalSeconds", json!(300)),
        ("/networkPolicy/enabled", json!(true)),
        ("/nodeLossSeconds", json!(60)),
        ("/suspend", json!(false)),
    ] {
        assert_eq!(spec.pointer(at), Some(&value), "{at} in {spec}");
    }
    let kubectl = |arguments: &[&str]| kubectl(plane, &server.namespace, arguments);
    let (ok, said) = kubectl(&["scale", "shardcluster", "llama", "--replicas", "3"]);
    assert!(ok, "{said}");
    let clusters = Api::<ShardCluster>::namespaced(server.client.clone(), &server.namespace);
    assert_eq!(clusters.get("llama").await.unwrap().spec.shards.replicas, 3);
    // As people look at it.
    let (ok, table) = kubectl(&["get", "shc", "-o", "wide"]);
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    let columns =
        ["NAME", "MODEL", "SHARDS", "READY", "PIPELINE", "PHASE", "ENDPOINT", "MISSING", "AGE"].to_vec();
    let sorted = |mut of: Vec<&'static str>| {
        of.sort_unstable();
        of.join(" ")
    };
    let mut head = head;
    head.sort_unstable();
    assert!(ok && head.join(" ") == sorted(columns), "{table}");
    let explained = until("kubectl explain knows it", || async {
        let (ok, said) = kubectl(&["explain", "shardcluster.spec", "--recursive"]);
        ok.then_some(said)
    })
    .await;
    for field in ["layerStarts", "huggingFace", "tokenSecretRef", "allowFrom", "retainOnNodeLoss"] {
        assert!(explained.contains(field), "{field} is not in {explained}");
    }
}
