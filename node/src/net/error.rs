//! Why the network could not do it.

use libp2p::request_response::OutboundFailure;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, TransportError, noise};
use thiserror::Error;

/// Why the network could not do it.
#[derive(Debug, Error)]
pub enum NetError {
    /// The cluster's name makes no protocol name.
    #[error("{name:?} is no protocol name")]
    Protocol {
        /// The name.
        name: String,
    },
    /// The key cannot secure connections.
    #[error("cannot set up encryption: {0}")]
    Encryption(#[source] noise::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        source: TransportError<std::io::Error>,
    },
    /// There is nothing to dial.
    #[error("no address to dial")]
    NoAddress,
    /// No address led to the peer.
    #[error("cannot connect: {0}")]
    Dial(#[source] Box<DialError>),
    /// A request was not answered.
    #[error("{peer} did not answer: {source}")]
    Request {
        /// Who.
        peer: PeerId,
        /// Why.
        source: OutboundFailure,
    },
    /// No peer of the DHT took the record or the query.
    #[error("the DHT refused: {0}")]
    Dht(String),
    /// As much is under way as the loop takes.
    #[error("the network has {0} operations of this kind under way")]
    Busy(usize),
    /// The network has shut down.
    #[error("the network has shut down")]
    Closed,
}
