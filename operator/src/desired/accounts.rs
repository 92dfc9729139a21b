//! ServiceAccounts: names for pull secrets and admission rules, without rights and without tokens.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Accounts;
use super::meta::Part;
use crate::cluster::{Cluster, Pod};

pub(super) fn accounts(cluster: &Cluster) -> Accounts {
    Accounts {
        bootstrap: account(cluster, Part::Bootstrap, [&cluster.bootstrap.pod]),
        shard: account(cluster, Part::Shards, cluster.shards.iter().map(|shard| &shard.pod)),
        gateway: account(cluster, Part::Gateway, [&cluster.gateway.pod]),
    }
}

/// One, where a pod of the part has none of its own.
fn account<'a>(
    cluster: &Cluster,
    part: Part,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Option<ServiceAccount> {
    let is_used = pods.into_iter().any(|pod| pod.service_account.is_none());
    is_used.then(|| ServiceAccount {
        metadata: part.meta(cluster),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
