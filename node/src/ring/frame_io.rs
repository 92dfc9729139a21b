//! Frames on a stream.

use std::io;

use futures::{AsyncRead, AsyncReadExt};
use shard_wire::frame::{Envelope, Frame, FrameError, HEADER_LEN, Limits};
use thiserror::Error;

/// Why no further frame comes from a stream.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The peer closed it between two frames.
    #[error("the stream ended")]
    End,
    /// The peer speaks nonsense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection broke, or the peer closed the stream within a frame.
    #[error("reading a frame: {0}")]
    Io(#[from] io::Error),
}

/// Reads the next frame. Memory grows with the bytes that arrive, not with those that a header claims.
///
/// # Errors
/// See [`ReadError`]; the stream is of no further use.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limits: &Limits) -> Result<Frame, ReadError> {
    let mut head = [0; HEADER_LEN];
    match stream.read(&mut head).await? {
        0 => return Err(ReadError::End),
        got => stream.read_exact(&mut head[got..]).await?,
    }
    let envelope = Envelope::decode(&head, limits)?;
    let mut payload = Vec::new();
    stream.take(envelope.payload_len() as u64).read_to_end(&mut payload).await?;
    if payload.len() < envelope.payload_len() {
        return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(envelope.with_payload(payload))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;
    use shard_wire::frame::{Header, Kind};

    use super::*;

    #[test]
    fn frames_follow_one_another_and_a_cut_is_an_error() {
        let frame = Frame { body: b"{}".to_vec(), ..Frame::control(Header::control(Kind::Close, 5, 1, 0)) };
        let bytes = [frame.encode(), frame.encode()].concat();
        for cut in 0..=bytes.len() {
            let mut stream = Cursor::new(&bytes[..cut]);
            let whole = cut / frame.encode().len();
            for _ in 0..whole {
                assert_eq!(block_on(read_frame(&mut stream, &Limits::default())).expect("whole"), frame);
            }
            let rest = block_on(read_frame(&mut stream, &Limits::default())).expect_err("no more");
            assert_eq!(matches!(rest, ReadError::End), cut % frame.encode().len() == 0, "{cut}: {rest}");
        }
    }
}
