//! After another split only what is not on disk is fetched.

use std::fs;
use std::path::Path;

use shard_node::config::Transport;
use shard_node::library::Library;
use shard_node::store::split::{Shards, SplitRequest, split};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::{Node, patiently};

pub fn shards(count: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf");
    let request = SplitRequest { model: &model, out: dir.path(), shards: Shards::Count(count), force: false };
    split(&request, &|_, _, _| {}).expect("splits");
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn after_another_split_only_headers_and_missing_layers_are_fetched() {
    let (old, new) = (shards(4), shards(2));
    let seeder = Node::start(Transport::Tcp).await;
    let library = Library::open(new.path()).unwrap();
    seeder.shelf.offer(&library);
    // The node has had layers of the first and the second quarter: all of the new first half.
    for (has, all_there) in [(&["shard-0.gguf", "shard-1.gguf"][..], true), (&["shard-1.gguf"][..], false)] {
        let node = Node::start(Transport::Tcp).await;
        node.dial(&seeder.peer).await;
        for name in has {
            fs::copy(old.path().join(name), node.folder.path().join(name)).unwrap();
        }
        let file = library.manifest.file("shard-0.gguf").unwrap();
        let sum: u64 = file.pieces.iter().map(|piece| piece.size).sum();
        let seeders = watch::Sender::new(vec![seeder.id()]).subscribe();
        let mut download = node.downloads.fetch(&library.manifest, &file.name, seeders);
        let path = patiently(download.finished()).await.unwrap();
        assert!(fs::read(path).unwrap() == fs::read(new.path().join("shard-0.gguf")).unwrap());
        let progress = *download.progress().borrow();
        let of_the_second = {
            let old = Library::open(old.path()).unwrap();
            let shared = old.manifest.file("shard-1.gguf").unwrap().tensors.clone();
            let is_shared = |name: &str| shared.iter().any(|tensor| tensor.name == name);
            file.tensors.iter().filter(|tensor| is_shared(&tensor.name)).map(|tensor| tensor.size).sum()
        };
        let reused = if all_there { sum - file.header_bytes() } else { of_the_second };
        assert_eq!((progress.reused, progress.fetched), (reused, sum - reused), "{has:?}");
        assert!(reused > 0 && (!all_there || progress.fetched == file.header_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_lies_about_its_tensors_costs_nothing_but_the_look() {
    let new = shards(2);
    let seeder = Node::start(Transport::Tcp).await;
    let library = Library::open(new.path()).unwrap();
    seeder.shelf.offer(&library);
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    // The right header, and other weights behind it.
    let mut bytes = fs::read(new.path().join("shard-0.gguf")).unwrap();
    let file = library.manifest.file("shard-0.gguf").unwrap();
    bytes[file.header_bytes() as usize..].fill(7);
    fs::write(node.folder.path().join("fine-tune.gguf"), bytes).unwrap();
    fs::write(node.folder.path().join("no-model.gguf"), b"GGUF").unwrap();
    let seeders = watch::Sender::new(vec![seeder.id()]).subscribe();
    let mut download = node.downloads.fetch(&library.manifest, &file.name, seeders);
    let path = patiently(download.finished()).await.unwrap();
    assert!(fs::read(path).unwrap() == fs::read(new.path().join("shard-0.gguf")).unwrap());
    assert_eq!(download.progress().borrow().reused, file.header_bytes());
}
