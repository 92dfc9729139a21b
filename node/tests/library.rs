//! A node's files: each way in which they can be wrong has its error, and what is right reaches another peer whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use shard_engine::gguf::Gguf;
use shard_node::library::{Library, LibraryError, manifest_sha256};
use shard_node::net::{self, DhtMode, NetConfig, Network, Transport};
use shard_node::store::split::{Shards, SplitRequest, split};
use shard_node::torrent::fetch::{self, FetchError};
use shard_node::torrent::serve::Shelf;
use shard_wire::frame;
use shard_wire::torrent::Status;
use tempfile::TempDir;

fn model(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match name {
        "f16" => here.join("../models_cache/tiny-tales-f16.gguf"),
        other => here.join(format!("engine/tests/data/tiny-tales-{other}.gguf")),
    }
}

fn shards_of(name: &str, count: usize) -> TempDir {
    let dir = TempDir::new().expect("a folder");
    let request =
        SplitRequest { model: &model(name), out: dir.path(), shards: Shards::Count(count), force: false };
    split(&request, &|_, _, _| {}).expect("splits");
    dir
}

/// Puts a file in the place of shard 1.
fn put(file: &Path, dir: &Path) {
    fs::copy(file, dir.join("shard-1.gguf")).expect("copies");
}

fn verify(dir: &Path, shard: u32) -> Result<(), LibraryError> {
    Library::open(dir)?.verify_shard(shard, &mut |_, _| {}).map(|_| ())
}

#[test]
fn what_split_wrote_is_verified() {
    let dir = shards_of("f16", 4);
    for shard in 0..4 {
        let library = Library::open(dir.path()).expect("a manifest");
        let mut seen = 0;
        let verified = library.verify_shard(shard, &mut |done, _| seen = done).expect("verifies");
        assert_eq!(seen, verified.size);
        assert_eq!(verified.name, "tiny-tales");
    }
}

#[test]
fn every_wrong_file_is_named_with_what_is_wrong() {
    type Spoil = fn(&Path);
    let cases: [(&str, u32, Spoil, &str); 8] = [
        ("no manifest", 1, |dir| fs::remove_file(dir.join("manifest.json")).unwrap(), "shardctl split"),
        ("no JSON", 1, |dir| fs::write(dir.join("manifest.json"), "{}").unwrap(), "manifest.json"),
        ("no such shard", 4, |_| {}, "shard 4 of a plan of 4 shards: ids go from 0 to 3"),
        ("missing", 1, |dir| fs::remove_file(dir.join("shard-1.gguf")).unwrap(), "shard-1.gguf"),
        (
            "another shard",
            1,
            |dir| put(&dir.join("shard-2.gguf"), dir),
            "its shard id is 2, the manifest beside it says 1",
        ),
        (
            "another model",
            1,
            |dir| put(&shards_of("q8_0", 4).path().join("shard-1.gguf"), dir),
            "its model is 378e121b",
        ),
        (
            "another count",
            1,
            |dir| put(&shards_of("f16", 2).path().join("shard-1.gguf"), dir),
            "its shard count is 2, the manifest beside it says 4",
        ),
        (
            "corrupt",
            1,
            |dir| {
                let path = dir.join("shard-1.gguf");
                let mut bytes = fs::read(&path).unwrap();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            "the file is corrupt",
        ),
    ];
    for (what, shard, spoil, said) in cases {
        let dir = shards_of("f16", 4);
        spoil(dir.path());
        let error = verify(dir.path(), shard).expect_err(what).to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
}

async fn peer() -> Network {
    let config = NetConfig {
        transport: Transport::Tcp,
        ..NetConfig::new(Keypair::generate_ed25519(), "library", "test", DhtMode::Client)
    };
    let (network, _requests) = net::spawn(config).expect("a network");
    network.listen("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).await.expect("listens");
    network
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_learns_the_plan_and_believes_nothing_that_does_not_match_its_hash() {
    let dir = shards_of("f16", 3);
    let library = Library::open(dir.path()).expect("a manifest");
    let (seeder, asker) = (peer().await, peer().await);
    let shelf = Shelf::default();
    shelf.offer(&library);
    shelf.serve(seeder.streams()).expect("serves");
    let id = asker.dial(Some(seeder.local_peer()), seeder.listen_addresses().await).await.expect("dials");
    let mut control = asker.streams();

    let manifest =
        fetch::manifest(&mut control, id, &library.plan, frame::VERSION).await.expect("the manifest");
    assert_eq!(manifest, library.manifest);
    assert_eq!(manifest_sha256(&manifest), library.sha256);
    let file = manifest.file("shard-1.gguf").expect("named");
    let header = fetch::header(&mut control, id, file).await.expect("the header");
    let gguf = Gguf::read(Cursor::new(&header), file.size).expect("a whole header");
    assert!(gguf.tensor("blk.3.attn_q.weight").is_some());

    let unknown =
        fetch::manifest(&mut control, id, "0123456789abcdef", frame::VERSION).await.expect_err("unknown");
    assert!(matches!(unknown, FetchError::Status(Status::NotFound)), "{unknown}");
    // The same file, but other bytes by now: the asker notices.
    let path = dir.path().join("shard-1.gguf");
    let mut bytes = fs::read(&path).expect("reads");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let wrong = fetch::header(&mut control, id, file).await.expect_err("other bytes");
    assert!(matches!(wrong, FetchError::Wrong("a piece")), "{wrong}");
    fs::remove_file(&path).expect("removes");
    let gone = fetch::header(&mut control, id, file).await.expect_err("gone");
    assert!(matches!(gone, FetchError::Status(Status::Unavailable)), "{gone}");
}
