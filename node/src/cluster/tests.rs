use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::announce::{Capabilities, ReplicaState, ShardAnnouncement, ShardInfo};
use shard_wire::layers::LayerRange;
use shard_wire::pipeline::ShardStatus;

use super::*;

const TTL: Duration = Duration::from_secs(900);

fn range(start: u32, end: u32) -> LayerRange {
    LayerRange { start, end }
}

/// Shard `id` of a plan of three shards over six layers.
fn announced(peer: PeerId, id: u32, plan: &str, state: ReplicaState, sequence: u64) -> Announced {
    let loaded = matches!(state, ReplicaState::Ready | ReplicaState::Leaving);
    let announcement = ShardAnnouncement {
        cluster: "c".into(),
        peer_id: peer.to_string(),
        incarnation: 1,
        listen_addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 1000 + id), "nonsense".into()],
        external_addresses: vec![],
        shard: ShardInfo {
            state,
            shard_id: id,
            total_shards: 3,
            total_layers: 6,
            layers: range(2 * id, 2 * id + 2),
            plan: plan.into(),
            model_name: "m".into(),
            model_sha256: "s".into(),
            download: None,
            capabilities: Capabilities { shard_loaded: loaded, ..Capabilities::default() },
        },
    };
    Announced { peer, sequence, announcement }
}

struct Fleet {
    cluster: Cluster,
    peers: [PeerId; 4],
    now: Instant,
}

impl Fleet {
    fn new() -> Self {
        let now = Instant::now();
        Self { cluster: Cluster::new(PeerId::random(), TTL), peers: [(); 4].map(|()| PeerId::random()), now }
    }

    fn hear(&mut self, peer: usize, id: u32, plan: &str, state: ReplicaState, sequence: u64) {
        self.cluster.on_announced(announced(self.peers[peer], id, plan, state, sequence), self.now);
    }

    /// Shards 0, 1, 2 are ready on peers 0, 1, 2.
    fn ready() -> Self {
        let mut fleet = Self::new();
        for id in 0..3 {
            fleet.hear(id as usize, id, "p", ReplicaState::Ready, 1);
            fleet.cluster.on_connected(fleet.peers[id as usize]);
        }
        fleet
    }
}

#[test]
fn a_plan_is_complete_when_every_shard_serves() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.cluster.view().reason(), "no shard has announced itself");
    let mut seen = Vec::new();
    for id in 0..3 {
        fleet.hear(id as usize, id, "p", ReplicaState::Ready, 1);
        seen.push(fleet.cluster.view().reason());
        fleet.cluster.on_connected(fleet.peers[id as usize]);
        seen.push(fleet.cluster.view().reason());
    }
    assert_eq!(
        seen,
        [
            "shard 0 (layers 0-2) is offline; shard 1 has no replica; shard 2 has no replica",
            "shard 1 has no replica; shard 2 has no replica",
            "shard 1 (layers 2-4) is offline; shard 2 has no replica",
            "shard 2 has no replica",
            "shard 2 (layers 4-6) is offline",
            "",
        ]
    );
    assert!(fleet.cluster.view().complete());
}

#[test]
fn what_becomes_of_one_replica_shows() {
    let states = [
        (ReplicaState::Joining, "shard 1 (layers 2-4) has joined and has no weights yet"),
        (ReplicaState::Downloading, "shard 1 (layers 2-4) is downloading"),
        (ReplicaState::Loading, "shard 1 (layers 2-4) is loading"),
        (ReplicaState::Leaving, "shard 1 (layers 2-4) is leaving"),
        (ReplicaState::Left, "shard 1 has no replica"),
        (ReplicaState::Ready, ""),
    ];
    for (state, reason) in states {
        let mut fleet = Fleet::ready();
        fleet.hear(1, 1, "p", state, 2);
        let view = fleet.cluster.view();
        assert_eq!(view.reason(), reason);
        let missing = if reason.is_empty() { vec![] } else { vec![range(2, 4)] };
        assert_eq!(view.plan.unwrap().missing, missing, "{state:?}");
    }
    let mut fleet = Fleet::ready();
    fleet.cluster.on_disconnected(fleet.peers[2]);
    assert_eq!(fleet.cluster.view().reason(), "shard 2 (layers 4-6) is offline");
    assert_eq!(fleet.cluster.view().serving().count(), 2);
    // A second replica takes its place.
    fleet.hear(3, 2, "p", ReplicaState::Ready, 1);
    fleet.cluster.on_connected(fleet.peers[3]);
    assert!(fleet.cluster.view().complete());
}

#[test]
fn older_words_do_not_count() {
    let mut fleet = Fleet::ready();
    fleet.hear(0, 0, "p", ReplicaState::Left, 9);
    fleet.hear(0, 0, "p", ReplicaState::Ready, 8);
    fleet.hear(0, 0, "p", ReplicaState::Ready, 9);
    assert!(!fleet.cluster.view().complete());
    fleet.hear(0, 0, "p", ReplicaState::Ready, 10);
    assert!(fleet.cluster.view().complete());
}

#[test]
fn plans_do_not_mix_and_the_fullest_is_shown() {
    let mut fleet = Fleet::ready();
    fleet.hear(2, 2, "q", ReplicaState::Ready, 2);
    let view = fleet.cluster.view();
    let plan = view.plan.clone().unwrap();
    assert_eq!((plan.name.as_str(), &plan.missing), ("p", &vec![range(4, 6)]));
    assert_eq!(view.serving().count(), 3);
    fleet.hear(0, 0, "q", ReplicaState::Ready, 2);
    fleet.hear(1, 1, "q", ReplicaState::Loading, 2);
    let plan = fleet.cluster.view().plan.unwrap();
    assert_eq!((plan.name.as_str(), plan.missing), ("q", vec![range(2, 4)]));
}

#[test]
fn one_replica_cannot_bend_a_shard() {
    let mut fleet = Fleet::ready();
    // Another honest one, and a liar who says that shard 0 ends at layer 1.
    fleet.hear(3, 0, "p", ReplicaState::Ready, 1);
    let liar = PeerId::random();
    let mut lie = announced(liar, 0, "p", ReplicaState::Ready, 1);
    lie.announcement.shard.layers = range(0, 1);
    fleet.cluster.on_announced(lie, fleet.now);
    fleet.cluster.on_connected(liar);
    let plan = fleet.cluster.view().plan.unwrap();
    assert_eq!((plan.shards[0].layers, plan.missing.as_slice()), (Some(range(0, 2)), &[][..]));
    assert!(!plan.shards[0].serving.contains(&liar));
}

#[test]
fn dials_back_off_and_start_over() {
    let mut fleet = Fleet::new();
    let peer = fleet.peers[0];
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/1000".parse().unwrap();
    fleet.hear(0, 0, "p", ReplicaState::Ready, 1);
    let now = fleet.now;
    assert_eq!(fleet.cluster.due_dials(now), [(peer, vec![address.clone()])]);
    assert_eq!(fleet.cluster.due_dials(now), [], "one is under way");
    let mut at = now;
    let mut waits = Vec::new();
    for _ in 0..7 {
        fleet.cluster.on_dialled(peer, false, at);
        let next = fleet.cluster.next_dial().unwrap();
        waits.push((next - at).as_millis());
        assert_eq!(fleet.cluster.due_dials(next - Duration::from_millis(1)), []);
        assert_eq!(fleet.cluster.due_dials(next).len(), 1);
        at = next;
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10000, 10000]);

    // A new process behind the same name is dialled at once, and so is a peer that was lost.
    fleet.cluster.on_dialled(peer, false, at);
    let mut restarted = announced(peer, 0, "p", ReplicaState::Ready, 2);
    restarted.announcement.incarnation = 2;
    fleet.cluster.on_announced(restarted, at);
    assert_eq!(fleet.cluster.due_dials(at).len(), 1);
    fleet.cluster.on_connected(peer);
    assert_eq!(fleet.cluster.due_dials(at), []);
    fleet.cluster.on_disconnected(peer);
    assert_eq!(fleet.cluster.due_dials(at).len(), 1);

    // One that has left is not.
    fleet.cluster.on_dialled(peer, false, at);
    fleet.hear(0, 0, "p", ReplicaState::Left, 3);
    assert_eq!(fleet.cluster.due_dials(at + Duration::from_secs(60)), []);
}

#[test]
fn the_local_node_is_online_and_never_dialled() {
    let mut fleet = Fleet::new();
    let local = fleet.peers[0];
    fleet.cluster = Cluster::new(local, TTL);
    fleet.hear(0, 0, "p", ReplicaState::Ready, 1);
    fleet.cluster.reset_connected([]);
    assert!(fleet.cluster.view().replicas[0].serves());
    assert_eq!(fleet.cluster.due_dials(fleet.now), []);
}

#[test]
fn who_is_offline_and_out_of_the_dht_is_forgotten() {
    let mut fleet = Fleet::ready();
    fleet.cluster.on_disconnected(fleet.peers[0]);
    let later = fleet.now + TTL;
    fleet.cluster.forget(later - Duration::from_secs(1));
    assert_eq!(fleet.cluster.view().replicas.len(), 3);
    fleet.cluster.forget(later);
    let left: Vec<_> = fleet.cluster.view().replicas.iter().map(|replica| replica.shard.shard_id).collect();
    assert_eq!(left, [1, 2], "age alone ends nobody who is connected");
}

#[test]
fn the_pipeline_object_says_what_is_known() {
    let mut fleet = Fleet::ready();
    let mut facts = Facts { cluster: "c".into(), ..Facts::default() };
    let status = fleet.cluster.view().pipeline(&facts);
    assert!(!status.pipeline_complete);
    assert_eq!(status.reason, "no token has gone through since the last change");
    facts.proved = true;
    let status = fleet.cluster.view().pipeline(&facts);
    assert!(status.pipeline_complete && status.reason.is_empty());
    facts.failures = "no token came through shard 1 on x".into();
    let doubted = fleet.cluster.view().pipeline(&facts);
    assert!(doubted.pipeline_complete && doubted.reason == facts.failures);
    assert_eq!((status.expected_shards, status.discovered_shards, status.total_layers), (3, 3, 6));
    assert_eq!((status.plan.as_str(), status.model.as_str()), ("p", "m"));

    fleet.cluster.on_disconnected(fleet.peers[1]);
    facts.active.insert(fleet.peers[0], 2);
    facts.latency.insert(fleet.peers[0], Duration::from_micros(1500));
    let status = fleet.cluster.view().pipeline(&facts);
    assert!(!status.pipeline_complete);
    assert_eq!((status.discovered_shards, &status.missing_layers), (2, &vec![range(2, 4)]));
    assert_eq!(status.reason, "shard 1 (layers 2-4) is offline");
    let online: Vec<_> = status.shards.iter().map(|shard| (shard.shard_id, shard.online)).collect();
    assert_eq!(online, [(0, true), (1, false), (2, true)]);
    assert!(status.shards[0].replicas[0].online && !status.shards[1].replicas[0].online);
    let replica = &status.shards[0].replicas[0];
    assert_eq!((replica.active_requests, replica.latency_ms, replica.loaded), (2, 1.5, true));
    assert_eq!(replica.addresses, ["/ip4/127.0.0.1/tcp/1000"]);
}

#[test]
fn the_plan_that_comes_next_is_told_beside_the_one_that_is_served() {
    let mut fleet = Fleet::ready();
    fleet.hear(3, 1, "q", ReplicaState::Loading, 1);
    fleet.cluster.on_connected(fleet.peers[3]);
    let view = fleet.cluster.view();
    let next = NextFacts { plan: "q".into(), failures: "no token".into(), ..NextFacts::default() };
    let mut facts = Facts { proved: true, next: Some(next), ..Facts::default() };
    let status = view.pipeline(&facts);
    assert_eq!((status.plan.as_str(), status.pipeline_complete, status.missing_layers.len()), ("p", true, 0));
    let next = status.next_plan.unwrap();
    assert_eq!((next.plan.as_str(), next.total_layers, next.shards.len()), ("q", 6, 3));
    assert_eq!(next.missing_layers, [range(0, 6)]);
    assert_eq!(
        next.reason,
        "shard 0 has no replica; shard 1 (layers 2-4) is loading; shard 2 has no replica"
    );
    let replicas =
        |shards: &[ShardStatus]| shards.iter().map(|shard| shard.replicas.len()).collect::<Vec<_>>();
    assert_eq!(replicas(&next.shards), [0, 1, 0], "of this plan only");
    assert_eq!(replicas(&status.shards), [1, 2, 1], "of all plans");

    // All of it serves: what is lacking is a token.
    for shard in 0..3 {
        fleet.hear(3, shard, "q", ReplicaState::Ready, 2);
    }
    let view = fleet.cluster.view().of("p");
    let next = view.pipeline(&facts).next_plan.unwrap();
    assert_eq!((next.missing_layers.as_slice(), next.reason.as_str()), (&[][..], "no token"));
    facts.next.as_mut().unwrap().failures.clear();
    let next = view.pipeline(&facts).next_plan.unwrap();
    assert_eq!(next.reason, "no token has gone through since the last change");

    // Nobody has announced a shard of it, and its manifest is not known.
    facts.next.as_mut().unwrap().plan = "r".into();
    let next = view.pipeline(&facts).next_plan.unwrap();
    assert_eq!((next.reason.as_str(), next.shards.len()), ("no shard has announced itself", 0));
}
