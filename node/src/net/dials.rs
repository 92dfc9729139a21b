//! Dials under way, and who waits for each.
//!
//! A known peer is one attempt at all its addresses, and the swarm keeps the first connection. Behind the addresses
//! of an unknown one may be several peers: each is an attempt of its own, the first that connects answers, and what
//! connects later is closed again.

use std::collections::HashMap;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, Swarm};

use super::error::dial_cause;
use super::event_loop::MAX_PENDING;
use super::{NetError, Reply};

/// Addresses of an unknown peer that are tried at once.
const MAX_ATTEMPTS: usize = 16;

#[derive(Default)]
pub(super) struct Dials {
    waiting: HashMap<u64, Dial>,
    attempts: HashMap<ConnectionId, u64>,
    last: u64,
}

struct Dial {
    peer: Option<PeerId>,
    attempts: usize,
    /// Why attempts failed.
    causes: Vec<String>,
    reply: Reply<PeerId>,
}

impl Dials {
    pub(super) fn start<B: NetworkBehaviour>(
        &mut self,
        swarm: &mut Swarm<B>,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        reply: Reply<PeerId>,
    ) {
        let peer = peer.or_else(|| addresses.iter().find_map(named));
        if let Some(connected) = peer.filter(|peer| swarm.is_connected(peer)) {
            let _ = reply.send(Ok(connected));
            return;
        }
        if self.attempts.len() >= MAX_PENDING {
            let _ = reply.send(Err(NetError::Busy(MAX_PENDING)));
            return;
        }
        self.last += 1;
        let mut error = NetError::NoAddress;
        let mut attempts = 0;
        for options in options(peer, addresses) {
            let id = options.connection_id();
            match swarm.dial(options) {
                Ok(()) => {
                    self.attempts.insert(id, self.last);
                    attempts += 1;
                }
                Err(refused) => error = NetError::Dial(dial_cause(&refused)),
            }
        }
        if attempts == 0 {
            let _ = reply.send(Err(error));
        } else {
            self.waiting.insert(self.last, Dial { peer, attempts, causes: Vec::new(), reply });
        }
    }

    /// A connection is there. True for one that came after its dial had been answered.
    pub(super) fn on_connected(&mut self, peer: PeerId, id: ConnectionId) -> bool {
        let dial = self.attempts.remove(&id);
        // Whoever dials this peer another way has what it wants, too.
        let answered: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(number, waiting)| Some(**number) == dial || waiting.peer == Some(peer))
            .map(|(number, _)| *number)
            .collect();
        let late = dial.is_some_and(|dial| !self.waiting.contains_key(&dial));
        for waiting in answered.into_iter().filter_map(|number| self.waiting.remove(&number)) {
            let _ = waiting.reply.send(Ok(peer));
        }
        late
    }

    pub(super) fn on_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(number) = self.attempts.remove(&id) else { return };
        let Some(dial) = self.waiting.get_mut(&number) else { return };
        tracing::debug!(%error, "a dial failed");
        dial.attempts -= 1;
        dial.causes.push(dial_cause(error));
        if dial.attempts == 0
            && let Some(dial) = self.waiting.remove(&number)
        {
            let _ = dial.reply.send(Err(NetError::Dial(dial.causes.join("; "))));
        }
    }
}

fn options(peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> Vec<DialOpts> {
    match peer {
        Some(peer) => vec![
            DialOpts::peer_id(peer)
                .condition(PeerCondition::Disconnected)
                .addresses(addresses)
                .extend_addresses_through_behaviour()
                .build(),
        ],
        None => addresses
            .into_iter()
            .take(MAX_ATTEMPTS)
            .map(|address| DialOpts::unknown_peer_id().address(address).build())
            .collect(),
    }
}

fn named(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}
