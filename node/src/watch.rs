//! Finds the replicas of a cluster in the DHT, stays connected to them, and shows what it knows on a watch channel.
//!
//! ```text
//! every second the shards that nobody serves, every 5 s all; at once when a replica is lost (see rounds):
//!   for each id:  providers of {cluster}/shard/{id} ─▶ each one's {cluster}/shard/{id}/{peer}
//!                 {cluster}/shard/{id}, the last announcement of any replica
//!   each record: signature, bounds, owner ─▶ Cluster ─▶ dial and keep ─▶ ClusterView
//! ```
//! Where it is wanted, every 5 s also who is a spare and who a gateway.
//! Nothing is told who the shards are. While no record names their number, the first ids are looked up, more each time.

mod members;
mod reader;
mod rounds;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use libp2p::{Multiaddr, PeerId};
use shard_wire::keys::Role;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::sleep_until;
use crate::cluster::{Cluster, ClusterView};
use crate::net::{NetEvent, Network};

use members::Table;
use reader::{Found, Reader};
use rounds::Rounds;

pub use members::{Member, Members};

/// Rounds under way and shards in each that are looked up at once: with the 8 records that are read at once and the two
/// roles 22 queries, where Kademlia drops what goes beyond 32 streams to one peer.
const ROUNDS: usize = 2;
const SHARDS: usize = 6;
/// Between two looks at who is a spare or a gateway.
const MEMBERS: Duration = Duration::from_secs(5);
/// Records found that wait for the task.
const FOUND: usize = 256;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The cluster.
    pub cluster: String,
    /// A replica that is offline is forgotten when the DHT has not known it for so long: the life of a record.
    pub forget_after: Duration,
}

/// What is known of a cluster.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its shards.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Its spares and gateways.
    pub members: watch::Receiver<Arc<Members>>,
}

/// Watches the shards. Ends with the network, or when nobody holds a receiver any more.
pub fn spawn(network: Network, config: WatchConfig) -> watch::Receiver<Arc<ClusterView>> {
    start(network, config, None)
}

/// Watches the shards, the spares and the gateways, and stays connected to the spares. Ends with the network, or when
/// nobody holds a receiver of the shards any more.
pub fn spawn_with_members(network: Network, config: WatchConfig) -> Watched {
    let (sender, members) = watch::channel(Arc::new(Members::default()));
    Watched { view: start(network, config, Some(sender)), members }
}

fn start(
    network: Network,
    config: WatchConfig,
    members: Option<watch::Sender<Arc<Members>>>,
) -> watch::Receiver<Arc<ClusterView>> {
    let (view, receiver) = watch::channel(Arc::new(ClusterView::default()));
    let (found, records) = mpsc::channel(FOUND);
    let events = network.events();
    let task = Task {
        cluster: Cluster::new(network.local_peer(), config.forget_after),
        reader: Reader::new(network.clone(), config.cluster, found),
        members: members.map(|shown| Following {
            shown,
            table: Table::new(network.local_peer()),
            next: Instant::now(),
            lookups: JoinSet::new(),
        }),
        network,
        view,
        kept: HashSet::new(),
        dials: JoinSet::new(),
        lookups: JoinSet::new(),
        rounds: Rounds::new(),
        changed: true,
    };
    tokio::spawn(task.run(events, records));
    receiver
}

struct Task {
    network: Network,
    cluster: Cluster,
    view: watch::Sender<Arc<ClusterView>>,
    reader: Reader,
    members: Option<Following>,
    kept: HashSet<PeerId>,
    /// One for each replica at most, and one for each spare now and then.
    dials: JoinSet<(PeerId, bool)>,
    lookups: JoinSet<()>,
    rounds: Rounds,
    /// The view may differ from what is shown.
    changed: bool,
}

/// Spares and gateways, where somebody wants to know.
struct Following {
    shown: watch::Sender<Arc<Members>>,
    table: Table,
    /// When to look next, if the last look is over by then.
    next: Instant,
    lookups: JoinSet<()>,
}

impl Task {
    async fn run(mut self, mut events: broadcast::Receiver<NetEvent>, mut records: mpsc::Receiver<Found>) {
        // Whoever connected before we listened for events.
        self.resync().await;
        loop {
            let members =
                self.members.as_ref().map(|members| members.next.max(Instant::now() + MEMBERS / 10));
            let wake = self.cluster.next_dial().into_iter().chain(self.next_round()).chain(members).min();
            tokio::select! {
                () = self.view.closed() => return,
                Some(found) = records.recv() => self.on_found(found),
                event = events.recv() => match event {
                    Ok(event) => self.on_network(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(Ok((peer, reached))) = self.dials.join_next() => {
                    self.cluster.on_dialled(peer, reached, Instant::now());
                }
                Some(_) = self.lookups.join_next() => self.changed |= self.cluster.forget(Instant::now()),
                () = sleep_until(wake) => {}
            }
            self.act().await;
        }
    }

    fn on_found(&mut self, found: Found) {
        let now = Instant::now();
        match (found, &mut self.members) {
            (Found::Shard(announced), _) => self.changed |= self.cluster.on_announced(announced, now),
            (Found::Member(announced), Some(members)) => {
                members.table.on_announced(announced, now);
                self.changed = true;
            }
            // Looked up only where they are followed.
            (Found::Member(_), None) => {}
        }
    }

    fn on_network(&mut self, event: &NetEvent) {
        match *event {
            NetEvent::Connected { peer, .. } => {
                self.cluster.on_connected(peer);
                if let Some(members) = &mut self.members {
                    members.table.on_connected(peer);
                }
                self.changed = true;
            }
            NetEvent::Disconnected { peer, .. } => {
                self.cluster.on_disconnected(peer);
                if let Some(members) = &mut self.members {
                    members.table.on_disconnected(peer);
                }
                self.changed = true;
                self.rounds.hurry();
            }
            // The first peer of the DHT: now there is somebody to ask.
            NetEvent::RoutingUpdated { .. } if self.cluster.named_shards().is_none() => self.rounds.hurry(),
            _ => {}
        }
    }

    async fn resync(&mut self) {
        if let Ok(snapshot) = self.network.snapshot().await {
            let connected = snapshot.peers.iter().map(|entry| entry.peer);
            if let Some(members) = &mut self.members {
                members.table.reset_connected(connected.clone());
            }
            self.cluster.reset_connected(connected);
            self.changed = true;
        }
    }

    /// When the next round is due. It does not wait for the last one, which may wait for peers that are gone.
    fn next_round(&self) -> Option<Instant> {
        let lacking = self.view.borrow().lacking();
        let next = self.rounds.next(self.cluster.named_shards(), &lacking, Instant::now());
        (self.lookups.len() < ROUNDS).then_some(next)
    }

    /// Shows what is known, dials who is missing, keeps who is followed, looks up when it is time.
    async fn act(&mut self) {
        let now = Instant::now();
        if std::mem::take(&mut self.changed) {
            self.show().await;
        }
        let replicas = self.cluster.due_dials(now);
        let spares = self.members.as_mut().map(|members| members.table.due_dials(now)).unwrap_or_default();
        // Who is both is dialled as a replica.
        let followed = self.cluster.followed();
        for (peer, addresses) in
            replicas.into_iter().chain(spares.into_iter().filter(|(peer, _)| !followed.contains(peer)))
        {
            self.dial(peer, addresses);
        }
        self.look_for_members(now);
        if self.lookups.len() >= ROUNDS {
            return;
        }
        let lacking = self.view.borrow().lacking();
        if let Some(ids) = self.rounds.due(self.cluster.named_shards(), &lacking, now) {
            let online = self.cluster.online_shards();
            let ids: Vec<_> = ids.into_iter().map(|id| (id, online.contains(&id))).collect();
            let reader = self.reader.clone();
            self.lookups.spawn(async move {
                stream::iter(ids).for_each_concurrent(SHARDS, |(id, online)| reader.shard(id, online)).await;
            });
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let network = self.network.clone();
        self.dials.spawn(async move {
            let result = network.dial(Some(peer), addresses).await;
            if let Err(error) = &result {
                tracing::debug!(%peer, %error, "it cannot be reached");
            }
            (peer, result.is_ok())
        });
    }

    fn look_for_members(&mut self, now: Instant) {
        let Some(members) = &mut self.members else { return };
        while members.lookups.try_join_next().is_some() {}
        if members.next > now || !members.lookups.is_empty() {
            return;
        }
        members.next = now + MEMBERS;
        members.table.forget(now);
        self.changed = true;
        for role in Role::ALL {
            let reader = self.reader.clone();
            members.lookups.spawn(async move { reader.members(role).await });
        }
    }

    async fn show(&mut self) {
        let view = self.cluster.view();
        self.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
        let mut followed = self.cluster.followed();
        if let Some(members) = &self.members {
            followed.extend(members.table.spares());
            let now = Arc::new(members.table.view());
            members.shown.send_if_modified(|shown| std::mem::replace(shown, Arc::clone(&now)) != now);
        }
        for peer in followed.difference(&self.kept) {
            self.network.keep(*peer, true).await;
        }
        for peer in self.kept.difference(&followed) {
            self.network.keep(*peer, false).await;
        }
        self.kept = followed;
    }
}
