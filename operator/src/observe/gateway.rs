//! Asks gateways what they know of their pipeline.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use shard_wire::pipeline::PipelineStatus;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::desired::meta::{COMPONENT, Part};
use crate::status::pods::is_ready;

const PATH: &str = "/api/v1/pipeline";
/// Connection, request and answer together. The object is in a gateway's memory.
const DEADLINE: Duration = Duration::from_secs(2);
/// 4,096 replicas of a kilobyte each.
const MAX_BYTES: usize = 8 << 20;
/// Of many gateways some are enough: all of them see the same fleet.
const MAX_ASKED: usize = 8;

/// What the gateways of a cluster say.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayView {
    /// No gateway is ready to be asked.
    NotReady,
    /// Those that are ready do not answer: why, in words.
    Unreachable(String),
    /// The best answer.
    Answered(Box<PipelineStatus>),
}

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
    #[error("{at} answers {status} to GET {PATH}")]
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

/// How gateways are asked.
#[derive(Clone, Copy, Debug)]
pub struct Gateways {
    port: u16,
}

impl Gateways {
    /// Those that listen on this port of their pods.
    #[must_use]
    pub fn on_port(port: u16) -> Self {
        Self { port }
    }

    /// Asks those of these pods that are ready gateways.
    pub(super) async fn ask(&self, pods: &[Pod], key: Option<&str>) -> GatewayView {
        let asked: Vec<SocketAddr> = addresses(pods, self.port).take(MAX_ASKED).collect();
        if asked.is_empty() {
            return GatewayView::NotReady;
        }
        let all = futures::stream::iter(asked).map(|at| pipeline(at, key)).buffer_unordered(MAX_ASKED);
        best(all.collect().await)
    }
}

fn addresses(pods: &[Pod], port: u16) -> impl Iterator<Item = SocketAddr> {
    let component = |pod: &Pod| pod.metadata.labels.as_ref()?.get(COMPONENT).cloned();
    let gateways =
        pods.iter().filter(move |pod| component(pod).as_deref() == Some(Part::Gateway.component()));
    gateways.filter(|pod| is_ready(pod)).filter_map(move |pod| {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(ip, port))
    })
}

/// A gateway that proved the pipeline is right; else the one that has found most.
fn best(answers: Vec<Result<PipelineStatus, GatewayError>>) -> GatewayView {
    let (mut found, mut why) = (None::<PipelineStatus>, String::new());
    let worth = |one: &PipelineStatus| (one.pipeline_complete, one.manifest.is_some(), one.discovered_shards);
    for answer in answers {
        match answer {
            Ok(answer) if found.as_ref().is_none_or(|best| worth(&answer) > worth(best)) => {
                found = Some(answer);
            }
            Ok(_) => {}
            Err(error) => why = error.to_string(),
        }
    }
    found.map_or(GatewayView::Unreachable(why), |best| GatewayView::Answered(Box::new(best)))
}

async fn pipeline(at: SocketAddr, key: Option<&str>) -> Result<PipelineStatus, GatewayError> {
    timeout(DEADLINE, exchange(at, key)).await.unwrap_or(Err(GatewayError::Late { at }))
}

async fn exchange(at: SocketAddr, key: Option<&str>) -> Result<PipelineStatus, GatewayError> {
    let broken = |source| GatewayError::Exchange { at, source };
    let stream = TcpStream::connect(at).await.map_err(|source| GatewayError::Connect { at, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends by itself when the sender and the body are dropped.
    tokio::spawn(connection);
    let mut request = Request::get(PATH).header(HOST, at.to_string());
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(GatewayError::Key)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(GatewayError::Refused { at, status: response.status() });
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    let body = body.map_err(|error| GatewayError::Body { at, reason: error.to_string() })?.to_bytes();
    serde_json::from_slice(&body).map_err(|source| GatewayError::Malformed { at, source })
}
