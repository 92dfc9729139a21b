//! On which nodes a volume is.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume};

const HOSTNAME: &str = "kubernetes.io/hostname";
const NAME: &str = "metadata.name";

/// What it calls the nodes that can mount it; `None` where it is not bound to nodes: it is reached over the network, or
/// from anywhere in a zone. Drivers of local volumes name nodes under keys of their own: so any key does whose values are
/// nodes.
pub(super) fn nodes_of<'a>(
    volume: &'a PersistentVolume,
    is_node: impl Fn(&str) -> bool,
) -> Option<Vec<&'a str>> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    // A node has to match one term, and of a term everything.
    let of_term = |term: &'a NodeSelectorTerm| {
        let labels = term.match_expressions.iter().flatten().map(|one| (one, HOSTNAME));
        let fields = term.match_fields.iter().flatten().map(|one| (one, NAME));
        labels.chain(fields).find_map(|(one, key)| named(one, key, &is_node))
    };
    let all: Vec<_> = required.node_selector_terms.iter().map(of_term).collect::<Option<_>>()?;
    Some(all.concat())
}

fn named<'a>(
    one: &'a NodeSelectorRequirement,
    key: &str,
    is_node: impl Fn(&str) -> bool,
) -> Option<Vec<&'a str>> {
    let values = one.values.as_deref().unwrap_or_default();
    let names = one.operator == "In"
        && !values.is_empty()
        && (one.key == key || values.iter().all(|value| is_node(value)));
    names.then(|| values.iter().map(String::as_str).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_volume_is_on_the_nodes_that_its_affinity_names() {
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let labels = |all: &[Value]| json!({"matchExpressions": all});
        let host = |values: &[&str]| labels(&[expression(HOSTNAME, "In", values)]);
        let zone = expression("topology.kubernetes.io/zone", "In", &["z"]);
        let table: Vec<(&str, Value, Option<Vec<&str>>)> = vec![
            ("local", json!([host(&["a"])]), Some(vec!["a"])),
            ("on a node that is no more", json!([host(&["x"])]), Some(vec!["x"])),
            ("on one of two", json!([host(&["a", "b"])]), Some(vec!["a", "b"])),
            ("on one of two, said otherwise", json!([host(&["a"]), host(&["b"])]), Some(vec!["a", "b"])),
            ("by name", json!([{"matchFields": [expression(NAME, "In", &["a"])]}]), Some(vec!["a"])),
            (
                "by a driver's key",
                json!([labels(&[expression("topology.example/node", "In", &["a"])])]),
                Some(vec!["a"]),
            ),
            ("in a zone", json!([labels(std::slice::from_ref(&zone))]), None),
            (
                "in a zone, and there on a node",
                json!([labels(&[zone.clone(), expression(HOSTNAME, "In", &["a"])])]),
                Some(vec!["a"]),
            ),
            ("on a node or in a zone", json!([host(&["a"]), labels(&[zone])]), None),
            ("anywhere but there", json!([labels(&[expression(HOSTNAME, "NotIn", &["a"])])]), None),
            ("nowhere", json!([{}]), None),
        ];
        let of = |volume: Value| -> PersistentVolume { serde_json::from_value(volume).unwrap() };
        let is_node = |name: &str| matches!(name, "a" | "b");
        for (case, terms, expected) in table {
            let volume = of(json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}));
            assert_eq!(nodes_of(&volume, is_node), expected, "{case}");
        }
        assert_eq!(nodes_of(&of(json!({"spec": {}})), is_node), None, "over the network");
    }
}
