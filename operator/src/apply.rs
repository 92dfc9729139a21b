//! I/O out: makes the cluster what [`Desired`] says, by server-side apply under one name, and nothing where it is so.
//!
//! ```text
//!  Desired ─┬▶ accounts, Secrets, Services, policies     what pods need before they start
//!           │  where none of it was refused:
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

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, ResourceExt};

use crate::cluster::Cluster;
use crate::crd::Reason;
use crate::desired::secrets::Secrets;
use crate::desired::{Accounts, BootstrapChildren, Desired, GatewayChildren, Policies, ShardChildren};
use crate::observe::Observed;
use crate::watch::Shelves;
pub use error::{ApplyError, Object};
pub use evict::{Evicted, evict};

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// Requests that change something; 0 where all was as it should be.
    pub writes: usize,
    /// What cannot be as it should.
    pub notes: Vec<Note>,
    /// Writes that were refused, or rest; the others were done.
    pub refused: Vec<ApplyError>,
    /// Children that were not as they should be, and are now.
    pub repaired: Vec<Repair>,
}

/// A child that was written, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which.
    pub object: Object,
    /// Of all that is wanted of it.
    pub hash: String,
}

/// Something that a user has to know, though the pods run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whose.
    pub workload: Workload,
    /// One word.
    pub reason: Reason,
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

/// Writes what differs. `resting` was refused a short while ago, and `contested` written over by others: it is not sent.
///
/// # Errors
/// The first write that fails and is not refused: what comes after it is left for the next time.
pub async fn apply(
    client: &Client,
    shelves: &Shelves,
    cluster: &Cluster,
    desired: &Desired,
    observed: &Observed,
    resting: &[Object],
    contested: &[Repair],
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
        owner: &cluster.owner,
        resting,
        contested,
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
    // Without its account, its keys or its policy no pod is what it should be.
    if !writer.applied.refused.is_empty() {
        return Ok(writer.applied);
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
    // What is refused may be why something else is still needed.
    if writer.applied.refused.is_empty() {
        writer.prune(live).await?;
    }
    Ok(writer.applied)
}

/// Writes the children of one resource.
struct Writer<'a> {
    client: &'a Client,
    /// What is written is put there.
    shelves: &'a Shelves,
    namespace: &'a str,
    /// The resource, as its children name it.
    owner: &'a OwnerReference,
    /// What is not asked for.
    resting: &'a [Object],
    /// What is left as others have it.
    contested: &'a [Repair],
    /// Kinds and names of all that is desired.
    kept: HashSet<(String, String)>,
    applied: Applied,
}

impl Writer<'_> {
    /// A refusal keeps nothing else from being written.
    fn go_on(&mut self, done: Result<(), ApplyError>) -> Result<(), ApplyError> {
        match done {
            Err(error) if error.is_refusal() => {
                self.applied.refused.push(error);
                Ok(())
            }
            done => done,
        }
    }
}
