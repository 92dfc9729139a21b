//! Files get from those that have them to those that do not.

use std::time::Instant;

use shard_node::config::Transport;
use shard_node::torrent::download::Phase;
use shard_node::torrent::serve::ShelfOptions;
use tokio::sync::watch;

use crate::common::deadline;
use crate::harness::{MIB, Made, NAME, Node, names, patiently, sum};
use crate::puppet::{Puppet, honest};

#[tokio::test(flavor = "multi_thread")]
async fn one_seeder_to_one_node_over_each_transport_and_on_to_a_third() {
    let made = Made::new(20, 1);
    for transport in [Transport::Tcp, Transport::Quic] {
        let seeder = Node::seeder(&made, transport, ShelfOptions::default()).await;
        let node = Node::start(transport).await;
        node.dial(&seeder.peer).await;
        let progress = node.fetch_whole(&made, &[seeder.id()]).await;
        assert_eq!((progress.phase, progress.fetched, progress.reused), (Phase::Over, sum(&made), 0));
        assert_eq!(seeder.given(&made), (sum(&made), vec![(1, made.file().pieces.len())]));

        // It is seeded from where it came to, and a second fetch finds it.
        let third = Node::start(transport).await;
        third.dial(&node.peer).await;
        third.fetch_whole(&made, &[node.id()]).await;
        let again = node.fetch_whole_again(&made).await;
        assert_eq!((again.fetched, again.done), (0, made.size()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_that_have_a_part_each_are_one_seeder() {
    let made = Made::new(12, 2);
    let pieces = made.file().pieces.len();
    let mut puppets = Vec::new();
    let node = Node::start(Transport::Tcp).await;
    for part in 0..3 {
        let made = made.clone();
        let has: Vec<usize> = (0..pieces).filter(|piece| piece % 3 == part).collect();
        puppets.push(Puppet::start(move |request| honest(&made, Some(&has), request)).await);
        node.dial(&puppets[part].peer).await;
    }
    let seeders: Vec<_> = puppets.iter().map(Puppet::id).collect();
    let progress = node.fetch_whole(&made, &seeders).await;
    assert_eq!(progress.fetched, sum(&made));
    assert_eq!(puppets.iter().map(Puppet::asked).sum::<usize>(), pieces);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_begin_together_take_about_one_copy_from_the_origin() {
    const NODES: usize = 4;
    let made = Made::new(32, 3);
    // Slow enough that the others are always faster.
    let options =
        ShelfOptions { initial_seeding: true, upload_limit: Some(10 * MIB), ..ShelfOptions::default() };
    let origin = Node::seeder(&made, Transport::Tcp, options).await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let node = Node::start(Transport::Tcp).await;
        node.dial(&origin.peer).await;
        for other in &nodes {
            let other: &Node = other;
            node.dial(&other.peer).await;
        }
        nodes.push(node);
    }
    let mut all: Vec<_> = nodes.iter().map(Node::id).collect();
    all.push(origin.id());
    let all = &all;
    let begun = Instant::now();
    futures::future::join_all(nodes.iter().map(|node| async { node.fetch_whole(&made, all).await })).await;
    let (bytes, times) = origin.given(&made);
    assert!(times.iter().all(|(times, _)| *times > 0), "every piece has left: {times:?}");
    assert!(bytes <= made.size() * 11 / 10, "{bytes} of {}: {times:?}, {:?}", made.size(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeder_with_one_slot_serves_everybody_in_turn() {
    let made = Made::new(6, 4);
    let seeder =
        Node::seeder(&made, Transport::Tcp, ShelfOptions { slots: 1, ..ShelfOptions::default() }).await;
    let (first, second) = (Node::start(Transport::Tcp).await, Node::start(Transport::Tcp).await);
    first.dial(&seeder.peer).await;
    second.dial(&seeder.peer).await;
    let seeders = [seeder.id()];
    tokio::join!(first.fetch_whole(&made, &seeders), second.fetch_whole(&made, &seeders));
    assert_eq!(seeder.given(&made).0, 2 * sum(&made));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upload_limit_holds_for_all_together() {
    let made = Made::new(3, 5);
    let options = ShelfOptions { upload_limit: Some(2 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    let (first, second) = (Node::start(Transport::Tcp).await, Node::start(Transport::Tcp).await);
    first.dial(&seeder.peer).await;
    second.dial(&seeder.peer).await;
    let seeders = [seeder.id()];
    let begun = Instant::now();
    tokio::join!(first.fetch_whole(&made, &seeders), second.fetch_whole(&made, &seeders));
    // Two copies of 3 MiB at 2 MiB/s.
    let elapsed = begun.elapsed().as_secs_f64();
    assert!((2.8..6.0).contains(&elapsed), "{elapsed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_waits_for_seeders_and_takes_those_that_come_later() {
    let made = Made::new(4, 6);
    let node = Node::start(Transport::Tcp).await;
    let (seeders, list) = watch::channel(Vec::new());
    let mut download = node.downloads.fetch(&made.manifest, NAME, list);
    let mut progress = download.progress();
    deadline(progress.wait_for(|progress| progress.phase == Phase::Fetching)).await.unwrap();
    let seeder = Node::seeder(&made, Transport::Tcp, ShelfOptions::default()).await;
    node.dial(&seeder.peer).await;
    seeders.send(vec![node.id(), seeder.id()]).unwrap();
    deadline(progress.wait_for(|progress| progress.peers == 1)).await.unwrap();
    patiently(download.finished()).await.unwrap();
    assert_eq!(names(node.folder.path()), [NAME]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_at_once_end() {
    let files: Vec<Made> = (10..16).map(|seed| Made::new(3, seed)).collect();
    let seeder = Node::start(Transport::Tcp).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let mut downloads = Vec::new();
    let mut named = Vec::new();
    for (i, made) in files.iter().enumerate() {
        seeder.shelf.offer_content(
            &made.file().sha256,
            std::sync::Arc::new(crate::harness::Memory(made.bytes.to_vec())),
        );
        let mut manifest = made.manifest.clone();
        manifest.files[0].name = format!("shard-{i}.gguf");
        named.push(manifest.files[0].name.clone());
        let seeders = watch::Sender::new(vec![seeder.id()]).subscribe();
        downloads.push(node.downloads.fetch(&manifest, &named[i], seeders));
    }
    for (download, made) in downloads.iter_mut().zip(&files) {
        let path = patiently(download.finished()).await.unwrap();
        assert!(std::fs::read(path).unwrap() == *made.bytes);
    }
    assert_eq!(names(node.folder.path()), named);
}

#[tokio::test]
async fn a_file_that_the_manifest_does_not_have_is_an_error() {
    let made = Made::new(1, 7);
    let node = Node::start(Transport::Tcp).await;
    let seeders = watch::Sender::new(Vec::new()).subscribe();
    let mut download = node.downloads.fetch(&made.manifest, "../shard-0.gguf", seeders);
    let error = deadline(download.finished()).await.unwrap_err().to_string();
    assert_eq!(error, r#"the manifest has no file "../shard-0.gguf""#);
}
