//! Peers and the DHT, behind one door.
//!
//! ```text
//!  join, watch, ring, gateway ──Command (bounded)──▶ event loop ── owns the Swarm ──▶ peers
//!          ▲                                            │
//!          ├───────────── NetEvent (broadcast) ─────────┤   who falls behind is told so and asks for a snapshot
//!          └───────────── Inbound  (bounded) ───────────┘   full: the peer is answered "busy" at once
//! ```
//! [`Network`] is the only way to the swarm: one method for each command. The loop waits for nobody and does nothing
//! slow. Raw streams (`/activation/1.0`, `/torrent/1.0`) are opened and accepted through [`Network::streams`].

mod behaviour;
mod codec;
mod config;
mod dials;
mod error;
mod event;
mod event_loop;
pub mod hex;
pub mod identity;
mod keep;
mod membership;
mod queries;
mod records;
pub mod secret;
pub mod signed;
mod transport;

use std::time::Duration;

use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use shard_wire::message::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

pub use config::{DhtMode, NetConfig};
pub use error::NetError;
pub use event::NetEvent;
pub use secret::Secrets;

pub use crate::config::Transport;

/// Commands that wait for the loop; senders wait beyond.
const COMMANDS: usize = 256;
/// Events that a subscriber may be behind.
const EVENTS: usize = 1024;
/// Requests of peers that wait for the program.
const INBOUND: usize = 64;
/// Answers to one lookup that wait to be read; more are dropped.
const FOUND: usize = 256;

/// A peer's request.
#[derive(Debug)]
pub struct Inbound {
    /// Who asks.
    pub peer: PeerId,
    /// What.
    pub request: Request,
    /// Where the answer goes. Dropped without one, the peer sees its request fail.
    pub responder: Responder,
}

/// Takes the answer to one request.
#[derive(Debug)]
pub struct Responder {
    commands: mpsc::Sender<Command>,
    channel: ResponseChannel<Response>,
    /// Its place among the large requests.
    large: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// Sends the answer. That the peer is gone by then is nobody's error.
    pub async fn send(self, response: Response) {
        let Self { commands, channel, large } = self;
        let _ = commands.send(Command::Respond { channel, response }).await;
        drop(large);
    }
}

/// A peer that is connected.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectedPeer {
    /// The peer.
    pub peer: PeerId,
    /// The address of its first connection.
    pub address: Multiaddr,
    /// We dialled it.
    pub outbound: bool,
    /// The last round trip that ping measured.
    pub rtt: Option<Duration>,
}

/// What the loop knows at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Addresses that we listen on.
    pub listen_addresses: Vec<Multiaddr>,
    /// Addresses that we were told others reach us at.
    pub external_addresses: Vec<Multiaddr>,
    /// Who is connected.
    pub peers: Vec<ConnectedPeer>,
}

type Reply<T> = oneshot::Sender<Result<T, NetError>>;

/// What the loop is asked.
#[derive(Debug)]
enum Command {
    Listen { address: Multiaddr, reply: Reply<()> },
    Dial { peer: Option<PeerId>, addresses: Vec<Multiaddr>, reply: Reply<PeerId> },
    Disconnect { peer: PeerId },
    Keep { peer: PeerId, yes: bool },
    Request { peer: PeerId, request: Request, reply: Reply<Response> },
    Respond { channel: ResponseChannel<Response>, response: Response },
    AddAddress { peer: PeerId, address: Multiaddr },
    Bootstrap { reply: Reply<()> },
    PutRecord { key: String, value: Vec<u8>, to: Option<PeerId>, reply: Reply<()> },
    GetRecords { key: String, found: mpsc::Sender<Vec<u8>> },
    Provide { key: String, reply: Reply<()> },
    StopProviding { key: String },
    RemoveRecord { key: String },
    GetProviders { key: String, found: mpsc::Sender<PeerId> },
    Find { peer: PeerId, reply: Reply<Vec<Multiaddr>> },
    Snapshot { reply: oneshot::Sender<Snapshot> },
    Shutdown { reply: oneshot::Sender<()> },
}

/// The door to the network. Clones share it; the loop ends with [`Network::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct Network {
    local_peer: PeerId,
    commands: mpsc::Sender<Command>,
    events: broadcast::WeakSender<NetEvent>,
    streams: libp2p_stream::Control,
    secrets: Option<Secrets>,
}

/// Starts a peer. It listens and dials nothing yet.
///
/// # Errors
/// When the key or the cluster's name cannot be used.
pub fn spawn(config: NetConfig) -> Result<(Network, mpsc::Receiver<Inbound>), NetError> {
    let local_peer = config.keypair.public().to_peer_id();
    let (commands, queue) = mpsc::channel(COMMANDS);
    let (events, _) = broadcast::channel(EVENTS);
    let (inbound, requests) = mpsc::channel(INBOUND);
    let (weak, secrets) = (events.downgrade(), config.secrets.clone());
    let event_loop = event_loop::EventLoop::new(config, commands.downgrade(), queue, events, inbound)?;
    let streams = event_loop.streams();
    tokio::spawn(event_loop.run());
    Ok((Network { local_peer, commands, events: weak, streams, secrets }, requests))
}

impl Network {
    /// Our own peer id.
    pub fn local_peer(&self) -> PeerId {
        self.local_peer
    }

    /// What the members of the cluster know; `None` in an open one.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// Events from now on. They end with the network.
    pub fn events(&self) -> broadcast::Receiver<NetEvent> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Opens and accepts raw streams. An accepting side must take streams at once: one that finds it busy is dropped.
    pub fn streams(&self) -> libp2p_stream::Control {
        self.streams.clone()
    }

    /// Listens on an address; returns when it is bound.
    ///
    /// # Errors
    /// [`NetError::Listen`], e.g. for a port in use.
    pub async fn listen(&self, address: Multiaddr) -> Result<(), NetError> {
        self.ask(|reply| Command::Listen { address, reply }).await
    }

    /// Connects to a peer and returns who it is. All addresses are tried at once, for a known peer those that the DHT
    /// knows, too; the first connection counts, and QUIC has a head start. Without an address the DHT is asked for one.
    ///
    /// # Errors
    /// [`NetError::Dial`] when every address has failed.
    pub async fn dial(&self, peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> Result<PeerId, NetError> {
        let addresses = match peer {
            Some(peer) if addresses.is_empty() => self.find(peer).await?,
            _ => addresses,
        };
        self.ask(|reply| Command::Dial { peer, addresses, reply }).await
    }

    /// Closes every connection to a peer.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect { peer }).await;
    }

    /// Keeps connections to a peer, present and future ones, beyond the idle timeout; or no longer.
    pub async fn keep(&self, peer: PeerId, yes: bool) {
        self.tell(Command::Keep { peer, yes }).await;
    }

    /// Sends a command to a peer, dialling it where the DHT knows an address.
    ///
    /// # Errors
    /// [`NetError::Request`] when no answer comes. A refusal is an answer.
    pub async fn request(&self, peer: PeerId, request: Request) -> Result<Response, NetError> {
        self.ask(|reply| Command::Request { peer, request, reply }).await
    }

    /// Asks the DHT where a peer is; empty where nobody knows.
    ///
    /// # Errors
    /// When the network is busy or has shut down.
    pub async fn find(&self, peer: PeerId) -> Result<Vec<Multiaddr>, NetError> {
        self.ask(|reply| Command::Find { peer, reply }).await
    }

    /// Tells the DHT where a peer is.
    pub async fn add_address(&self, peer: PeerId, address: Multiaddr) {
        self.tell(Command::AddAddress { peer, address }).await;
    }

    /// Fills the DHT's routing table; returns when it began. [`NetEvent::Bootstrapped`] tells the end.
    ///
    /// # Errors
    /// [`NetError::Dht`] while no peer is known.
    pub async fn bootstrap(&self) -> Result<(), NetError> {
        self.ask(|reply| Command::Bootstrap { reply }).await
    }

    /// Stores a record in the DHT; returns when one peer has it.
    ///
    /// # Errors
    /// [`NetError::Dht`] when no peer took it. It is stored here all the same.
    pub async fn put_record(&self, key: String, value: Vec<u8>) -> Result<(), NetError> {
        self.ask(|reply| Command::PutRecord { key, value, to: None, reply }).await
    }

    /// Stores a record at one peer, without a walk through the DHT.
    ///
    /// # Errors
    /// [`NetError::Dht`] when it did not take it.
    pub async fn put_record_to(&self, peer: PeerId, key: String, value: Vec<u8>) -> Result<(), NetError> {
        self.ask(|reply| Command::PutRecord { key, value, to: Some(peer), reply }).await
    }

    /// Looks a record up: every copy as it is found, until the query ends or the receiver is dropped.
    pub async fn get_records(&self, key: String) -> mpsc::Receiver<Vec<u8>> {
        let (found, records) = mpsc::channel(FOUND);
        self.tell(Command::GetRecords { key, found }).await;
        records
    }

    /// Tells the DHT that we provide a key.
    ///
    /// # Errors
    /// [`NetError::Dht`] when the query failed. It is stored here all the same.
    pub async fn provide(&self, key: String) -> Result<(), NetError> {
        self.ask(|reply| Command::Provide { key, reply }).await
    }

    /// Provides a key no longer. What others have stored expires.
    pub async fn stop_providing(&self, key: String) {
        self.tell(Command::StopProviding { key }).await;
    }

    /// Forgets our own record under a key. What others have stored expires.
    pub async fn remove_record(&self, key: String) {
        self.tell(Command::RemoveRecord { key }).await;
    }

    /// Looks the providers of a key up: each as it is found, until the query ends or the receiver is dropped.
    pub async fn get_providers(&self, key: String) -> mpsc::Receiver<PeerId> {
        let (found, providers) = mpsc::channel(FOUND);
        self.tell(Command::GetProviders { key, found }).await;
        providers
    }

    /// What the loop knows now: that it answers is the loop's health.
    ///
    /// # Errors
    /// [`NetError::Closed`] alone.
    pub async fn snapshot(&self) -> Result<Snapshot, NetError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Snapshot { reply }).await;
        answer.await.map_err(|_| NetError::Closed)
    }

    /// Addresses that we listen on.
    pub async fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.snapshot().await.map(|snapshot| snapshot.listen_addresses).unwrap_or_default()
    }

    /// The last round trip to a peer that ping measured.
    pub async fn rtt(&self, peer: PeerId) -> Option<Duration> {
        self.snapshot().await.ok()?.peers.into_iter().find(|entry| entry.peer == peer)?.rtt
    }

    /// Ends the loop: what is under way fails with [`NetError::Closed`], connections close.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        self.tell(Command::Shutdown { reply }).await;
        let _ = done.await;
    }

    async fn tell(&self, command: Command) {
        // A loop that is gone has nothing left to be told.
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, NetError> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        answer.await.unwrap_or(Err(NetError::Closed))
    }
}
