//! One connection to one gateway, made again where it broke.

use std::io;
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

/// Of a connection; of request and answer together, beside what the gateway was asked to wait.
const DEADLINE: Duration = Duration::from_secs(2);
/// 4,096 replicas of a kilobyte each.
const MAX_BYTES: usize = 8 << 20;
/// What a connection has in memory while it waits; an answer's head has to fit.
const READ_BYTES: usize = 4096;
/// Bodies that are read at the same time, of all gateways: what they take stays bounded.
static BODIES: Semaphore = Semaphore::const_new(8);

/// Of whoever cannot connect to a pod.
const REACH: &str = "the operator has to reach the addresses of pods: run it in the cluster, where its NetworkPolicies let it in, \
     or on a machine with a route to them";

/// Why a gateway gave no answer; in words that follow "no gateway answers".
#[derive(Debug, Error)]
pub enum GatewayError {
    /// There is no way to it, or nobody listens there.
    #[error("at {at}: {}", no_way(source))]
    Connect {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("at {at}: the request failed: {source}")]
    Exchange {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: hyper::Error,
    },
    /// No request can be made, because of the key.
    #[error("at {at}: the operator's key cannot stand in a header: {source}")]
    Key {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: hyper::http::Error,
    },
    /// It refuses.
    #[error("at {at}: {status} is the answer to GET {path}", path = pipeline::PATH)]
    Refused {
        /// Where.
        at: SocketAddr,
        /// How.
        status: StatusCode,
    },
    /// The body is too long, or breaks off.
    #[error("at {at}: the answer cannot be read: {reason}")]
    Body {
        /// Where.
        at: SocketAddr,
        /// Why.
        reason: String,
    },
    /// It is no pipeline object.
    #[error("at {at}: the answer is not understood: {source}")]
    Malformed {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: serde_json::Error,
    },
    /// It takes too long.
    #[error("at {at}: no answer within {DEADLINE:?}, though it can be connected to")]
    Late {
        /// Where.
        at: SocketAddr,
    },
}

impl GatewayError {
    /// Whether it is more than a connection that lay idle until it was closed.
    pub(super) fn is_sure(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
            Self::Late { .. } => true,
            _ => false,
        }
    }
}

/// A gateway, and how it is reached.
pub(super) struct Link {
    at: SocketAddr,
    key: Option<String>,
    sender: Option<Sender>,
}

type Sender = SendRequest<Empty<Bytes>>;

impl Link {
    pub(super) fn new(at: SocketAddr, key: Option<String>) -> Self {
        Self { at, key, sender: None }
    }

    /// Its pipeline object: at once, or when it is another than `since`, or after [`pipeline::WAIT_SECONDS`].
    pub(super) async fn pipeline(&mut self, since: Option<&str>) -> Result<PipelineStatus, GatewayError> {
        let sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            // There is one of these for each gateway, mostly idle: what only a new connection needs is not kept in it.
            _ => Box::pin(self.connect()).await?,
        };
        let waits = since.map_or(Duration::ZERO, |_| Duration::from_secs(pipeline::WAIT_SECONDS));
        let answer = timeout(waits + DEADLINE, self.exchange(sender, since)).await;
        answer.unwrap_or(Err(GatewayError::Late { at: self.at }))
    }

    async fn connect(&self) -> Result<Sender, GatewayError> {
        let at = self.at;
        let stream = timeout(DEADLINE, TcpStream::connect(at)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|source| GatewayError::Connect { at, source })?;
        let mut http = http1::Builder::new();
        http.read_buf_exact_size(Some(READ_BYTES));
        let handshake = http.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|source| GatewayError::Exchange { at, source })?;
        // It ends by itself when the sender and the body are dropped.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// The connection is kept where it is still good.
    async fn exchange(
        &mut self,
        mut sender: Sender,
        since: Option<&str>,
    ) -> Result<PipelineStatus, GatewayError> {
        let at = self.at;
        let broken = |source| GatewayError::Exchange { at, source };
        sender.ready().await.map_err(broken)?;
        let path = since.map_or_else(|| pipeline::PATH.to_owned(), pipeline::changed_since);
        let mut request = Request::get(path).header(HOST, at.to_string());
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|source| GatewayError::Key { at, source })?;
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

/// What happened, without the system's number for it, and what to do about it.
fn no_way(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".into(),
        io::ErrorKind::TimedOut => format!("connection timed out; {REACH}"),
        kind @ (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            format!("{kind}; {REACH}")
        }
        _ => format!("cannot connect: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn words(at: SocketAddr) -> String {
        Link::new(at, None).pipeline(None).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(words(at).await, format!("at {at}: connection refused: nothing listens there"));
    }

    /// A queue that is full takes no more connections, and says nothing of it: as an address behind a filter.
    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_times_out_and_says_what_to_do() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let at = listener.local_addr().unwrap();
        let _first = std::net::TcpStream::connect(at).unwrap();
        let advice = "run it in the cluster, where its NetworkPolicies let it in, or on a machine with a route to them";
        let expected = format!(
            "at {at}: connection timed out; the operator has to reach the addresses of pods: {advice}"
        );
        assert_eq!(words(at).await, expected);
    }

    /// Someone is there: then it is not the way.
    #[tokio::test(start_paused = true)]
    async fn a_listener_that_never_answers_is_late() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = TcpStream::from_std(connected(at)).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut link = Link { at, key: None, sender: Some(sender) };
        let words = link.pipeline(None).await.unwrap_err().to_string();
        assert_eq!(words, format!("at {at}: no answer within 2s, though it can be connected to"));
    }

    /// Outside the runtime, whose clock would not wait for it.
    fn connected(at: SocketAddr) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }
}
