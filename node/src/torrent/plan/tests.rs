//! One rule each.

use super::peer::MAX_ASKED;
use super::*;

const MIB: u64 = 1 << 20;

fn plan(pieces: usize, seed: u64) -> Plan<u32> {
    Plan::new(vec![MIB; pieces], Bits::new(pieces), seed, Duration::ZERO)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn some(pieces: usize, which: &[usize]) -> Have {
    let mut bits = Bits::new(pieces);
    which.iter().for_each(|piece| bits.set(*piece));
    Have::Some { revision: 1, bits }
}

fn asks(actions: &[Action<u32>]) -> Vec<(u32, u32)> {
    let ask = |action: &Action<u32>| match action {
        Action::Ask { peer, piece } => Some((*peer, *piece)),
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

/// A plan that knows these peers; the asks that their pieces led to.
fn with(plan: &mut Plan<u32>, peers: &[(u32, Have)]) -> Vec<(u32, u32)> {
    let connects = plan.on(Event::Seeders(peers.iter().map(|(peer, _)| *peer).collect()), Duration::ZERO);
    assert_eq!(connects, peers.iter().map(|(peer, _)| Action::Connect(*peer)).collect::<Vec<_>>());
    let mut all = Vec::new();
    for (peer, have) in peers {
        all.extend(asks(&plan.on(Event::Has { peer: *peer, have: have.clone() }, Duration::ZERO)));
    }
    all
}

#[test]
fn one_whole_seeder_is_asked_in_the_order_of_the_file_up_to_a_window() {
    let mut plan = plan(10, 1);
    assert_eq!(with(&mut plan, &[(7, Have::Whole)]), [(7, 0), (7, 1), (7, 2), (7, 3)]);
    assert_eq!(plan.on(Event::Stored { peer: 7, piece: 1 }, ms(10)), [Action::Ask { peer: 7, piece: 4 }]);
}

#[test]
fn a_window_follows_the_rate_and_is_bounded() {
    for (pieces_per_second, window) in [(1, 2), (20, 10), (1000, 16)] {
        let mut plan = plan(4000, 1);
        let mut under_way = with(&mut plan, &[(7, Have::Whole)]);
        for n in 1..=3 * pieces_per_second {
            let (_, piece) = under_way.remove(0);
            let actions = plan.on(Event::Stored { peer: 7, piece }, ms(n * 1000 / pieces_per_second));
            under_way.extend(asks(&actions));
        }
        // A window is the pieces of half a second; the last rate was measured over a little more.
        let found = under_way.len() as u64;
        assert!(found.abs_diff(window) <= 1, "{pieces_per_second}/s: {found}, not {window}");
    }
    let mut small = Plan::new(vec![100; 1000], Bits::new(1000), 1, Duration::ZERO);
    assert_eq!(with(&mut small, &[(7, Have::Whole)]).len(), MAX_ASKED);
    // One piece larger than any window is asked alone.
    let mut large = Plan::new(vec![40 * MIB, MIB], Bits::new(2), 1, Duration::ZERO);
    assert_eq!(with(&mut large, &[(7, Have::Whole)]), [(7, 0)]);
}

#[test]
fn the_rarest_come_first_and_nodes_that_begin_together_ask_for_different_pieces() {
    let mut first = plan(6, 1);
    let peers = [(1, some(6, &[0, 1, 2])), (2, some(6, &[0, 1, 3])), (3, Have::Whole)];
    let asked = with(&mut first, &peers);
    assert!(asked.iter().filter(|(peer, _)| *peer == 3).take(2).all(|(_, piece)| [4, 5].contains(piece)));

    let of = |seed| {
        let mut plan = plan(1000, seed);
        let asked = with(&mut plan, &[(1, some(1000, &[])), (2, Have::Whole)]);
        asked.into_iter().map(|(_, piece)| piece).collect::<HashSet<_>>()
    };
    assert!(of(1).is_disjoint(&of(2)));
    assert_eq!(of(1), of(1));
}

#[test]
fn a_bad_piece_bans_its_sender_and_all_it_was_asked_is_asked_elsewhere() {
    let mut plan = plan(4, 1);
    with(&mut plan, &[(1, Have::Whole)]);
    let actions = plan.on(Event::Bad { peer: 1, piece: 2 }, ms(5));
    assert_eq!(actions, [Action::Close(1)]);
    assert_eq!(plan.on(Event::Seeders(vec![1, 2]), ms(6)), [Action::Connect(2)]);
    let mut asked = asks(&plan.on(Event::Has { peer: 2, have: Have::Whole }, ms(7)));
    asked.sort_unstable();
    assert_eq!(asked, [(2, 0), (2, 1), (2, 2), (2, 3)]);
    // What the banned one says or sends after that changes nothing.
    assert_eq!(plan.on(Event::Has { peer: 1, have: Have::Whole }, ms(8)), []);
    assert_eq!(plan.on(Event::Bad { peer: 1, piece: 0 }, ms(8)), [Action::Close(1)]);
}

#[test]
fn a_lost_peer_is_tried_again_later_each_time() {
    let mut plan = plan(4, 1);
    with(&mut plan, &[(1, Have::Whole)]);
    let mut now = 0;
    for rest in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(plan.on(Event::Lost { peer: 1 }, ms(now)), []);
        assert_eq!(plan.on(Event::Tick, ms(now + rest - 1)), []);
        assert_eq!(plan.on(Event::Tick, ms(now + rest)), [Action::Connect(1)]);
        now += rest;
    }
    assert_eq!(asks(&plan.on(Event::Has { peer: 1, have: Have::Whole }, ms(now))).len(), 4);
    plan.on(Event::Stored { peer: 1, piece: 0 }, ms(now));
    plan.on(Event::Lost { peer: 1 }, ms(now));
    assert_eq!(plan.on(Event::Tick, ms(now + 1000)), [Action::Connect(1)], "it gave something since");
}

#[test]
fn a_busy_peer_is_left_alone_and_then_asked_for_one_piece() {
    let mut plan = plan(8, 1);
    let asked = with(&mut plan, &[(1, Have::Whole)]);
    for (_, piece) in asked {
        let actions = plan.on(Event::Refused { peer: 1, piece, why: Refusal::Busy }, ms(1));
        assert_eq!(actions, []);
    }
    assert_eq!(plan.on(Event::Tick, ms(500)), []);
    assert_eq!(asks(&plan.on(Event::Tick, ms(501))), [(1, 0)]);
    plan.on(Event::Refused { peer: 1, piece: 0, why: Refusal::Busy }, ms(510));
    assert_eq!(plan.on(Event::Tick, ms(1400)), [], "the second rest is longer");
    assert_eq!(asks(&plan.on(Event::Tick, ms(1510))), [(1, 0)]);
    assert_eq!(asks(&plan.on(Event::Stored { peer: 1, piece: 0 }, ms(1520))).len(), 4);
}

#[test]
fn what_has_left_a_sparing_seeder_is_asked_from_who_has_it() {
    let mut plan = plan(6, 1);
    let asked = with(&mut plan, &[(1, Have::Whole), (2, some(6, &[]))]);
    let (_, piece) = asked[0];
    plan.on(Event::Refused { peer: 1, piece, why: Refusal::Elsewhere }, ms(1));
    let elsewhere = plan.on(Event::Has { peer: 2, have: some(6, &[piece as usize]) }, ms(2));
    assert_eq!(asks(&elsewhere), [(2, piece)]);
    for (_, other) in &asked[1..] {
        plan.on(Event::Stored { peer: 1, piece: *other }, ms(3));
    }
    // Its holder is gone and nobody else has it: the seeder is asked again when the piece has rested.
    plan.on(Event::Lost { peer: 2 }, ms(4));
    assert!(asks(&plan.on(Event::Tick, ms(1900))).iter().all(|(_, asked)| *asked != piece));
    assert!(asks(&plan.on(Event::Tick, ms(2100))).contains(&(1, piece)));
}

#[test]
fn a_sparing_seeder_is_asked_for_what_others_have_only_when_nothing_arrives() {
    let mut plan = plan(3, 1);
    with(&mut plan, &[(1, Have::Whole), (2, some(3, &[]))]);
    plan.on(Event::Refused { peer: 1, piece: 0, why: Refusal::Elsewhere }, ms(1));
    plan.on(Event::Stored { peer: 1, piece: 1 }, ms(2));
    plan.on(Event::Stored { peer: 1, piece: 2 }, ms(3));
    // The other one has the last piece and is busy with others.
    assert_eq!(asks(&plan.on(Event::Has { peer: 2, have: some(3, &[0]) }, ms(4))), [(2, 0)]);
    plan.on(Event::Refused { peer: 2, piece: 0, why: Refusal::Busy }, ms(5));
    plan.on(Event::Tick, ms(400));
    assert_eq!(asks(&plan.on(Event::Tick, ms(2900))), [(2, 0)]);
    plan.on(Event::Refused { peer: 2, piece: 0, why: Refusal::Busy }, ms(2950));
    assert_eq!(asks(&plan.on(Event::Tick, ms(3100))), [(1, 0)], "3 s without a piece");
}

#[test]
fn the_last_pieces_are_asked_twice_and_the_second_copy_changes_nothing() {
    let mut plan = plan(2, 1);
    assert_eq!(with(&mut plan, &[(1, Have::Whole), (2, Have::Whole), (3, Have::Whole)]), [(1, 0), (1, 1)]);
    assert_eq!(plan.on(Event::Tick, ms(1900)), []);
    assert_eq!(asks(&plan.on(Event::Tick, ms(2000))), [(2, 0), (3, 1)], "each from one more, not from all");
    assert_eq!(plan.on(Event::Stored { peer: 2, piece: 0 }, ms(2100)), []);
    assert_eq!(plan.on(Event::Stored { peer: 1, piece: 0 }, ms(2101)), []);
    assert_eq!(asks(&plan.on(Event::Lost { peer: 1 }, ms(4200))), [(2, 1)], "of two copies one is lost");
    assert!(!plan.is_done());
    plan.on(Event::Stored { peer: 3, piece: 1 }, ms(4201));
    assert!(plan.is_done());
}

#[test]
fn a_peer_without_its_pieces_is_of_no_use() {
    let mut plan = plan(20, 1);
    let mut under_way = with(&mut plan, &[(1, Have::Whole)]);
    for n in 1..8 {
        let (_, piece) = under_way.remove(0);
        let actions = plan.on(Event::Refused { peer: 1, piece, why: Refusal::Lacks }, ms(n));
        assert!(asks(&actions).iter().all(|(_, asked)| *asked != piece), "it is not asked again");
        under_way.extend(asks(&actions));
    }
    let (_, piece) = under_way.remove(0);
    assert_eq!(plan.on(Event::Refused { peer: 1, piece, why: Refusal::Lacks }, ms(8)), [Action::Close(1)]);
    assert_eq!(plan.on(Event::Tick, ms(1008)), [Action::Connect(1)]);
}

#[test]
fn peers_are_bounded_and_those_that_were_lost_make_room() {
    let mut plan = plan(1, 1);
    let many: Vec<u32> = (0..100).collect();
    assert_eq!(plan.on(Event::Seeders(many.clone()), ms(0)).len(), MAX_PEERS);
    plan.on(Event::Lost { peer: 3 }, ms(1));
    assert_eq!(plan.on(Event::Seeders(many), ms(2)), [Action::Connect(32)]);
}

#[test]
fn what_is_there_is_not_asked_for() {
    let mut bits = Bits::new(3);
    [0, 2].iter().for_each(|piece| bits.set(*piece));
    let mut plan = Plan::new(vec![MIB; 3], bits, 1, Duration::ZERO);
    assert_eq!(with(&mut plan, &[(1, Have::Whole)]), [(1, 1)]);
    plan.on(Event::Stored { peer: 1, piece: 1 }, ms(1));
    assert!(plan.is_done());
}
