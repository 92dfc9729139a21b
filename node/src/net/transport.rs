//! TCP and QUIC under one roof.
//!
//! ```text
//! TCP ─ Noise ─ Yamux ─┐  (starts HEAD_START later where both are on)
//!                      ├─ one connection type ─ membership, where there is a cluster secret ─ DNS names
//! QUIC ────────────────┘
//! ```
//! The swarm dials all addresses of a peer at once and keeps the first connection. The head start is what makes
//! `dual` mean "QUIC first, TCP where UDP does not pass", whoever dials.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, OrTransport, PortUse, TransportError, TransportEvent,
};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport as _, dns, noise, quic, tcp, yamux};

use super::membership::{Gate, PROOF_TIMEOUT};
use super::secret::Secrets;
use crate::config::Transport;

/// A loopback QUIC handshake takes 50 ms, one over 100 ms of distance 250 ms: by then TCP is worth a try.
const HEAD_START: Duration = Duration::from_millis(300);
/// From the first byte until a connection carries streams.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A QUIC peer that says nothing for so long is gone.
const QUIC_IDLE: Duration = Duration::from_secs(3);
/// The idle time counts from the first packet that nobody answers, so a loss shows after the sum of both: 4 s at the latest.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Bytes that a QUIC peer may send before they are read: on a stream, and on all of a connection. They fill 1 Gbit/s over 32 ms;
/// libp2p's own, 10 and 15 MB, are what each of many strangers could make this node hold.
const QUIC_STREAM_WINDOW: u32 = 4 << 20;
const QUIC_WINDOW: u32 = 4 << 20;

type Connection = (PeerId, StreamMuxerBox);

/// Builds what the swarm dials and listens with.
pub(super) fn build(
    keypair: &Keypair,
    kind: Transport,
    secrets: Option<&Secrets>,
) -> Result<Boxed<Connection>, noise::Error> {
    let links = links(keypair, kind, secrets)?;
    match dns::tokio::Transport::system(links) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no usable resolver configuration: names in addresses will not resolve");
            let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            Ok(dns::tokio::Transport::custom(self::links(keypair, kind, secrets)?, config, options).boxed())
        }
    }
}

fn links(
    keypair: &Keypair,
    kind: Transport,
    secrets: Option<&Secrets>,
) -> Result<Boxed<Connection>, noise::Error> {
    let links = match kind {
        Transport::Tcp => tcp(keypair, Duration::ZERO)?,
        Transport::Quic => quic(keypair),
        Transport::Dual => OrTransport::new(quic(keypair), tcp(keypair, HEAD_START)?)
            .map(|either, _| either.into_inner())
            .boxed(),
    };
    let Some(secrets) = secrets else { return Ok(links) };
    let gate = Arc::new(Gate::new(keypair.public().to_peer_id(), secrets.clone()));
    let members =
        links.and_then(move |(peer, muxer), point| async move { gate.pass(peer, muxer, &point).await });
    // Who dials us has that time for everything: one who is silent from the start is no better than one who is later.
    Ok(TransportTimeout::with_ingoing_timeout(members, PROOF_TIMEOUT).boxed())
}

fn tcp(keypair: &Keypair, delay: Duration) -> Result<Boxed<Connection>, noise::Error> {
    let links = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    Ok(Tcp { links, delay }.boxed())
}

fn quic(keypair: &Keypair) -> Boxed<Connection> {
    let mut config = quic::Config::new(keypair);
    config.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_WINDOW;
    quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
}

/// libp2p's TCP, with three habits changed. It dials after a delay; always from a new port, since a dial from the
/// listening port fails while an earlier connection between the same two ports lingers in the kernel; and a port in
/// use is an error, where libp2p would share it with the other process (`SO_REUSEPORT`).
struct Tcp {
    links: Boxed<Connection>,
    delay: Duration,
}

impl libp2p::Transport for Tcp {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Connection> as libp2p::Transport>::ListenerUpgrade;
    type Dial = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if let Some(socket) = socket_address(&addr).filter(|socket| socket.port() != 0) {
            std::net::TcpListener::bind(socket).map_err(TransportError::Other)?;
        }
        self.links.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.links.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let dial = self.links.dial(addr, DialOpts { port_use: PortUse::New, ..options })?;
        let delay = self.delay;
        Ok(Box::pin(async move {
            tokio::time::sleep(delay).await;
            dial.await
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.links).poll(cx)
    }
}

fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
