//! `/torrent/1.0`: a raw stream of requests and, in their order, answers. Several may be under way on one stream.
//!
//! ```text
//! request   0  u8   version, 3          answer   0  u8   version, 3
//!           1  u8   kind                         1  u8   status
//!           2  u16  0                            2  u16  0
//!           4  u32  length                       4  u32  length, bytes that follow
//!           8  u64  offset
//!          16  [u8; 32]  what
//! ```
//! Little-endian. `what` is the SHA-256 of a file; for [`Kind::Manifest`] the plan's name, padded with zeros.
//!
//! | kind | length | offset | data of the answer |
//! |---|---|---|---|
//! | manifest | 0 | 0 | the manifest |
//! | piece | bytes wanted | where they begin | those bytes |
//! | have | milliseconds to wait | the revision that the asker knows, 0: none | revision `u64`, then a bit for each piece |
//! | got | bytes of a piece | where they begin | there is no answer |
//!
//! **Have** is a long poll: it is answered at once where the holder's revision is another than the asker's, else with
//! the next change, or at the end of the wait with the same revision. So news cost a round trip and no polling. Piece
//! `i` is bit `i % 8` of byte `i / 8`. Who has the whole file answers revision [`WHOLE`] and no bits, and need not be
//! asked again. A poll waits on its stream, so pieces are asked for on another one.
//!
//! **Got** says on the stream of a piece that it has arrived and is verified. Until then it has not left: what a
//! transport has taken may wait in its buffers, and is lost with the connection.
//!
//! **Statuses** other than `Ok` have no data, and say whether to come back: `Busy` to the peer, in a while;
//! `Elsewhere` for this piece, in a while, if nobody else has it by then; `NotFound` and `Unavailable` not soon.
//!
//! Whoever asks verifies: a piece against the manifest, a manifest against the plan's name. Version 1 had neither
//! `have` nor `Busy` and `Elsewhere`, version 2 no `got`; a peer of another version is refused, and the error names both.

mod bits;

use thiserror::Error;

pub use bits::{Bits, BitsError};

/// The version that this crate reads and writes.
pub const VERSION: u8 = 3;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 48;
/// Bytes of an answer before its data.
pub const ANSWER_LEN: usize = 8;
/// Bytes of data in one answer: a manifest, or the header of a shard file, which is one piece.
pub const MAX_DATA: u32 = 64 << 20;
/// Milliseconds that a holder lets a question after its pieces wait: below what keeps an idle connection open.
pub const MAX_WAIT: u32 = 30_000;
/// The revision of who has every piece.
pub const WHOLE: u64 = u64::MAX;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The manifest of a plan.
    Manifest = 1,
    /// Bytes of a file.
    Piece = 2,
    /// Which pieces of a file are there.
    Have = 3,
    /// Nothing: a piece has arrived.
    Got = 4,
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
    /// This peer gives to others now: try later, or elsewhere.
    Busy = 3,
    /// This peer has given the piece to another one, and gives what nobody has first.
    Elsewhere = 4,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// Bytes wanted, or milliseconds to wait; 0 for a manifest, whose size the asker does not know.
    pub length: u32,
    /// Where they begin in the file, or the revision that is known.
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
    /// A longer wait than a peer grants.
    #[error("a wait of {0} ms, at most {MAX_WAIT}")]
    TooLong(u32),
    /// Data without the revision that pieces begin with.
    #[error("{0} bytes are no revision")]
    NoRevision(usize),
    /// Bits that do not fit the file.
    #[error(transparent)]
    Bits(#[from] BitsError),
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
            3 => Kind::Have,
            4 => Kind::Got,
            other => return Err(TorrentError::Kind(other)),
        };
        let mut offset = [0; 8];
        offset.copy_from_slice(&bytes[8..16]);
        let mut what = [0; 32];
        what.copy_from_slice(&bytes[16..]);
        let length = length(bytes[4..8].first_chunk())?;
        if kind == Kind::Have && length > MAX_WAIT {
            return Err(TorrentError::TooLong(length));
        }
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
        3 => Status::Busy,
        4 => Status::Elsewhere,
        other => return Err(TorrentError::Status(other)),
    };
    Ok((status, length(bytes[4..].first_chunk())?))
}

/// Which pieces of a file a peer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Have {
    /// Every one.
    Whole,
    /// Those of the bits, at a revision.
    Some {
        /// Another one means other bits.
        revision: u64,
        /// A bit for each piece.
        bits: Bits,
    },
}

impl Have {
    /// The data of the answer.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Whole => WHOLE.to_le_bytes().to_vec(),
            Self::Some { revision, bits } => [&revision.to_le_bytes(), bits.as_bytes()].concat(),
        }
    }

    /// Reads the data of an answer about a file of `pieces` pieces.
    ///
    /// # Errors
    /// Where there is no revision, or as many bits as the file has no pieces.
    pub fn decode(data: &[u8], pieces: usize) -> Result<Self, TorrentError> {
        let Some((revision, bits)) = data.split_first_chunk() else {
            return Err(TorrentError::NoRevision(data.len()));
        };
        match u64::from_le_bytes(*revision) {
            WHOLE if bits.is_empty() => Ok(Self::Whole),
            revision => Ok(Self::Some { revision, bits: Bits::from_bytes(bits, pieces)? }),
        }
    }

    /// Bytes of the largest answer about a file of `pieces` pieces.
    pub fn max_len(pieces: usize) -> usize {
        8 + pieces.div_ceil(8)
    }
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
        assert_eq!(with(1, 4), Ok(Request { kind: Kind::Got, ..request }));
        assert_eq!(with(1, 5), Err(TorrentError::Kind(5)));
        assert_eq!(with(7, 255), Err(TorrentError::TooLarge(255 << 24 | 7)));
        let patient = Request { kind: Kind::Have, length: MAX_WAIT + 1, ..request };
        assert_eq!(Request::decode(&patient.encode()), Err(TorrentError::TooLong(MAX_WAIT + 1)));
        for status in [Status::Ok, Status::NotFound, Status::Unavailable, Status::Busy, Status::Elsewhere] {
            assert_eq!(decode_answer(&encode_answer(status, 3)), Ok((status, 3)));
        }
        assert_eq!(decode_answer(&[3, 9, 0, 0, 0, 0, 0, 0]), Err(TorrentError::Status(9)));
        assert_eq!(decode_answer(&[1, 0, 0, 0, 0, 0, 0, 0]), Err(TorrentError::Version(1)));
    }

    /// The worked example: a file of ten pieces, of which the peer has the first two and the last, at revision 3; the
    /// asker knows nothing and does not wait.
    #[test]
    fn a_peer_says_which_pieces_it_has() {
        let request = Request { kind: Kind::Have, length: 0, offset: 0, what: [0xab; 32] };
        let mut expected = vec![3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0xab; 32]);
        assert_eq!(request.encode().to_vec(), expected);

        let mut bits = Bits::new(10);
        [0, 1, 9].iter().for_each(|piece| bits.set(*piece));
        let have = Have::Some { revision: 3, bits };
        let data = have.encode();
        assert_eq!(data, [3, 0, 0, 0, 0, 0, 0, 0, 0b0000_0011, 0b0000_0010]);
        assert_eq!(encode_answer(Status::Ok, data.len() as u32), [3, 0, 0, 0, 10, 0, 0, 0]);
        assert_eq!(Have::decode(&data, 10), Ok(have));
        assert_eq!(data.len(), Have::max_len(10));

        assert_eq!(Have::Whole.encode(), [0xff; 8]);
        assert_eq!(Have::decode(&[0xff; 8], 10), Ok(Have::Whole));
    }

    #[test]
    fn pieces_that_the_file_does_not_have_are_refused() {
        let with = |bits: &[u8]| Have::decode(&[&3u64.to_le_bytes(), bits].concat(), 10);
        assert_eq!(with(&[0]), Err(BitsError::Length { bytes: 1, pieces: 10 }.into()));
        assert_eq!(with(&[0; 4000]), Err(BitsError::Length { bytes: 4000, pieces: 10 }.into()));
        assert_eq!(with(&[0, 0b100]), Err(BitsError::Beyond { pieces: 10 }.into()));
        assert_eq!(Have::decode(&[0; 7], 10), Err(TorrentError::NoRevision(7)));
        let whole = [&[0xff; 8][..], &[0xff, 3]].concat();
        assert!(matches!(Have::decode(&whole, 10), Ok(Have::Some { revision: WHOLE, .. })));
    }
}
