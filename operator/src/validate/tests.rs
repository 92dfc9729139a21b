#![allow(clippy::needless_pass_by_value, reason = "a table of json!(…) reads better")]

use serde_json::{Value, json};

use super::*;
use crate::cluster::Source;
use crate::crd::ShardClusterStatus;

fn settings() -> Settings {
    Settings {
        node_image: "shardcluster/node:0.2.0".into(),
        cuda_suffix: "-cuda".into(),
        auto_upgrade: false,
        namespace: "shardcluster-system".into(),
        monitoring_namespaces: vec!["monitoring".into()],
        watch_namespace: None,
        concurrency: 1,
    }
}

fn resource(spec: Value) -> ShardCluster {
    let mut whole = json!({ "model": { "name": "tiny", "source": { "builtin": {} } } });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut resource = ShardCluster::new("llama", serde_json::from_value(whole).unwrap());
    resource.metadata.namespace = Some("llm".into());
    resource.metadata.uid = Some("4c6f".into());
    resource
}

fn cluster(spec: Value) -> Cluster {
    validate(&resource(spec), &settings()).unwrap()
}

#[test]
fn a_model_is_enough() {
    let cluster = cluster(json!({}));
    assert_eq!(cluster.cluster_name, "llama");
    assert_eq!(cluster.image, "shardcluster/node:0.2.0");
    assert_eq!((cluster.shards.len(), cluster.columns, cluster.suspended), (4, 1, false));
    assert!(cluster.shards.iter().all(|shard| shard.gpu.is_none() && shard.replicas == 1));
    assert_eq!(cluster.bootstrap.storage, None, "a file in the image needs no room");
    assert_eq!(
        cluster.storage,
        Storage::Claim {
            size: k8s_openapi::apimachinery::pkg::api::resource::Quantity("20Gi".into()),
            class: None,
            retention: crate::crd::Retention::default()
        }
    );
    let owner = &cluster.owner;
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("ShardCluster", "4c6f", Some(true))
    );
}

#[test]
fn a_spec_without_which_there_is_no_cluster_is_refused() {
    let table = [
        (json!({ "model": { "name": "m", "source": {} } }), "model.source has 0 of"),
        (
            json!({ "model": { "name": "m", "source": { "builtin": {}, "http": { "url": "http://h/m.gguf" } } } }),
            "model.source has 2 of",
        ),
        (json!({ "shards": { "overrides": [{ "id": 4 }] } }), "names shard 4: ids go from 0 to 3"),
        (json!({ "shards": { "layerStarts": [0, 2] } }), "has 2 entries for 4 shards"),
    ];
    for (spec, reason) in table {
        let error = validate(&resource(spec), &settings()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for name in ["", "8b", "a.b", "Llama", "llama-", &"a".repeat(41)] {
        let mut named = resource(json!({}));
        named.metadata.name = Some(name.into());
        assert_eq!(validate(&named, &settings()), Err(SpecError::Name { name: name.into() }));
    }
    type Lose = fn(&mut ShardCluster);
    let table: [(Lose, &str); 3] = [
        (|it| it.metadata.name = None, "name"),
        (|it| it.metadata.namespace = None, "namespace"),
        (|it| it.metadata.uid = None, "uid"),
    ];
    for (lose, field) in table {
        let mut unknown = resource(json!({}));
        lose(&mut unknown);
        assert_eq!(validate(&unknown, &settings()), Err(SpecError::Metadata { field }));
    }
}

#[test]
fn suspending_stops_all_but_the_gateway() {
    let overrides = json!([{ "id": 1, "replicas": 3 }]);
    let table = [
        (json!({ "suspend": true, "shards": { "replicas": 2, "overrides": overrides } }), true, [0, 0]),
        (json!({ "shards": { "replicas": 0, "overrides": overrides } }), true, [0, 0]),
        (json!({ "shards": { "replicas": 2, "overrides": overrides } }), false, [2, 3]),
        (json!({ "shards": { "replicas": 4, "overrides": overrides } }), false, [4, 4]),
    ];
    for (spec, suspended, replicas) in table {
        let cluster = cluster(spec);
        assert_eq!(cluster.suspended, suspended);
        assert_eq!([cluster.shards[0].replicas, cluster.shards[1].replicas], replicas);
        assert_eq!(cluster.bootstrap.replicas, u32::from(!suspended));
        assert_eq!((cluster.bootstrap.entries, cluster.gateway.replicas), (1, 1));
    }
}

#[test]
fn nodes_have_an_entry_to_dial_also_while_no_bootstrap_is_wanted() {
    for (replicas, entries) in [(0, 1), (1, 1), (3, 3)] {
        let bootstrap = cluster(json!({ "bootstrap": { "replicas": replicas } })).bootstrap;
        assert_eq!((bootstrap.replicas, bootstrap.entries), (replicas, entries));
    }
}

#[test]
fn a_gpu_is_inherited_field_by_field_and_count_0_is_the_cpu() {
    let cluster = cluster(json!({
        "gpu": { "nodeSelector": { "accelerator": "nvidia" }, "runtimeClassName": "nvidia" },
        "shards": { "overrides": [
            { "id": 0, "gpu": { "count": 2 } },
            { "id": 1, "gpu": { "count": 0 } },
            { "id": 2, "gpu": { "resourceName": "amd.com/gpu", "nodeSelector": {} } },
        ] },
    }));
    let gpu = |id: usize| cluster.shards[id].gpu.as_ref();
    let two = gpu(0).unwrap();
    assert_eq!(
        (two.count, two.resource.as_str(), two.runtime_class.as_deref()),
        (2, "nvidia.com/gpu", Some("nvidia"))
    );
    assert_eq!(two.node_selector["accelerator"], "nvidia");
    assert_eq!(gpu(1), None);
    let other = gpu(2).unwrap();
    assert_eq!((other.count, other.resource.as_str(), other.node_selector.len()), (1, "amd.com/gpu", 0));
    assert_eq!(gpu(3).unwrap().count, 1);
    let images: Vec<_> = cluster.shards.iter().map(|shard| shard.image.as_str()).collect();
    let (cpu, cuda) = ("shardcluster/node:0.2.0", "shardcluster/node:0.2.0-cuda");
    assert_eq!(images, [cuda, cpu, cuda, cuda]);
    assert_eq!(cluster.image, cpu);

    let one = super::tests::cluster(json!({ "shards": { "overrides": [{ "id": 3, "gpu": {} }] } }));
    assert_eq!(
        one.shards.iter().filter(|shard| shard.gpu.is_some()).map(|shard| shard.id).collect::<Vec<_>>(),
        [3]
    );
}

#[test]
fn the_image_in_use_stays_until_it_may_change() {
    let in_use = ShardClusterStatus { image: Some("shardcluster/node:0.1.0".into()), ..Default::default() };
    let table = [
        (json!({}), None, false, "shardcluster/node:0.2.0"),
        (json!({}), Some(in_use.clone()), false, "shardcluster/node:0.1.0"),
        (json!({}), Some(in_use.clone()), true, "shardcluster/node:0.2.0"),
        (json!({ "image": "mine:1", "gpu": {} }), Some(in_use), false, "mine:1"),
    ];
    for (spec, status, auto_upgrade, image) in table {
        let has_own = spec.get("image").is_some();
        let resource = ShardCluster { status, ..resource(spec) };
        let cluster = validate(&resource, &Settings { auto_upgrade, ..settings() }).unwrap();
        assert_eq!(cluster.image, image);
        assert!(
            !has_own || cluster.shards.iter().all(|shard| shard.image == image),
            "a user's image is all there is"
        );
    }
}

#[test]
fn blocks_add_up_and_the_narrowest_wins() {
    let cluster = cluster(json!({
        "pod": {
            "nodeSelector": { "a": "all", "b": "all" }, "priorityClassName": "low", "imagePullSecrets": [{ "name": "one" }],
            "tolerations": [{ "key": "x", "operator": "Exists" }], "labels": { "team": "ml" },
            "env": [{ "name": "HTTPS_PROXY", "value": "http://proxy" }, { "name": "A", "value": "all" }],
            "affinity": { "nodeAffinity": {}, "podAntiAffinity": {} },
        },
        "shards": {
            "pod": {
                "nodeSelector": { "b": "shards" }, "imagePullSecrets": [{ "name": "one" }, { "name": "two" }],
                "tolerations": [{ "key": "x", "operator": "Exists" }, { "key": "y", "operator": "Exists" }],
                "affinity": { "podAffinity": {} },
            },
            "overrides": [{
                "id": 2, "resources": { "limits": { "cpu": 8 } },
                "pod": { "env": [{ "name": "A", "value": "own" }], "priorityClassName": "high", "serviceAccountName": "sa" },
            }],
        },
        "resources": { "requests": { "memory": "4Gi" }, "limits": { "cpu": 4, "memory": "5Gi" } },
    }));
    let (other, own) = (&cluster.shards[1].pod, &cluster.shards[2]);
    assert_eq!(
        own.pod.node_selector,
        [("a", "all"), ("b", "shards")].map(|(k, v)| (k.into(), v.into())).into()
    );
    assert_eq!(own.pod.tolerations.len(), 2);
    assert_eq!(own.pod.image_pull_secrets, ["one", "two"]);
    assert_eq!(
        (own.pod.priority_class.as_deref(), other.priority_class.as_deref()),
        (Some("high"), Some("low"))
    );
    assert_eq!((own.pod.service_account.as_deref(), other.service_account.as_deref()), (Some("sa"), None));
    let value = |pod: &crate::cluster::Pod, name: &str| {
        pod.env.iter().filter(|it| it.name == name).map(|it| it.value.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((value(&own.pod, "A"), value(other, "A")), (vec!["own".into()], vec!["all".into()]));
    assert!(own.pod.affinity.node_affinity.is_some() && own.pod.affinity.pod_affinity.is_some());
    assert_eq!(
        (own.resources.limits["cpu"].0.as_str(), own.resources.limits["memory"].0.as_str()),
        ("8", "5Gi")
    );
    assert_eq!(own.resources.requests["memory"].0, "4Gi");
    assert_eq!(cluster.gateway.pod.node_selector["b"], "all");
}

#[test]
fn an_override_may_not_request_more_than_the_limit_of_all() {
    let refused = validate(
        &resource(json!({
            "model": { "name": "m", "source": { "builtin": {} } },
            "shards": { "count": 2, "overrides": [{ "id": 1, "resources": { "requests": { "memory": "5Gi" } } }] },
            "resources": { "requests": { "memory": "1Gi" }, "limits": { "memory": "4096Mi" } },
        })),
        &settings(),
    );
    let words = refused.unwrap_err().to_string();
    assert!(words.starts_with("shard 1 requests 5Gi of memory and is limited to 4096Mi"), "{words}");
}

#[test]
fn the_bootstrap_keeps_the_model_as_shards_do_unless_it_says_otherwise() {
    let http = json!({ "name": "m", "source": { "http": { "url": "https://h/m.gguf" } } });
    let with = |storage: Value, own: Value| {
        cluster(json!({ "model": http, "storage": storage, "bootstrap": { "storage": own } }))
            .bootstrap
            .storage
            .unwrap()
    };
    let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.into());
    let retention = crate::crd::Retention::default();
    let fast = json!({ "storageClassName": "fast", "size": "5Gi" });
    assert_eq!(
        with(fast.clone(), json!({ "size": "9Gi" })),
        Storage::Claim { size: quantity("9Gi"), class: Some("fast".into()), retention }
    );
    assert_eq!(with(fast, json!({ "emptyDir": true })), Storage::EmptyDir { size: quantity("5Gi") });
    assert_eq!(
        with(json!({ "emptyDir": true }), json!({ "emptyDir": false })),
        Storage::Claim { size: quantity("20Gi"), class: None, retention }
    );
}

#[test]
fn each_source_is_read() {
    let source = |source: Value| cluster(json!({ "model": { "name": "m", "source": source } })).model.source;
    let sha256 = "AB".repeat(32);
    let Source::Http { sha256: read, .. } =
        source(json!({ "http": { "url": "https://h/m.gguf", "sha256": sha256 } }))
    else {
        panic!("not http");
    };
    assert_eq!(read, Some(sha256.to_lowercase()));
    let hub = |revision: Value| {
        source(json!({ "huggingFace": { "repo": "a/b", "file": "q4/m@x.gguf", "revision": revision } }))
    };
    let reference = |source| match source {
        Source::Hub { reference, .. } => reference,
        other => panic!("{other:?}"),
    };
    assert_eq!(reference(hub(Value::Null)), "hf:a/b/q4/m@x.gguf@main");
    assert_eq!(reference(hub("v1".into())), "hf:a/b/q4/m@x.gguf@v1");
    let claim = source(json!({ "persistentVolumeClaim": { "claimName": "c", "path": "m.gguf" } }));
    assert_eq!(claim, Source::Claim { name: "c".into(), path: "m.gguf".into() });
    let image = source(json!({ "image": { "reference": "r", "path": "m.gguf" } }));
    assert_eq!(image, Source::Image { reference: "r".into(), path: "m.gguf".into() });
}
