//! Each rule of the definition, in CEL, refuses what it is there for, and nothing else. The table stands in a file of its
//! own, so that it can be put to a real API server, too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "specs/mod.rs"]
mod specs;

use kube::core::cel::{ValidationErrors, Validator, apply_defaults};
use serde_json::Value;
use specs::{Good, Table, patched, table};

fn schema() -> Value {
    let definition = shard_operator::crd::definition().unwrap();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap();
    serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
}

fn judge(
    schema: &Value,
    base: &Value,
    before: Option<&Value>,
    patch: &Value,
) -> Result<(), ValidationErrors> {
    let whole = |patch| apply_defaults(schema, &patched(base, patch));
    Validator::new().validate(schema, &whole(patch), before.map(whole).as_ref())
}

#[test]
fn every_bad_spec_is_refused_with_its_message() {
    let Table { base, cases, .. } = table();
    let schema = schema();
    let rules = cases.iter().filter_map(|case| case.rule.as_ref().map(|rule| (case, rule)));
    for (case, rule) in rules {
        let errors = judge(&schema, &base, case.before.as_ref(), &case.patch)
            .expect_err(&format!("{} is taken, and should not be: {rule}", case.patch));
        let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(
            messages.iter().any(|message| message.contains(rule)),
            "{}: {messages:?} lack '{rule}'",
            case.patch
        );
        assert!(
            errors.iter().all(|error| error.message != error.rule),
            "a rule without a message: {messages:?}"
        );
    }
}

#[test]
fn every_good_spec_is_taken() {
    let Table { base, good, .. } = table();
    let schema = schema();
    for Good { before, patch } in good {
        if let Err(errors) = judge(&schema, &base, before.as_ref(), &patch) {
            panic!("{patch}: {errors:?}");
        }
    }
}

/// Every rule is met by a case of the table, so that none is there which has never refused anything.
#[test]
fn every_rule_has_a_case() {
    fn messages(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Array(rules)) = map.get("x-kubernetes-validations") {
                    let message = |rule: &Value| rule["message"].as_str().unwrap_or_default().to_owned();
                    found.extend(rules.iter().map(message));
                }
                map.values().for_each(|inner| messages(inner, found));
            }
            Value::Array(all) => all.iter().for_each(|inner| messages(inner, found)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    messages(&schema(), &mut all);
    assert!(all.len() > 40, "{} rules are fewer than there were", all.len());
    let cases = table().cases;
    for case in &cases {
        assert!(case.rule.is_some() != case.schema.is_some(), "{} needs one of rule and schema", case.patch);
    }
    for message in all {
        let met = cases.iter().filter_map(|case| case.rule.as_ref()).any(|rule| message.contains(rule));
        assert!(met, "no case for the rule '{message}'");
    }
}

/// An unbounded list or string makes a rule above it cost more than API servers allow, and lets one object fill etcd.
#[test]
fn everything_in_a_spec_is_bounded() {
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let has = |keyword: &str| schema.get(keyword).is_some();
        let open = match schema["type"].as_str() {
            Some("string") => !has("maxLength") && !has("enum"),
            Some("array") => !has("maxItems"),
            _ if has("x-kubernetes-int-or-string") => !has("maxLength"),
            Some("integer" | "number") => {
                !has("maximum") && schema["format"] != "int32" && schema["format"] != "int64"
            }
            _ => {
                has("additionalProperties") && !has("maxProperties")
                    || has("x-kubernetes-preserve-unknown-fields")
            }
        };
        if open {
            found.push(path.to_owned());
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(inner, &format!("{path}.{name}"), found);
        }
        for keyword in ["items", "additionalProperties"] {
            if has(keyword) {
                unbounded(&schema[keyword], &format!("{path}[]"), found);
            }
        }
    }
    let mut found = Vec::new();
    unbounded(&schema()["properties"]["spec"], "spec", &mut found);
    assert!(found.is_empty(), "{found:?}");
}

/// Every field of the spec tells `kubectl explain` what it is; Kubernetes' own types, which it explains elsewhere, do
/// not, because they would be most of the definition.
#[test]
fn every_field_is_explained_and_the_definition_stays_small() {
    const OTHERS: [&str; 4] = ["affinity", "tolerations", "env", "allowFrom"];
    fn silent(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if inner["description"].as_str().unwrap_or_default().is_empty() {
                found.push(path.clone());
            }
            if !OTHERS.contains(&name.as_str()) {
                silent(inner, &path, found);
                silent(&inner["items"], &path, found);
            }
        }
    }
    let mut found = Vec::new();
    let schema = schema();
    silent(&schema["properties"]["spec"], "spec", &mut found);
    silent(&schema["properties"]["status"], "status", &mut found);
    assert!(found.is_empty(), "{found:?}");
    // What `kubectl apply` without --server-side keeps in an annotation has 256 KiB for the whole.
    let bytes = serde_json::to_string(&shard_operator::crd::definition().unwrap()).unwrap().len();
    assert!(bytes < 200 * 1024, "{bytes}");
}

/// What is written without a word about it is what the documentation says.
#[test]
fn defaults_are_in_the_schema() {
    let table = table();
    let spec = apply_defaults(&schema(), &table.base)["spec"].clone();
    let json = serde_json::json!({
        "model": { "name": "tiny", "source": { "builtin": { "name": "tiny-tales" } } },
        "shards": { "count": 4, "replicas": 1, "layerStarts": [], "overrides": [] },
        "storage": {
            "size": "20Gi", "emptyDir": false, "retainOnNodeLoss": false,
            "retention": { "whenDeleted": "Retain", "whenScaled": "Retain" },
        },
        "transport": "dual",
        "bootstrap": { "replicas": 1, "service": { "type": "ClusterIP" }, "storage": {} },
        "gateway": { "replicas": 1, "service": { "type": "ClusterIP" } },
        "inference": {
            "maxSessions": 4, "contextLength": 4096, "activationDtype": "f32", "kvDtype": "f16", "weights": "auto",
        },
        "refreshIntervalSeconds": 300,
        "networkPolicy": { "enabled": true },
        "rollout": { "surge": false },
        "nodeLossSeconds": 60,
        "suspend": false,
    });
    assert_eq!(spec, json);
}
