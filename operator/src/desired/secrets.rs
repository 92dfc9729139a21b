//! What pods know: the cluster's secret, who they are, and the key by which the operator asks gateways.
//!
//! Keys are made once, outside: here they are given, and written as they are. So a secret that a user rotates, or an
//! identity that was made long ago, comes back unchanged.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::meta::{Part, managed, members, meta};
use crate::cluster::Cluster;

/// Where pods see the cluster's secret.
pub(super) const CLUSTER_SECRET_FILE: &str = "/etc/shardcluster/cluster-secret/cluster-secret";
/// Where a pod sees its own key.
pub(super) const IDENTITY_FILE: &str = "/etc/shardcluster/identity";
/// Where a gateway sees the operator's key.
pub(super) const OPERATOR_KEY_FILE: &str = "/etc/shardcluster/operator-key/operator-key";

/// All keys of a cluster, as the entries of Secrets hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// 32 bytes or more in one line; two lines while it is rotated.
    pub cluster_secret: ByteString,
    /// By the names of pods: the seed of an Ed25519 key, 64 hexadecimal digits.
    pub identities: BTreeMap<String, ByteString>,
    /// One line.
    pub operator_key: ByteString,
}

/// The Secrets of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets {
    /// The cluster's secret.
    pub cluster: Secret,
    /// The keys of all pods that have one.
    pub identities: Secret,
    /// The operator's key.
    pub operator_key: Secret,
}

/// Entry of the Secret with the cluster's secret.
pub const CLUSTER_SECRET: &str = "cluster-secret";
/// Entry of the Secret with the operator's key.
pub const OPERATOR_KEY: &str = "operator-key";

/// Names of the Secrets of a cluster, from its own.
pub mod names {
    /// Of the one with the cluster's secret.
    #[must_use]
    pub fn cluster_secret(name: &str) -> String {
        format!("{name}-cluster-secret")
    }

    /// Of the one with all identities.
    #[must_use]
    pub fn identities(name: &str) -> String {
        format!("{name}-identities")
    }

    /// Of the one with the operator's key.
    #[must_use]
    pub fn operator_key(name: &str) -> String {
        format!("{name}-operator-key")
    }
}

/// The pods that need an identity before they are started.
pub fn identified_pods(cluster: &Cluster) -> impl Iterator<Item = String> {
    let bootstrap = (Part::Bootstrap, cluster.bootstrap.replicas);
    // One more than it has, for the column that a rollout may add.
    let surge = u32::from(cluster.surge && !cluster.suspended);
    let shards = cluster.shards.iter().map(move |shard| (Part::Shard(shard.id), shard.replicas + surge));
    std::iter::once(bootstrap).chain(shards).flat_map(|(part, replicas)| {
        let name = part.name(cluster);
        (0..replicas).map(move |ordinal| format!("{name}-{ordinal}"))
    })
}

pub(super) fn secrets(cluster: &Cluster, keys: &Keys) -> Secrets {
    let secret = |name: String, data: BTreeMap<String, ByteString>| Secret {
        metadata: meta(cluster, name, managed(members(cluster))),
        type_: Some("Opaque".into()),
        data: Some(data),
        ..Secret::default()
    };
    let one = |entry: &str, value: &ByteString| [(entry.to_owned(), value.clone())].into();
    Secrets {
        cluster: secret(names::cluster_secret(&cluster.name), one(CLUSTER_SECRET, &keys.cluster_secret)),
        identities: secret(names::identities(&cluster.name), keys.identities.clone()),
        operator_key: secret(names::operator_key(&cluster.name), one(OPERATOR_KEY, &keys.operator_key)),
    }
}
