//! What a stage takes, and from whom.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_node::ring::stage::job::{Done, Job, Output};
use shard_node::ring::stage::table::{self, Served, Table};
use shard_wire::frame::{Dtype, Frame, Header, Kind, TO_GATEWAY};
use shard_wire::session::{Open, Refusal, RouteStage, Sampling};

struct Stage {
    me: PeerId,
    gateway: PeerId,
    next: PeerId,
    table: Table,
    now: Instant,
}

impl Stage {
    /// The first of two shards.
    fn new() -> Self {
        let [me, gateway, next] = [(); 3].map(|()| PeerId::random());
        let mut table = Table::new(me, table::Limits { max_sessions: 1, chunk: 4 });
        let now = Instant::now();
        let served = Served { plan: "p".into(), width: 2, context: 32, first: true, last: false };
        table.on(table::Event::Serve(0, served), now);
        Self { me, gateway, next, table, now }
    }

    fn body(&self) -> Open {
        let stage = |peer: PeerId, shard| RouteStage { peer: peer.to_string(), shard };
        Open {
            gateway: self.gateway.to_string(),
            route: vec![stage(self.me, 0), stage(self.next, 1)],
            plan: "p".into(),
            sampling: Sampling::default(),
            eos: vec![2],
            max_tokens: 8,
            reuse: 0,
            recovering: false,
        }
    }

    fn open(session: u128, epoch: u32, body: &Open) -> Frame {
        let ids = [5_u32, 6, 7, 8, 9];
        let header = Header {
            dtype: Dtype::U32,
            count: 5,
            width: 1,
            remaining_ms: 60_000,
            ..Header::control(Kind::Open, session, epoch, 0)
        };
        let values = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Frame { header, values, trace: Vec::new(), body: serde_json::to_vec(body).unwrap() }
    }

    fn frame(&mut self, from: PeerId, frame: Frame) -> Vec<table::Action> {
        self.table.on(table::Event::Frame(from, frame), self.now)
    }

    fn control(kind: Kind, session: u128, epoch: u32) -> Frame {
        Frame::control(Header::control(kind, session, epoch, 0))
    }
}

fn refusal(actions: &[table::Action]) -> Option<Refusal> {
    let [table::Action::Send(_, frame)] = actions else { return None };
    (frame.header.kind == Kind::Refused).then(|| serde_json::from_slice(&frame.body).unwrap())
}

#[test]
fn an_open_that_cannot_be_taken_is_refused_with_the_reason() {
    type Case = (&'static str, fn(&mut Open), fn(&Refusal) -> bool);
    let cases: [Case; 7] = [
        ("another plan", |o| o.plan = "q".into(), |r| *r == Refusal::OtherPlan { plan: "p".into() }),
        ("no such shard", |o| o.route[0].shard = 7, |r| *r == Refusal::NoSuchShard { shard: 7 }),
        ("too long", |o| o.max_tokens = 28, |r| *r == Refusal::TooLong { positions: 33, limit: 32 }),
        ("no tokens", |o| o.max_tokens = 0, |r| matches!(r, Refusal::Invalid { .. })),
        ("no route", |o| o.route.clear(), |r| matches!(r, Refusal::Invalid { .. })),
        ("not this node", |o| o.route.swap(0, 1), |r| matches!(r, Refusal::Invalid { .. })),
        // Alone it would have to have the head.
        ("not the last", |o| o.route.truncate(1), |r| matches!(r, Refusal::Invalid { .. })),
    ];
    for (what, change, expected) in cases {
        let mut stage = Stage::new();
        let mut body = stage.body();
        change(&mut body);
        let gateway = stage.gateway;
        let actions = stage.frame(gateway, Stage::open(1, 1, &body));
        let refusal = refusal(&actions).unwrap_or_else(|| panic!("{what}: {actions:?}"));
        assert!(expected(&refusal), "{what}: {refusal:?}");
        assert_eq!(stage.table.active(), 0, "{what}");
    }
}

#[test]
fn a_shard_that_is_given_up_ends_its_sessions_and_takes_no_more() {
    let mut stage = Stage::new();
    let (gateway, body) = (stage.gateway, stage.body());
    stage.frame(gateway, Stage::open(1, 1, &body));
    assert!(stage.table.on(table::Event::Drain(0), stage.now).is_empty(), "what is under way goes on");
    assert_eq!(stage.table.active_by_shard().get(&0), Some(&1));
    let actions = stage.frame(gateway, Stage::open(2, 1, &body));
    assert_eq!(refusal(&actions), Some(Refusal::NoSuchShard { shard: 0 }));

    let actions = stage.table.on(table::Event::Withdraw(0), stage.now);
    let told = |action: &table::Action| matches!(action, table::Action::Send(to, frame) if *to == gateway && frame.header.kind == Kind::Failed);
    assert!(actions.iter().any(told), "{actions:?}");
    assert_eq!(stage.table.active(), 0);
    // The same shard may come back.
    let served = Served { plan: "p".into(), width: 2, context: 32, first: true, last: false };
    stage.table.on(table::Event::Serve(0, served), stage.now);
    let actions = stage.frame(gateway, Stage::open(3, 1, &body));
    assert_eq!(refusal(&actions), None);
}

#[test]
fn a_second_session_is_busy_until_the_first_is_closed() {
    let mut stage = Stage::new();
    let (gateway, body) = (stage.gateway, stage.body());
    let actions = stage.frame(gateway, Stage::open(1, 1, &body));
    assert!(
        matches!(&actions[..], [table::Action::Engine(Job::Open(_)), table::Action::Send(to, _)] if *to == stage.next)
    );
    assert_eq!(refusal(&stage.frame(gateway, Stage::open(2, 1, &body))), Some(Refusal::Busy));
    stage.frame(gateway, Stage::control(Kind::Close, 1, 1));
    assert_eq!(stage.table.active(), 0);
    assert!(refusal(&stage.frame(gateway, Stage::open(2, 2, &body))).is_none());
}

#[test]
fn a_session_counts_as_successful_when_its_gateway_ends_it_and_nothing_failed() {
    let mut stage = Stage::new();
    let (gateway, next, body) = (stage.gateway, stage.next, stage.body());
    stage.frame(gateway, Stage::open(1, 1, &body));
    stage.frame(next, Stage::control(Kind::Close, 1, 1));
    assert_eq!(stage.table.ended().successful, 0, "not its gateway");
    stage.frame(gateway, Stage::control(Kind::Close, 1, 1));
    assert_eq!(stage.table.ended().successful, 1);

    stage.frame(gateway, Stage::open(2, 1, &body));
    let chunk = Frame::control(Header::control(Kind::Chunk, 2, 1, 1));
    stage.table.on(table::Event::Unsent(next, chunk), stage.now);
    stage.frame(gateway, Stage::control(Kind::Close, 2, 1));
    assert_eq!((stage.table.active(), stage.table.ended().successful), (0, 1), "a chunk could not be sent");
}

#[test]
fn the_refusal_of_a_later_stage_releases_this_one_and_goes_on_to_the_gateway() {
    let mut stage = Stage::new();
    let (gateway, next, body) = (stage.gateway, stage.next, stage.body());
    stage.frame(gateway, Stage::open(1, 1, &body));
    let busy =
        Frame { body: serde_json::to_vec(&Refusal::Busy).unwrap(), ..Stage::control(Kind::Refused, 1, 1) };
    let actions = stage.frame(next, busy);
    let sent = actions.iter().find_map(|action| match action {
        table::Action::Send(to, frame) => Some((*to, frame.header.flags, frame.header.kind)),
        table::Action::Engine(_) => None,
    });
    assert_eq!(sent, Some((gateway, TO_GATEWAY, Kind::Refused)));
    assert_eq!(stage.table.active(), 0);
}

#[test]
fn frames_of_others_of_other_epochs_and_out_of_turn_are_dropped_and_counted() {
    let mut stage = Stage::new();
    let (gateway, next, body) = (stage.gateway, stage.next, stage.body());
    let stranger = PeerId::random();
    stage.frame(gateway, Stage::open(1, 3, &body));
    assert!(stage.frame(stranger, Stage::control(Kind::Start, 1, 3)).is_empty());
    assert!(stage.frame(stranger, Stage::control(Kind::Close, 1, 9)).is_empty());
    assert!(stage.frame(stranger, Stage::open(1, 9, &body)).is_empty(), "a session is its gateway's");
    assert_eq!(stage.table.drops().sender, 3);
    assert!(stage.frame(gateway, Stage::control(Kind::Start, 1, 2)).is_empty());
    assert!(stage.frame(gateway, Stage::open(1, 3, &body)).is_empty(), "a duplicate");
    assert_eq!(stage.table.drops().epoch, 2);
    let early = Header {
        dtype: Dtype::U32,
        count: 1,
        width: 1,
        position: 6,
        ..Header::control(Kind::Token, 1, 3, 0)
    };
    stage.frame(gateway, Stage::control(Kind::Start, 1, 3));
    stage.frame(next, Frame { values: vec![0; 4], ..Frame::control(early) });
    assert_eq!(stage.table.drops().position, 1);
    stage.frame(gateway, Stage::control(Kind::Start, 77, 1));
    assert_eq!(stage.table.drops().unknown, 1);
    assert_eq!(stage.table.active(), 1);
}

#[test]
fn a_close_that_overtakes_its_open_wins() {
    let mut stage = Stage::new();
    let (gateway, body) = (stage.gateway, stage.body());
    stage.frame(gateway, Stage::control(Kind::Close, 1, 1));
    assert!(stage.frame(gateway, Stage::open(1, 1, &body)).is_empty());
    assert_eq!(stage.table.active(), 0);
    assert_eq!(stage.frame(gateway, Stage::open(1, 2, &body)).len(), 2, "the next attempt is another one");
}

#[test]
fn chunks_wait_for_credits_and_where_tells_how_far_a_stage_is() {
    let mut stage = Stage::new();
    let (gateway, next, body) = (stage.gateway, stage.next, stage.body());
    // 20 ids in chunks of 4, a window of 2.
    let ids: Vec<u8> = (0..20_u32).flat_map(u32::to_le_bytes).collect();
    let mut open = Stage::open(1, 1, &body);
    (open.header.count, open.values) = (20, ids);
    stage.frame(gateway, open);
    let runs = |actions: &[table::Action]| -> Vec<u32> {
        let run = |action: &table::Action| match action {
            table::Action::Engine(Job::Run(run)) => Some(run.position),
            _ => None,
        };
        actions.iter().filter_map(run).collect()
    };
    assert_eq!(runs(&stage.frame(gateway, Stage::control(Kind::Start, 1, 1))), [0, 4]);
    let output = Output::Hidden { dtype: Dtype::F32, width: 2, bytes: vec![0; 32] };
    let (queued, computed) = (Duration::ZERO, Duration::ZERO);
    let done = Done { key: (1, 0), epoch: 1, position: 0, count: 4, output, queued, computed };
    let actions = stage.table.on(table::Event::Done(done), stage.now);
    assert!(runs(&actions).is_empty(), "the next stage has not consumed it yet");
    assert_eq!(runs(&stage.frame(next, Stage::control(Kind::Credit, 1, 1))), [8]);

    let actions = stage.frame(gateway, Stage::control(Kind::Where, 1, 1));
    let [table::Action::Send(to, here)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((*to, here.header.kind, here.header.position), (gateway, Kind::Here, 20));
    assert!(stage.frame(next, Stage::control(Kind::Where, 1, 1)).is_empty(), "only its gateway may ask");
}

#[test]
fn a_session_outlives_its_gateways_connection_by_the_lease_and_never_its_deadline() {
    let mut stage = Stage::new();
    let (gateway, body) = (stage.gateway, stage.body());
    stage.frame(gateway, Stage::open(1, 1, &body));
    use table::Event::{Back, Gone, Tick};
    let at = |ms| stage.now + Duration::from_millis(ms);
    let (gone, back, lease, deadline) = (at(0), at(400), at(500), at(60_000));
    stage.table.on(Gone(gateway), gone);
    stage.table.on(Back(gateway), back);
    stage.table.on(Tick, lease);
    assert_eq!(stage.table.active(), 1, "it came back");
    stage.table.on(Gone(gateway), lease);
    stage.table.on(Tick, lease + Duration::from_millis(499));
    assert_eq!(stage.table.active(), 1);
    stage.table.on(Tick, lease + table::LEASE);
    assert_eq!(stage.table.active(), 0, "the lease is over");
    stage.frame(gateway, Stage::open(2, 1, &body));
    stage.table.on(Tick, deadline);
    assert_eq!(stage.table.active(), 0, "the deadline is over");
}
