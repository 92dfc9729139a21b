//! Downloads from peers that lie, stall, leave, refuse and come back: with one honest whole seeder every one ends, and
//! nothing counts as there that nobody honest gave.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::peer::MAX_ASKED;
use super::*;

const STEP: u64 = 50;
/// What the I/O layer allows a peer that says nothing.
const STALL: u64 = 10_000;

#[derive(Clone, Debug)]
enum Kind {
    /// Has everything and gives it.
    Seeder,
    /// Is fetching itself: has some now and more later.
    Fetcher(u64),
    /// Says that it has everything and gives other bytes, at times.
    Liar,
    /// Takes requests and never answers.
    Staller,
    /// Its link breaks again and again.
    Leaver(u64),
    /// Is busy most of the time.
    Busy(u64),
    /// Gives each piece once, to somebody else first.
    Sparing(u64),
    /// Lacks what it said it has.
    Braggart,
    /// Is never reached.
    Absent,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Seeder),
        any::<u64>().prop_map(Kind::Fetcher),
        Just(Kind::Liar),
        Just(Kind::Staller),
        (300u64..5_000).prop_map(Kind::Leaver),
        (2u64..6).prop_map(Kind::Busy),
        any::<u64>().prop_map(Kind::Sparing),
        Just(Kind::Braggart),
        Just(Kind::Absent),
    ]
}

struct Sim {
    plan: Plan<u32>,
    pieces: usize,
    kinds: Vec<Kind>,
    /// Requests under way at each open link, and when it was last heard of.
    links: BTreeMap<u32, (VecDeque<u32>, u64)>,
    verified: HashSet<u32>,
    banned: HashSet<u32>,
}

impl Sim {
    fn act(&mut self, actions: Vec<Action<u32>>, now: u64) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Connect(peer) => {
                    assert!(!self.banned.contains(&peer), "a banned peer is dialled");
                    let event = match self.kinds[peer as usize] {
                        Kind::Absent => Event::Lost { peer },
                        _ => {
                            self.links.insert(peer, (VecDeque::new(), now));
                            Event::Has { peer, have: self.have(peer, now) }
                        }
                    };
                    todo.extend(self.plan.on(event, Duration::from_millis(now)));
                }
                Action::Ask { peer, piece } => {
                    let (queue, _) = self.links.get_mut(&peer).expect("asked on an open link");
                    assert!(!queue.contains(&piece), "asked twice");
                    assert!(queue.len() < MAX_ASKED);
                    queue.push_back(piece);
                }
                Action::Close(peer) => {
                    self.links.remove(&peer);
                }
            }
        }
    }

    fn have(&self, peer: u32, now: u64) -> Have {
        let Kind::Fetcher(seed) = self.kinds[peer as usize] else { return Have::Whole };
        let mut bits = Bits::new(self.pieces);
        let has = |piece: &usize| (seed >> (piece % 60)) & 1 == 1 || now > 100 * *piece as u64;
        (0..self.pieces).filter(has).for_each(|piece| bits.set(piece));
        Have::Some { revision: now, bits }
    }

    /// What a peer does with the request that has waited longest.
    fn step(&mut self, peer: u32, now: u64) -> Option<Event<u32>> {
        let kind = self.kinds[peer as usize].clone();
        let (queue, heard) = self.links.get_mut(&peer)?;
        if let Kind::Leaver(every) = kind
            && now % every < STEP
        {
            self.links.remove(&peer);
            return Some(Event::Lost { peer });
        }
        let Some(&piece) = queue.front() else {
            *heard = now;
            let fetches = matches!(kind, Kind::Fetcher(_));
            return fetches.then(|| Event::Has { peer, have: self.have(peer, now) });
        };
        let refuse = |why| Event::Refused { peer, piece, why };
        let event = match kind {
            Kind::Staller if now - *heard > STALL => {
                self.links.remove(&peer);
                return Some(Event::Lost { peer });
            }
            Kind::Staller => return None,
            Kind::Liar if piece.is_multiple_of(3) => Event::Bad { peer, piece },
            Kind::Busy(often) if !(now / STEP).is_multiple_of(often) => refuse(Refusal::Busy),
            Kind::Sparing(seed) if (seed >> (piece % 60)) & 1 == 1 && now < 30_000 => {
                refuse(Refusal::Elsewhere)
            }
            Kind::Braggart if !piece.is_multiple_of(4) => refuse(Refusal::Lacks),
            _ => Event::Stored { peer, piece },
        };
        queue.pop_front();
        *heard = now;
        Some(event)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_download_with_one_honest_seeder_ends(
        others in prop::collection::vec((kind(), 0u64..4_000), 0..8),
        pieces in 1usize..120, seed: u64, joins in 0u64..4_000,
    ) {
        let sizes = (0..pieces).map(|piece| 1 << (10 + piece % 11)).collect();
        let plan = Plan::new(sizes, Bits::new(pieces), seed, Duration::ZERO);
        let (mut kinds, mut from): (Vec<Kind>, Vec<u64>) = others.into_iter().unzip();
        kinds.push(Kind::Seeder);
        from.push(joins);
        let peers = kinds.len() as u32;
        let mut sim = Sim {
            plan, pieces, kinds, links: BTreeMap::new(), verified: HashSet::new(), banned: HashSet::new(),
        };
        let (mut now, mut events) = (0, Vec::new());
        while !sim.plan.is_done() {
            now += STEP;
            // 120 pieces take a seeder 6 s; rests, stalls and busy ones come on top.
            prop_assert!(now < 120_000, "not done: {}", sim.verified.len());
            let here: Vec<u32> = (0..peers).filter(|peer| from[*peer as usize] <= now).collect();
            events.extend([Event::Seeders(here), Event::Tick]);
            for peer in 0..peers {
                // What a peer did is told before anything else happens: an end is not overtaken by a request.
                for event in std::mem::take(&mut events) {
                    match &event {
                        Event::Stored { piece, .. } => {
                            sim.verified.insert(*piece);
                        }
                        Event::Bad { peer, .. } => {
                            sim.banned.insert(*peer);
                        }
                        _ => {}
                    }
                    let actions = sim.plan.on(event, Duration::from_millis(now));
                    sim.act(actions, now);
                }
                events.extend(sim.step(peer, now));
            }
        }
        prop_assert_eq!(sim.verified.len(), pieces, "what is there was verified");
    }
}
