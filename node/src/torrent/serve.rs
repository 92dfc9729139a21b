//! Answers peers that ask for a manifest or a piece.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::Stream;
use libp2p_stream::{AlreadyRegistered, Control};
use shard_wire::torrent::{Kind, REQUEST_LEN, Request, Status, encode_answer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::PROTOCOL;
use super::content::Content;
use crate::library::Library;
use crate::net::hex;

/// Streams that are served at once.
const STREAMS: usize = 32;
/// A peer sends its next request, and takes an answer, within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this node gives to peers. Clones share it.
#[derive(Clone, Default)]
pub struct Shelf {
    inner: Arc<RwLock<Contents>>,
}

#[derive(Default)]
struct Contents {
    manifests: HashMap<[u8; 32], Arc<Vec<u8>>>,
    files: HashMap<[u8; 32], Arc<dyn Content>>,
}

impl Shelf {
    /// Gives the manifest and those of its files that are there with their size; a reader finds any other lie.
    pub fn offer(&self, library: &Library) {
        let mut content = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        content.manifests.insert(plan_key(&library.plan), Arc::new(library.bytes.clone()));
        for file in &library.manifest.files {
            let path = library.path(file);
            let whole = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == file.size);
            if let Some(key) = file_key(&file.sha256).filter(|_| whole) {
                content.files.insert(key, Arc::new(Stored { path, size: file.size }));
            }
        }
    }

    /// Gives the manifest of a plan.
    pub fn offer_manifest(&self, plan: &str, bytes: Arc<Vec<u8>>) {
        let mut content = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        content.manifests.insert(plan_key(plan), bytes);
    }

    /// Gives a file, named by its hash.
    pub fn offer_content(&self, sha256: &str, content: Arc<dyn Content>) {
        if let Some(key) = file_key(sha256) {
            self.inner.write().unwrap_or_else(PoisonError::into_inner).files.insert(key, content);
        }
    }

    /// Accepts streams of the protocol from now on.
    ///
    /// # Errors
    /// Where the protocol is accepted already.
    pub fn serve(&self, mut control: Control) -> Result<(), AlreadyRegistered> {
        let mut incoming = control.accept(PROTOCOL)?;
        let shelf = self.clone();
        let slots = Arc::new(Semaphore::new(STREAMS));
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                // One that finds no slot is dropped: the asker tries another peer.
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let shelf = shelf.clone();
                tokio::spawn(async move {
                    if let Err(error) = shelf.answer_all(stream).await {
                        debug!(%peer, "torrent stream ended: {error}");
                    }
                    drop(slot);
                });
            }
        });
        Ok(())
    }

    async fn answer_all(&self, mut stream: Stream) -> io::Result<()> {
        loop {
            let mut bytes = [0; REQUEST_LEN];
            timeout(PATIENCE, stream.read_exact(&mut bytes)).await??;
            let request = Request::decode(&bytes).map_err(io::Error::other)?;
            let (status, data) = self.answer(request).await;
            let answer = async {
                stream.write_all(&encode_answer(status, data.len() as u32)).await?;
                stream.write_all(&data).await?;
                stream.flush().await
            };
            timeout(PATIENCE, answer).await??;
        }
    }

    async fn answer(&self, request: Request) -> (Status, Vec<u8>) {
        let found = {
            let content = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            match request.kind {
                Kind::Manifest => {
                    content.manifests.get(&request.what).map(|bytes| Found::Bytes(Arc::clone(bytes)))
                }
                Kind::Piece => content.files.get(&request.what).map(|file| Found::File(Arc::clone(file))),
            }
        };
        match found {
            None => (Status::NotFound, Vec::new()),
            Some(Found::Bytes(bytes)) => (Status::Ok, bytes.to_vec()),
            Some(Found::File(file)) => {
                let end = request.offset.checked_add(u64::from(request.length));
                if end.is_none_or(|end| end > file.size()) {
                    return (Status::NotFound, Vec::new());
                }
                let read = tokio::task::spawn_blocking(move || {
                    let mut data = vec![0; request.length as usize];
                    file.read_at(request.offset, &mut data).map(|()| data)
                });
                match read.await {
                    Ok(Ok(data)) => (Status::Ok, data),
                    _ => (Status::Unavailable, Vec::new()),
                }
            }
        }
    }
}

enum Found {
    Bytes(Arc<Vec<u8>>),
    File(Arc<dyn Content>),
}

/// A file on disk.
struct Stored {
    path: PathBuf,
    size: u64,
}

impl Content for Stored {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        File::open(&self.path)?.read_exact_at(buffer, offset)
    }
}

/// The plan's name as a request has it: its bytes, padded with zeros.
pub(super) fn plan_key(plan: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let bytes = plan.as_bytes();
    let length = bytes.len().min(32);
    key[..length].copy_from_slice(&bytes[..length]);
    key
}

/// A file's hash as a request has it.
pub(super) fn file_key(sha256: &str) -> Option<[u8; 32]> {
    hex::decode(sha256)?.try_into().ok()
}
