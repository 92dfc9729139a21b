//! The ring on an in-memory transport that duplicates, delays and reorders frames, over random re-routes:
//! the client receives each position once, and the very tokens of an undisturbed run.
//!
//! The engine is replaced by a hash over all rows of a session so far, so that a row that is lost, doubled or of
//! another epoch changes every token after it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use proptest::prelude::*;
use shard_node::ring::client::{Prompt, Token};
use shard_node::ring::gateway::route::{Fleet, Replica};
use shard_node::ring::gateway::sessions::{self, Sessions};
use shard_node::ring::stage::job::{Done, Input, Job, Key, Output, Run};
use shard_node::ring::stage::table::{self, Served, Table};
use shard_wire::frame::{Dtype, Envelope, Frame, SessionId};
use shard_wire::layers::LayerRange;
use shard_wire::session::{Finish, Sampling};

const VOCABULARY: u64 = 97;
const EOS: u32 = 13;
const CHUNK: u32 = 3;

fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

/// One session's rows at one stage.
struct Cache {
    epoch: u32,
    shard: u32,
    last: bool,
    hash: u64,
    rows: u32,
}

impl Cache {
    fn forward(&mut self, run: &Run) -> Output {
        assert_eq!(run.position, self.rows, "a row was lost or doubled");
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap());
        let inputs: Vec<u64> = match &run.input {
            Input::Tokens(ids) => ids.iter().map(|id| u64::from(*id)).collect(),
            Input::Hidden { bytes, .. } => {
                // Rows of another attempt would be the same here, but not where its nodes run other kernels.
                let epochs = bytes.chunks(16).map(|row| word(&row[8..]));
                assert!(
                    epochs.into_iter().all(|epoch| epoch == u64::from(self.epoch)),
                    "a row of another epoch"
                );
                bytes.chunks(16).map(|row| word(&row[..8])).collect()
            }
        };
        let mut out = Vec::new();
        for input in &inputs {
            self.hash = mix(mix(self.hash, *input), u64::from(self.shard) + 1);
            self.rows += 1;
            out.extend(self.hash.to_le_bytes());
            out.extend(u64::from(self.epoch).to_le_bytes());
        }
        match (self.last, run.sample) {
            (true, true) => {
                Output::Token { id: (self.hash % VOCABULARY) as u32, logprob: None, top: Vec::new() }
            }
            (true, false) => Output::Cached,
            _ => Output::Hidden { dtype: Dtype::F32, width: 4, bytes: out },
        }
    }
}

struct Node {
    table: Table,
    caches: HashMap<Key, Cache>,
    jobs: Vec<Run>,
}

struct World {
    now: Instant,
    gateway: PeerId,
    sessions: Sessions,
    nodes: BTreeMap<PeerId, Node>,
    wire: Vec<(PeerId, PeerId, Frame)>,
    answers: HashMap<SessionId, Vec<Token>>,
    /// Re-routes since each session's last token: after too many the gateway gives up, as it should.
    losses: HashMap<SessionId, u32>,
}

impl World {
    fn new(shards: u32, replicas: usize) -> Self {
        let (now, gateway) = (Instant::now(), PeerId::random());
        let far = Duration::from_secs(100_000);
        let limits = sessions::Limits { queue: 64, queue_wait: far, open: far, recovery: far };
        let mut world = Self {
            now,
            gateway,
            sessions: Sessions::new(gateway, limits),
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            answers: HashMap::new(),
            losses: HashMap::new(),
        };
        let mut fleet = Fleet {
            replicas: Vec::new(),
            plan: Some("p".into()),
            total_layers: shards,
            reason: String::new(),
        };
        for shard in 0..shards {
            for _ in 0..replicas {
                let peer = PeerId::random();
                let limits = table::Limits { max_sessions: 2, chunk: CHUNK };
                let mut table = Table::new(peer, limits);
                let served = Served {
                    plan: "p".into(),
                    width: 4,
                    context: 64,
                    first: shard == 0,
                    last: shard + 1 == shards,
                };
                table.on(table::Event::Serve(shard, served), now);
                world.nodes.insert(peer, Node { table, caches: HashMap::new(), jobs: Vec::new() });
                let layers = LayerRange { start: shard, end: shard + 1 };
                fleet.replicas.push(Replica {
                    peer,
                    shard,
                    layers,
                    plan: "p".into(),
                    total_layers: shards,
                    rtt: Duration::ZERO,
                });
            }
        }
        world.gateway_event(sessions::Event::Fleet(fleet));
        world
    }

    fn gateway_event(&mut self, event: sessions::Event) {
        if let sessions::Event::Generate(id, _) = event {
            self.losses.insert(id, 0);
        }
        for action in self.sessions.on(event, self.now) {
            match action {
                sessions::Action::Send(to, frame) => self.wire.push((self.gateway, to, frame)),
                sessions::Action::Deliver(id, token) => {
                    self.losses.insert(id, 0);
                    self.answers.entry(id).or_default().push(token);
                }
                sessions::Action::Opened(..) => {}
                refused => panic!("{refused:?}"),
            }
        }
    }

    fn node_event(&mut self, peer: PeerId, event: table::Event) {
        let node = self.nodes.get_mut(&peer).expect("a node");
        for action in node.table.on(event, self.now) {
            match action {
                table::Action::Send(to, frame) => self.wire.push((peer, to, frame)),
                table::Action::Engine(Job::Open(open)) => {
                    let last = open.sampler.is_some();
                    let cache = Cache { epoch: open.epoch, shard: open.shard, last, hash: 7, rows: 0 };
                    node.caches.insert(open.key, cache);
                }
                table::Action::Engine(Job::Run(run)) => node.jobs.push(run),
                table::Action::Engine(Job::Close(key)) => drop(node.caches.remove(&key)),
            }
        }
    }

    fn deliver(&mut self, index: usize) {
        let (from, to, frame) = self.wire.remove(index);
        // Through the bytes, so that the format is part of the test.
        let frame = reread(&frame);
        if to == self.gateway {
            self.gateway_event(sessions::Event::Frame(from, frame));
        } else {
            self.node_event(to, table::Event::Frame(from, frame));
        }
    }

    /// Runs the oldest job of one of the nodes that have one.
    fn compute(&mut self, choice: usize) -> bool {
        let busy: Vec<PeerId> =
            self.nodes.iter().filter(|(_, n)| !n.jobs.is_empty()).map(|(p, _)| *p).collect();
        if busy.is_empty() {
            return false;
        }
        let peer = busy[choice % busy.len()];
        let node = self.nodes.get_mut(&peer).expect("a node");
        let run = node.jobs.remove(0);
        let Some(cache) = node.caches.get_mut(&run.key).filter(|cache| cache.epoch == run.epoch) else {
            return true;
        };
        let output = cache.forward(&run);
        let (queued, computed, count) = (Duration::ZERO, Duration::ZERO, run.input.count());
        let Run { key, epoch, position, .. } = run;
        self.node_event(
            peer,
            table::Event::Done(Done { key, epoch, position, count, output, queued, computed }),
        );
        true
    }

    /// A connection of the gateway breaks and comes back: what was on the way may still arrive.
    fn lose(&mut self, choice: usize) {
        self.losses.values_mut().for_each(|losses| *losses += 1);
        let peer = *self.nodes.keys().nth(choice % self.nodes.len()).expect("a node");
        self.gateway_event(sessions::Event::Gone(peer));
        self.gateway_event(sessions::Event::Back(peer));
    }

    fn finished(&self, sessions: usize) -> bool {
        let done = |answer: &Vec<Token>| answer.last().is_some_and(|token| token.finish.is_some());
        self.answers.len() == sessions && self.answers.values().all(done)
    }

    /// Everything in order and in time, until nothing moves, or nothing but requests that find every slot taken.
    fn settle(&mut self) {
        let mut ticks = 0;
        while ticks < 50 {
            self.now += Duration::from_millis(1);
            if !self.wire.is_empty() {
                self.deliver(0);
            } else if !self.compute(0) {
                self.gateway_event(sessions::Event::Tick);
                ticks += 1;
                if self.wire.is_empty() {
                    return;
                }
            }
        }
    }
}

fn reread(frame: &Frame) -> Frame {
    let bytes = frame.encode();
    let (head, payload) = bytes.split_first_chunk().expect("a header");
    let envelope = Envelope::decode(head, &shard_wire::frame::Limits::default()).expect("our own frame");
    let back = envelope.with_payload(payload.to_vec());
    assert_eq!(&back, frame);
    back
}

fn prompt(ids: Vec<u32>, max_tokens: u32) -> Prompt {
    let deadline = Duration::from_secs(1_000_000);
    Prompt { plan: None, ids, sampling: Sampling::default(), eos: vec![EOS], max_tokens, deadline }
}

/// The tokens of a run in one piece.
fn reference(shards: u32, prompt: &Prompt) -> (Vec<u32>, Finish) {
    let mut hashes = vec![7; shards as usize];
    let mut tokens = Vec::new();
    let mut inputs = prompt.ids.clone();
    loop {
        let mut out = 0;
        for id in inputs.drain(..) {
            out = u64::from(id);
            for (shard, hash) in hashes.iter_mut().enumerate() {
                *hash = mix(mix(*hash, out), shard as u64 + 1);
                out = *hash;
            }
        }
        let id = (out % VOCABULARY) as u32;
        tokens.push(id);
        inputs.push(id);
        if id == EOS {
            return (tokens, Finish::Eos);
        }
        if tokens.len() as u32 == prompt.max_tokens {
            return (tokens, Finish::Length);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Duplicate(usize),
    Compute(usize),
    Lose(usize),
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<usize>().prop_map(Step::Deliver),
        // Mostly in order, so that a run gets somewhere.
        12 => Just(Step::Deliver(0)),
        2 => any::<usize>().prop_map(Step::Duplicate),
        12 => any::<usize>().prop_map(Step::Compute),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Tick),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_position_once_and_the_tokens_of_an_undisturbed_run(
        shards in 1_u32..5,
        replicas in 1_usize..3,
        prompts in prop::collection::vec((prop::collection::vec(20_u32..90, 1..14), 1_u32..12), 1..4),
        steps in steps(),
    ) {
        let mut world = World::new(shards, replicas);
        let prompts: Vec<Prompt> = prompts.into_iter().map(|(ids, max)| prompt(ids, max)).collect();
        for (id, prompt) in prompts.iter().enumerate() {
            world.gateway_event(sessions::Event::Generate(id as SessionId, prompt.clone()));
        }
        for step in steps {
            world.now += Duration::from_millis(1);
            let pick = |index: usize, world: &World| (!world.wire.is_empty()).then(|| index % world.wire.len());
            match step {
                Step::Deliver(index) => if let Some(index) = pick(index, &world) { world.deliver(index) },
                Step::Duplicate(index) => if let Some(index) = pick(index, &world) {
                    let again = world.wire[index].clone();
                    world.wire.push(again);
                },
                Step::Compute(choice) => { world.compute(choice); }
                Step::Lose(choice) => if world.losses.values().all(|losses| *losses < 2) { world.lose(choice) },
                Step::Tick => world.gateway_event(sessions::Event::Tick),
            }
        }
        // Calm: what was dropped out of turn stalls its session, and a re-route brings it on.
        for round in 0.. {
            world.settle();
            if world.finished(prompts.len()) {
                break;
            }
            prop_assert!(round < 64, "no progress: {:?}", world.sessions);
            world.lose(round);
        }
        for (id, prompt) in prompts.iter().enumerate() {
            let (tokens, finish) = reference(shards, prompt);
            let answer = &world.answers[&(id as SessionId)];
            let ids: Vec<u32> = answer.iter().map(|token| token.id).collect();
            prop_assert_eq!(ids, tokens);
            prop_assert_eq!(answer.last().and_then(|token| token.finish), Some(finish));
            let positions: Vec<u32> = answer.iter().map(|token| token.position).collect();
            let first = prompt.ids.len() as u32;
            prop_assert_eq!(positions, (first..first + answer.len() as u32).collect::<Vec<_>>());
        }
        // A CLOSE reached every stage that the last route passed; the lease frees what an older one left.
        let peers: Vec<PeerId> = world.nodes.keys().copied().collect();
        for peer in peers {
            let gateway = world.gateway;
            world.node_event(peer, table::Event::Gone(gateway));
            world.now += table::LEASE;
            world.node_event(peer, table::Event::Tick);
            prop_assert_eq!(world.nodes[&peer].table.active(), 0);
            prop_assert!(world.nodes[&peer].caches.is_empty());
        }
    }
}

#[test]
fn an_undisturbed_run_drops_nothing_and_frees_everything() {
    let mut world = World::new(4, 1);
    let prompt = prompt((20..30).collect(), 9);
    world.gateway_event(sessions::Event::Generate(1, prompt.clone()));
    world.settle();
    let ids: Vec<u32> = world.answers[&1].iter().map(|token| token.id).collect();
    assert_eq!(ids, reference(4, &prompt).0);
    assert!(world.answers[&1].iter().all(|token| token.trace.len() == 4), "one entry a stage");
    for node in world.nodes.values() {
        assert_eq!(node.table.drops(), table::Drops::default());
        assert_eq!(node.table.active(), 0);
    }
}

#[test]
fn a_full_stage_is_busy_and_the_next_request_waits_for_its_slot() {
    let mut world = World::new(2, 1);
    for id in 0..5 {
        world.gateway_event(sessions::Event::Generate(id, prompt(vec![30 + id as u32], 5)));
    }
    world.settle();
    assert!(world.finished(5), "{:?}", world.sessions);
}
