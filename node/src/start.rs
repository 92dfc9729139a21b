//! What every program does first: find out who it is, and listen.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use shard_wire::contract::REFRESH_INTERVAL;
use shard_wire::message::{ErrorCode, Response};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::config::{Bootstrap, NetConfig, Transport};
use crate::joiner::Entry;
use crate::net::identity::{self, IdentityError};
use crate::net::secret::SecretError;
use crate::net::{self, DhtMode, Inbound, NetError, Network, Secrets};

/// Why a program cannot take part in the network.
#[derive(Debug, Error)]
pub enum StartError {
    /// It has no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It has no cluster secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The network does not start.
    #[error("cannot start the network")]
    Network(#[source] NetError),
    /// It cannot listen.
    #[error("{0}; is another program using the port? give another one with --port")]
    Listen(#[source] NetError),
}

/// A program's place in the network.
pub struct Member {
    /// The door to the network.
    pub network: Network,
    /// Who it is.
    pub keypair: Keypair,
    /// What peers ask.
    pub requests: mpsc::Receiver<Inbound>,
}

/// Starts the network; [`listen`] is next.
///
/// # Errors
/// When there is no identity, or it cannot be used.
pub fn member(
    config: &NetConfig,
    identify: String,
    dht: DhtMode,
    record_ttl: Duration,
) -> Result<Member, StartError> {
    let keypair = identity::load_or_create(config.identity_file.as_deref())?;
    let secrets = config.secret.as_ref().map(Secrets::load).transpose()?;
    if secrets.is_none() {
        tracing::warn!(
            "open cluster: whoever reaches these ports can join; give every program the same --cluster-secret-file to close it"
        );
    }
    let net = net::NetConfig {
        secrets,
        transport: config.transport,
        record_ttl,
        external_addresses: config.external.clone(),
        ..net::NetConfig::new(keypair.clone(), &config.cluster, identify, dht)
    };
    let (network, requests) = net::spawn(net).map_err(StartError::Network)?;
    Ok(Member { network, keypair, requests })
}

/// What a program listens on, as it was asked to.
pub fn listen_addresses(config: &NetConfig) -> Vec<Multiaddr> {
    let base = Multiaddr::empty().with(match config.listen {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    });
    let quic = base.clone().with(Protocol::Udp(config.port)).with(Protocol::QuicV1);
    let tcp = base.with(Protocol::Tcp(config.port));
    match config.transport {
        Transport::Dual => vec![quic, tcp],
        Transport::Quic => vec![quic],
        Transport::Tcp => vec![tcp],
    }
}

/// Listens.
///
/// # Errors
/// When an address cannot be bound.
pub async fn listen(network: &Network, addresses: &[Multiaddr]) -> Result<(), StartError> {
    for address in addresses {
        network.listen(address.clone()).await.map_err(StartError::Listen)?;
    }
    Ok(())
}

/// The bootstraps, as the join knows them.
pub fn entries(config: &NetConfig) -> Vec<Entry> {
    let entry = |bootstrap: &Bootstrap| Entry {
        peer: bootstrap.peer(),
        addresses: bootstrap.addresses(config.transport),
    };
    config.bootstrap.iter().map(entry).collect()
}

/// How long a record lives where no refresh interval is given: three times the default one, as nodes store them.
pub fn record_ttl() -> Duration {
    3 * Duration::from_secs(REFRESH_INTERVAL.default.parse().unwrap_or(300))
}

/// Commands are for nodes; who asks another program is told so.
pub async fn refuse(mut requests: mpsc::Receiver<Inbound>, why: &str) {
    while let Some(Inbound { request, responder, .. }) = requests.recv().await {
        responder.send(Response::error(request.request_id, ErrorCode::Unavailable, why)).await;
    }
}
