//! Looks records up and believes those that are signed, and in a closed cluster made by a member.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use shard_wire::announce::{MemberAnnouncement, Payload};
use shard_wire::keys::{DhtKey, Role};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::net::Network;
use crate::net::signed::{self, Announced};

/// A lookup may wait for peers that are gone; what it has found by then is what there is.
const LOOKUP: Duration = Duration::from_secs(3);
/// Records that are read at once.
const RECORDS: usize = 8;
/// Copies of one record that are read: one may be old.
const COPIES: usize = 3;

/// A record that is believed.
pub(super) enum Found {
    Shard(Announced),
    Member(Announced<MemberAnnouncement>),
}

#[derive(Clone)]
pub(super) struct Reader {
    network: Network,
    cluster: String,
    found: mpsc::Sender<Found>,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(network: Network, cluster: String, found: mpsc::Sender<Found>) -> Self {
        Self { network, cluster, found, permits: Arc::new(Semaphore::new(RECORDS)) }
    }

    /// The replicas of one shard: those that provide its key, and, while none is online, the one that announced last:
    /// that record is there sooner.
    pub(super) async fn shard(&self, id: u32, online: bool) {
        let last = async {
            if !online {
                self.record(DhtKey::Shard(id), Found::Shard).await;
            }
        };
        let replicas = self.provided(DhtKey::Shard(id), |peer| DhtKey::Replica(id, peer), Found::Shard);
        // Dropped after the deadline, the lookups end.
        let _ = timeout(LOOKUP, futures::future::join(last, replicas)).await;
    }

    /// All members of a role.
    pub(super) async fn members(&self, role: Role) {
        let members = self.provided(DhtKey::Members(role), |peer| DhtKey::Member(role, peer), Found::Member);
        let _ = timeout(LOOKUP, members).await;
    }

    /// The record of each provider of a key.
    async fn provided<P: Payload>(
        &self,
        all: DhtKey,
        one: impl Fn(String) -> DhtKey,
        found: impl Fn(Announced<P>) -> Found + Copy,
    ) {
        let providers = self.network.get_providers(all.text(&self.cluster)).await;
        let mut seen = HashSet::new();
        let new = stream::unfold(providers, |mut providers| async {
            providers.recv().await.map(|peer| (peer, providers))
        })
        .filter(|peer| std::future::ready(seen.insert(*peer)));
        new.for_each_concurrent(RECORDS, |peer| self.record(one(peer.to_string()), found)).await;
    }

    /// Reads the copies of one record; every one that is believed counts, the newest wins in the end.
    async fn record<P: Payload>(&self, key: DhtKey, found: impl Fn(Announced<P>) -> Found) {
        let Ok(_permit) = self.permits.acquire().await else { return };
        let mut copies = self.network.get_records(key.text(&self.cluster)).await;
        let mut newest: Option<u64> = None;
        for _ in 0..COPIES {
            let Some(copy) = copies.recv().await else { return };
            match signed::open(&self.cluster, self.network.secrets(), &key, &copy) {
                Ok(announced) if newest.is_none_or(|newest| announced.sequence > newest) => {
                    newest = Some(announced.sequence);
                    if self.found.send(found(announced)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a record is not believed"),
            }
        }
    }
}
