//! Whose an object is. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::desired::meta::{INSTANCE, MANAGED_BY, MANAGER};

/// What an object is to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// It has made it.
    Owned,
    /// Nobody's, with its labels: left behind by a deletion that keeps children, or by a hand. It is adopted.
    Orphan,
    /// Of a resource that had the same name: it goes, as a garbage collector would have it.
    Former,
    /// Somebody else's, whatever its name.
    Others,
}

/// `owner` is the resource, as its children name it.
pub(crate) fn ownership<K: Resource>(object: &K, owner: &OwnerReference) -> Ownership {
    let labels = object.labels();
    let labelled = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    match object.owner_references().iter().find(|owner| owner.controller == Some(true)) {
        Some(found) if found.uid == owner.uid => Ownership::Owned,
        Some(found) if is_same(found, owner) => Ownership::Former,
        Some(_) => Ownership::Others,
        None if labelled(MANAGED_BY, MANAGER) && labelled(INSTANCE, &owner.name) => Ownership::Orphan,
        None => Ownership::Others,
    }
}

/// Of one kind, whatever its version, and name.
fn is_same(one: &OwnerReference, other: &OwnerReference) -> bool {
    let group = |owner: &OwnerReference| owner.api_version.split_once('/').map(|(group, _)| group.to_owned());
    (&one.kind, &one.name, group(one)) == (&other.kind, &other.name, group(other))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_object_is_its_controllers_and_without_one_that_of_its_labels() {
        let reference = |kind: &str, name: &str, uid: &str, controller: bool| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": controller});
        let owner = serde_json::from_value(reference("ShardCluster", "tiny", "1", true)).unwrap();
        let ours = json!({MANAGED_BY: MANAGER, INSTANCE: "tiny"});
        let table = [
            (ours.clone(), vec![reference("ShardCluster", "tiny", "1", true)], Ownership::Owned),
            (json!({}), vec![reference("ShardCluster", "tiny", "1", true)], Ownership::Owned),
            (ours.clone(), vec![], Ownership::Orphan),
            (ours.clone(), vec![reference("ShardCluster", "tiny", "1", false)], Ownership::Orphan),
            (json!({MANAGED_BY: MANAGER, INSTANCE: "other"}), vec![], Ownership::Others),
            (json!({MANAGED_BY: "Helm", INSTANCE: "tiny"}), vec![], Ownership::Others),
            (json!({}), vec![], Ownership::Others),
            (ours.clone(), vec![reference("ShardCluster", "tiny", "2", true)], Ownership::Former),
            (ours.clone(), vec![reference("ShardCluster", "other", "2", true)], Ownership::Others),
            (ours, vec![reference("Deployment", "tiny", "2", true)], Ownership::Others),
        ];
        for (labels, owners, expected) in table {
            let metadata: Value = json!({"name": "a", "labels": labels, "ownerReferences": owners});
            let object: ServiceAccount = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(ownership(&object, &owner), expected, "{metadata}");
        }
    }
}
