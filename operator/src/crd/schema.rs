//! What the derived schema needs to be a good one for an API server: nothing unbounded, nothing superfluous.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Of a string inside one of Kubernetes' own types, such as the value of a variable.
const STRING: u64 = 4096;
/// Of a list or map inside one of them.
const ENTRIES: u64 = 64;
/// Integer formats that are schemars' own; API servers warn of what they do not know.
const FOREIGN_FORMATS: [&str; 6] = ["uint8", "uint16", "uint32", "uint64", "uint", "int8"];

/// One of Kubernetes' own types: without its descriptions, which would be most of the definition and which
/// `kubectl explain pod.spec` shows, and with bounds.
pub fn compact<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    each(&mut schema, &mut |schema| {
        schema.remove("description");
        bound(schema);
        // Its quantities are strings: nobody writes one in an affinity, and a variable's divisor is `1Mi`.
        if schema.remove("x-kubernetes-int-or-string").is_some() {
            schema.insert("type".into(), "string".into());
            schema.insert("maxLength".into(), json!(32));
        }
    });
    Schema::try_from(schema).unwrap_or_default()
}

/// Amounts by name. `cpu: 2` is as good as `cpu: "2"`.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
        },
        "maxProperties": 16,
    })
}

/// Text by name.
pub fn strings<const ENTRIES: usize, const LENGTH: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": LENGTH },
        "maxProperties": ENTRIES,
    })
}

/// Conditions, with their descriptions.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Vec<Condition>>()
}

/// Takes out of a definition what only schemars says: `nullable`, because a field that is null is one that is not
/// set, and formats that API servers warn of.
pub fn tidy(definition: &mut Value) {
    let schema = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
    let Some(schema) = schema else { return };
    each(schema, &mut |schema| {
        schema.remove("nullable");
        if let Some(Value::String(format)) = schema.get("format")
            && FOREIGN_FORMATS.contains(&format.as_str())
        {
            schema.remove("format");
        }
    });
}

/// Bounds of numbers as people write them: 256, not 256.0.
pub fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            if let Some(float) = whole {
                *value = json!(float as i64);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Bounds what has none.
fn bound(schema: &mut Map<String, Value>) {
    let kind = schema.get("type").map(Value::to_string).unwrap_or_default();
    let mut limit = |keyword: &str, value: u64| {
        schema.entry(keyword).or_insert(json!(value));
    };
    if kind.contains("string") {
        limit("maxLength", STRING);
    }
    if kind.contains("array") {
        limit("maxItems", ENTRIES);
    }
    if schema.contains_key("additionalProperties") {
        schema.entry("maxProperties").or_insert(json!(ENTRIES));
    }
}

/// Every schema in a schema, the outer first.
fn each(schema: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    visit(map);
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for property in properties.values_mut() {
            each(property, visit);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(keyword) {
            each(inner, visit);
        }
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(all)) = map.get_mut(keyword) {
            for inner in all {
                each(inner, visit);
            }
        }
    }
}
