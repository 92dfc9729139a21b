//! The chart: what Helm makes of it, and what a real API server says to it and to the examples.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod helm;

use std::path::Path;

use clap::Parser;
use helm::{args_of, helm, install, kubectl, of_kind, one, run, template, tree};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use shard_e2e::{ControlPlane, namespace, shared, until};
use shard_operator::cli::Cli;

const DEFINITION: &str = "shardclusters.shardcluster.io";
const LEASE: &str = "shardcluster-operator";

/// By the operator's own command line.
fn understood(args: &[&str]) {
    Cli::try_parse_from(["operator"].iter().chain(args)).unwrap();
}

#[tokio::test]
async fn lint_finds_nothing() {
    let Some(helm) = helm().await else { return };
    run(&helm, &["lint", "--strict", &helm::chart()], None).unwrap();
}

#[tokio::test]
async fn by_default_one_operator_looks_after_all_namespaces() {
    let Some(helm) = helm().await else { return };
    let objects = template(&helm, &[]).unwrap();
    let definition = one(&objects, "CustomResourceDefinition");
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let kept: Value =
        serde_yaml::from_str(&std::fs::read_to_string(tree("crds/shardcluster.yaml")).unwrap()).unwrap();
    assert!(definition["spec"] == kept["spec"], "Helm changes the definition");
    assert_eq!(of_kind(&objects, "ClusterRoleBinding").len(), 1);
    for kind in ["PodDisruptionBudget", "ServiceMonitor", "NetworkPolicy"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        args_of(&objects),
        [
            "run",
            "--namespace=system",
            &format!("--node-image=shardcluster/node:{version}"),
            "--cuda-suffix=-cuda",
            "--concurrency=16",
            "--log-format=json",
        ]
    );
}

#[tokio::test]
async fn with_a_namespace_of_its_own_the_operator_has_no_rights_elsewhere() {
    let Some(helm) = helm().await else { return };
    let objects = template(&helm, &["watchNamespace=llm", "rbac.aggregate=false"]).unwrap();
    // Machines and their volumes are in no namespace.
    let rules = one(&objects, "ClusterRole")["rules"].as_array().unwrap();
    let resources: Vec<&Value> = rules.iter().map(|rule| &rule["resources"]).collect();
    assert_eq!(resources, [&json!(["nodes"]), &json!(["persistentvolumes"])]);
    let namespaces = |kind: &str| -> Vec<Value> {
        let mut found: Vec<Value> =
            of_kind(&objects, kind).iter().map(|object| object["metadata"]["namespace"].clone()).collect();
        found.sort_by_key(ToString::to_string);
        found
    };
    assert_eq!(namespaces("Role"), ["llm", "system"]);
    assert_eq!(namespaces("RoleBinding"), ["llm", "system"]);
    let args = args_of(&objects);
    assert!(args.contains(&"--watch-namespace=llm"), "{args:?}");
    understood(&args);
}

#[tokio::test]
async fn secrets_are_never_listed_or_watched() {
    let Some(helm) = helm().await else { return };
    let objects = template(&helm, &[]).unwrap();
    let rules = of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role"));
    let rules: Vec<&Value> = rules.flat_map(|role| role["rules"].as_array().unwrap()).collect();
    let has = |rule: &Value, field: &str, word: &str| {
        rule[field].as_array().unwrap().iter().any(|value| value == word)
    };
    let secrets: Vec<&&Value> = rules.iter().filter(|rule| has(rule, "resources", "secrets")).collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0]["verbs"], json!(["get", "create", "patch"]));
    for rule in rules {
        assert!(!["verbs", "resources", "apiGroups"].iter().any(|field| has(rule, field, "*")), "{rule}");
    }
}

#[tokio::test]
async fn what_is_optional_comes_when_asked_for() {
    let Some(helm) = helm().await else { return };
    let objects = template(
        &helm,
        &[
            "replicas=2",
            "serviceMonitor.enabled=true",
            "serviceMonitor.labels.release=prometheus",
            "networkPolicy.enabled=true",
            "monitoringNamespaces={monitoring,logs}",
            "nodeImage.tag=next",
            "nodeImage.autoUpgrade=true",
            "image.digest=sha256:8d7fd68ae1c3c803a1796541eaabfade6a269b2033a5b6f09b2486ac32f46244",
            "log.filter=debug",
            "crds.keep=false",
        ],
    )
    .unwrap();
    let deployment = one(&objects, "Deployment");
    let pod = &deployment["spec"]["template"];
    assert_eq!(deployment["spec"]["replicas"], 2);
    let container = &pod["spec"]["containers"][0];
    assert!(container["image"].as_str().unwrap().starts_with("shardcluster/operator@sha256:8d7f"));
    let pod_name = json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    assert_eq!(container["env"], json!([pod_name, {"name": "RUST_LOG", "value": "debug"}]));
    let args = args_of(&objects);
    for flag in [
        "--auto-upgrade",
        "--node-image=shardcluster/node:next",
        "--monitoring-namespace=monitoring",
        "--monitoring-namespace=logs",
    ] {
        assert!(args.contains(&flag), "{flag}: {args:?}");
    }
    understood(&args);
    // All of these mean the same pods.
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&one(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&one(&objects, "Service")["spec"]["selector"], labels);
    let policy = &one(&objects, "NetworkPolicy")["spec"];
    assert_eq!(&policy["podSelector"]["matchLabels"], labels);
    let from = &policy["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(from["values"], json!(["monitoring", "logs"]));
    let monitor = one(&objects, "ServiceMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let service = &one(&objects, "Service")["metadata"]["labels"];
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service[key], value);
    }
    let definition = one(&objects, "CustomResourceDefinition");
    assert!(definition["metadata"].get("annotations").is_none(), "{}", definition["metadata"]);
}

#[tokio::test]
async fn without_definition_account_and_rights_there_are_none() {
    let Some(helm) = helm().await else { return };
    let values = [
        "crds.install=false",
        "rbac.create=false",
        "rbac.aggregate=false",
        "serviceAccount.create=false",
        "serviceAccount.name=mine",
    ];
    let objects = template(&helm, &values).unwrap();
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Service", "Deployment"]);
    assert_eq!(objects[1]["spec"]["template"]["spec"]["serviceAccountName"], "mine");
}

#[tokio::test]
async fn a_label_that_selects_pods_stays_as_it_is() {
    let Some(helm) = helm().await else { return };
    let labels = |values: &[&str]| {
        let objects = template(&helm, values).unwrap();
        one(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"].clone()
    };
    let own = labels(&[]);
    let name = r"podLabels.app\.kubernetes\.io/name=other";
    assert_eq!(labels(&[name]), own);
    assert_eq!(labels(&[name, "podLabels.team=a"])["team"], "a");
}

#[tokio::test]
async fn values_that_mean_nothing_are_refused() {
    let Some(helm) = helm().await else { return };
    for (value, named) in [
        ("replicas=3", "replicas"),
        ("replicas=two", "replicas"),
        ("replica=2", "replica"),
        ("watchNamespace=No_Name", "watchNamespace"),
        ("image.digest=sha256:12", "digest"),
        ("image.repository=", "repository"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("log.format=xml", "format"),
        ("concurrency=0", "concurrency"),
        ("crds.instal=true", "instal"),
        ("crds.install=maybe", "install"),
        ("resources.limits.memory=lots", "memory"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("monitoringNamespaces={a,a}", "monitoringNamespaces"),
        ("image.tag=.1", "tag"),
        ("nodeImage.repository=shardcluster/node:1", "repository"),
        ("imagePullSecrets[0].name=My_Secret", "imagePullSecrets"),
        ("serviceAccount.name=My_Account", "serviceAccount"),
        ("priorityClassName=High Prio", "priorityClassName"),
        ("podLabels.team=a b", "podLabels"),
        ("resources.limits.memory=-1", "memory"),
        ("rbac=null", "rbac"),
    ] {
        let refused = template(&helm, &[value]).expect_err(value);
        assert!(
            refused.contains("don't meet the specifications") && refused.contains(named),
            "{value}: {refused}"
        );
    }
}

/// Whether the operator's account may do this, by the API server's own word.
async fn may(client: &Client, account: &str, attributes: Value) -> bool {
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"user": format!("system:serviceaccount:{account}"), "resourceAttributes": attributes},
    }))
    .unwrap();
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// Group, resource, subresource and verbs that the operator needs where it looks after ShardClusters.
const NEEDED: [(&str, &str, &str, &[&str]); 13] = [
    ("shardcluster.io", "shardclusters", "", &["get", "list", "watch"]),
    ("shardcluster.io", "shardclusters", "status", &["patch"]),
    ("", "services", "", ALL),
    ("", "serviceaccounts", "", ALL),
    ("apps", "statefulsets", "", ALL),
    ("apps", "deployments", "", ALL),
    ("policy", "poddisruptionbudgets", "", ALL),
    ("networking.k8s.io", "networkpolicies", "", ALL),
    ("", "secrets", "", &["get", "create", "patch"]),
    ("", "configmaps", "", &["get"]),
    ("", "pods", "", &["list", "watch", "delete"]),
    ("", "persistentvolumeclaims", "", &["list", "watch", "patch", "delete"]),
    ("events.k8s.io", "events", "", &["list", "create"]),
];
const ALL: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Every verb on what it needs, so that it has these rights in `namespace` and no further ones.
async fn has_exactly_what_it_needs(client: &Client, account: &str, namespace: &str) {
    for (group, resource, subresource, needed) in NEEDED {
        for verb in VERBS {
            let attributes = json!({
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            });
            let allowed = may(client, account, attributes).await;
            assert_eq!(allowed, needed.contains(&verb), "{verb} {resource}/{subresource} in {namespace}");
        }
    }
}

async fn restricted(client: &Client, test: &str) -> String {
    let name = namespace(client, test).await.unwrap();
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.patch(&name, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_it_has_its_rights_and_pods_and_the_examples_are_accepted() {
    let (Some(helm), Some(plane)) = (helm().await, shared().await.unwrap()) else { return };
    let client = plane.client().await.unwrap();
    let system = restricted(&client, "system").await;
    let notes = install(&helm, plane, "op", &system, &["replicas=2", "networkPolicy.enabled=true"]);
    assert!(notes.contains("all namespaces") && notes.contains("kind: ShardCluster"), "{notes}");

    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    until("the definition is established", || async {
        let status = definitions.get(DEFINITION).await.unwrap().status?;
        let established = |one: &_| {
            let one: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition = one;
            one.type_ == "Established" && one.status == "True"
        };
        status.conditions?.iter().any(established).then_some(())
    })
    .await;

    let account = format!("{system}:op-shardcluster-operator");
    let user = namespace(&client, "user").await.unwrap();
    has_exactly_what_it_needs(&client, &account, &user).await;
    let lease = |namespace: &str, name: &str| {
        let group = "coordination.k8s.io";
        json!({"namespace": namespace, "group": group, "resource": "leases", "name": name, "verb": "update"})
    };
    assert!(may(&client, &account, lease(&system, LEASE)).await);
    assert!(!may(&client, &account, lease(&system, "other")).await, "leases of others");
    assert!(!may(&client, &account, lease(&user, LEASE)).await, "leases elsewhere");

    let pods = Api::<Pod>::namespaced(client.clone(), &system);
    until("a namespace of restricted pods takes both", || async {
        (pods.list(&ListParams::default()).await.unwrap().items.len() == 2).then_some(())
    })
    .await;

    examples_are_accepted(plane, &user);

    let namespace = format!("--namespace={system}");
    run(&helm, &["uninstall", "op", &namespace], Some(&plane.kubeconfig())).unwrap();
    let deployments = Api::<Deployment>::namespaced(client, &system);
    assert!(deployments.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(definitions.get_opt(DEFINITION).await.unwrap().is_some(), "users lose their ShardClusters");
}

fn examples_are_accepted(plane: &ControlPlane, namespace: &str) {
    let namespace = format!("--namespace={namespace}");
    let apply = |file: &Path| {
        let file = format!("--filename={}", file.display());
        kubectl(plane, &["apply", "--dry-run=server", "--validate=strict", &namespace, &file])
    };
    let examples = std::fs::read_dir(tree("examples")).unwrap().count();
    let said = apply(&tree("examples")).unwrap();
    assert_eq!(said.matches("created (server dry run)").count(), examples, "{said}");

    // A dry run that accepts everything would say the same.
    let bad = tempfile::tempdir().unwrap();
    let example = std::fs::read_to_string(tree("examples/shardcluster.yaml")).unwrap();
    for (from, to, why) in [("count: 4", "count: 0", "spec.shards.count"), ("count: 4", "cuont: 4", "cuont")]
    {
        let file = bad.path().join("bad.yaml");
        std::fs::write(&file, example.replace(from, to)).unwrap();
        let refused = apply(&file).expect_err(to);
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_for_one_namespace_it_may_do_nothing_in_others() {
    let (Some(helm), Some(plane)) = (helm().await, shared().await.unwrap()) else { return };
    let client = plane.client().await.unwrap();
    let system = restricted(&client, "one-system").await;
    let watched = namespace(&client, "watched").await.unwrap();
    let values = [&format!("watchNamespace={watched}"), "crds.install=false"];
    let notes = install(&helm, plane, "one", &system, &values);
    assert!(notes.contains("crds.install=false") && notes.contains(&watched), "{notes}");
    let account = format!("{system}:one-shardcluster-operator");
    has_exactly_what_it_needs(&client, &account, &watched).await;
    for namespace in ["default", &system] {
        for (group, resource, _, _) in NEEDED {
            let attributes =
                json!({"namespace": namespace, "group": group, "resource": resource, "verb": "get"});
            assert!(!may(&client, &account, attributes).await, "{resource} in {namespace}");
        }
    }
}
