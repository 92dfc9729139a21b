//! What [`crate::loss`] has to know of the machines: the few volumes that matter.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::Api;
use kube::{Client, Resource};
use tracing::warn;

use super::ObserveError;
use crate::loss::{NodeView, volumes_to_read};

/// None where nothing waits for a volume, which is nearly always.
pub(super) async fn volumes(
    client: &Client,
    pods: &[Pod],
    claims: &[PersistentVolumeClaim],
    nodes: &[NodeView],
) -> Result<Vec<PersistentVolume>, ObserveError> {
    let api = Api::<PersistentVolume>::all(client.clone());
    let mut volumes = Vec::new();
    for name in volumes_to_read(pods, claims, nodes) {
        match api.get_opt(&name).await {
            Ok(volume) => volumes.extend(volume),
            // An operator of one namespace may be kept from what belongs to none: then claims stay.
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                warn!(volume = name, "may not be read, so it is not known whether a lost node has it");
            }
            Err(source) => return Err(failed::<PersistentVolume>(&name)(source)),
        }
    }
    Ok(volumes)
}

fn failed<K: Resource<DynamicType = ()>>(name: &str) -> impl Fn(kube::Error) -> ObserveError {
    let name = name.to_owned();
    move |source| ObserveError::Get {
        kind: K::kind(&()).into_owned(),
        namespace: String::new(),
        name: name.clone(),
        source,
    }
}
