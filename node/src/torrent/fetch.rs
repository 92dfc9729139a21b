//! Fetches a manifest, or the header of a file that it names, into memory from one peer, and verifies it.

use std::io;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use libp2p_stream::{Control, OpenStreamError};
use shard_wire::manifest::{self, Manifest, Piece};
use shard_wire::torrent::{ANSWER_LEN, Kind, Request, Status, decode_answer};
use thiserror::Error;
use tokio::time::timeout;

use super::PROTOCOL;
use super::shelf::{file_key, plan_key};
use crate::library::manifest_of_plan;
use crate::store::hash;

/// A peer answers one request within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why one peer did not give what was asked for.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No stream to it.
    #[error("opening a stream: {0}")]
    Open(#[from] OpenStreamError),
    /// The stream broke.
    #[error("reading the answer: {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
    /// It does not have it, or cannot read it.
    #[error("the peer answers {0:?}")]
    Status(Status),
    /// What it gave is something else.
    #[error("the peer gave {0} that does not match its hash")]
    Wrong(&'static str),
    /// What it gave is not a manifest.
    #[error("the peer's manifest: {0}")]
    Manifest(#[from] manifest::ManifestError),
    /// Too large for memory.
    #[error("{0} bytes are more than asked for")]
    TooLarge(u64),
}

/// The manifest of a plan of this wire version, from one peer.
///
/// # Errors
/// See [`FetchError`]; another peer may have it.
pub async fn manifest(
    control: &mut Control,
    peer: PeerId,
    plan: &str,
    wire: u8,
) -> Result<Manifest, FetchError> {
    let mut stream = open(control, peer).await?;
    let request = Request { kind: Kind::Manifest, length: 0, offset: 0, what: plan_key(plan) };
    let bytes = ask(&mut stream, request, manifest::MAX_BYTES).await?;
    manifest_of_plan(&bytes, plan, wire)?.ok_or(FetchError::Wrong("a manifest"))
}

/// The header of a file of the manifest, from one peer: its first piece.
///
/// # Errors
/// See [`FetchError`]; another peer may have it.
pub async fn header(
    control: &mut Control,
    peer: PeerId,
    file: &manifest::File,
) -> Result<Vec<u8>, FetchError> {
    let what = file_key(&file.sha256).ok_or(FetchError::Wrong("a file"))?;
    let Some(Piece { offset, size, sha256 }) = file.pieces.first() else {
        return Err(FetchError::Wrong("a file"));
    };
    let length = u32::try_from(*size).map_err(|_| FetchError::TooLarge(*size))?;
    let mut stream = open(control, peer).await?;
    let request = Request { kind: Kind::Piece, length, offset: *offset, what };
    let data = ask(&mut stream, request, length as usize).await?;
    let right = data.len() as u64 == *size && hash::sha256(&data) == *sha256;
    right.then_some(data).ok_or(FetchError::Wrong("a piece"))
}

async fn open(control: &mut Control, peer: PeerId) -> Result<Stream, FetchError> {
    Ok(timeout(PATIENCE, control.open_stream(peer, PROTOCOL)).await.map_err(|_| FetchError::Timeout)??)
}

/// One request and its answer, of at most `limit` bytes. Memory grows with the bytes that arrive.
async fn ask(stream: &mut Stream, request: Request, limit: usize) -> Result<Vec<u8>, FetchError> {
    let exchange = async {
        stream.write_all(&request.encode()).await?;
        stream.flush().await?;
        let mut head = [0; ANSWER_LEN];
        stream.read_exact(&mut head).await?;
        let (status, length) = decode_answer(&head).map_err(io::Error::other)?;
        if status != Status::Ok {
            return Err(FetchError::Status(status));
        }
        if length as usize > limit {
            return Err(FetchError::TooLarge(u64::from(length)));
        }
        let mut data = Vec::new();
        stream.take(u64::from(length)).read_to_end(&mut data).await?;
        if data.len() < length as usize {
            return Err(FetchError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(data)
    };
    timeout(PATIENCE, exchange).await.map_err(|_| FetchError::Timeout)?
}
