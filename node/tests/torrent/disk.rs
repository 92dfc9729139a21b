//! A disk that is full, read-only or taken away: the error says so, and nothing half-written has a final name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shard_node::config::Transport;
use shard_node::torrent::DownloadError;
use shard_node::torrent::disk::Disk;
use shard_node::torrent::download::Downloads;
use shard_node::torrent::serve::ShelfOptions;
use tokio::sync::watch;

use crate::harness::{MIB, Made, NAME, Node, fetched, names, patiently};

/// Room for so many bytes.
struct Full(AtomicU64);

impl Disk for Full {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let taken = self
            .0
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(bytes.len() as u64));
        match taken {
            Ok(_) => file.write_all_at(bytes, offset),
            Err(_) => {
                // As the system does: what fits is written.
                file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }
}

#[derive(Default)]
struct ReadOnly;

impl Disk for ReadOnly {
    fn open(&self, _: &Path) -> io::Result<File> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

struct Unsyncable;

impl Disk for Unsyncable {
    fn sync(&self, _: &File) -> io::Result<()> {
        Err(io::Error::other("input/output error"))
    }
}

async fn fails(disk: impl Disk) -> (Node, Node, Made, DownloadError) {
    let made = Made::new(8, 30);
    let seeder = Node::seeder(&made, Transport::Tcp, ShelfOptions::default()).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let (network, folder) = (node.peer.network.clone(), node.folder.path());
    let downloads = Downloads::with_disk(network, node.shelf.clone(), folder, Arc::new(disk));
    let seeders = watch::Sender::new(vec![seeder.id()]).subscribe();
    let mut download = downloads.fetch(&made.manifest, NAME, seeders);
    let error = patiently(download.finished()).await.unwrap_err();
    assert!(!names(folder).contains(&NAME.to_owned()), "{error}");
    (seeder, node, made, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_with_what_is_missing_and_the_next_try_goes_on() {
    let (seeder, node, made, error) = fails(Full(AtomicU64::new(5 * MIB))).await;
    let DownloadError::Write { missing, ref source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!((2 * MIB..5 * MIB).contains(&missing), "{error}");
    let text = error.to_string();
    assert!(text.contains("shard-0.gguf.part") && text.contains("make room"), "{text}");
    let progress = node.fetch_whole(&made, &[seeder.id()]).await;
    assert!(progress.reused >= 4 * MIB, "{progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_folder_is_named() {
    let (_, node, _, error) = fails(ReadOnly).await;
    let text = error.to_string();
    assert!(matches!(error, DownloadError::Open { .. }) && text.contains("--shards-dir"), "{text}");
    assert!(text.contains("shard-0.gguf.part") && text.contains("read-only"), "{text}");
    assert!(names(node.folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_reach_the_medium_gets_no_final_name() {
    let (_, _, _, error) = fails(Unsyncable).await;
    assert!(matches!(error, DownloadError::Write { missing: 0, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_the_place_of_the_file_is_named_before_anything_is_fetched() {
    let made = Made::new(1, 29);
    let node = Node::start(Transport::Tcp).await;
    std::fs::create_dir(node.folder.path().join(NAME)).unwrap();
    let downloads = Downloads::new(node.peer.network.clone(), node.shelf.clone(), node.folder.path());
    // Nobody gives it: the error does not wait for that.
    let seeders = watch::Sender::new(Vec::new()).subscribe();
    let error = patiently(downloads.fetch(&made.manifest, NAME, seeders).finished()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(NAME) && text.contains("directory"), "{text}");
    assert_eq!(names(node.folder.path()), [NAME]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_named() {
    let made = Made::new(1, 31);
    let node = Node::start(Transport::Tcp).await;
    std::fs::remove_dir(node.folder.path()).unwrap();
    let error = patiently(node.fetch(&made, &[]).finished()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Open { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_removed_is_named_and_the_next_try_begins_anew() {
    let made = Made::new(16, 32);
    let options = ShelfOptions { upload_limit: Some(16 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let mut download = node.fetch(&made, &[seeder.id()]);
    fetched(&download, MIB).await;
    std::fs::remove_file(node.folder.path().join(format!("{NAME}.part"))).unwrap();
    let error = patiently(download.finished()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Vanished { .. }), "{error}");
    node.fetch_whole(&made, &[seeder.id()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_contradicts_itself_gives_no_file() {
    let mut made = Made::new(2, 33);
    let seeder = Node::seeder(&made, Transport::Tcp, ShelfOptions::default()).await;
    let right = made.manifest.files[0].sha256.clone();
    made.manifest.files[0].sha256 = "00".repeat(32);
    seeder
        .shelf
        .offer_content(&made.manifest.files[0].sha256, Arc::new(crate::harness::Memory(made.bytes.to_vec())));
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let error = patiently(node.fetch(&made, &[seeder.id()]).finished()).await.unwrap_err();
    let DownloadError::Inconsistent { found, .. } = &error else { panic!("{error}") };
    assert_eq!(*found, right);
    assert!(names(node.folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_do_not_write_to_one_part() {
    let made = Made::new(1, 34);
    let node = Node::start(Transport::Tcp).await;
    let other = File::create(node.folder.path().join(format!("{NAME}.part"))).unwrap();
    other.lock().unwrap();
    let error = patiently(node.fetch(&made, &[]).finished()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Busy { .. }), "{error}");
}
