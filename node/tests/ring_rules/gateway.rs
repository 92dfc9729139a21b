//! What a gateway makes of a refusal, a loss, a deadline.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_node::ring::client::{AnswerError, OpenError, Prompt};
use shard_node::ring::gateway::route::{self, Fleet, Replica, Route};
use shard_node::ring::gateway::sessions::{self, Sessions};
use shard_wire::frame::{Dtype, Frame, Header, Kind, TO_GATEWAY};
use shard_wire::layers::LayerRange;
use shard_wire::session::{Open, Opened, Refusal, Sampled, Sampling};

struct Gateway {
    peers: [PeerId; 2],
    sessions: Sessions,
    now: Instant,
}

fn prompt(plan: Option<&str>) -> Prompt {
    Prompt {
        plan: plan.map(str::to_owned),
        ids: vec![1],
        sampling: Sampling::default(),
        eos: vec![2],
        max_tokens: 4,
        deadline: Duration::from_secs(60),
    }
}

impl Gateway {
    fn new(shards: usize) -> Self {
        let peers = [(); 2].map(|()| PeerId::random());
        let s = Duration::from_secs;
        let limits = sessions::Limits { queue: 1, queue_wait: s(10), open: s(5), recovery: s(30) };
        let mut sessions = Sessions::new(PeerId::random(), limits);
        let now = Instant::now();
        let replica = |shard: usize| Replica {
            peer: peers[shard],
            shard: shard as u32,
            layers: LayerRange { start: shard as u32, end: shard as u32 + 1 },
            plan: "p".into(),
            total_layers: 2,
            rtt: Duration::ZERO,
        };
        let replicas = (0..shards).map(replica).collect();
        let fleet = Fleet {
            replicas,
            plan: Some("p".into()),
            total_layers: 2,
            reason: "shard 1 has not announced itself".into(),
        };
        sessions.on(sessions::Event::Fleet(fleet), now);
        Self { peers, sessions, now }
    }

    fn generate(&mut self, id: u128) -> Vec<sessions::Action> {
        self.sessions.on(sessions::Event::Generate(id, prompt(None)), self.now)
    }

    /// On a route whose second stage is this peer.
    fn generate_on(&mut self, id: u128, second: PeerId) -> Vec<sessions::Action> {
        let stage = |peer, shard| route::Stage { peer, shard };
        let stages = vec![stage(self.peers[0], 0), stage(second, 1)];
        let route = Route { plan: "p".into(), stages };
        self.sessions.on(sessions::Event::GenerateOn(id, prompt(None), route), self.now)
    }

    fn refused(&mut self, id: u128, epoch: u32, refusal: &Refusal) -> Vec<sessions::Action> {
        let header = Header { flags: TO_GATEWAY, ..Header::control(Kind::Refused, id, epoch, 0) };
        let frame = Frame { body: serde_json::to_vec(refusal).unwrap(), ..Frame::control(header) };
        self.sessions.on(sessions::Event::Frame(self.peers[0], frame), self.now)
    }

    fn opened(&mut self, id: u128, epoch: u32) -> Vec<sessions::Action> {
        let header = Header { flags: TO_GATEWAY, ..Header::control(Kind::Opened, id, epoch, 1) };
        let body = serde_json::to_vec(&Opened::default()).unwrap();
        self.sessions
            .on(sessions::Event::Frame(self.peers[1], Frame { body, ..Frame::control(header) }), self.now)
    }

    fn after(&mut self, seconds: u64) -> Vec<sessions::Action> {
        self.now += Duration::from_secs(seconds);
        self.sessions.on(sessions::Event::Tick, self.now)
    }
}

fn refused_with(actions: &[sessions::Action]) -> Option<OpenError> {
    actions.iter().find_map(|action| match action {
        sessions::Action::Refused(_, error) => Some(error.clone()),
        _ => None,
    })
}

#[test]
fn an_incomplete_pipeline_names_what_is_missing() {
    let error = refused_with(&Gateway::new(1).generate(1)).expect("refused");
    let missing = vec![LayerRange { start: 1, end: 2 }];
    let reason = "shard 1 has not announced itself".into();
    assert_eq!(error, OpenError::Incomplete { missing, reason });
}

#[test]
fn a_full_fleet_is_waited_for_and_then_told() {
    let mut gateway = Gateway::new(2);
    gateway.generate(1);
    assert!(refused_with(&gateway.refused(1, 1, &Refusal::Busy)).is_none(), "it waits");
    let error = refused_with(&gateway.generate(2));
    assert_eq!(error, Some(OpenError::Busy), "one place in the queue");
    let actions = gateway.after(1);
    assert!(
        matches!(&actions[..], [sessions::Action::Send(_, frame)] if frame.header.epoch == 2),
        "tried again"
    );
    gateway.refused(1, 2, &Refusal::Busy);
    assert_eq!(refused_with(&gateway.after(9)), Some(OpenError::Busy));
}

#[test]
fn a_refusal_that_will_not_change_is_told_at_once() {
    let mut gateway = Gateway::new(2);
    gateway.generate(1);
    let error = refused_with(&gateway.refused(1, 1, &Refusal::TooLong { positions: 9, limit: 8 }));
    assert_eq!(error, Some(OpenError::TooLong { positions: 9, limit: 8 }));
}

#[test]
fn a_lost_stage_that_does_not_come_back_ends_the_answer_and_names_it() {
    let mut gateway = Gateway::new(2);
    gateway.generate(1);
    let actions = gateway.opened(1, 1);
    assert!(matches!(&actions[..], [sessions::Action::Send(_, start), sessions::Action::Opened(..)]
        if start.header.kind == Kind::Start));
    let lost = gateway.peers[1];
    gateway.sessions.on(sessions::Event::Gone(lost), gateway.now);
    assert!(gateway.after(29).iter().all(|action| matches!(action, sessions::Action::Send(..))));
    let actions = gateway.after(2);
    let [sessions::Action::Failed(1, AnswerError::Lost { shard, reason })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((*shard, reason.as_str()), (1, "its connection was lost"));
}

#[test]
fn a_session_whose_deadline_passes_is_closed_on_every_stage() {
    let mut gateway = Gateway::new(2);
    gateway.generate(1);
    gateway.opened(1, 1);
    let actions = gateway.after(60);
    let closes = actions.iter().filter(
        |action| matches!(action, sessions::Action::Send(_, frame) if frame.header.kind == Kind::Close),
    );
    assert_eq!(closes.count(), 2);
    assert!(matches!(actions.last(), Some(sessions::Action::Failed(1, AnswerError::Deadline(_)))));
}

#[test]
fn a_wished_route_is_taken_as_it_is_or_not_at_all() {
    let mut gateway = Gateway::new(2);
    let other = PeerId::random();
    let actions = gateway.generate_on(1, other);
    let [sessions::Action::Send(to, open)] = &actions[..] else { panic!("{actions:?}") };
    let route = serde_json::from_slice::<Open>(&open.body).unwrap().route;
    assert_eq!((*to, &route[1].peer, route.len()), (gateway.peers[0], &other.to_string(), 2));

    // It waits for nothing, and no other route takes its place.
    assert_eq!(refused_with(&gateway.refused(1, 1, &Refusal::Busy)), Some(OpenError::Busy));
    assert!(gateway.after(1).is_empty());
    gateway.generate_on(2, other);
    let gone = Refusal::Unreachable { peer: other.to_string() };
    let refused = OpenError::Refused { shard: 0, refusal: gone.clone() };
    assert_eq!(refused_with(&gateway.refused(2, 1, &gone)), Some(refused));
    gateway.generate_on(3, other);
    let actions = gateway.sessions.on(sessions::Event::Gone(other), gateway.now);
    assert_eq!(refused_with(&actions), Some(OpenError::Refused { shard: 1, refusal: gone }));
    gateway.generate_on(4, other);
    assert_eq!(refused_with(&gateway.after(5)), Some(OpenError::Timeout(Duration::from_secs(5))));
    assert!(gateway.after(1).is_empty());

    // One that was told of its answer is told of its end. Behind a request that waits for a slot nothing is tried.
    let second = gateway.peers[1];
    gateway.generate_on(5, second);
    gateway.opened(5, 1);
    let actions = gateway.sessions.on(sessions::Event::Gone(second), gateway.now);
    let lost = |action: &sessions::Action| {
        matches!(action, sessions::Action::Failed(5, AnswerError::Lost { shard: 1, .. }))
    };
    assert!(actions.iter().any(lost), "{actions:?}");
    gateway.sessions.on(sessions::Event::Back(second), gateway.now);
    gateway.generate(6);
    gateway.refused(6, 1, &Refusal::Busy);
    assert_eq!(refused_with(&gateway.generate_on(7, second)), Some(OpenError::Busy));
}

#[test]
fn tokens_tell_which_stages_they_came_through() {
    let mut gateway = Gateway::new(2);
    gateway.generate(1);
    gateway.opened(1, 1);
    assert!(gateway.sessions.take_passed().is_empty());
    let header = Header {
        dtype: Dtype::U32,
        count: 1,
        width: 1,
        position: 1,
        flags: TO_GATEWAY,
        ..Header::control(Kind::Token, 1, 1, 1)
    };
    let body = serde_json::to_vec(&Sampled::default()).unwrap();
    let token = Frame { values: vec![7, 0, 0, 0], body, ..Frame::control(header) };
    gateway.sessions.on(sessions::Event::Frame(gateway.peers[1], token), gateway.now);
    let passed = gateway.sessions.take_passed();
    let stages = (0..).zip(gateway.peers).map(|(shard, peer)| route::Stage { peer, shard });
    assert_eq!(passed, stages.collect());
    assert!(gateway.sessions.take_passed().is_empty());
}

#[test]
fn a_session_that_waits_for_its_plan_holds_up_none_of_another() {
    let mut gateway = Gateway::new(2);
    gateway.sessions.on(sessions::Event::Generate(1, prompt(Some("p"))), gateway.now);
    gateway.opened(1, 1);
    let lost = sessions::Event::Gone(gateway.peers[1]);
    gateway.sessions.on(lost, gateway.now);
    // Another plan is served as a whole, by a newcomer.
    let newcomer = PeerId::random();
    let replica = |peer, layers: (u32, u32), plan: &str| Replica {
        peer,
        shard: 0,
        layers: LayerRange { start: layers.0, end: layers.1 },
        plan: plan.into(),
        total_layers: 2,
        rtt: Duration::ZERO,
    };
    let replicas = vec![replica(gateway.peers[0], (0, 1), "p"), replica(newcomer, (0, 2), "q")];
    let fleet = Fleet { replicas, plan: Some("q".into()), total_layers: 2, reason: String::new() };
    gateway.sessions.on(sessions::Event::Fleet(fleet), gateway.now);
    let opened = gateway.sessions.on(sessions::Event::Generate(2, prompt(Some("q"))), gateway.now);
    let sent = |action: &sessions::Action| matches!(action, sessions::Action::Send(to, _) if *to == newcomer);
    assert!(opened.iter().any(sent), "{opened:?}");
    let refused = gateway.sessions.on(sessions::Event::Generate(3, prompt(Some("p"))), gateway.now);
    assert!(refused_with(&refused).is_some(), "one behind it waits, and there is room for one: {refused:?}");
}
