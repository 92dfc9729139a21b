//! Which replica serves each stage. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use shard_wire::layers::{LayerRange, gaps};

/// One loaded replica of a shard that takes sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The node.
    pub peer: PeerId,
    /// The shard.
    pub shard: u32,
    /// Its layers.
    pub layers: LayerRange,
    /// The plan that it serves.
    pub plan: String,
    /// Last round trip.
    pub rtt: Duration,
}

/// What a gateway knows about the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Loaded, connected replicas of all plans.
    pub replicas: Vec<Replica>,
    /// Layers of the model.
    pub total_layers: u32,
    /// Why something is missing, in words.
    pub reason: String,
}

/// One stage of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage {
    /// The node.
    pub peer: PeerId,
    /// The shard.
    pub shard: u32,
}

/// A complete cover of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The plan.
    pub plan: String,
    /// Its stages in the order of the layers.
    pub stages: Vec<Stage>,
}

impl Route {
    /// The peers, each once.
    pub fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = self.stages.iter().map(|stage| stage.peer).collect();
        peers.sort();
        peers.dedup();
        peers
    }
}

/// No plan is fully covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incomplete {
    /// What the plan that comes nearest lacks.
    pub missing: Vec<LayerRange>,
    /// Why, in words.
    pub reason: String,
}

/// Picks, for the plan with the fewest missing layers, the least loaded and then the nearest replica of each shard.
///
/// `load` is the number of sessions that this gateway has at a peer. A session that has begun stays on its `plan`.
///
/// # Errors
/// The layers that no replica of that plan serves.
pub fn pick(fleet: &Fleet, load: &HashMap<PeerId, usize>, plan: Option<&str>) -> Result<Route, Incomplete> {
    let mut plans: BTreeMap<&str, BTreeMap<u32, Vec<&Replica>>> = BTreeMap::new();
    for replica in fleet.replicas.iter().filter(|replica| plan.is_none_or(|plan| replica.plan == plan)) {
        plans.entry(&replica.plan).or_default().entry(replica.layers.start).or_default().push(replica);
    }
    let nearest = plans
        .into_iter()
        .map(|(plan, starts)| {
            let missing =
                gaps(starts.values().filter_map(|r| r.first()).map(|r| r.layers), fleet.total_layers);
            (missing.iter().map(|range| range.end - range.start).sum::<u32>(), missing, plan, starts)
        })
        .min_by_key(|(lacking, _, plan, _)| (*lacking, *plan));
    let Some((lacking, missing, plan, starts)) = nearest else {
        let all = LayerRange { start: 0, end: fleet.total_layers };
        return Err(Incomplete { missing: vec![all], reason: fleet.reason.clone() });
    };
    if lacking > 0 || fleet.total_layers == 0 {
        return Err(Incomplete { missing, reason: fleet.reason.clone() });
    }
    let cost =
        |replica: &&Replica| (load.get(&replica.peer).copied().unwrap_or(0), replica.rtt, replica.peer);
    let best = starts.into_values().filter_map(|replicas| replicas.into_iter().min_by_key(cost));
    let stages = best.map(|replica| Stage { peer: replica.peer, shard: replica.shard }).collect();
    Ok(Route { plan: plan.to_owned(), stages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(peer: PeerId, shard: u32, start: u32, end: u32, plan: &str, rtt: u64) -> Replica {
        let rtt = Duration::from_micros(rtt);
        Replica { peer, shard, layers: LayerRange { start, end }, plan: plan.into(), rtt }
    }

    #[test]
    fn the_least_loaded_then_the_nearest_replica() {
        let [a, b, c, d] = [(); 4].map(|()| PeerId::random());
        let replicas = vec![
            replica(a, 0, 0, 4, "p", 90),
            replica(b, 0, 0, 4, "p", 50),
            replica(c, 1, 4, 8, "p", 50),
            replica(d, 1, 4, 8, "other", 1),
        ];
        let fleet = Fleet { replicas, total_layers: 8, reason: String::new() };
        let peers = |load: &[(PeerId, usize)]| {
            let route = pick(&fleet, &load.iter().copied().collect(), None).expect("complete");
            route.stages.iter().map(|stage| stage.peer).collect::<Vec<_>>()
        };
        assert_eq!(peers(&[]), [b, c]);
        assert_eq!(peers(&[(b, 1)]), [a, c]);
        assert_eq!(peers(&[(b, 1), (a, 1), (c, 9)]), [b, c]);
    }

    #[test]
    fn a_session_stays_on_its_plan() {
        let [a, b] = [(); 2].map(|()| PeerId::random());
        let replicas = vec![replica(a, 0, 0, 8, "new", 1), replica(b, 0, 0, 8, "old", 9)];
        let fleet = Fleet { replicas, total_layers: 8, reason: String::new() };
        let peer = |plan| pick(&fleet, &HashMap::new(), plan).map(|route| route.stages[0].peer);
        assert_eq!(peer(None), Ok(a));
        assert_eq!(peer(Some("old")), Ok(b));
        assert!(peer(Some("gone")).is_err());
    }

    #[test]
    fn a_route_never_mixes_plans_and_names_what_is_missing() {
        let peer = PeerId::random();
        let range = |start, end| LayerRange { start, end };
        let missing = |replicas: Vec<Replica>| {
            let fleet = Fleet { replicas, total_layers: 8, reason: "why".into() };
            pick(&fleet, &HashMap::new(), None).expect_err("incomplete").missing
        };
        assert_eq!(missing(vec![]), [range(0, 8)]);
        assert_eq!(
            missing(vec![replica(peer, 0, 0, 4, "p", 1), replica(peer, 1, 4, 8, "q", 1)]),
            [range(4, 8)]
        );
        assert_eq!(
            missing(vec![replica(peer, 1, 2, 4, "p", 1), replica(peer, 3, 6, 7, "p", 1)]),
            [range(0, 2), range(4, 6), range(7, 8)]
        );
    }
}
