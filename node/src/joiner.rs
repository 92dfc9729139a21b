//! Joins the network: carries out what [`crate::join`] decides.
//!
//! One task. Dials and announcements run beside it and come back as events; what it does is told to the program
//! (its console) in the order in which it happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{Capabilities, MemberInfo, ReplicaState, ShardInfo};
use shard_wire::layers::LayerRange;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::{now_ms, sleep_until};
use crate::join::{Join, JoinAction, JoinEvent, JoinSettings};
use crate::net::{NetError, NetEvent, Network};

mod config;
mod files;
mod publish;
mod report;

use files::{Files, Turn};
use publish::{Published, Publisher, Registered, Said};
use report::told;

pub use config::{Entry, JoinerConfig};
pub use report::JoinReport;

/// A withdrawal that no peer has stored by then is given up: records expire.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);

/// A bootstrap is one peer; who tells of more before it has answered is told of at once.
const MAX_EARLY: usize = 16;

/// A node that has begun to join. Dropping it leaves as well, and waits for nobody to hear it; see [`Joiner::leave`].
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
        let early = (!config.entries.is_empty()).then(Vec::new);
        let task = Task {
            join: Join::new(
                JoinSettings {
                    bootstraps: config.entries.len(),
                    announces: config.shards.is_some() || config.member.is_some(),
                    registers: config.files.is_some(),
                    refresh_interval: config.refresh_interval,
                    seed: seed(network.local_peer()),
                },
                Instant::now(),
            ),
            publisher: Arc::new(Publisher { network: network.clone(), config }),
            network,
            early,
            report: Box::new(report),
            outcomes: JoinSet::new(),
            announced: BTreeSet::new(),
            member: None,
            files: Files::default(),
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
    /// Peers of the routing table that came before the answer to the dial that brought them: the network tells of both on
    /// ways of their own. `None` once a bootstrap was entered.
    early: Option<Vec<PeerId>>,
    publisher: Arc<Publisher>,
    report: Box<dyn FnMut(JoinReport) + Send>,
    /// Dials and announcements under way: one for each bootstrap, and one.
    outcomes: JoinSet<Outcome>,
    /// Shards that the DHT has heard of from us.
    announced: BTreeSet<u32>,
    /// What the DHT has heard that we are.
    member: Option<MemberInfo>,
    files: Files,
    sequence: u64,
}

/// How something that ran beside the task ended.
enum Outcome {
    Dialled { bootstrap: usize, result: Result<(PeerId, Multiaddr), NetError> },
    Announced(Published),
    Registered(Registered),
}

impl Task {
    async fn run(mut self, mut events: broadcast::Receiver<NetEvent>, mut leave: oneshot::Receiver<()>) {
        let config = &self.publisher.config;
        let (mut shards, mut member, mut files) =
            (config.shards.clone(), config.member.clone(), config.files.clone());
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
                () = changed(&mut member) => Some(JoinEvent::Changed),
                () = changed(&mut files) => Some(JoinEvent::FilesChanged),
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
        let now = Instant::now();
        if *event == JoinEvent::Tick && self.join.falls_back(now) {
            (self.report)(JoinReport::FellBack);
        }
        for action in self.join.on(event, now) {
            match action {
                JoinAction::Dial { bootstrap } => self.dial(bootstrap),
                JoinAction::Enter { bootstrap, peer } => self.enter(bootstrap, peer),
                JoinAction::Register { all } => self.register(all),
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
                for (said, result) in results {
                    (self.report)(told(said, result.map_err(|error| error.to_string())));
                }
                Some(JoinEvent::Announced { stored })
            }
            Outcome::Registered(results) => {
                let stored = results.iter().all(|(_, result)| result.is_ok());
                for (file, result) in results {
                    if let Some(report) = self.files.on_registered(file, result, Instant::now()) {
                        (self.report)(report);
                    }
                }
                Some(JoinEvent::Registered { stored })
            }
        }
    }

    fn on_network(&mut self, event: &NetEvent) -> Option<JoinEvent> {
        match *event {
            NetEvent::RoutingUpdated { peer } => {
                match &mut self.early {
                    Some(early) if early.len() < MAX_EARLY => early.push(peer),
                    _ => (self.report)(JoinReport::RoutingUpdated { peer }),
                }
                Some(JoinEvent::RoutingUpdated)
            }
            NetEvent::Bootstrapped { query } => {
                (self.report)(JoinReport::DhtBootstrapped { query });
                None
            }
            NetEvent::QuorumFailed { query, ref key, stored, quorum } => {
                (self.report)(JoinReport::QuorumFailed { query, key: key.clone(), stored, quorum });
                None
            }
            NetEvent::Refused { peer } => {
                self.refused(peer);
                None
            }
            NetEvent::NotFound { query, ref key } => {
                (self.report)(JoinReport::NotFound { query, key: key.clone() });
                None
            }
            NetEvent::Disconnected { peer, ref cause } => {
                if self.join.bootstraps().contains(&peer) {
                    (self.report)(JoinReport::Lost { peer, cause: cause.clone() });
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
        for peer in self.early.take().into_iter().flatten() {
            (self.report)(JoinReport::RoutingUpdated { peer });
        }
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

    /// Announces every shard as it is, and that those which are gone have left; and what else we are, or no longer are.
    fn announce(&mut self) {
        let shards = self.publisher.shards();
        let now: BTreeSet<u32> = shards.iter().map(|shard| shard.shard_id).collect();
        let gone = self.announced.difference(&now).map(|id| Said::Shard(left(*id)));
        let mut said: Vec<Said> = gone.collect();
        said.extend(shards.into_iter().map(Said::Shard));
        self.announced = now;
        let member = self.publisher.member();
        if let Some(was) =
            self.member.take().filter(|was| Some(was.role) != member.as_ref().map(|is| is.role))
        {
            said.push(Said::Member { member: was, left: true });
        }
        said.extend(member.clone().map(|member| Said::Member { member, left: false }));
        self.member = member;
        let (publisher, sequence) = (self.publisher.clone(), self.next_sequence());
        let bootstraps = self.join.bootstraps();
        let (first, stored) = oneshot::channel();
        tokio::spawn(async move { publisher.publish(said, sequence, bootstraps, first).await });
        self.outcomes.spawn(async move { Outcome::Announced(stored.await.unwrap_or_default()) });
    }

    /// Registers the files that are there, and provides those no longer that are not.
    fn register(&mut self, all: bool) {
        let refresh = self.publisher.config.refresh_interval;
        let Turn { files, gone } = self.files.next(self.publisher.files(), all, refresh, Instant::now());
        for file in gone.iter().cloned() {
            (self.report)(JoinReport::FileWithdrawn { file });
        }
        let count = files.iter().filter(|file| self.files.is_new(file)).count();
        if count > 0 {
            (self.report)(JoinReport::Registering { count });
        }
        let (publisher, sequence) = (self.publisher.clone(), self.next_sequence());
        let bootstraps = self.join.bootstraps();
        self.outcomes.spawn(async move {
            publisher.withdraw(&gone).await;
            Outcome::Registered(publisher.register(files, sequence, bootstraps).await)
        });
    }

    async fn withdraw(&mut self) {
        let mut said: Vec<Said> =
            std::mem::take(&mut self.announced).into_iter().map(|id| Said::Shard(left(id))).collect();
        said.extend(self.member.take().map(|member| Said::Member { member, left: true }));
        let sequence = self.next_sequence();
        let (first, stored) = oneshot::channel();
        let (publisher, bootstraps) = (self.publisher.clone(), self.join.bootstraps());
        tokio::spawn(async move { publisher.publish(said, sequence, bootstraps, first).await });
        let Ok(Ok(published)) = tokio::time::timeout(WITHDRAW_TIMEOUT, stored).await else {
            tracing::warn!("nobody confirmed that we have left");
            return;
        };
        for (said, result) in published {
            (self.report)(told(said, result.map_err(|error| error.to_string())));
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

async fn changed<T>(values: &mut Option<watch::Receiver<T>>) {
    if let Some(values) = values
        && values.changed().await.is_ok()
    {
        return;
    }
    // The program has ended its side, or has none: nothing changes any more.
    std::future::pending::<()>().await;
}
