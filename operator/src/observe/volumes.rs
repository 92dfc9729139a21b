//! Volumes that may be why a pod fits no node: a lost one may have them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::Api;
use kube::{Client, ResourceExt};
use tracing::warn;

use super::ObserveError;
use crate::nodes::{NodeView, Nodes, Standing};
use crate::pods::{claims_of, unschedulable};

/// Where a claim's volume was made; a hint, that only saves a look at the volume.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// None where nothing waits for a volume, which is nearly always.
pub(super) async fn volumes(
    client: &Client,
    pods: &[Pod],
    claims: &[PersistentVolumeClaim],
    nodes: &[NodeView],
) -> Result<Vec<PersistentVolume>, ObserveError> {
    let api = Api::<PersistentVolume>::all(client.clone());
    let mut volumes = Vec::new();
    for name in names_to_read(pods, claims, nodes) {
        match api.get_opt(&name).await {
            Ok(volume) => volumes.extend(volume),
            // An operator of one namespace may be kept from what belongs to none: then claims stay.
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                warn!(volume = name, "may not be read, so it is not known whether a lost node has it");
            }
            Err(source) => return Err(ObserveError::get::<PersistentVolume>("", &name, source)),
        }
    }
    Ok(volumes)
}

/// Their names: of pods that fit no node, where the volume may be the reason.
fn names_to_read(pods: &[Pod], claims: &[PersistentVolumeClaim], nodes: &[NodeView]) -> Vec<String> {
    let nodes = Nodes::new(nodes);
    let elsewhere = |claim: &&PersistentVolumeClaim| {
        let selected = claim.annotations().get(SELECTED_NODE);
        selected.is_none_or(|node| nodes.named(node) != Standing::Reachable)
    };
    let homeless = pods.iter().filter(|pod| unschedulable(pod).is_some());
    let claims = homeless.flat_map(|pod| claims_of(pod, claims)).filter(elsewhere);
    claims.filter_map(|claim| claim.spec.as_ref()?.volume_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn volumes_are_read_only_where_they_may_be_the_reason() {
        let (on_a_node, waits) = (
            json!({"type": "PodScheduled", "status": "True"}),
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}),
        );
        let pod = |name: &str, scheduled: &Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"containers": [], "volumes": [
                    {"name": "model", "persistentVolumeClaim": {"claimName": format!("model-{name}")}},
                ]},
                "status": {"conditions": [scheduled]},
            }))
            .unwrap()
        };
        let claim = |name: &str, volume: Option<&str>, selected: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": {"name": name, "annotations": selected.map(|node| json!({SELECTED_NODE: node}))},
                "spec": {"volumeName": volume},
            }))
            .unwrap()
        };
        let node = |name: &str, unreachable_since| NodeView {
            name: name.into(),
            hostname: format!("{name}.example"),
            unreachable_since,
            control_plane: false,
        };
        let nodes = [node("near", None), node("far", Some(Timestamp::UNIX_EPOCH))];
        let table = [
            ("it has its node", &on_a_node, Some("v1"), None, vec![]),
            ("it fits no node", &waits, Some("v1"), None, vec!["v1"]),
            ("its claim has no volume yet", &waits, None, None, vec![]),
            ("its volume was made on a lost node", &waits, Some("v1"), Some("far"), vec!["v1"]),
            ("its volume was made on one that is there", &waits, Some("v1"), Some("near"), vec![]),
        ];
        for (case, scheduled, volume, selected, expected) in table {
            let pods = [pod("a-shard-0-0", &on_a_node), pod("a-shard-1-0", scheduled)];
            let claims =
                [claim("model-a-shard-0-0", Some("v0"), None), claim("model-a-shard-1-0", volume, selected)];
            assert_eq!(names_to_read(&pods, &claims, &nodes), expected, "{case}");
        }
    }
}
