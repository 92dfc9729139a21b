//! `/json-message/1.0` and `/metrics/1.0` on a stream. Whatever is asked over `/metrics/1.0`, nothing included, is
//! `GET_METRICS`. A request that is too large or no JSON still gets an answer, so it is a value
//! here and not a broken stream.
//!
//! A request in JSON may take many times its bytes once it is read: a list of digits has two for each, and a value in
//! memory tens. Small ones are bounded by how many there are; of large ones there are [`LARGE`] at most, from their first
//! byte to their answer.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use serde_json::Value;
use shard_wire::keys;
use shard_wire::message::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Request, RequestError, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a request that any peer may send at any time: a prompt that fills a context.
const SMALL: usize = 32 << 10;
/// Larger requests at once, of all peers.
const LARGE: usize = 2;

/// Reads and writes one message a stream, each within its bound.
#[derive(Clone, Debug)]
pub(super) struct JsonCodec {
    large: Arc<Semaphore>,
}

impl Default for JsonCodec {
    fn default() -> Self {
        Self { large: Arc::new(Semaphore::new(LARGE)) }
    }
}

/// A request, and its place among the large ones.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Result<Request, RequestError>,
    pub(super) large: Option<OwnedSemaphorePermit>,
}

impl Asked {
    /// One of ours.
    pub(super) fn ours(request: Request) -> Self {
        Self { request: Ok(request), large: None }
    }
}

impl request_response::Codec for JsonCodec {
    type Protocol = StreamProtocol;
    type Request = Asked;
    type Response = Response;

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = read_bounded(io, SMALL).await?;
        let mut large = None;
        if bytes.len() > SMALL {
            large = Arc::clone(&self.large).try_acquire_owned().ok();
            if large.is_none() {
                // Who asks reads the answer when all is written.
                let rest = (MAX_REQUEST_BYTES - bytes.len()) as u64;
                futures::io::copy(io.take(rest), &mut futures::io::sink()).await?;
                return Ok(Asked { request: Err(RequestError::Busy), large });
            }
            bytes.append(&mut read_bounded(io, MAX_REQUEST_BYTES - bytes.len()).await?);
        }
        let mut request = Request::decode(&bytes);
        if protocol.as_ref() == keys::METRICS {
            let request_id = request.map(|request| request.request_id).unwrap_or_default();
            request = Ok(Request { command: "GET_METRICS".into(), request_id, params: Value::Null });
        }
        Ok(Asked { request, large })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = read_bounded(io, MAX_RESPONSE_BYTES).await?;
        if bytes.len() > MAX_RESPONSE_BYTES {
            return Err(invalid(format!("the response is larger than {MAX_RESPONSE_BYTES} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("the response is not JSON: {error}")))
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, asked: Asked) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = serde_json::to_vec(&asked.request.map_err(|error| invalid(error.to_string()))?)?;
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(invalid(RequestError::TooLarge.to_string()));
        }
        io.write_all(&bytes).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = serde_json::to_vec(&response)?;
        if bytes.len() > MAX_RESPONSE_BYTES {
            return Err(invalid(format!("the response is larger than {MAX_RESPONSE_BYTES} bytes")));
        }
        io.write_all(&bytes).await
    }
}

/// Everything up to the end of the stream, or one byte more than `limit`.
async fn read_bounded<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
