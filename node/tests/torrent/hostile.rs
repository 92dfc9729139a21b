//! Peers that lie, stall, leave and flood: the download ends, and a node that gives is not held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt};
use shard_node::config::Transport;
use shard_node::net::DhtMode;
use shard_node::torrent::PROTOCOL;
use shard_node::torrent::serve::ShelfOptions;
use shard_wire::torrent::{
    ANSWER_LEN, Bits, Have, Kind, MAX_DATA, Request, Status, WHOLE, decode_answer, encode_answer,
};

use crate::common::{Peer, deadline};
use crate::harness::{Made, Node, sum};
use crate::puppet::{Deed, Puppet, honest, ok, status};

/// Fetches from a puppet and a slow honest seeder.
async fn with_honest(made: &Made, puppet: &Puppet) -> (Node, u64) {
    // Slow, so that the puppet has time for what it does.
    let options = ShelfOptions { upload_limit: Some(8 << 20), ..ShelfOptions::default() };
    let seeder = Node::seeder(made, Transport::Tcp, options).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&puppet.peer).await;
    node.dial(&seeder.peer).await;
    let progress = node.fetch_whole(made, &[puppet.id(), seeder.id()]).await;
    assert_eq!(progress.fetched, sum(made));
    (node, seeder.given(made).0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_banned_and_its_pieces_come_from_elsewhere() {
    let made = Made::new(16, 40);
    let lies = made.clone();
    let liar = Puppet::start(move |request| match request.kind {
        Kind::Piece => {
            let mut data = lies.bytes[request.offset as usize..][..request.length as usize].to_vec();
            data[0] ^= 1;
            ok(&data)
        }
        _ => honest(&lies, None, request),
    })
    .await;
    let (_, given) = with_honest(&made, &liar).await;
    assert_eq!(given, sum(&made));
    // One window, and never again.
    assert!((1..=5).contains(&liar.asked()), "{}", liar.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_is_not_waited_for() {
    let made = Made::new(8, 41);
    let staller = made.clone();
    let puppet = Puppet::start(move |request| match request.kind {
        Kind::Piece => Deed::Stall,
        _ => honest(&staller, None, request),
    })
    .await;
    let begun = std::time::Instant::now();
    with_honest(&made, &puppet).await;
    assert!(begun.elapsed().as_secs() < 10, "the last pieces were asked elsewhere: {:?}", begun.elapsed());
    assert!(puppet.asked() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_the_middle_is_done_without() {
    let made = Made::new(12, 42);
    let (leaver, given) = (made.clone(), Arc::new(AtomicUsize::new(0)));
    let puppet = Puppet::start(move |request| {
        if request.kind == Kind::Piece && given.fetch_add(1, Ordering::SeqCst) >= 2 {
            Deed::Leave
        } else {
            honest(&leaver, None, request)
        }
    })
    .await;
    with_honest(&made, &puppet).await;
    assert!(puppet.asked() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_are_no_answers() {
    let made = Made::new(4, 43);
    let pieces = made.file().pieces.len();
    let bits = |bytes: usize| [&1u64.to_le_bytes()[..], &vec![0xff; bytes]].concat();
    type Answer = Box<dyn Fn() -> Deed + Send + Sync>;
    let say = |data: Vec<u8>| -> Answer { Box::new(move || ok(&data)) };
    let head = |head: [u8; ANSWER_LEN]| -> Answer { Box::new(move || Deed::Say(head.to_vec())) };
    let haves: Vec<(&str, Answer)> = vec![
        ("too few bits", say(bits(0))),
        ("too many bits", say(bits(4000))),
        ("bits beyond the last piece", say(bits(pieces.div_ceil(8)))),
        ("no revision", say(vec![1, 2, 3])),
        ("whole, with bits", say([&WHOLE.to_le_bytes()[..], &[0xff; 900]].concat())),
        ("an answer of 64 MiB", head(encode_answer(Status::Ok, MAX_DATA))),
        ("an answer of 4 GiB", head([2, 0, 0, 0, 255, 255, 255, 255])),
        ("another version", head([1, 0, 0, 0, 8, 0, 0, 0])),
        ("no status", head([2, 77, 0, 0, 8, 0, 0, 0])),
        ("has none", head(encode_answer(Status::NotFound, 0))),
        ("busy, with data", head(encode_answer(Status::Busy, 900))),
        ("no end", Box::new(|| Deed::Flood(vec![0xff; 1 << 16]))),
        ("nothing", Box::new(|| Deed::Stall)),
        ("good-bye", Box::new(|| Deed::Leave)),
    ];
    for (what, answer) in haves {
        let puppet = Puppet::start(move |request| match request.kind {
            Kind::Have => answer(),
            _ => panic!("it has shown that it is not to be asked"),
        })
        .await;
        let (_, given) = with_honest(&made, &puppet).await;
        assert_eq!(given, sum(&made), "{what}");
        assert_eq!(puppet.asked(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_a_wrong_length_are_no_pieces() {
    let made = Made::new(4, 44);
    for (what, length, sent) in
        [("longer", 1 << 21, 1 << 21), ("shorter", 10, 10), ("huge", MAX_DATA, 100), ("none", 0, 0)]
    {
        let has = made.clone();
        let puppet = Puppet::start(move |request| match request.kind {
            Kind::Piece => {
                Deed::Say([&encode_answer(Status::Ok, length)[..], &vec![0; sent as usize]].concat())
            }
            _ => honest(&has, None, request),
        })
        .await;
        let (_, given) = with_honest(&made, &puppet).await;
        assert_eq!(given, sum(&made), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_without_end_are_taken_at_our_own_pace() {
    let made = Made::new(6, 45);
    let (has, polls) = (made.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&polls);
    let puppet = Puppet::start(move |request| match request.kind {
        Kind::Have => {
            let revision = 1 + count.fetch_add(1, Ordering::SeqCst) as u64;
            let bits = Bits::new(has.file().pieces.len());
            ok(&Have::Some { revision, bits }.encode())
        }
        _ => status(Status::NotFound),
    })
    .await;
    let begun = std::time::Instant::now();
    with_honest(&made, &puppet).await;
    let most = 2 + begun.elapsed().as_millis() / 200;
    assert!((polls.load(Ordering::SeqCst) as u128) <= most, "{polls:?} in {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_are_refused_and_others_are_served() {
    let made = Made::new(4, 46);
    let seeder = Node::seeder(&made, Transport::Tcp, ShelfOptions::default()).await;
    let stranger = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let peer =
        deadline(stranger.network.dial(Some(seeder.id()), seeder.peer.addresses().await)).await.unwrap();
    let what: [u8; 32] =
        std::array::from_fn(|i| u8::from_str_radix(&made.file().sha256[2 * i..2 * i + 2], 16).unwrap());
    let ask = |request: [u8; 48]| {
        let mut control = stranger.network.streams();
        async move {
            let mut stream = control.open_stream(peer, PROTOCOL).await.unwrap();
            stream.write_all(&request).await.unwrap();
            stream.flush().await.unwrap();
            let mut head = [0; ANSWER_LEN];
            deadline(stream.read_exact(&mut head)).await.ok()?;
            Some(decode_answer(&head).unwrap())
        }
    };
    let piece = |offset, length| Request { kind: Kind::Piece, length, offset, what }.encode();
    let first = &made.file().pieces[1];
    let (offset, size) = (first.offset, first.size as u32);
    let none = Some((Status::NotFound, 0));
    assert_eq!(ask(piece(offset, size)).await, Some((Status::Ok, size)));
    for (offset, length) in [(0, size), (offset, size - 1), (u64::MAX, size), (made.size(), 1), (offset, 0)] {
        assert_eq!(ask(piece(offset, length)).await, none, "{offset}+{length}");
    }
    let unknown = Request { kind: Kind::Piece, length: 5, offset: 0, what: [7; 32] };
    assert_eq!(ask(unknown.encode()).await, none);
    let have = Request { kind: Kind::Have, length: 0, offset: 0, what: [7; 32] };
    assert_eq!(ask(have.encode()).await, none);
    let plan = Request { kind: Kind::Manifest, length: 0, offset: 0, what: [7; 32] };
    assert_eq!(ask(plan.encode()).await, none);
    // Beyond what a request may say the stream is cut off.
    let mut wrong = piece(offset, size);
    wrong[7] = 0xff;
    assert_eq!(ask(wrong).await, None);
    assert_eq!(ask([0xff; 48]).await, None);

    // As many streams as it can open, none of which asks for anything.
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut control = stranger.network.streams();
        idle.push(deadline(control.open_stream(peer, PROTOCOL)).await);
    }
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    node.fetch_whole(&made, &[seeder.id()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_asks_on_many_streams_and_reads_nothing_leaves_slots_for_others() {
    let made = Made::new(4, 47);
    let seeder = Node::seeder(&made, Transport::Tcp, ShelfOptions::default()).await;
    let greedy = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let peer = deadline(greedy.network.dial(Some(seeder.id()), seeder.peer.addresses().await)).await.unwrap();
    let what =
        std::array::from_fn(|i| u8::from_str_radix(&made.file().sha256[2 * i..2 * i + 2], 16).unwrap());
    let piece = &made.file().pieces[1];
    let request = Request { kind: Kind::Piece, length: piece.size as u32, offset: piece.offset, what };
    let mut held = Vec::new();
    let mut busy = 0;
    for _ in 0..20 {
        let mut stream =
            deadline(greedy.network.streams().open_stream(peer, PROTOCOL)).await.expect("a stream");
        stream.write_all(&request.encode()).await.unwrap();
        stream.flush().await.unwrap();
        let mut head = [0; ANSWER_LEN];
        deadline(stream.read_exact(&mut head)).await.unwrap();
        busy += usize::from(decode_answer(&head) == Ok((Status::Busy, 0)));
        held.push(stream);
    }
    assert_eq!(busy, 16, "it has four slots");
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    node.fetch_whole(&made, &[seeder.id()]).await;
}
