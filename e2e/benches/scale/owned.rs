//! What a manager has applied of an object: the fields that are its own. The rest are an API server's defaults.
//!
//! The format is that of `managedFields`, `FieldsV1`: `f:name` is a field, `k:{…}` the entry of a list with these keys,
//! `v:…` one that is a value, and `.` the field itself.

use serde_json::{Map, Value};

/// The part of `value` that `fields` names.
pub(crate) fn owned(value: &Value, fields: &Value) -> Value {
    let fields = fields.as_object().unwrap();
    // A leaf, or a list that is one value.
    if fields.keys().all(|field| field == ".") {
        return value.clone();
    }
    match value {
        Value::Object(object) => {
            let own = fields.iter().filter_map(|(field, of)| {
                let name = field.strip_prefix("f:")?;
                Some((name.to_owned(), owned(object.get(name)?, of)))
            });
            Value::Object(own.collect::<Map<_, _>>())
        }
        Value::Array(list) => {
            let own = list.iter().filter_map(|entry| {
                let is_it = |field: &str| match field.split_at_checked(2) {
                    Some(("k:", keys)) => {
                        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
                        keys.iter().all(|(key, value)| &entry[key] == value)
                    }
                    Some(("v:", of)) => &serde_json::from_str::<Value>(of).unwrap() == entry,
                    _ => false,
                };
                let (_, of) = fields.iter().find(|(field, _)| is_it(field))?;
                Some(owned(entry, of))
            });
            Value::Array(own.collect())
        }
        leaf => leaf.clone(),
    }
}
