//! A made-up file with its manifest, and nodes that fetch and give.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use sha2::{Digest, Sha256};
use shard_node::config::Transport;
use shard_node::net::DhtMode;
use shard_node::torrent::content::Content;
use shard_node::torrent::download::{Download, Downloads, Progress};
use shard_node::torrent::serve::{Shelf, ShelfOptions};
use shard_wire::manifest::{self, Manifest, Piece, Tensor};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::common::Peer;

pub const NAME: &str = "shard-0.gguf";
pub const MIB: u64 = 1 << 20;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Waits, but not for ever: a download may have to wait for a peer that has stalled.
pub async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("nothing happened within 60 s")
}

/// Bytes that can be read, like a file's.
pub struct Memory(pub Vec<u8>);

impl Content for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.0.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// A file of two tensors with a gap between them, and the manifest that names it.
#[derive(Clone)]
pub struct Made {
    pub manifest: Manifest,
    pub bytes: Arc<Vec<u8>>,
}

impl Made {
    pub fn new(mib: usize, seed: u8) -> Self {
        let header = 1000;
        let gap = 24;
        let second = header + (mib << 20) / 2 + 777 + gap;
        let size = second + (mib << 20) / 2;
        let mut bytes = vec![0; size];
        let mut x = u64::from(seed) + 1;
        for (i, byte) in bytes.iter_mut().enumerate() {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_gap = (second - gap..second).contains(&i);
            *byte = if is_gap { 0 } else { (x >> 56) as u8 };
        }
        let tensor = |name: &str, offset: usize, size: usize| Tensor {
            name: name.into(),
            offset: offset as u64,
            size: size as u64,
            sha256: sha256(&bytes[offset..offset + size]),
        };
        let tensors = vec![tensor("a", header, second - gap - header), tensor("b", second, size - second)];
        let shard = file(NAME, &bytes, 1, tensors);
        let tokenizer = file(manifest::TOKENIZER, &[seed; 100], 0, Vec::new());
        let manifest = Manifest {
            version: manifest::VERSION,
            model_sha256: sha256(&[seed]),
            model_bytes: size as u64,
            total_layers: 1,
            layer_starts: vec![0],
            piece_size: manifest::PIECE_SIZE,
            files: vec![shard, tokenizer],
        };
        Manifest::from_bytes(&manifest.to_bytes().unwrap()).expect("it is a manifest");
        Self { manifest, bytes: Arc::new(bytes) }
    }

    pub fn file(&self) -> &manifest::File {
        &self.manifest.files[0]
    }

    pub fn size(&self) -> u64 {
        self.file().size
    }
}

fn file(name: &str, bytes: &[u8], end: u32, tensors: Vec<Tensor>) -> manifest::File {
    let header = tensors.first().map_or(bytes.len() as u64, |tensor| tensor.offset);
    let pieces = manifest::cut(header, tensors.iter().map(|tensor| (tensor.offset, tensor.size)));
    let piece = |(offset, size): (u64, u64)| Piece {
        offset,
        size,
        sha256: sha256(&bytes[offset as usize..(offset + size) as usize]),
    };
    let pieces = pieces.map(piece).collect();
    let (name, size) = (name.to_owned(), bytes.len() as u64);
    manifest::File { name, size, sha256: sha256(bytes), start: 0, end, tensors, pieces }
}

/// A node with a folder.
pub struct Node {
    pub peer: Peer,
    pub shelf: Shelf,
    pub folder: TempDir,
    pub downloads: Downloads,
}

impl Node {
    pub async fn start(transport: Transport) -> Self {
        Self::with(transport, ShelfOptions::default()).await
    }

    pub async fn with(transport: Transport, options: ShelfOptions) -> Self {
        let peer = Peer::start(DhtMode::Server, transport).await;
        let (shelf, folder) = (Shelf::new(options), TempDir::new().unwrap());
        shelf.serve(peer.network.streams()).unwrap();
        let downloads = Downloads::new(peer.network.clone(), shelf.clone(), folder.path());
        Self { peer, shelf, folder, downloads }
    }

    /// One that has the file in memory.
    pub async fn seeder(made: &Made, transport: Transport, options: ShelfOptions) -> Self {
        let node = Self::with(transport, options).await;
        node.shelf.offer_manifest("plan", Arc::new(made.manifest.to_bytes().unwrap()));
        node.shelf.offer_content(&made.file().sha256, Arc::new(Memory(made.bytes.to_vec())));
        node
    }

    pub fn id(&self) -> PeerId {
        self.peer.network.local_peer()
    }

    pub async fn dial(&self, other: &Peer) {
        let addresses = other.addresses().await;
        crate::common::deadline(self.peer.network.dial(Some(other.network.local_peer()), addresses))
            .await
            .unwrap();
    }

    pub fn fetch(&self, made: &Made, seeders: &[PeerId]) -> Download {
        self.downloads.fetch(&made.manifest, NAME, watch::Sender::new(seeders.to_vec()).subscribe())
    }

    /// Fetches, and checks that the file is there and nothing else.
    pub async fn fetch_whole(&self, made: &Made, seeders: &[PeerId]) -> Progress {
        let mut download = self.fetch(made, seeders);
        let path = patiently(download.finished()).await.unwrap();
        assert_eq!(path, self.folder.path().join(NAME));
        assert!(std::fs::read(&path).unwrap() == *made.bytes, "other bytes");
        assert_eq!(names(self.folder.path()), [NAME]);
        let progress = *download.progress().borrow();
        assert_eq!((progress.done, progress.total), (sum(made), made.size()));
        progress
    }

    pub fn given(&self, made: &Made) -> (u64, Vec<(u32, usize)>) {
        let served = self.shelf.served().into_iter().find(|served| served.sha256 == made.file().sha256);
        served.map(|served| (served.bytes, served.pieces)).unwrap_or_default()
    }
}

/// Bytes of all pieces: the file without its gaps.
pub fn sum(made: &Made) -> u64 {
    made.file().pieces.iter().map(|piece| piece.size).sum()
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until a download has fetched so many bytes.
pub async fn fetched(download: &Download, bytes: u64) -> Progress {
    let mut progress = download.progress();
    let reached = progress.wait_for(|progress| progress.fetched >= bytes);
    *patiently(reached).await.expect("the download goes on")
}

impl Node {
    /// Fetches what is there already.
    pub async fn fetch_whole_again(&self, made: &Made) -> Progress {
        let mut download = self.fetch(made, &[]);
        patiently(download.finished()).await.unwrap();
        *download.progress().borrow()
    }
}
