//! Joins the network: carries out what [`crate::join`] decides.
//!
//! One task. Dials and announcements run beside it and come back as events; what it does is told to the program
//! (its console) in the order in which it happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
use shard_wire::layers::LayerRange;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::{now_ms, sleep_until};
use crate::join::{Join, JoinAction, JoinEvent, JoinSettings};
use crate::net::{NetError, NetEvent, Network};

mod publish;

use publish::{Published, Publisher};

/// A withdrawal that no peer has stored by then is given up: records expire.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);

/// One entry to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who must answer, where that is known.
    pub peer: Option<PeerId>,
    /// Where, the preferred first.
    pub addresses: Vec<Multiaddr>,
}

/// What a node joins with.
#[derive(Debug)]
pub struct JoinerConfig {
    /// The cluster.
    pub cluster: String,
    /// Signs announcements; the network's own.
    pub keypair: Keypair,
    /// Start of this process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// The bootstraps.
    pub entries: Vec<Entry>,
    /// What to announce, as it is at any moment; `None` for gateways and tools.
    pub shards: Option<watch::Receiver<Vec<ShardInfo>>>,
    /// Announcements are repeated at this interval.
    pub refresh_interval: Duration,
}

/// What happens while joining, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinReport {
    /// A bootstrap is dialled.
    Connecting {
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// A bootstrap answered.
    Connected {
        /// Who it is.
        peer: PeerId,
        /// The address of the connection.
        address: Multiaddr,
    },
    /// A bootstrap did not answer.
    Unreachable {
        /// Where it was looked for.
        addresses: Vec<Multiaddr>,
        /// Why.
        error: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The connection to a bootstrap is gone.
    Lost {
        /// Who it was.
        peer: PeerId,
    },
    /// The DHT's bootstrap runs.
    DhtStarted {
        /// With whom.
        peer: PeerId,
    },
    /// The DHT knows another peer.
    RoutingUpdated {
        /// Whom.
        peer: PeerId,
    },
    /// The DHT's bootstrap ended.
    DhtBootstrapped,
    /// A shard was announced.
    Announced {
        /// As it was announced.
        shard: ShardInfo,
    },
    /// No peer stored an announcement: expected while alone, tried again soon.
    NotStored {
        /// The shard.
        shard_id: u32,
        /// Why.
        error: String,
    },
}

/// A node that has begun to join. Dropping it ends the task and says nothing to anybody; see [`Joiner::leave`].
#[derive(Debug)]
pub struct Joiner {
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Joiner {
    /// Starts to join; `report` is told what happens and must not block.
    pub fn spawn(
        network: Network,
        config: JoinerConfig,
        report: impl FnMut(JoinReport) + Send + 'static,
    ) -> Self {
        let (leave, left) = oneshot::channel();
        let events = network.events();
        let task = Task {
            join: Join::new(
                JoinSettings {
                    bootstraps: config.entries.len(),
                    announces: config.shards.is_some(),
                    refresh_interval: config.refresh_interval,
                    seed: seed(network.local_peer()),
                },
                Instant::now(),
            ),
            publisher: Arc::new(Publisher { network: network.clone(), config }),
            network,
            report: Box::new(report),
            outcomes: JoinSet::new(),
            announced: BTreeSet::new(),
            sequence: 0,
        };
        Self { leave, task: tokio::spawn(task.run(events, left)) }
    }

    /// Withdraws every announcement and ends; at most two seconds.
    pub async fn leave(self) {
        let _ = self.leave.send(());
        let _ = self.task.await;
    }
}

fn seed(peer: PeerId) -> u64 {
    peer.to_bytes().iter().fold(0, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte))
}

struct Task {
    join: Join,
    network: Network,
    publisher: Arc<Publisher>,
    report: Box<dyn FnMut(JoinReport) + Send>,
    /// Dials and announcements under way: one for each bootstrap, and one.
    outcomes: JoinSet<Outcome>,
    /// Shards that the DHT has heard of from us.
    announced: BTreeSet<u32>,
    sequence: u64,
}

/// How something that ran beside the task ended.
enum Outcome {
    Dialled { bootstrap: usize, result: Result<(PeerId, Multiaddr), NetError> },
    Announced(Published),
}

impl Task {
    async fn run(mut self, mut events: broadcast::Receiver<NetEvent>, mut leave: oneshot::Receiver<()>) {
        let mut shards = self.publisher.config.shards.clone();
        self.on(&JoinEvent::Started);
        loop {
            let deadline = self.join.next_deadline();
            let event = tokio::select! {
                biased;
                _ = &mut leave => break,
                Some(Ok(outcome)) = self.outcomes.join_next() => self.on_outcome(outcome),
                event = events.recv() => match event {
                    Ok(event) => self.on_network(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = changed(&mut shards) => Some(JoinEvent::Changed),
                () = sleep_until(deadline) => Some(JoinEvent::Tick),
            };
            if let Some(event) = event {
                self.on(&event);
            }
        }
        if self.join.on(&JoinEvent::Leave, Instant::now()).contains(&JoinAction::Withdraw) {
            self.withdraw().await;
        }
    }

    fn on(&mut self, event: &JoinEvent) {
        for action in self.join.on(event, Instant::now()) {
            match action {
                JoinAction::Dial { bootstrap } => self.dial(bootstrap),
                JoinAction::Enter { bootstrap, peer } => self.enter(bootstrap, peer),
                JoinAction::Announce => self.announce(),
                // Decided on leaving alone, and done there.
                JoinAction::Withdraw => {}
            }
        }
    }

    fn on_outcome(&mut self, outcome: Outcome) -> Option<JoinEvent> {
        match outcome {
            Outcome::Dialled { bootstrap, result: Ok((peer, address)) } => {
                (self.report)(JoinReport::Connected { peer, address });
                Some(JoinEvent::Reached { bootstrap, peer })
            }
            Outcome::Dialled { bootstrap, result: Err(error) } => {
                let event = JoinEvent::Unreachable { bootstrap };
                self.on(&event);
                let retry_in = self.join.retry_in(bootstrap, Instant::now()).unwrap_or_default();
                let addresses = self.publisher.config.entries[bootstrap].addresses.clone();
                (self.report)(JoinReport::Unreachable { addresses, error: error.to_string(), retry_in });
                None
            }
            Outcome::Announced(results) => {
                let stored = results.iter().all(|(_, result)| result.is_ok());
                for (shard, result) in results {
                    let report = match result {
                        Ok(()) => JoinReport::Announced { shard },
                        Err(error) => {
                            JoinReport::NotStored { shard_id: shard.shard_id, error: error.to_string() }
                        }
                    };
                    (self.report)(report);
                }
                Some(JoinEvent::Announced { stored })
            }
        }
    }

    fn on_network(&mut self, event: &NetEvent) -> Option<JoinEvent> {
        match *event {
            NetEvent::RoutingUpdated { peer } => {
                (self.report)(JoinReport::RoutingUpdated { peer });
                Some(JoinEvent::RoutingUpdated)
            }
            NetEvent::Bootstrapped => {
                (self.report)(JoinReport::DhtBootstrapped);
                None
            }
            NetEvent::Refused { peer } => {
                self.refused(peer);
                None
            }
            NetEvent::Disconnected { peer } => {
                if self.join.bootstraps().contains(&peer) {
                    (self.report)(JoinReport::Lost { peer });
                }
                Some(JoinEvent::Disconnected { peer })
            }
            // New addresses are worth an announcement, once there has been one.
            NetEvent::Listening { .. } | NetEvent::ListeningEnded { .. } => Some(JoinEvent::Changed),
            NetEvent::Connected { .. } => None,
        }
    }

    /// It answered, and then would have nothing to do with us: dialled again, less and less often.
    fn refused(&mut self, peer: PeerId) {
        let Some(bootstrap) = self.join.bootstrap_of(peer) else { return };
        self.on(&JoinEvent::Refused { peer });
        (self.report)(JoinReport::Unreachable {
            addresses: self.publisher.config.entries[bootstrap].addresses.clone(),
            error: format!(
                "{peer} closed the connection at once: it may be in a cluster with a secret, which --cluster-secret-file would give"
            ),
            retry_in: self.join.retry_in(bootstrap, Instant::now()).unwrap_or_default(),
        });
    }

    /// Events were missed: whoever is not connected now has been lost.
    async fn resync(&mut self) -> Option<JoinEvent> {
        let connected = self.network.snapshot().await.ok()?.peers;
        for peer in self.join.bootstraps() {
            if !connected.iter().any(|entry| entry.peer == peer) {
                self.on(&JoinEvent::Disconnected { peer });
            }
        }
        None
    }

    fn dial(&mut self, bootstrap: usize) {
        let Entry { peer, addresses } = self.publisher.config.entries[bootstrap].clone();
        (self.report)(JoinReport::Connecting { addresses: addresses.clone() });
        let network = self.network.clone();
        self.outcomes.spawn(async move {
            let result = async {
                let peer = network.dial(peer, addresses.clone()).await?;
                let connected = network.snapshot().await?.peers;
                let address =
                    connected.into_iter().find(|entry| entry.peer == peer).map(|entry| entry.address);
                Ok((peer, address.or(addresses.first().cloned()).ok_or(NetError::NoAddress)?))
            };
            Outcome::Dialled { bootstrap, result: result.await }
        });
    }

    fn enter(&mut self, bootstrap: usize, peer: PeerId) {
        let network = self.network.clone();
        let addresses = self.publisher.config.entries[bootstrap].addresses.clone();
        (self.report)(JoinReport::DhtStarted { peer });
        // Commands keep their order, so nothing is waited for but room in the queue.
        tokio::spawn(async move {
            network.keep(peer, true).await;
            for address in addresses {
                network.add_address(peer, address).await;
            }
            if let Err(error) = network.bootstrap().await {
                tracing::warn!(%error, "the DHT's bootstrap did not start");
            }
        });
    }

    /// Announces every shard as it is, and that those which are gone have left.
    fn announce(&mut self) {
        let mut shards = self.publisher.shards();
        let now: BTreeSet<u32> = shards.iter().map(|shard| shard.shard_id).collect();
        let gone: Vec<u32> = self.announced.difference(&now).copied().collect();
        shards.extend(gone.iter().map(|id| left(*id)));
        self.announced = now;
        let (publisher, sequence) = (self.publisher.clone(), self.next_sequence());
        let bootstraps = self.join.bootstraps();
        let (first, stored) = oneshot::channel();
        tokio::spawn(async move { publisher.publish(shards, sequence, bootstraps, first).await });
        self.outcomes.spawn(async move { Outcome::Announced(stored.await.unwrap_or_default()) });
    }

    async fn withdraw(&mut self) {
        let shards: Vec<ShardInfo> = std::mem::take(&mut self.announced).into_iter().map(left).collect();
        let sequence = self.next_sequence();
        let (first, stored) = oneshot::channel();
        let publish = self.publisher.publish(shards, sequence, self.join.bootstraps(), first);
        let stored = tokio::time::timeout(WITHDRAW_TIMEOUT, async {
            tokio::select! {
                () = publish => {}
                _ = stored => {}
            }
        });
        if stored.await.is_err() {
            tracing::warn!("nobody confirmed that we have left");
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence = now_ms().max(self.sequence + 1);
        self.sequence
    }
}

/// What is said of a shard that this node no longer has.
fn left(shard_id: u32) -> ShardInfo {
    ShardInfo {
        state: ReplicaState::Left,
        shard_id,
        total_shards: 0,
        total_layers: 0,
        layers: LayerRange::default(),
        plan: String::new(),
        model_name: String::new(),
        model_sha256: String::new(),
        download: None,
        capabilities: Capabilities::default(),
    }
}

async fn changed(shards: &mut Option<watch::Receiver<Vec<ShardInfo>>>) {
    if let Some(shards) = shards
        && shards.changed().await.is_ok()
    {
        return;
    }
    // The program has ended its side, or has none: nothing changes any more.
    std::future::pending::<()>().await;
}
