//! Keys that are made once. What Secrets hold is taken as it is; only what they lack is new, and [`crate::apply`] adds
//! it before the pods that need it are there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use thiserror::Error;

use crate::cluster::Cluster;
use crate::desired::secrets::{CLUSTER_SECRET, Keys, OPERATOR_KEY, identified_pods};

/// Bytes of a key: an Ed25519 seed has as many, and a shared secret needs no more.
const BYTES: usize = 32;

/// The Secrets of a cluster, as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldSecrets {
    /// With the cluster's secret.
    pub cluster: Option<Secret>,
    /// With the keys of pods.
    pub identities: Option<Secret>,
    /// With the operator's key.
    pub operator_key: Option<Secret>,
}

impl HeldSecrets {
    /// The operator's key as text, where there is one.
    #[must_use]
    pub fn operator_key(&self) -> Option<String> {
        let key = entry(self.operator_key.as_ref(), OPERATOR_KEY)?;
        Some(String::from_utf8_lossy(&key.0).trim().to_owned())
    }
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The system gives no random bytes.
    #[error("cannot get random bytes for a new key: {0}")]
    Random(getrandom::Error),
}

/// All keys of a cluster: those that are held, and new ones for what has none.
///
/// # Errors
/// Where the system has no random bytes.
pub fn keys(cluster: &Cluster, held: &HeldSecrets) -> Result<Keys, KeysError> {
    let mut identities: BTreeMap<String, ByteString> =
        held.identities.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
    for pod in identified_pods(cluster).filter(|pod| !identities.contains_key(pod)).collect::<Vec<_>>() {
        identities.insert(pod, random()?);
    }
    Ok(Keys {
        cluster_secret: kept_or_new(held.cluster.as_ref(), CLUSTER_SECRET)?,
        identities,
        operator_key: kept_or_new(held.operator_key.as_ref(), OPERATOR_KEY)?,
    })
}

fn entry<'a>(secret: Option<&'a Secret>, name: &str) -> Option<&'a ByteString> {
    secret?.data.as_ref()?.get(name)
}

fn kept_or_new(secret: Option<&Secret>, name: &str) -> Result<ByteString, KeysError> {
    entry(secret, name).map_or_else(random, |value| Ok(value.clone()))
}

/// In the form that the programs' key files have: hexadecimal digits.
fn random() -> Result<ByteString, KeysError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(ByteString(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::desired::secrets::identified_pods;

    fn cluster(replicas: u32) -> Cluster {
        let resource = serde_json::from_value(serde_json::json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
            "metadata": {"name": "tiny", "namespace": "llm", "uid": "1"},
            "spec": {
                "model": {"name": "m", "source": {"builtin": {}}},
                "shards": {"count": 2, "replicas": replicas},
            },
        }));
        crate::validate::validate(&resource.unwrap(), &crate::settings::Settings::example()).unwrap()
    }

    fn holding(name: &str, data: BTreeMap<String, ByteString>) -> Option<Secret> {
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(name.into());
        Some(secret)
    }

    #[test]
    fn every_pod_has_a_key_of_its_own_and_keeps_it() {
        let one = cluster(1);
        let first = keys(&one, &HeldSecrets::default()).unwrap();
        let names: Vec<_> = first.identities.keys().cloned().collect();
        assert_eq!(names, ["tiny-bootstrap-0", "tiny-shard-0-0", "tiny-shard-1-0"]);
        let all: BTreeSet<_> = first
            .identities
            .values()
            .chain([&first.cluster_secret, &first.operator_key])
            .map(|key| &key.0)
            .collect();
        assert_eq!(all.len(), 5, "no two are the same");
        let is_seed = |key: &ByteString| key.0.len() == 64 && key.0.iter().all(u8::is_ascii_hexdigit);
        assert!(
            first.identities.values().all(is_seed),
            "64 hexadecimal digits, as --identity-file takes them"
        );

        let held = HeldSecrets {
            cluster: holding("c", [(CLUSTER_SECRET.into(), ByteString(b"the user's own".to_vec()))].into()),
            identities: holding("i", first.identities.clone()),
            operator_key: holding("o", BTreeMap::new()),
        };
        let two = cluster(2);
        let second = keys(&two, &held).unwrap();
        assert_eq!(second.cluster_secret.0, b"the user's own");
        assert_eq!(second.operator_key.0.len(), 64, "an entry that was lost is made again");
        assert_eq!(second.identities.len(), identified_pods(&two).count());
        assert!(first.identities.iter().all(|(pod, key)| second.identities[pod] == *key));

        let fewer = HeldSecrets { identities: holding("i", second.identities.clone()), ..held };
        assert_eq!(
            keys(&one, &fewer).unwrap().identities,
            second.identities,
            "a pod that comes back is the same peer"
        );
    }
}
