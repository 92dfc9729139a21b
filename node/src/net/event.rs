//! What happens on the network.

use std::error::Error;
use std::io;

use libp2p::swarm::ConnectionError;
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
        /// Why, for people; `None` where we closed it.
        cause: Option<String>,
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

/// Why a connection is gone, in words.
pub(super) fn cause(error: &ConnectionError) -> String {
    let io = match error {
        ConnectionError::KeepAliveTimeout => return "nobody needed it any more".to_owned(),
        ConnectionError::IO(io) => io,
    };
    // The transport's own error may stand inside, with the kind that says it.
    let mut kind = io.kind();
    let mut below: Option<&dyn Error> = io.get_ref().map(|error| error as &dyn Error);
    while let Some(error) = below {
        kind = error.downcast_ref::<io::Error>().map_or(kind, io::Error::kind);
        below = error.source();
    }
    match kind {
        io::ErrorKind::UnexpectedEof => "the peer closed it".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it was reset".to_owned(),
        io::ErrorKind::TimedOut => "the peer does not answer".to_owned(),
        // Yamux has no kind for it.
        _ if io.to_string() == "connection is closed" => "the peer closed it".to_owned(),
        _ => io.to_string(),
    }
}
