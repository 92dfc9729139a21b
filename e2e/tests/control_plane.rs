//! The control plane that other tests stand on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use shard_e2e::binaries::may_skip;
use shard_e2e::{ControlPlane, Parts, namespace, shared, skipped, until};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).unwrap()
}

/// One of a test's own, of etcd and an API server.
async fn own() -> Option<ControlPlane> {
    match ControlPlane::start(Parts::default()).await {
        Err(error) if skipped(&error) => None,
        plane => Some(plane.unwrap()),
    }
}

/// Processes that name a folder in their arguments.
fn users(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let arguments = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let arguments = arguments.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    arguments.filter(|arguments| arguments.contains(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_does_and_who_may_not_is_refused() {
    let Some(plane) = shared().await.unwrap() else { return };
    let client = plane.client().await.unwrap();
    let space = namespace(&client, "rights").await.unwrap();
    assert_ne!(space, namespace(&client, "rights").await.unwrap());
    let maps = Api::<ConfigMap>::namespaced(client, &space);
    maps.create(&PostParams::default(), &config_map("m")).await.unwrap();
    assert_eq!(maps.get("m").await.unwrap().data.unwrap()["a"], "b");

    let nobody = plane.client_as(&space, "nobody").await.unwrap();
    let refused = Api::<ConfigMap>::namespaced(nobody, &space).get("m").await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    let who = format!("system:serviceaccount:{space}:nobody");
    assert!(status.code == 403 && status.message.contains(&who), "{status:?}");

    let kubectl = Command::new(plane.program("kubectl"))
        .env("KUBECONFIG", plane.kubeconfig_as(&space, "nobody").await.unwrap())
        .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&kubectl.stdout);
    assert!(said.contains(&format!("system:serviceaccounts:{space}")), "{said} {kubectl:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_gets_pods_and_the_scheduler_says_why_they_do_not_fit() {
    let Some(plane) = shared().await.unwrap() else { return };
    let client = plane.client().await.unwrap();
    let namespace = namespace(&client, "pods").await.unwrap();
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "s"},
        "spec": {
            "replicas": 2, "serviceName": "s", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "none"}]},
            },
        },
    }))
    .unwrap();
    let sets = Api::<StatefulSet>::namespaced(client.clone(), &namespace);
    sets.create(&PostParams::default(), &set).await.unwrap();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let why = until("both pods are unschedulable", || async {
        let pods = pods.list(&ListParams::default()).await.unwrap();
        let why = |pod: &Pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let condition = conditions.iter().find(|one| one.reason.as_deref() == Some("Unschedulable"))?;
            condition.message.clone()
        };
        let why: Vec<String> = pods.iter().filter_map(why).collect();
        (why.len() == 2).then_some(why)
    })
    .await;
    assert!(why.iter().all(|why| why.contains("no nodes available")), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_the_api_server_was_killed() {
    let begun = Instant::now();
    let Some(mut plane) = own().await else { return };
    let up = begun.elapsed();
    let client = plane.client().await.unwrap();
    let account = plane.client_as("default", "somebody").await.unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    plane.stop_api_server();
    let Err(gone) = maps.get("kept").await else { panic!("nobody answers") };
    assert!(!matches!(gone, kube::Error::Api(_)), "{gone}");

    let begun = Instant::now();
    plane.start_api_server().await.unwrap();
    eprintln!("up in {up:?}, the API server again in {:?}", begun.elapsed());
    // The clients of before, with the tokens of before.
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["a"], "b");
    let refused = Api::<ConfigMap>::default_namespaced(account).get("kept").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let folder = plane.kubeconfig().parent().unwrap().to_owned();
    assert!(users(&folder).len() >= 2);
    drop(plane);
    assert!(!folder.exists() && users(&folder).is_empty(), "{:?}", users(&folder));
}

/// Asked for by the next test: a program of tests that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits to be killed"]
async fn victim() {
    let Some(plane) = own().await else { return };
    println!("kubeconfig {}", plane.kubeconfig().display());
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_ends_with_the_tests_however_those_end() {
    // Ctrl-C goes to a whole group, a kill to one process.
    for (signal, group) in [("INT", true), ("KILL", false)] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let path =
            lines.map_while(Result::ok).find_map(|line| line.strip_prefix("kubeconfig ").map(PathBuf::from));
        let Some(path) = path else {
            let ended = victim.wait().unwrap();
            assert!(may_skip(), "it does not come up: {ended}");
            return;
        };
        let folder = path.parent().unwrap().to_owned();
        assert!(users(&folder).len() >= 2, "etcd and an API server");
        let id = format!("{}{}", if group { "-" } else { "" }, victim.id());
        assert!(Command::new("kill").args(["-s", signal, "--", &id]).status().unwrap().success());
        assert!(!victim.wait().unwrap().success());
        until(&format!("after {signal} nothing is left of {}", folder.display()), || async {
            (users(&folder).is_empty() && !folder.exists()).then_some(())
        })
        .await;
    }
}
