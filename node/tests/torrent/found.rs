//! Who has a file is found, and what is only in the folder is given, too.

use std::sync::Arc;

use shard_node::config::Transport;
use shard_node::store::scan::scan;
use shard_node::torrent::seeders;
use tokio::sync::watch;

use crate::common::deadline;
use crate::harness::{Made, NAME, Node, patiently};

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_file_without_a_manifest_is_given() {
    let made = Made::new(3, 50);
    let seeder = Node::start(Transport::Tcp).await;
    std::fs::write(seeder.folder.path().join("shard-0-old.gguf"), &*made.bytes).unwrap();
    let found = scan(seeder.folder.path(), 1, None, &mut |_| {}).unwrap().found;
    assert!(!found[0].primary);
    seeder.shelf.offer_found(&found);
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    node.fetch_whole(&made, &[seeder.id()]).await;
    // The manifest comes later; from then on pieces are counted.
    assert!(seeder.given(&made).1.is_empty());
    seeder.shelf.offer_manifest("plan", Arc::new(made.manifest.to_bytes().unwrap()));
    let third = Node::start(Transport::Tcp).await;
    third.dial(&seeder.peer).await;
    third.fetch_whole(&made, &[seeder.id()]).await;
    assert_eq!(seeder.given(&made).1, [(1, made.file().pieces.len())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_is_a_seeder_and_this_node_is_none() {
    let made = Made::new(2, 51);
    let seeder = Node::seeder(&made, Transport::Tcp, Default::default()).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let (known, list) = watch::channel(vec![node.id()]);
    let mut who = seeders::follow(node.peer.network.clone(), made.file().sha256.clone(), list);
    assert!(who.borrow().is_empty());
    let mut download = node.downloads.fetch(&made.manifest, NAME, who.clone());
    known.send(vec![seeder.id(), seeder.id(), node.id()]).unwrap();
    deadline(who.wait_for(|who| *who == [seeder.id()])).await.unwrap();
    patiently(download.finished()).await.unwrap();
}
