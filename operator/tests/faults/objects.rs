//! What the API server has, and every change that it has seen.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Where an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// In lower case and plural, as paths have it.
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Place {
    /// Whether an object is among those that are meant: all of a kind, in one namespace or in all.
    fn holds(&self, place: &Place) -> bool {
        self.kind == place.kind && (self.namespace.is_empty() || self.namespace == place.namespace)
    }
}

/// Why the API server does not do it: a code and a reason.
pub(crate) type Refusal = (u16, &'static str);

#[derive(Debug)]
struct Change {
    version: u64,
    event: &'static str,
    place: Place,
    object: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Of the last change.
    pub(crate) version: u64,
    held: BTreeMap<Place, Value>,
    changes: Vec<Change>,
}

impl Objects {
    pub(crate) fn get(&self, place: &Place) -> Result<&Value, Refusal> {
        self.held.get(place).ok_or((404, "NotFound"))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Place, &Value)> {
        self.held.iter()
    }

    /// `label` is `key=value`, or nothing.
    pub(crate) fn list(&self, among: &Place, label: &str) -> Vec<Value> {
        let all = self.held.iter().filter(|(place, object)| among.holds(place) && has(object, label));
        all.map(|(_, object)| object.clone()).collect()
    }

    /// The first change after a version, as a watch tells of it.
    pub(crate) fn change_after(&self, version: u64, among: &Place, label: &str) -> Option<(u64, Value)> {
        let is_told =
            |one: &&Change| one.version > version && among.holds(&one.place) && has(&one.object, label);
        let change = self.changes.iter().find(is_told)?;
        Some((change.version, json!({"type": change.event, "object": change.object})))
    }

    pub(crate) fn create(&mut self, mut place: Place, object: Value) -> Result<Value, Refusal> {
        place.name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.held.contains_key(&place) {
            return Err((409, "AlreadyExists"));
        }
        Ok(self.put(place, object))
    }

    /// Server-side apply, where one manager is all that there is: what it does not name any more goes.
    pub(crate) fn apply(&mut self, place: Place, subresource: &str, wanted: Value) -> Result<Value, Refusal> {
        let Some(live) = self.held.get(&place) else { return self.create(place, wanted) };
        let asked = &wanted["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != live["metadata"]["resourceVersion"] {
            return Err((409, "Conflict"));
        }
        let mut next = live.clone();
        for (key, value) in wanted.as_object().into_iter().flatten() {
            match key.as_str() {
                "metadata" => {
                    for of_users in ["labels", "annotations", "ownerReferences"] {
                        if let Some(value) = value.get(of_users) {
                            next["metadata"][of_users] = value.clone();
                        }
                    }
                }
                "status" if subresource.is_empty() => {}
                _ => next[key] = value.clone(),
            }
        }
        Ok(self.put(place, next))
    }

    pub(crate) fn merge(&mut self, place: Place, patch: &Value) -> Result<Value, Refusal> {
        let mut next = self.get(&place)?.clone();
        merge(&mut next, patch);
        Ok(self.put(place, next))
    }

    /// Deletes it as it was seen: `preconditions` are what it must still be.
    pub(crate) fn delete_seen(&mut self, place: &Place, preconditions: &Value) -> Result<Value, Refusal> {
        let metadata = &self.get(place)?["metadata"];
        let mut asked = preconditions.as_object().into_iter().flatten();
        if asked.any(|(field, value)| !value.is_null() && metadata[field] != *value) {
            return Err((409, "Conflict"));
        }
        self.delete(place)
    }

    pub(crate) fn delete(&mut self, place: &Place) -> Result<Value, Refusal> {
        let mut object = self.held.remove(place).ok_or((404, "NotFound"))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.changed("DELETED", place.clone(), object.clone());
        Ok(object)
    }

    fn put(&mut self, place: Place, mut object: Value) -> Value {
        let live = self.held.get(&place);
        if live == Some(&object) {
            return object;
        }
        let event = if live.is_some() { "MODIFIED" } else { "ADDED" };
        let generation = live.and_then(|live| live["metadata"]["generation"].as_i64()).unwrap_or(0);
        let same = live.is_some_and(|live| live["spec"] == object["spec"]);
        self.version += 1;
        let (version, metadata) = (self.version, &mut object["metadata"]);
        metadata["resourceVersion"] = version.to_string().into();
        metadata["generation"] = if same { generation } else { generation + 1 }.into();
        if event == "ADDED" {
            metadata["uid"] = format!("uid-{version}").into();
            metadata["namespace"] = place.namespace.clone().into();
        }
        self.held.insert(place.clone(), object.clone());
        self.changed(event, place, object.clone());
        object
    }

    fn changed(&mut self, event: &'static str, place: Place, object: Value) {
        self.changes.push(Change { version: self.version, event, place, object });
    }
}

fn has(object: &Value, label: &str) -> bool {
    let Some((key, value)) = label.split_once('=') else { return true };
    object["metadata"]["labels"][key] == value
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return target.clone_from(patch) };
    if !target.is_object() {
        *target = Map::new().into();
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}
