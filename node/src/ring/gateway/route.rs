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
    /// Layers of that plan's model.
    pub total_layers: u32,
    /// Last round trip.
    pub rtt: Duration,
}

/// What a gateway knows about the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Loaded, connected replicas of all plans.
    pub replicas: Vec<Replica>,
    /// The plan of sessions that name none.
    pub plan: Option<String>,
    /// Layers of its model.
    pub total_layers: u32,
    /// Why something of it is missing, in words.
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

/// The plan is not fully covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incomplete {
    /// What it lacks.
    pub missing: Vec<LayerRange>,
    /// Why, in words.
    pub reason: String,
}

/// Picks the least loaded and then the nearest replica of each shard of `plan`, or of the fleet's.
///
/// `load` is the number of sessions that this gateway has at a peer.
///
/// # Errors
/// The layers that no replica of that plan serves.
pub fn pick(fleet: &Fleet, load: &HashMap<PeerId, usize>, plan: Option<&str>) -> Result<Route, Incomplete> {
    let shown = fleet.plan.as_deref();
    let plan = plan.or(shown).unwrap_or_default();
    let mut starts: BTreeMap<u32, Vec<&Replica>> = BTreeMap::new();
    for replica in fleet.replicas.iter().filter(|replica| replica.plan == plan) {
        starts.entry(replica.layers.start).or_default().push(replica);
    }
    let said = starts.values().flatten().map(|replica| replica.total_layers).max();
    let total_layers = said.unwrap_or(fleet.total_layers);
    let covered = starts.values().filter_map(|replicas| replicas.first()).map(|replica| replica.layers);
    let missing = gaps(covered, total_layers);
    if total_layers == 0 || !missing.is_empty() {
        let reason = if shown.is_none_or(|shown| shown == plan) {
            fleet.reason.clone()
        } else {
            format!("plan {plan} is no longer served as a whole")
        };
        return Err(Incomplete { missing, reason });
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
        Replica { peer, shard, layers: LayerRange { start, end }, plan: plan.into(), total_layers: 8, rtt }
    }

    fn fleet(plan: &str, replicas: Vec<Replica>) -> Fleet {
        Fleet { replicas, plan: Some(plan.into()), total_layers: 8, reason: "why".into() }
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
        let fleet = fleet("p", replicas);
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
        // The old model has fewer layers, of which the new one's first shard covers all.
        let old = Replica { total_layers: 4, ..replica(b, 0, 0, 4, "old", 9) };
        let mut fleet = fleet("new", vec![replica(a, 0, 0, 4, "new", 1), replica(b, 1, 4, 8, "new", 1), old]);
        let peer = |fleet: &Fleet, plan| pick(fleet, &HashMap::new(), plan).map(|route| route.stages[0].peer);
        assert_eq!(peer(&fleet, None), Ok(a));
        assert_eq!(peer(&fleet, Some("old")), Ok(b));
        let gone = peer(&fleet, Some("gone")).expect_err("incomplete");
        assert_eq!(gone.reason, "plan gone is no longer served as a whole");
        (fleet.plan, fleet.total_layers) = (Some("old".into()), 4);
        assert_eq!((peer(&fleet, None), peer(&fleet, Some("new"))), (Ok(b), Ok(a)));
        fleet.replicas.remove(1);
        assert_eq!(peer(&fleet, Some("new")).expect_err("half").missing, [LayerRange { start: 4, end: 8 }]);
    }

    #[test]
    fn a_route_never_mixes_plans_and_names_what_is_missing() {
        let peer = PeerId::random();
        let range = |start, end| LayerRange { start, end };
        let missing = |replicas: Vec<Replica>| {
            let incomplete = pick(&fleet("p", replicas), &HashMap::new(), None).expect_err("incomplete");
            assert_eq!(incomplete.reason, "why");
            incomplete.missing
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
