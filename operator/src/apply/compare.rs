//! Whether an object is what it should be. Pure.
//!
//! Two things are asked, and both survive a restart: an annotation with the hash of what was last applied tells whether
//! we want something else now, a field less included; and every field that we want is compared with what is there, which
//! tells whether somebody has changed it. Fields that we do not name are others'.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value};

use crate::digest;
use crate::quantity::thousandths;

const HASH: &str = "shardcluster.io/applied-hash";

/// The object, with the hash of itself.
pub(super) fn stamped(mut wanted: Value) -> Value {
    let hash = digest::short(&wanted.to_string());
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) =
            metadata.entry("annotations").or_insert_with(|| Map::new().into()).as_object_mut()
    {
        annotations.insert(HASH.into(), hash.into());
    }
    wanted
}

/// Which hash it was stamped with.
pub(super) fn hash(stamped: &Value) -> &str {
    stamped["metadata"]["annotations"][HASH].as_str().unwrap_or_default()
}

/// Whether everything in `wanted` is in `live`.
pub(super) fn holds(wanted: &Value, live: &Value) -> bool {
    holds_at("", wanted, live)
}

fn holds_at(field: &str, wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
            let amounts = matches!(field, "requests" | "limits") || key == "sizeLimit";
            match live.get(key) {
                Some(live) if amounts => same_amount(value, live),
                // A label more selects other pods.
                Some(live) if is_whole(key) => holds_at(key, value, live) && holds_at(key, live, value),
                Some(live) => holds_at(key, value, live),
                // API servers leave out what is empty, and fields of features that are off.
                None => is_empty(value) || holds_without(field, key, value),
            }
        }),
        (Value::Array(wanted), Value::Array(live)) => match merge_key(field, wanted) {
            Some(key) => wanted.iter().all(|one| {
                live.iter().any(|other| one.get(key) == other.get(key) && holds_at("", one, other))
            }),
            None => {
                wanted.len() == live.len()
                    && wanted.iter().zip(live).all(|(wanted, live)| holds_at("", wanted, live))
            }
        },
        (wanted, live) => wanted == live,
    }
}

/// Selectors are one value: API servers take no entry of somebody else's into them.
fn is_whole(field: &str) -> bool {
    matches!(field, "selector" | "podSelector" | "namespaceSelector" | "labelSelector" | "nodeSelector")
}

/// By what API servers merge the entries of a list, to which others may add: `None` where a list is one value.
fn merge_key(field: &str, wanted: &[Value]) -> Option<&'static str> {
    match field {
        "volumeMounts" => Some("mountPath"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => (!wanted.is_empty() && wanted.iter().all(|one| one.get("name").is_some())).then_some("name"),
    }
}

/// A StatefulSet moves its pods one at a time where nothing else can be said.
fn holds_without(field: &str, key: &str, value: &Value) -> bool {
    (field, key) == ("rollingUpdate", "maxUnavailable") && *value == 1
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn same_amount(one: &Value, other: &Value) -> bool {
    let amount = |value: &Value| thousandths(&Quantity(value.as_str()?.to_owned()));
    one == other || amount(one).is_some_and(|one| amount(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_api_server_adds_is_no_difference_and_what_a_hand_changes_is() {
        let wanted = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "replicas": 0,
                "ports": [{"name": "http", "port": 80}],
                "from": [{"podSelector": {}}],
                "selector": {"matchLabels": {"a": "b"}},
                "nothing": [],
                "resources": {"requests": {"memory": "1024Mi", "cpu": "0.5"}},
            },
        });
        let live = |change: fn(&mut Value)| {
            let mut live = json!({
                "metadata": {"labels": {"a": "b", "c": "d"}, "uid": "1"},
                "spec": {
                    "replicas": 0,
                    "ports": [{"name": "other", "port": 1}, {"name": "http", "port": 80, "protocol": "TCP"}],
                    "from": [{"podSelector": {}}],
                    "selector": {"matchLabels": {"a": "b"}, "matchExpressions": []},
                    "resources": {"requests": {"memory": "1Gi", "cpu": "500m"}},
                },
                "status": {},
            });
            change(&mut live);
            live
        };
        assert!(holds(&wanted, &live(|_| {})));
        let changes: [fn(&mut Value); 9] = [
            |live| live["metadata"]["labels"]["a"] = "x".into(),
            |live| live["metadata"]["labels"] = json!({}),
            |live| live["spec"]["replicas"] = 1.into(),
            |live| live["spec"]["ports"][1]["port"] = 81.into(),
            |live| live["spec"]["ports"] = json!([]),
            |live| live["spec"]["from"] = json!([{"podSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]),
            |live| live["spec"]["resources"]["requests"]["memory"] = "2Gi".into(),
            |live| live["spec"]["selector"]["matchLabels"]["c"] = "d".into(),
            |live| live["spec"]["from"][0]["podSelector"] = json!({"matchLabels": {"c": "d"}}),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(!holds(&wanted, &live(change)), "change {number}");
        }
    }

    #[test]
    fn a_number_of_pods_that_an_api_server_drops_is_no_difference_and_another_one_is() {
        let set = |rolling: Value| json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}});
        let wanted = set(json!({"partition": 2, "maxUnavailable": 1}));
        let table = [
            (json!({"partition": 2, "maxUnavailable": 1}), true),
            (json!({"partition": 2}), true),
            (json!({"partition": 2, "maxUnavailable": 3}), false),
            (json!({"partition": 2, "maxUnavailable": "50%"}), false),
            (json!({"maxUnavailable": 1}), false),
        ];
        for (live, expected) in table {
            assert_eq!(holds(&wanted, &set(live.clone())), expected, "{live}");
        }
        let budget = json!({"spec": {"maxUnavailable": 1}});
        assert!(!holds(&budget, &json!({"spec": {"minAvailable": 1}})), "a budget needs its own");
    }

    #[test]
    fn a_field_less_is_another_hash() {
        let one = stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}}));
        let less = stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1}}));
        assert!(!holds(&less, &one));
        assert!(holds(&one, &stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}}))));
    }
}
