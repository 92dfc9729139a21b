//! I/O out: makes the cluster what [`Desired`] says, by server-side apply under one name, and nothing where it is so.
//!
//! ```text
//!  Desired ─┬▶ accounts, Secrets, Services, policies     what pods need before they start
//!           ├▶ bootstrap, shards, gateway                the pods; volumes grow first, and what cannot change is made anew
//!           ├▶ budgets
//!           └▶ prune                                     owned, and none of the above
//! ```

mod child;
mod compare;
mod error;
mod evict;
mod hold;
mod prune;
mod secret;
mod stateful_set;

use std::collections::HashSet;

use kube::{Client, ResourceExt};

use crate::cluster::Cluster;
use crate::desired::secrets::Secrets;
use crate::desired::{Accounts, BootstrapChildren, Desired, GatewayChildren, Policies, ShardChildren};
use crate::observe::Observed;
use crate::watch::Shelves;
pub use error::{ApplyError, Object};
pub use evict::{Evicted, evict};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Requests that change something; 0 where all was as it should be.
    pub writes: usize,
    /// What cannot be as it should.
    pub notes: Vec<Note>,
}

/// Something that a user has to know, though the pods run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whose.
    pub workload: Workload,
    /// One word.
    pub reason: &'static str,
    /// What it is, and what to do.
    pub message: String,
}

/// A StatefulSet of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// The entry and origin.
    Bootstrap,
    /// One part of the model.
    Shard(u32),
}

/// Writes what differs. `resting` was refused a short while ago: it is not sent.
///
/// # Errors
/// The first write that is refused, or rests; what comes after it is left for the next time.
pub async fn apply(
    client: &Client,
    shelves: &Shelves,
    cluster: &Cluster,
    desired: &Desired,
    observed: &Observed,
    resting: Option<&Object>,
) -> Result<Applied, ApplyError> {
    // Taken apart to the last field, so that a new child is not forgotten here.
    let Desired { accounts, secrets, bootstrap, shards, gateway, policies, held } = desired;
    let Accounts { bootstrap: bootstrap_account, shard: shard_account, gateway: gateway_account } = accounts;
    let Secrets { cluster: cluster_secret, identities, operator_key } = secrets;
    let BootstrapChildren { stateful_set, peers, client: clients, tcp, udp, disruption } = bootstrap;
    let GatewayChildren { deployment, service, disruption: gateway_disruption } = gateway;

    let live = &observed.children;
    let mut writer = Writer {
        client,
        shelves,
        namespace: &cluster.namespace,
        owner: &cluster.owner.uid,
        resting,
        kept: HashSet::new(),
        applied: Applied::default(),
    };
    for account in [bootstrap_account, shard_account, gateway_account].into_iter().flatten() {
        writer.child(account, &live.service_accounts).await?;
    }
    writer.secret(cluster_secret, observed.secrets.cluster.as_ref()).await?;
    writer.secret(identities, observed.secrets.identities.as_ref()).await?;
    writer.secret(operator_key, observed.secrets.operator_key.as_ref()).await?;
    if let Some(Policies { bootstrap, shard, gateway }) = policies {
        for policy in [bootstrap, shard, gateway] {
            writer.child(policy, &live.network_policies).await?;
        }
    }
    for service in
        [Some(peers), Some(clients), tcp.as_ref(), udp.as_ref(), Some(service)].into_iter().flatten()
    {
        writer.child(service, &live.services).await?;
    }
    writer.stateful_set(Workload::Bootstrap, stateful_set, observed).await?;
    writer.hold(held, &live.stateful_sets).await?;
    for (id, ShardChildren { stateful_set, peers, disruption }) in (0..).zip(shards) {
        writer.child(peers, &live.services).await?;
        if !held.holds(&stateful_set.name_any()) {
            writer.stateful_set(Workload::Shard(id), stateful_set, observed).await?;
        }
        if let Some(budget) = disruption {
            writer.child(budget, &live.disruption_budgets).await?;
        }
    }
    writer.child(deployment, &live.deployments).await?;
    for budget in [disruption, gateway_disruption].into_iter().flatten() {
        writer.child(budget, &live.disruption_budgets).await?;
    }
    writer.prune(live).await?;
    Ok(writer.applied)
}

/// Writes the children of one resource.
struct Writer<'a> {
    client: &'a Client,
    /// What is written is put there.
    shelves: &'a Shelves,
    namespace: &'a str,
    /// The resource's uid.
    owner: &'a str,
    /// What is not asked for.
    resting: Option<&'a Object>,
    /// Kinds and names of all that is desired.
    kept: HashSet<(String, String)>,
    applied: Applied,
}
