//! The chart's rights, against what the operator asks a real API server for over the life of its ShardClusters.
//!
//! 1. Helm installs the chart; its rights are those that the API server has.
//! 2. The operator runs as its account, with the arguments of its Deployment.
//! 3. `life`: resources come, are scaled, are changed by hand, grow, shrink and go.
//! 4. The audit log has all requests of the account: none was refused, and every right was needed, or is in [`UNTRIED`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod helm;
mod life;
mod operator;

use helm::{args_of, helm, install, objects, one, run};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use shard_e2e::rights::{Untried, compare, granted};
use shard_e2e::{ControlPlane, Options, Parts, namespace, skipped, until};

/// Asked only where a child's name is taken.
const fn whose(resource: &'static str) -> Untried {
    Untried { resource, verbs: &["get"], why: "whose an object is that has a child's name" }
}

/// What the life of a fleet on machines that stay, whose names are free, does not need.
const UNTRIED: [Untried; 10] = [
    whose("services"),
    whose("serviceaccounts"),
    whose("apps/statefulsets"),
    whose("apps/deployments"),
    whose("policy/poddisruptionbudgets"),
    whose("networking.k8s.io/networkpolicies"),
    Untried {
        resource: "nodes",
        verbs: &["get"],
        why: "whether a lost machine still is, before its pods go",
    },
    Untried {
        resource: "pods",
        verbs: &["delete"],
        why: "of lost machines, and pods that are stuck on an old template",
    },
    Untried {
        resource: "shardcluster.io/shardclusters/finalizers",
        verbs: &["update"],
        why: "what admission asks for where a child holds up its owner's deletion: not a request of its own",
    },
    Untried { resource: "persistentvolumeclaims", verbs: &["delete"], why: "of lost machines" },
];

#[test]
#[ignore = "started by the other, as a process"]
fn the_operator() {
    operator::run();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_needed_and_none_is_missing() {
    let Some(helm) = helm().await else { return };
    let options = Options {
        parts: Parts::ALL,
        audit: true,
        // Stricter than most clusters: who names an owner has to have rights on it.
        admission: &["OwnerReferencesPermissionEnforcement"],
        ..Options::default()
    };
    let plane = match ControlPlane::start(options).await {
        Err(error) if skipped(&error) => return,
        plane => plane.unwrap(),
    };
    let client = plane.client().await.unwrap();
    refusals_are_noted(&plane, &client).await;
    for (variant, own) in [("all-namespaces", false), ("one-namespace", true)] {
        let system = namespace(&client, "system").await.unwrap();
        let user = namespace(&client, "user").await.unwrap();
        let watched = format!("watchNamespace={}", if own { &user } else { "" });
        let first = format!("crds.install={}", !own);
        install(&helm, &plane, "op", &system, &[&watched, &first]);
        admission_knows_owners(&plane, &client, &user).await;
        let manifest =
            run(&helm, &["get", "manifest", "op", "-n", &system], Some(&plane.kubeconfig())).unwrap();
        let objects = objects(&manifest);
        let account =
            one(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();

        let kubeconfig = plane.kubeconfig_as(&system, account).await.unwrap();
        let operator = operator::Operator::start(&format!("rbac-{variant}"), &args_of(&objects), &kubeconfig);
        let told = ToldOfRefusals { plane: &plane, namespace: &system, account };
        life::live(&plane, &client, &user).await;
        operator.stop().await;
        drop(told);

        let requests = plane.requests_of(&system, account).unwrap();
        let granted = granted(&objects, &system, account).unwrap();
        let differences = compare(&granted, &requests, &UNTRIED);
        let lines: Vec<_> = differences.iter().map(|one| format!("  {one}")).collect();
        assert!(lines.is_empty(), "{variant}, of {} requests:\n{}", requests.len(), lines.join("\n"));
    }
}

/// An operator that was refused does not go on, and what is waited for does not come: here is why.
struct ToldOfRefusals<'a> {
    plane: &'a ControlPlane,
    namespace: &'a str,
    account: &'a str,
}

impl Drop for ToldOfRefusals<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut requests = self.plane.requests_of(self.namespace, self.account).unwrap_or_default();
            requests.retain(|request| request.code == 403);
            eprintln!("{} requests were refused", requests.len());
            requests.first().inspect(|first| eprintln!("  first: {first}"));
        }
    }
}

/// Until its next look at what is defined, admission lets only administrators name an owner of a kind that is new.
async fn admission_knows_owners(plane: &ControlPlane, client: &Client, namespace: &str) {
    let editor = plane.client_as(namespace, "editor").await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "editor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "editor", "namespace": namespace}],
    }))
    .unwrap();
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let owned: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "owned", "ownerReferences": [{
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "name": "a", "uid": "a",
        "blockOwnerDeletion": true,
    }]}}))
    .unwrap();
    let api = Api::<ConfigMap>::namespaced(editor, namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("admission knows the definition", || async {
        let refused = api.create(&dry, &owned).await.unwrap_err().to_string();
        refused.contains("can't set finalizers").then_some(())
    })
    .await;
}

/// Without which the rest of this test would find nothing, ever.
async fn refusals_are_noted(plane: &ControlPlane, client: &Client) {
    let here = namespace(client, "stranger").await.unwrap();
    let stranger = plane.client_as(&here, "stranger").await.unwrap();
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(stranger, &here);
    secrets.list(&ListParams::default()).await.unwrap_err();
    let requests = plane.requests_of(&here, "stranger").unwrap();
    let found: Vec<_> = requests
        .iter()
        .map(|request| (request.verb.as_str(), request.resource.as_str(), request.code))
        .collect();
    assert_eq!(found, [("list", "secrets", 403)]);
}
