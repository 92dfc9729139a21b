//! Why the network could not do it.

use std::io;

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
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to dial.
    #[error("no address to dial")]
    NoAddress,
    /// No address led to the peer.
    #[error("cannot connect ({0})")]
    Dial(String),
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

impl NetError {
    /// libp2p's own error does not show the cause.
    pub(super) fn listen(address: Multiaddr, error: TransportError<io::Error>) -> Self {
        let source = match error {
            TransportError::Other(source) => source,
            TransportError::MultiaddrNotSupported(_) => {
                io::Error::new(io::ErrorKind::Unsupported, "the transport does not take such an address")
            }
        };
        Self::Listen { address, source }
    }
}

/// Why a dial failed, on one line: each address with its cause, the last line of what libp2p wraps several times.
pub(super) fn dial_cause(error: &DialError) -> String {
    let DialError::Transport(tried) = error else { return error.to_string() };
    let one = |(address, error): &(Multiaddr, TransportError<io::Error>)| match error {
        TransportError::Other(error) => {
            let text = error.to_string();
            format!(
                "{address}: {}",
                text.lines().last().unwrap_or_default().trim_start_matches([' ', ':', '-'])
            )
        }
        TransportError::MultiaddrNotSupported(_) => format!("{address}: not dialled by this transport"),
    };
    tried.iter().map(one).collect::<Vec<_>>().join("; ")
}
