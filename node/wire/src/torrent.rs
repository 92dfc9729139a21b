//! `/torrent/1.0`: a raw stream of requests and, in their order, answers. Several may be under way on one stream.
//!
//! ```text
//! request   0  u8   version, 1          answer   0  u8   version, 1
//!           1  u8   kind                         1  u8   status
//!           2  u16  0                            2  u16  0
//!           4  u32  length, bytes                4  u32  length, bytes that follow
//!           8  u64  offset
//!          16  [u8; 32]  what
//! ```
//! Little-endian. `what` is the SHA-256 of a file for [`Kind::Piece`], and the plan's name, padded with zeros, for
//! [`Kind::Manifest`]. Whoever asks verifies: a piece against the manifest, a manifest against the plan's name.

use thiserror::Error;

/// The version that this crate reads and writes.
pub const VERSION: u8 = 1;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 48;
/// Bytes of an answer before its data.
pub const ANSWER_LEN: usize = 8;
/// Bytes of data in one answer: a manifest, or the header of a shard file, which is one piece.
pub const MAX_DATA: u32 = 64 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The manifest of a plan.
    Manifest = 1,
    /// Bytes of a file.
    Piece = 2,
}

/// How an answer turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The data follow.
    Ok = 0,
    /// This peer does not have it.
    NotFound = 1,
    /// This peer has it and cannot read it now.
    Unavailable = 2,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// Bytes wanted; 0 for a manifest, whose size the asker does not know.
    pub length: u32,
    /// Where they begin in the file.
    pub offset: u64,
    /// Of what.
    pub what: [u8; 32],
}

/// Why bytes are no request or no answer. The stream is cut off.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TorrentError {
    /// Another version.
    #[error("torrent version {0}, this node speaks {VERSION}")]
    Version(u8),
    /// No such kind of request.
    #[error("torrent request of kind {0}")]
    Kind(u8),
    /// No such status.
    #[error("torrent answer of status {0}")]
    Status(u8),
    /// More than a peer gives at once.
    #[error("{0} bytes at once, at most {MAX_DATA}")]
    TooLarge(u32),
}

impl Request {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.what);
        bytes
    }

    /// Reads a request.
    ///
    /// # Errors
    /// See [`TorrentError`].
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Result<Self, TorrentError> {
        if bytes[0] != VERSION {
            return Err(TorrentError::Version(bytes[0]));
        }
        let kind = match bytes[1] {
            1 => Kind::Manifest,
            2 => Kind::Piece,
            other => return Err(TorrentError::Kind(other)),
        };
        let mut offset = [0; 8];
        offset.copy_from_slice(&bytes[8..16]);
        let mut what = [0; 32];
        what.copy_from_slice(&bytes[16..]);
        let length = length(bytes[4..8].first_chunk())?;
        Ok(Self { kind, length, offset: u64::from_le_bytes(offset), what })
    }
}

/// The bytes before an answer's data.
pub fn encode_answer(status: Status, length: u32) -> [u8; ANSWER_LEN] {
    let mut bytes = [VERSION, status as u8, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Reads what stands before an answer's data: how it turned out, and how many bytes follow.
///
/// # Errors
/// See [`TorrentError`].
pub fn decode_answer(bytes: &[u8; ANSWER_LEN]) -> Result<(Status, u32), TorrentError> {
    if bytes[0] != VERSION {
        return Err(TorrentError::Version(bytes[0]));
    }
    let status = match bytes[1] {
        0 => Status::Ok,
        1 => Status::NotFound,
        2 => Status::Unavailable,
        other => return Err(TorrentError::Status(other)),
    };
    Ok((status, length(bytes[4..].first_chunk())?))
}

fn length(bytes: Option<&[u8; 4]>) -> Result<u32, TorrentError> {
    let length = bytes.map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
    if length > MAX_DATA { Err(TorrentError::TooLarge(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_lies_is_named() {
        let request = Request { kind: Kind::Piece, length: 7, offset: 1 << 40, what: [9; 32] };
        let bytes = request.encode();
        assert_eq!(Request::decode(&bytes), Ok(request));
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes;
            bytes[at] = byte;
            Request::decode(&bytes)
        };
        assert_eq!(with(0, 2), Err(TorrentError::Version(2)));
        assert_eq!(with(1, 3), Err(TorrentError::Kind(3)));
        assert_eq!(with(7, 255), Err(TorrentError::TooLarge(255 << 24 | 7)));
        assert_eq!(decode_answer(&encode_answer(Status::NotFound, 0)), Ok((Status::NotFound, 0)));
        assert_eq!(decode_answer(&[1, 9, 0, 0, 0, 0, 0, 0]), Err(TorrentError::Status(9)));
    }
}
