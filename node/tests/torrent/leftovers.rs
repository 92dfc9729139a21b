//! What an earlier plan has left in a folder: it goes when nothing needs it, or when the disk is full.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_node::config::{LogFormat, Transport};
use shard_node::fetching::Fetcher;
use shard_node::files::Files;
use shard_node::library::Library;
use shard_node::report::Console;
use shard_node::store::leftover;
use shard_node::torrent::disk::Disk;
use shard_node::torrent::download::Downloads;
use shard_node::torrents::{Known, named};
use shard_wire::command::Torrents;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::{MIB, Node, names, patiently};
use crate::reuse::shards;

/// A folder of four shards that a plan of two has taken over. Hidden files are not listed.
fn taken_over() -> (TempDir, Library) {
    let (folder, new) = (shards(4), shards(2));
    let library = Library::adopt(folder.path(), Library::open(new.path()).unwrap().manifest).unwrap();
    fs::copy(new.path().join("shard-0.gguf"), folder.path().join("shard-0.gguf")).unwrap();
    (folder, library)
}

fn listed(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn what_only_an_earlier_plan_names_goes_and_nothing_else() {
    let (folder, library) = taken_over();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    // One that was changed since is somebody's; so is what no manifest names.
    let edited = vec![7; fs::metadata(folder.path().join("shard-2.gguf")).unwrap().len() as usize];
    write("shard-2.gguf", &edited);
    for name in ["shard-3.gguf.part", "shard-3.gguf.part.state", "shard-1.gguf.part", "fine-tune.gguf"] {
        write(name, b"half");
    }
    write("manifest-mine.json", b"{}");
    write("manifest-0123456789abcdef.json", b"no manifest");
    let before = listed(folder.path());

    let removed = leftover::remove(folder.path(), &library.manifest).unwrap();
    let names: Vec<_> = removed.iter().map(|gone| gone.name.as_str()).collect();
    assert_eq!(names, ["shard-1.gguf", "shard-3.gguf"]);
    let left = listed(folder.path());
    let gone: Vec<&String> = before.iter().filter(|name| !left.contains(name)).collect();
    let manifest = gone[0].clone();
    assert!(manifest.starts_with("manifest-") && manifest != "manifest-0123456789abcdef.json");
    assert_eq!(
        gone,
        [&manifest[..], "shard-1.gguf", "shard-3.gguf", "shard-3.gguf.part", "shard-3.gguf.part.state"]
    );
    assert_eq!(leftover::remove(folder.path(), &library.manifest).unwrap(), []);
    assert!(leftover::remove(&folder.path().join("nowhere"), &library.manifest).is_err());
}

/// Room for a megabyte, and for all of it when the old file is gone.
struct Tight(PathBuf);

impl Disk for Tight {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset > MIB && self.0.exists() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_the_room_of_an_earlier_plan() {
    let new = shards(2);
    let seeder = Node::start(Transport::Tcp).await;
    seeder.shelf.offer(&Library::open(new.path()).unwrap());
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let (folder, library) = taken_over();
    let old = folder.path().join("shard-2.gguf");
    let (network, shelf) = (node.peer.network.clone(), node.shelf.clone());
    let known = Known::new(network.local_peer());
    let files = Files::new(shelf.clone(), known.clone());
    let console = Console::new(LogFormat::Text);
    files.scan(folder.path().to_owned(), Some(4), console).await;
    let file = library.file(1).unwrap().clone();
    let seeds = named([(file.name.clone(), file.size, file.sha256.clone())]);
    known.on_report(seeder.id(), Torrents { files: seeds, ..Torrents::default() }).unwrap();
    let (_view, view) = watch::channel(Arc::default());
    let disk = Arc::new(Tight(old.clone()));
    let downloads = Downloads::with_disk(network.clone(), shelf, folder.path(), disk);
    let fetcher = Fetcher { network, downloads, known, view, files: files.clone(), console };

    patiently(fetcher.file(&library, &file, |_| {})).await.unwrap();
    let here = folder.path().join("shard-1.gguf");
    assert!(fs::read(here).unwrap() == fs::read(new.path().join("shard-1.gguf")).unwrap());
    assert!(!old.exists());
    // What is gone, and what the new file took the name of, is offered to nobody.
    let given: Vec<_> = files.listed().borrow().iter().map(|file| file.name.clone()).collect();
    assert_eq!(given, ["shard-0.gguf", "shard-1.gguf", "tokenizer.gguf"]);
    let hashes: Vec<_> = node.shelf.served().into_iter().map(|served| served.sha256).collect();
    let of_plan = |hash: &String| library.manifest.files.iter().any(|file| file.sha256 == *hash);
    assert!(hashes.len() == 3 && hashes.iter().all(of_plan), "{hashes:?}");
}
