//! What happens on the network.

use libp2p::{Multiaddr, PeerId};

/// What happens on the network.
#[derive(Clone, Debug, PartialEq)]
pub enum NetEvent {
    /// The first connection to a peer.
    Connected {
        /// The peer.
        peer: PeerId,
        /// The address that was dialled, or that it came from.
        address: Multiaddr,
        /// We dialled.
        outbound: bool,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer that we dialled without a cluster secret has closed the connection before it said who it is: so does a
    /// member of a closed cluster. `Disconnected` follows.
    Refused {
        /// The peer.
        peer: PeerId,
    },
    /// The DHT knows another peer.
    RoutingUpdated {
        /// The peer.
        peer: PeerId,
    },
    /// A DHT bootstrap ended.
    Bootstrapped {
        /// The query's number.
        query: u64,
    },
    /// We listen on one more address.
    Listening {
        /// The address.
        address: Multiaddr,
    },
    /// A lookup found no record: whoever would announce it has not yet. Told of a few lookups, not of all.
    NotFound {
        /// The query's number.
        query: u64,
        /// The key.
        key: String,
    },
    /// Fewer peers than wanted stored a record. Told of a few, as [`Self::NotFound`] is.
    QuorumFailed {
        /// The query's number.
        query: u64,
        /// The key.
        key: String,
        /// Peers that stored it.
        stored: usize,
        /// Peers that were to.
        quorum: usize,
    },
    /// We no longer listen on one.
    ListeningEnded {
        /// The address.
        address: Multiaddr,
    },
}
