//! `/json-message/1.0` and `/metrics/1.0` on a stream. Whatever is asked over `/metrics/1.0`, nothing included, is
//! `GET_METRICS`. A request that is too large or no JSON still gets an answer, so it is a value
//! here and not a broken stream.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use serde_json::Value;
use shard_wire::keys;
use shard_wire::message::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Request, RequestError, Response};

/// Reads and writes one message a stream, each within its bound.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonCodec;

impl request_response::Codec for JsonCodec {
    type Protocol = StreamProtocol;
    type Request = Result<Request, RequestError>;
    type Response = Response;

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = read_bounded(io, MAX_REQUEST_BYTES).await?;
        if protocol.as_ref() != keys::METRICS {
            return Ok(Request::decode(&bytes));
        }
        let request_id = Request::decode(&bytes).map(|request| request.request_id).unwrap_or_default();
        Ok(Ok(Request { command: "GET_METRICS".into(), request_id, params: Value::Null }))
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

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = serde_json::to_vec(&request.map_err(|error| invalid(error.to_string()))?)?;
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
