//! What a program needs to run prompts through the pipeline: the fleet as the DHT shows it, and the owner of the
//! sessions. Gateways have it, and so has every shard node, for `INFERENCE` may be sent to any of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

use crate::cluster::ClusterView;
use crate::net::Network;
use crate::ring::client::Client;
use crate::ring::gateway::driver::{self, Activity};
use crate::ring::gateway::route::{Fleet, Replica};
use crate::ring::gateway::sessions::Limits;
use crate::ring::lanes::{Inbound, Lanes};

/// Between two looks at the round trips that ping measured.
const ROUND_TRIPS: Duration = Duration::from_secs(5);

/// The doors to the pipeline.
#[derive(Clone)]
pub struct Front {
    /// Runs prompts.
    pub client: Client,
    /// What the sessions are doing.
    pub activity: watch::Receiver<Activity>,
    /// The cluster, as the DHT and the connections show it.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// The last round trip to each connected peer.
    pub round_trips: watch::Receiver<HashMap<PeerId, Duration>>,
}

impl Front {
    /// Starts the owner of the sessions, and what keeps it informed.
    pub fn spawn(
        network: &Network,
        lanes: Lanes,
        inbox: mpsc::Receiver<Inbound>,
        view: watch::Receiver<Arc<ClusterView>>,
        limits: Limits,
    ) -> Self {
        let (round_trips_out, round_trips) = watch::channel(HashMap::new());
        tokio::spawn(measure(network.clone(), round_trips_out));
        let (fleet_out, fleet) = watch::channel(Fleet::default());
        tokio::spawn(follow(view.clone(), round_trips.clone(), fleet_out));
        let (client, activity) =
            driver::spawn(network.local_peer(), limits, lanes, inbox, network.events(), fleet);
        Self { client, activity, view, round_trips }
    }
}

async fn measure(network: Network, publish: watch::Sender<HashMap<PeerId, Duration>>) {
    let mut tick = interval(ROUND_TRIPS);
    loop {
        tokio::select! {
            () = publish.closed() => return,
            _ = tick.tick() => {}
        }
        let Ok(snapshot) = network.snapshot().await else { return };
        let measured = snapshot.peers.iter().filter_map(|peer| Some((peer.peer, peer.rtt?))).collect();
        publish.send_if_modified(|known| std::mem::replace(known, measured) != *known);
    }
}

async fn follow(
    mut view: watch::Receiver<Arc<ClusterView>>,
    mut round_trips: watch::Receiver<HashMap<PeerId, Duration>>,
    publish: watch::Sender<Fleet>,
) {
    loop {
        let fleet = fleet(&view.borrow_and_update(), &round_trips.borrow_and_update());
        publish.send_if_modified(|known| {
            let changed = *known != fleet;
            *known = fleet;
            changed
        });
        let more = tokio::select! {
            changed = view.changed() => changed.is_ok(),
            changed = round_trips.changed() => changed.is_ok(),
        };
        if !more {
            return;
        }
    }
}

/// The replicas that take sessions now.
fn fleet(view: &ClusterView, round_trips: &HashMap<PeerId, Duration>) -> Fleet {
    let replicas = view.serving().map(|replica| Replica {
        peer: replica.peer,
        shard: replica.shard.shard_id,
        layers: replica.shard.layers,
        plan: replica.shard.plan.clone(),
        total_layers: replica.shard.total_layers,
        rtt: round_trips.get(&replica.peer).copied().unwrap_or_default(),
    });
    Fleet {
        replicas: replicas.collect(),
        plan: view.plan.as_ref().map(|plan| plan.name.clone()),
        total_layers: view.plan.as_ref().map_or(0, |plan| plan.total_layers),
        reason: view.reason(),
    }
}
