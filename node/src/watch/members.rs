//! Gateways and spares, as the DHT and the connections show them. Pure.
//!
//! A spare is connected to, so that it can be told what to serve; that it is gone shows at once. A gateway listens on
//! nothing: what shows that it lives is its record, which it puts every minute and which lives for three.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{Capabilities, MemberAnnouncement, MemberInfo};
use shard_wire::keys::Role;

use crate::net::signed::Announced;

/// Members that are remembered: as many as a peer of the DHT stores.
const MAX_MEMBERS: usize = 1024;
/// A member that is not connected and that no lookup finds is forgotten after a few of them.
const FORGET: Duration = Duration::from_secs(30);
/// Between two dials of one spare.
const DIAL_AGAIN: Duration = Duration::from_secs(5);

/// A gateway or a spare.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Which of both.
    pub role: Role,
    /// Start of its process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// When it said so the last time, milliseconds since the Unix epoch by its clock.
    pub announced_ms: u64,
    /// Where it says it is.
    pub addresses: Vec<Multiaddr>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// It is connected, or it is us.
    pub connected: bool,
}

/// Members of a cluster that serve no shard, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// All that have not left, in the order of roles and peers.
    pub all: Vec<Member>,
}

impl Members {
    /// Nodes that wait for a shard.
    pub fn spares(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.role == Role::Spare)
    }

    /// Gateways, ourselves included where we are one.
    pub fn gateways(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.role == Role::Gateway)
    }
}

/// Who was heard of.
#[derive(Debug)]
pub(super) struct Table {
    local: PeerId,
    known: HashMap<(Role, PeerId), Known>,
    connected: HashSet<PeerId>,
    /// Spares that were dialled, and when next.
    dials: HashMap<PeerId, Instant>,
}

/// The last word of one member. One that has left stays as the mark that its older words do not count.
#[derive(Debug)]
struct Known {
    sequence: u64,
    announcement: MemberAnnouncement,
    heard: Instant,
}

impl Table {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, known: HashMap::new(), connected: HashSet::from([local]), dials: HashMap::new() }
    }

    /// A lookup found an announcement; older words than the last do not count.
    pub(super) fn on_announced(&mut self, announced: Announced<MemberAnnouncement>, now: Instant) {
        let Announced { peer, sequence, announcement } = announced;
        let key = (announcement.member.role, peer);
        if let Some(known) = self.known.get_mut(&key) {
            known.heard = now;
            if sequence > known.sequence {
                *known = Known { sequence, announcement, heard: now };
            }
        } else if self.known.len() < MAX_MEMBERS {
            self.known.insert(key, Known { sequence, announcement, heard: now });
        } else {
            tracing::warn!(%peer, "not followed: {MAX_MEMBERS} members without a shard are known already");
        }
    }

    pub(super) fn on_connected(&mut self, peer: PeerId) {
        self.connected.insert(peer);
        self.dials.remove(&peer);
    }

    pub(super) fn on_disconnected(&mut self, peer: PeerId) {
        self.connected.remove(&peer);
    }

    pub(super) fn reset_connected(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.connected = peers.into_iter().chain([self.local]).collect();
    }

    /// Forgets who is neither connected nor found any more.
    pub(super) fn forget(&mut self, now: Instant) {
        let connected = &self.connected;
        self.known.retain(|(_, peer), known| {
            (connected.contains(peer) && !known.announcement.left)
                || now.saturating_duration_since(known.heard) < FORGET
        });
        let spares = self.spares();
        self.dials.retain(|peer, _| spares.contains(peer));
    }

    /// Spares to stay connected to.
    pub(super) fn spares(&self) -> HashSet<PeerId> {
        let spares =
            self.known.iter().filter(|((role, _), known)| *role == Role::Spare && !known.announcement.left);
        spares.map(|((_, peer), _)| *peer).filter(|peer| *peer != self.local).collect()
    }

    /// Spares to dial now, with their addresses.
    pub(super) fn due_dials(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for peer in self.spares() {
            let waits = self.dials.get(&peer).is_some_and(|at| now < *at);
            if !waits && !self.connected.contains(&peer) {
                self.dials.insert(peer, now + DIAL_AGAIN);
                let known = self.known.get(&(Role::Spare, peer));
                due.push((peer, known.map(|known| addresses(&known.announcement)).unwrap_or_default()));
            }
        }
        due
    }

    /// Who is there now.
    pub(super) fn view(&self) -> Members {
        let mut all: Vec<Member> =
            self.known.iter().filter_map(|((_, peer), known)| self.member(*peer, known)).collect();
        all.sort_by_key(|member| (member.role, member.peer));
        Members { all }
    }

    fn member(&self, peer: PeerId, known: &Known) -> Option<Member> {
        let MemberAnnouncement { incarnation, left, member, .. } = &known.announcement;
        let MemberInfo { role, capabilities } = member.clone();
        (!left).then(|| Member {
            peer,
            role,
            incarnation: *incarnation,
            announced_ms: known.sequence,
            addresses: addresses(&known.announcement),
            capabilities,
            connected: self.connected.contains(&peer),
        })
    }
}

/// Where a member says it is; what is no address is left out.
fn addresses(announcement: &MemberAnnouncement) -> Vec<Multiaddr> {
    let all = announcement.external_addresses.iter().chain(&announcement.listen_addresses);
    all.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(peer: PeerId, role: Role, sequence: u64, left: bool) -> Announced<MemberAnnouncement> {
        let announcement = MemberAnnouncement {
            cluster: "c".into(),
            peer_id: peer.to_string(),
            incarnation: 7,
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/1".into(), "nonsense".into()],
            external_addresses: vec![],
            left,
            member: MemberInfo { role, capabilities: Capabilities::default() },
        };
        Announced { peer, sequence, announcement }
    }

    #[test]
    fn the_last_word_of_each_counts() {
        let (me, spare, gateway) = (PeerId::random(), PeerId::random(), PeerId::random());
        let (mut table, start) = (Table::new(me), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        table.on_announced(says(spare, Role::Spare, 1, false), at(0));
        table.on_announced(says(gateway, Role::Gateway, 1, false), at(0));
        table.on_announced(says(me, Role::Gateway, 1, false), at(0));
        let view = table.view();
        assert_eq!(
            view.spares().map(|member| (member.peer, member.connected)).collect::<Vec<_>>(),
            [(spare, false)]
        );
        let mut gateways: Vec<_> = view.gateways().map(|member| (member.peer, member.connected)).collect();
        gateways.sort_by_key(|(_, connected)| *connected);
        assert_eq!(gateways, [(gateway, false), (me, true)]);

        // Spares are dialled now and then until they are there, gateways never.
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert_eq!(table.due_dials(at(0)), [(spare, vec![address])]);
        assert_eq!(table.due_dials(at(4)), []);
        assert_eq!(table.due_dials(at(5)).len(), 1);
        table.on_connected(spare);
        assert_eq!(table.due_dials(at(60)), []);
        assert!(table.view().spares().all(|member| member.connected));

        // A spare that is connected is there; a gateway that no lookup finds is not.
        table.forget(at(29));
        assert_eq!(table.view().all.len(), 3);
        table.forget(at(30));
        assert_eq!(table.view().gateways().count(), 1, "ourselves");
        assert_eq!(table.view().spares().count(), 1);

        // It leaves, and its older words come late.
        table.on_announced(says(spare, Role::Spare, 3, true), at(31));
        table.on_announced(says(spare, Role::Spare, 2, false), at(32));
        assert_eq!((table.view().spares().count(), table.spares().len()), (0, 0));
        table.on_announced(says(spare, Role::Spare, 4, false), at(33));
        assert_eq!(table.view().spares().next().map(|member| member.announced_ms), Some(4));
        table.on_disconnected(spare);
        assert_eq!(table.due_dials(at(34)).len(), 1);
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let mut table = Table::new(PeerId::random());
        let now = Instant::now();
        for _ in 0..MAX_MEMBERS + 10 {
            table.on_announced(says(PeerId::random(), Role::Spare, 1, false), now);
        }
        assert_eq!(table.view().all.len(), MAX_MEMBERS);
        table.forget(now + FORGET);
        assert_eq!((table.known.len(), table.dials.len()), (0, 0));
    }
}
