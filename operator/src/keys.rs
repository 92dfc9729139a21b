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
