//! One connection to one gateway, made again where it broke.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use shard_wire::pipeline::{self, PipelineStatus};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connection, request and answer together, beside what the gateway was asked to wait.
const DEADLINE: Duration = Duration::from_secs(2);
/// 4,096 replicas of a kilobyte each.
const MAX_BYTES: usize = 8 << 20;
/// What a connection has in memory while it waits; an answer's head has to fit.
const READ_BYTES: usize = 4096;
/// Bodies that are read at the same time, of all gateways: what they take stays bounded.
static BODIES: Semaphore = Semaphore::const_new(8);

/// Why a gateway gave no answer.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// Nobody listens there.
    #[error("cannot connect to {at}: {source}")]
    Connect {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("the request to {at} failed: {source}")]
    Exchange {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: hyper::Error,
    },
    /// No request can be made, because of the key.
    #[error("the operator's key cannot stand in a header: {0}")]
    Key(hyper::http::Error),
    /// It refuses.
    #[error("{at} answers {status} to GET {path}", path = pipeline::PATH)]
    Refused {
        /// Where.
        at: SocketAddr,
        /// How.
        status: StatusCode,
    },
    /// The body is too long, or breaks off.
    #[error("the answer of {at} cannot be read: {reason}")]
    Body {
        /// Where.
        at: SocketAddr,
        /// Why.
        reason: String,
    },
    /// It is no pipeline object.
    #[error("the answer of {at} is not understood: {source}")]
    Malformed {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: serde_json::Error,
    },
    /// It takes too long.
    #[error("{at} does not answer within {DEADLINE:?}")]
    Late {
        /// Where.
        at: SocketAddr,
    },
}

/// A gateway, and how it is reached.
pub(super) struct Link {
    at: SocketAddr,
    key: Option<String>,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Link {
    pub(super) fn new(at: SocketAddr, key: Option<String>) -> Self {
        Self { at, key, sender: None }
    }

    /// Its pipeline object: at once, or when it is another than `since`, or after [`pipeline::WAIT_SECONDS`].
    pub(super) async fn pipeline(&mut self, since: Option<&str>) -> Result<PipelineStatus, GatewayError> {
        let waits = since.map_or(Duration::ZERO, |_| Duration::from_secs(pipeline::WAIT_SECONDS));
        let answer = timeout(waits + DEADLINE, self.exchange(since)).await;
        let answer = answer.unwrap_or(Err(GatewayError::Late { at: self.at }));
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, since: Option<&str>) -> Result<PipelineStatus, GatewayError> {
        let at = self.at;
        let broken = |source| GatewayError::Exchange { at, source };
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            // There is one of these for each gateway, mostly idle: what only a new connection needs is not kept in it.
            _ => Box::pin(connect(at)).await?,
        };
        sender.ready().await.map_err(broken)?;
        let path = since.map_or_else(|| pipeline::PATH.to_owned(), pipeline::changed_since);
        let mut request = Request::get(path).header(HOST, at.to_string());
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(GatewayError::Key)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(GatewayError::Refused { at, status: response.status() });
        }
        let unread = |reason: String| GatewayError::Body { at, reason };
        let _permit = BODIES.acquire().await.map_err(|closed| unread(closed.to_string()))?;
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| unread(error.to_string()))?.to_bytes();
        self.sender = Some(sender);
        serde_json::from_slice(&body).map_err(|source| GatewayError::Malformed { at, source })
    }
}

async fn connect(at: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, GatewayError> {
    let stream = TcpStream::connect(at).await.map_err(|source| GatewayError::Connect { at, source })?;
    let mut http = http1::Builder::new();
    http.read_buf_exact_size(Some(READ_BYTES));
    let shaken = http.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|source| GatewayError::Exchange { at, source })?;
    // It ends by itself when the sender and the body are dropped.
    tokio::spawn(connection);
    Ok(sender)
}
