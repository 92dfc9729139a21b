//! The task that owns the swarm: one command or one event at a time, nothing slow, nobody waited for.
//!
//! A command that needs the network leaves its reply in one of the pending maps, under the id that the event will
//! carry. At the end every reply is dropped, which its owner sees as [`NetError::Closed`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::{self, OutboundRequestId};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, kad, ping};
use shard_wire::message::{ErrorCode, Response};
use tokio::sync::{broadcast, mpsc};

use super::behaviour::{Behaviour, BehaviourEvent};
use super::codec::Asked;
use super::dials::Dials;
use super::event;
use super::queries::Queries;
use super::{
    Command, ConnectedPeer, Inbound, NetConfig, NetError, NetEvent, Reply, Responder, Snapshot, transport,
};

/// Operations of one kind under way.
pub(super) const MAX_PENDING: usize = 1024;
/// Peers that the program keeps connected: a fleet of 256 shards with three replicas each.
const MAX_KEPT: usize = 1024;
/// How long the last messages may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// Addresses of one peer that the DHT keeps.
const MAX_PEER_ADDRESSES: usize = 16;

pub(super) struct EventLoop {
    swarm: Swarm<Behaviour>,
    kademlia_protocol: String,
    commands: mpsc::WeakSender<Command>,
    queue: mpsc::Receiver<Command>,
    events: broadcast::Sender<NetEvent>,
    inbound: mpsc::Sender<Inbound>,
    peers: HashMap<PeerId, ConnectedPeer>,
    /// Those of them that have said who they are.
    identified: HashSet<PeerId>,
    /// We have no cluster secret.
    open: bool,
    queries: Queries,
    listens: HashMap<ListenerId, Reply<()>>,
    dials: Dials,
    requests: HashMap<OutboundRequestId, Reply<Response>>,
}

impl EventLoop {
    pub(super) fn new(
        config: NetConfig,
        commands: mpsc::WeakSender<Command>,
        queue: mpsc::Receiver<Command>,
        events: broadcast::Sender<NetEvent>,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, NetError> {
        let links = transport::build(&config.keypair, config.transport, config.secrets.as_ref())
            .map_err(NetError::Encryption)?;
        let behaviour = Behaviour::new(&config)?;
        let settings =
            libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(config.idle_timeout);
        let mut swarm = Swarm::new(links, behaviour, config.keypair.public().to_peer_id(), settings);
        for address in config.external_addresses {
            swarm.add_external_address(address);
        }
        Ok(Self {
            swarm,
            kademlia_protocol: shard_wire::keys::kademlia(&config.cluster),
            commands,
            queue,
            events,
            inbound,
            peers: HashMap::new(),
            identified: HashSet::new(),
            open: config.secrets.is_none(),
            queries: Queries::default(),
            listens: HashMap::new(),
            dials: Dials::default(),
            requests: HashMap::new(),
        })
    }

    pub(super) fn streams(&self) -> libp2p_stream::Control {
        self.swarm.behaviour().streams.new_control()
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.queue.recv() => match command {
                    None => return,
                    Some(Command::Shutdown { reply }) => {
                        self.close().await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.on_command(command),
                },
                event = self.swarm.select_next_some() => self.on_swarm(event),
            }
        }
    }

    /// Ends what is under way and says goodbye: over QUIC a peer would else notice only after its idle timeout.
    async fn close(mut self) {
        self.queue.close();
        (self.queries, self.dials) = (Queries::default(), Dials::default());
        self.listens.clear();
        self.requests.clear();
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let goodbye = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Listen { address, reply } => match self.swarm.listen_on(address.clone()) {
                Ok(id) => insert_bounded(&mut self.listens, id, reply),
                Err(error) => refuse(reply, NetError::listen(address, error)),
            },
            Command::Dial { peer, addresses, reply } => {
                self.dials.start(&mut self.swarm, peer, addresses, reply);
            }
            Command::Disconnect { peer } => {
                // Not connected is what was asked for.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Keep { peer, yes } => {
                if !self.swarm.behaviour_mut().keep.keep(peer, yes, MAX_KEPT) {
                    tracing::warn!(%peer, "not kept connected: {MAX_KEPT} peers are already");
                }
            }
            Command::Request { peer, request, reply } => {
                if self.requests.len() >= MAX_PENDING {
                    return refuse(reply, NetError::Busy(MAX_PENDING));
                }
                let id = self.swarm.behaviour_mut().messages.send_request(&peer, Asked::ours(request));
                self.requests.insert(id, reply);
            }
            Command::Respond { channel, response } => {
                // The peer has gone or waited too long.
                let _ = self.swarm.behaviour_mut().messages.send_response(channel, response);
            }
            Command::AddAddress { peer, address } => self.add_address(peer, address),
            Command::Bootstrap { reply } => {
                let answer = self.swarm.behaviour_mut().kademlia.bootstrap();
                let _ = reply.send(answer.map(drop).map_err(|error| NetError::Dht(error.to_string())));
            }
            Command::PutRecord { key, value, to, reply } => {
                self.queries.put(&mut self.swarm.behaviour_mut().kademlia, &key, value, to, reply);
            }
            Command::GetRecords { key, found } => {
                self.queries.get_records(&mut self.swarm.behaviour_mut().kademlia, &key, found);
            }
            Command::Provide { key, reply } => {
                self.queries.provide(&mut self.swarm.behaviour_mut().kademlia, &key, reply);
            }
            Command::StopProviding { key } => {
                self.swarm.behaviour_mut().kademlia.stop_providing(&kad::RecordKey::new(&key));
            }
            Command::RemoveRecord { key } => {
                self.swarm.behaviour_mut().kademlia.remove_record(&kad::RecordKey::new(&key));
            }
            Command::GetProviders { key, found } => {
                self.queries.get_providers(&mut self.swarm.behaviour_mut().kademlia, &key, found);
            }
            Command::Find { peer, reply } => {
                self.queries.find(&mut self.swarm.behaviour_mut().kademlia, peer, reply);
            }
            Command::Snapshot { reply } => {
                let _ = reply.send(self.snapshot());
            }
            Command::Shutdown { reply } => drop(reply),
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, endpoint, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                self.peers.remove(&peer_id);
                if !self.identified.remove(&peer_id) && self.open && endpoint.is_dialer() && cause.is_some() {
                    self.emit(NetEvent::Refused { peer: peer_id });
                }
                // Queries of others are sent to those that we know: who is gone would hold each one up.
                self.swarm.behaviour_mut().kademlia.remove_peer(&peer_id);
                self.emit(NetEvent::Disconnected { peer: peer_id, cause: cause.as_ref().map(event::cause) });
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.dials.on_failed(connection_id, &error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                if let Some(reply) = self.listens.remove(&listener_id) {
                    let _ = reply.send(Ok(()));
                }
                self.emit(NetEvent::Listening { address });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.emit(NetEvent::ListeningEnded { address }),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                tracing::debug!(?addresses, ?reason, "a listener closed");
                // Its reply, if it still waits, is dropped: nothing was bound.
                self.listens.remove(&listener_id);
                for address in addresses {
                    self.emit(NetEvent::ListeningEnded { address });
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an incoming connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener failed"),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(rtt), .. }) => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.rtt = Some(rtt);
                }
            }
            // A machine that lost its power ends no TCP connection.
            BehaviourEvent::Ping(ping::Event { connection, result: Err(ping::Failure::Timeout), .. }) => {
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if self.peers.contains_key(&peer_id) {
                    self.identified.insert(peer_id);
                }
                let stores =
                    info.protocols.iter().any(|protocol| protocol.as_ref() == self.kademlia_protocol);
                if stores {
                    for address in info.listen_addrs.into_iter().take(MAX_PEER_ADDRESSES) {
                        self.add_address(peer_id, address);
                    }
                }
            }
            BehaviourEvent::Kademlia(kad::Event::RoutingUpdated { peer, is_new_peer: true, .. }) => {
                self.emit(NetEvent::RoutingUpdated { peer });
            }
            BehaviourEvent::Kademlia(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                let kademlia = &mut self.swarm.behaviour_mut().kademlia;
                if let Some(event) = self.queries.on_progress(kademlia, id, result, step.last) {
                    self.emit(event);
                }
            }
            BehaviourEvent::Messages(event) => self.on_message(event),
            _ => {}
        }
    }

    fn on_message(&mut self, event: super::behaviour::MessageEvent) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request: asked, channel, .. }, .. } => {
                let request = match asked.request {
                    Ok(request) => request,
                    Err(error) => {
                        tracing::debug!(%peer, %error, "a request is refused");
                        let response = Response::error("", error.code(), error.to_string());
                        return self.on_command(Command::Respond { channel, response });
                    }
                };
                let Some(commands) = self.commands.upgrade() else { return };
                let responder = Responder { commands, channel, large: asked.large };
                let refused = match self.inbound.try_send(Inbound { peer, request, responder }) {
                    Ok(()) => return,
                    Err(mpsc::error::TrySendError::Full(refused)) => refused,
                    Err(mpsc::error::TrySendError::Closed(refused)) => refused,
                };
                let response = Response::error(
                    refused.request.request_id,
                    ErrorCode::Busy,
                    "the node has as many requests waiting as it takes: try again",
                );
                self.on_command(Command::Respond { channel: refused.responder.channel, response });
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(reply) = self.requests.remove(&request_id) {
                    let _ = reply.send(Ok(response));
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if let Some(reply) = self.requests.remove(&request_id) {
                    refuse(reply, NetError::Request { peer, source: error });
                }
            }
            Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a request of a peer could not be answered");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let late = self.dials.on_connected(peer, id);
        if late && self.peers.contains_key(&peer) {
            self.swarm.close_connection(id);
        }
        if let Entry::Vacant(entry) = self.peers.entry(peer) {
            let (address, outbound) = (endpoint.get_remote_address().clone(), endpoint.is_dialer());
            entry.insert(ConnectedPeer { peer, address: address.clone(), outbound, rtt: None });
            self.emit(NetEvent::Connected { peer, address, outbound });
        }
    }

    fn add_address(&mut self, peer: PeerId, address: Multiaddr) {
        let kademlia = &mut self.swarm.behaviour_mut().kademlia;
        let known = kademlia.kbucket(peer).and_then(|bucket| {
            bucket.iter().find(|entry| *entry.node.key.preimage() == peer).map(|entry| entry.node.value.len())
        });
        // A peer that names ever new addresses starts over.
        if known.is_some_and(|count| count >= MAX_PEER_ADDRESSES) {
            kademlia.remove_peer(&peer);
        }
        kademlia.add_address(&peer, address);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            listen_addresses: self.swarm.listeners().cloned().collect(),
            external_addresses: self.swarm.external_addresses().cloned().collect(),
            peers: self.peers.values().cloned().collect(),
        }
    }

    fn emit(&self, event: NetEvent) {
        // Nobody listens: nobody needs it.
        let _ = self.events.send(event);
    }
}

fn refuse<T>(reply: Reply<T>, error: NetError) {
    let _ = reply.send(Err(error));
}

fn insert_bounded<K: Eq + Hash, T>(pending: &mut HashMap<K, Reply<T>>, id: K, reply: Reply<T>) {
    if pending.len() >= MAX_PENDING {
        return refuse(reply, NetError::Busy(MAX_PENDING));
    }
    pending.insert(id, reply);
}
