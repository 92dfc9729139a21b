//! What is kept of a node.

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

const HOSTNAME: &str = "kubernetes.io/hostname";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A node, as far as losing it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// What volumes call it: its label, else its name.
    pub hostname: String,
    /// Since when its kubelet has been silent; `None` while it reports, be it that the node is not ready.
    pub unreachable_since: Option<Timestamp>,
    /// It takes pods of the control plane only.
    pub control_plane: bool,
}

impl From<&Node> for NodeView {
    fn from(node: &Node) -> Self {
        let name = node.name_any();
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        Self {
            hostname: node.labels().get(HOSTNAME).unwrap_or(&name).clone(),
            unreachable_since: unreachable_since(node),
            control_plane: taints.clone().any(|taint| taint.key == CONTROL_PLANE && keeps_off(taint)),
            name,
        }
    }
}

fn keeps_off(taint: &Taint) -> bool {
    matches!(&*taint.effect, "NoSchedule" | "NoExecute")
}

/// The node controller writes `Unknown` when a kubelet has been silent for its grace period, with a time that begins anew
/// with each silence. It taints the node as well, but late where many are lost, and takes the taint off late: so the
/// taint counts only where there is no such condition.
fn unreachable_since(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.clone().find(|one| one.type_ == "Ready");
    if ready.is_some_and(|ready| ready.status != "Unknown") {
        return None;
    }
    let silent = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut tainted =
        taints.filter(|taint| taint.key == UNREACHABLE).filter_map(|taint| taint.time_added.as_ref());
    silent.or_else(|| tainted.next().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TEN: &str = "2026-01-01T10:00:00Z";
    const ELEVEN: &str = "2026-01-01T11:00:00Z";

    fn view(conditions: &Value, taints: &Value) -> NodeView {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {HOSTNAME: "host"}},
            "spec": {"taints": taints},
            "status": {"conditions": conditions},
        }))
        .unwrap();
        NodeView::from(&node)
    }

    fn ready(status: &str, since: &str) -> Value {
        json!([{"type": "Ready", "status": status, "lastTransitionTime": since}])
    }

    fn taint(key: &str, effect: &str, added: Option<&str>) -> Value {
        json!([{"key": key, "effect": effect, "timeAdded": added}])
    }

    #[test]
    fn a_node_is_unreachable_while_its_kubelet_is_silent() {
        let tainted = |added| taint(UNREACHABLE, "NoExecute", added);
        let table = [
            ("ready", ready("True", TEN), json!([]), None),
            ("its kubelet says that it is not ready", ready("False", TEN), json!([]), None),
            ("silent", ready("Unknown", TEN), json!([]), Some(TEN)),
            ("silent, tainted later", ready("Unknown", TEN), tainted(Some(ELEVEN)), Some(TEN)),
            (
                "silent again, the old taint is still there",
                ready("Unknown", ELEVEN),
                tainted(Some(TEN)),
                Some(ELEVEN),
            ),
            ("back, the taint is still there", ready("True", ELEVEN), tainted(Some(TEN)), None),
            (
                "back and not ready, the taint is still there",
                ready("False", ELEVEN),
                tainted(Some(TEN)),
                None,
            ),
            (
                "silent, nobody knows since when",
                json!([{"type": "Ready", "status": "Unknown"}]),
                tainted(Some(TEN)),
                Some(TEN),
            ),
            ("never heard of, tainted", json!([]), tainted(Some(TEN)), Some(TEN)),
            ("never heard of", json!([]), json!([]), None),
            ("a taint without a time", json!([]), tainted(None), None),
            ("another taint", json!([]), taint("node.kubernetes.io/not-ready", "NoExecute", Some(TEN)), None),
        ];
        for (case, conditions, taints, since) in table {
            let since = since.map(|since| since.parse().unwrap());
            assert_eq!(view(&conditions, &taints).unreachable_since, since, "{case}");
        }
    }

    #[test]
    fn its_hostname_is_a_label_and_may_be_missing() {
        assert_eq!(view(&json!([]), &json!([])).hostname, "host");
        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
        assert_eq!(NodeView::from(&bare).hostname, "n");
    }

    #[test]
    fn a_control_plane_that_takes_other_pods_is_a_node_like_others() {
        let is = |taints| view(&json!([]), &taints).control_plane;
        assert!(is(taint(CONTROL_PLANE, "NoSchedule", None)));
        assert!(!is(taint(CONTROL_PLANE, "PreferNoSchedule", None)));
        assert!(!is(taint("nvidia.com/gpu", "NoSchedule", None)));
    }
}
