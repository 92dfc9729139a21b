//! What is known about the replicas of a cluster. Pure: announcements, connections and the time in; a view, and peers
//! to dial, out. [`crate::watch`] does the lookups and the dialling.
//!
//! An announcement says what a node serves. Whether it is there is not in it: a replica is online while it is
//! connected, so its end is seen when its connection ends, whatever the age of its record.

mod status;
mod view;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{ReplicaState, ShardAnnouncement};

pub use status::{Facts, ManifestFacts, NextFacts};
pub use view::{ClusterView, PlanView, Replica, ShardView};

use crate::net::signed::Announced;

/// Replicas that are remembered: 256 shards with eight each.
const MAX_REPLICAS: usize = 2048;
/// After a failed dial, doubled each time.
const DIAL_AGAIN_FIRST: Duration = Duration::from_millis(500);
const DIAL_AGAIN_LAST: Duration = Duration::from_secs(10);

/// Every replica that was heard of.
#[derive(Debug)]
pub struct Cluster {
    local: PeerId,
    /// By peer and shard.
    known: HashMap<(PeerId, u32), Known>,
    connected: HashSet<PeerId>,
    dials: HashMap<PeerId, Dial>,
    /// A replica that is offline and that no lookup has found for so long is forgotten.
    forget_after: Duration,
}

/// The last word of one replica. One that has left stays as the mark that its older words do not count.
#[derive(Debug)]
struct Known {
    sequence: u64,
    announcement: ShardAnnouncement,
    heard: Instant,
}

#[derive(Debug, Default)]
struct Dial {
    under_way: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Cluster {
    /// Nothing is known yet. `local` is always online.
    pub fn new(local: PeerId, forget_after: Duration) -> Self {
        Self {
            local,
            known: HashMap::new(),
            connected: HashSet::from([local]),
            dials: HashMap::new(),
            forget_after,
        }
    }

    /// A lookup found an announcement. Older words than the last do not count. True when it said something new.
    pub fn on_announced(&mut self, announced: Announced, now: Instant) -> bool {
        let Announced { peer, sequence, announcement } = announced;
        let key = (peer, announcement.shard.shard_id);
        if let Some(known) = self.known.get_mut(&key) {
            known.heard = now;
            if sequence <= known.sequence {
                return false;
            }
            let restarted = announcement.incarnation != known.announcement.incarnation;
            let moved = announcement.listen_addresses != known.announcement.listen_addresses;
            if restarted || moved {
                self.dials.remove(&peer);
            }
        } else if self.known.len() >= MAX_REPLICAS {
            tracing::warn!(%peer, shard = key.1, "not followed: {MAX_REPLICAS} replicas are known already");
            return false;
        }
        self.known.insert(key, Known { sequence, announcement, heard: now });
        true
    }

    /// A peer is connected.
    pub fn on_connected(&mut self, peer: PeerId) {
        self.connected.insert(peer);
        self.dials.remove(&peer);
    }

    /// The last connection to a peer is gone. It is dialled again at once.
    pub fn on_disconnected(&mut self, peer: PeerId) {
        self.connected.remove(&peer);
        self.dials.remove(&peer);
    }

    /// Who is connected, after events were missed.
    pub fn reset_connected(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.connected = peers.into_iter().chain([self.local]).collect();
    }

    /// A dial ended.
    pub fn on_dialled(&mut self, peer: PeerId, reached: bool, now: Instant) {
        if reached {
            self.dials.remove(&peer);
        } else if let Some(dial) = self.dials.get_mut(&peer) {
            let wait = DIAL_AGAIN_FIRST.saturating_mul(1 << dial.failures.min(10)).min(DIAL_AGAIN_LAST);
            *dial = Dial { under_way: false, failures: dial.failures + 1, not_before: Some(now + wait) };
        }
    }

    /// Peers to dial now, with their addresses; the outcome of each is [`Self::on_dialled`].
    pub fn due_dials(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for peer in self.followed() {
            if self.connected.contains(&peer) {
                continue;
            }
            let dial = self.dials.entry(peer).or_default();
            if !dial.under_way && dial.not_before.is_none_or(|at| at <= now) {
                dial.under_way = true;
                due.push((peer, self.addresses(peer)));
            }
        }
        due
    }

    /// When the next dial is due.
    pub fn next_dial(&self) -> Option<Instant> {
        self.dials.values().filter(|dial| !dial.under_way).filter_map(|dial| dial.not_before).min()
    }

    /// Forgets who is offline and no longer in the DHT. True when there was somebody.
    pub fn forget(&mut self, now: Instant) -> bool {
        let before = self.known.len();
        let (connected, after) = (&self.connected, self.forget_after);
        self.known.retain(|(peer, _), known| {
            let left = known.announcement.shard.state == ReplicaState::Left;
            (connected.contains(peer) && !left) || now.saturating_duration_since(known.heard) < after
        });
        let followed = self.followed();
        self.dials.retain(|peer, _| followed.contains(peer));
        self.known.len() < before
    }

    /// Peers with a replica that has not left: those to stay connected to.
    pub fn followed(&self) -> HashSet<PeerId> {
        let staying =
            self.known.iter().filter(|(_, known)| known.announcement.shard.state != ReplicaState::Left);
        staying.map(|((peer, _), _)| *peer).filter(|peer| *peer != self.local).collect()
    }

    /// Shards that are named by any announcement: ids below it are worth a lookup.
    pub fn named_shards(&self) -> Option<u32> {
        let counts = self.known.values().map(|known| {
            let shard = &known.announcement.shard;
            shard.total_shards.max(shard.shard_id + 1)
        });
        counts.max()
    }

    /// Shards with a replica that is connected.
    pub fn online_shards(&self) -> HashSet<u32> {
        let online = self.known.keys().filter(|(peer, _)| self.connected.contains(peer));
        online.map(|(_, shard)| *shard).collect()
    }

    /// What is known now.
    pub fn view(&self) -> ClusterView {
        let replicas = self.known.iter().filter_map(|((peer, _), known)| {
            let ShardAnnouncement { incarnation, shard, .. } = &known.announcement;
            (shard.state != ReplicaState::Left).then(|| Replica {
                peer: *peer,
                incarnation: *incarnation,
                addresses: addresses(&known.announcement),
                connected: self.connected.contains(peer),
                shard: shard.clone(),
            })
        });
        ClusterView::new(replicas.collect())
    }

    fn addresses(&self, peer: PeerId) -> Vec<Multiaddr> {
        let theirs = self.known.iter().filter(|((known, _), _)| *known == peer).map(|(_, known)| known);
        theirs
            .max_by_key(|known| known.sequence)
            .map(|known| addresses(&known.announcement))
            .unwrap_or_default()
    }
}

/// Where a node says it is; what is no address is left out.
fn addresses(announcement: &ShardAnnouncement) -> Vec<Multiaddr> {
    let all = announcement.external_addresses.iter().chain(&announcement.listen_addresses);
    all.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
