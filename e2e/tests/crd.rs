//! The definition of ShardCluster in a real API server: every bad spec is refused with a message that a person
//! understands, every good one is taken with its defaults, and the subresources work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::process::Command;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use shard_e2e::{ControlPlane, namespace, shared, until};
use shard_operator::crd::ShardCluster;

#[derive(Deserialize)]
struct Table {
    base: Value,
    cases: Vec<Case>,
    good: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    before: Option<Value>,
    patch: Value,
    rule: Option<String>,
    schema: Option<String>,
}

fn table() -> Table {
    serde_yaml::from_str(include_str!("../../operator/tests/bad_specs.yaml")).unwrap()
}

/// A JSON merge patch.
fn patched(base: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = base.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        match value {
            Value::Null => drop(merged.remove(key)),
            value => {
                let inner = patched(merged.get(key).unwrap_or(&Value::Null), value);
                merged.insert(key.clone(), inner);
            }
        }
    }
    merged.into()
}

/// The definition is there, and served.
async fn installed() -> Option<(&'static ControlPlane, Client)> {
    let plane = shared().await.unwrap()?;
    let client = plane.client().await.unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = shard_operator::crd::definition().unwrap();
    // Another test may have been first.
    let _ = definitions.create(&PostParams::default(), &definition).await;
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
    for Case { before, patch, .. } in &good {
        if let Err(said) = server.judge(&base, before.as_ref(), patch).await {
            wrong.push(format!("{patch} is refused: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 90 && good.len() > 10, "the table is not all there");
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
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(plane.program("kubectl"));
        command.env("KUBECONFIG", plane.kubeconfig()).args(["-n", &server.namespace]).args(arguments);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
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
