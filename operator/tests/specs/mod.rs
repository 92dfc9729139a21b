//! The table of specs in `bad_specs.yaml`, for the tests of this crate and, included by its path, for those that put it
//! to a real API server.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(crate) struct Table {
    /// A good object.
    pub(crate) base: Value,
    /// What must be refused.
    pub(crate) cases: Vec<Case>,
    /// What must be taken.
    pub(crate) good: Vec<Good>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Of an update: what was there, as a patch on the base.
    pub(crate) before: Option<Value>,
    /// The spec, as a patch on the base.
    pub(crate) patch: Value,
    /// Part of the message of a rule in CEL.
    pub(crate) rule: Option<String>,
    /// Part of the message of one of the schema's own keywords.
    pub(crate) schema: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Good {
    /// As in [`Case`].
    pub(crate) before: Option<Value>,
    /// As in [`Case`].
    pub(crate) patch: Value,
}

pub(crate) fn table() -> Table {
    serde_yaml::from_str(include_str!("../bad_specs.yaml")).unwrap()
}

/// A JSON merge patch, as an API server applies it: `null` removes.
pub(crate) fn patched(base: &Value, patch: &Value) -> Value {
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
