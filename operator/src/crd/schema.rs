//! What the derived schema needs to be a good one for an API server: nothing unbounded, nothing superfluous.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::reason;

/// Of a string inside one of Kubernetes' own types, such as the value of a variable.
const STRING: u64 = 4096;
/// Of a list or map inside one of them.
const ENTRIES: u64 = 64;
/// Of names and networks inside one of them, so that rules can afford to look at them. The longest name is a label's.
const SHORTER: [(&str, u64); 5] =
    [("key", 317), ("name", 317), ("topologyKey", 317), ("cidr", 64), ("except", 64)];
/// What selectors of nodes do, the first four those of labels, too.
const SELECTS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
const OF_LABELS: usize = 4;
/// What tolerations do.
const TOLERATES: [&str; 2] = ["Exists", "Equal"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Integer formats that are schemars' own; API servers warn of what they do not know.
const FOREIGN_FORMATS: [&str; 6] = ["uint8", "uint16", "uint32", "uint64", "uint", "int8"];

/// One of Kubernetes' own types: without its descriptions, which would be most of the definition and which
/// `kubectl explain pod.spec` shows, and with bounds.
pub fn compact<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    each(&mut schema, &mut |schema| {
        schema.remove("description");
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            close(properties);
        }
        bound(schema);
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

/// Conditions, with their descriptions, and every reason with its own.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    if let Some(reason) = schema.pointer_mut("/items/properties/reason/description") {
        *reason = reason::description().into();
    }
    schema
}

/// Takes out of a definition what only schemars says: `nullable` and the word `null`, because a field that is null is one
/// that is not set, and formats that API servers warn of. `kubectl explain` shows no defaults: descriptions say them.
pub fn tidy(definition: &mut Value) {
    let schema = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
    let Some(schema) = schema else { return };
    each(schema, &mut |schema| {
        schema.remove("nullable");
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if let Some(Value::String(format)) = schema.get("format")
            && FOREIGN_FORMATS.contains(&format.as_str())
        {
            schema.remove("format");
        }
    });
    let Some(spec) = schema.pointer_mut("/properties/spec") else { return };
    each(spec, &mut |schema| {
        if let Some(default) = schema.get("default").and_then(scalar)
            && let Some(Value::String(description)) = schema.get_mut("description")
        {
            *description = format!("{description} Default: {default}.");
        }
    });
}

/// As people write it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
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

/// Gives Kubernetes' words for what they are, and names the bound that they have.
fn close(properties: &mut Map<String, Value>) {
    // A selector of nodes has fields beside the labels; an entry looks the same in both, and is visited later.
    if properties.contains_key("matchLabels")
        && let Some(Value::Object(operator)) = properties
            .get_mut("matchExpressions")
            .and_then(|all| all.pointer_mut("/items/properties/operator"))
    {
        operator.insert("enum".into(), json!(SELECTS[..OF_LABELS]));
    }
    let operators = if properties.contains_key("values") { &SELECTS[..] } else { &TOLERATES[..] };
    for (name, words) in [("operator", operators), ("effect", &EFFECTS)] {
        if let Some(Value::Object(property)) = properties.get_mut(name) {
            property.entry("enum").or_insert_with(|| json!(words));
        }
    }
    for (name, length) in SHORTER {
        let property = properties.get_mut(name);
        let text = property.map(|it| if it["type"] == "array" { &mut it["items"] } else { it });
        if let Some(Value::Object(text)) = text {
            text.insert("maxLength".into(), json!(length));
        }
    }
}

/// Bounds what has none.
fn bound(schema: &mut Map<String, Value>) {
    let kind = schema.get("type").map(Value::to_string).unwrap_or_default();
    let is_closed = schema.contains_key("enum");
    let is_quantity = schema.contains_key("x-kubernetes-int-or-string");
    let mut limit = |keyword: &str, value: u64| {
        schema.entry(keyword).or_insert(json!(value));
    };
    if kind.contains("string") && !is_closed {
        limit("maxLength", STRING);
    }
    if is_quantity {
        limit("maxLength", 32);
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
