//! The HTTP side of `web_server`: OpenAI's API in, prompts for the ring out.
//!
//! ```text
//!  client ─HTTP─▶ serve ─▶ auth ─▶ openai ──▶ request ─▶ prompt ─▶ generate ─▶ ring::Client
//!                            │       ▲                                 │tokens
//!                            │       └── stream | one object ◀─ events ┘
//!                            └▶ pipeline: /api/v1/pipeline, /healthz, /readyz, /metrics
//! ```
//! `request` and `prompt` are pure. Whatever fails is an [`ApiError`]; `error` alone says what that is in HTTP.

mod auth;
mod error;
mod fields;
mod generate;
mod messages;
mod metrics;
mod openai;
mod pipeline;
mod prompt;
pub mod request;
mod response;
mod sampling;
mod stream;
mod timings;
mod transcript;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use shard_wire::pipeline::PipelineStatus;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use auth::{Keys, KeysError};
pub use error::ApiError;
pub use metrics::Metrics;
pub use timings::{StageTimings, Timings};

use self::auth::Scope;
use self::request::Api;
use crate::http::{self, Connections};
use crate::model::Model;
use crate::ring::client::{Client, OpenError};

/// What bounds the clients of a gateway. How many wait for a free slot, and how long, is the ring's to bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that are served at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// How long the head, and then the body, of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what it asked for.
    pub write_timeout: Duration,
    /// From the arrival of a request to its last token.
    pub request_timeout: Duration,
    /// How long connections may go on after the shutdown began.
    pub drain: Duration,
    /// No prompt is taken, on purpose.
    pub suspended: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            // About 250,000 tokens of text: longer than the context of what we serve.
            body_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            // A slow machine takes minutes for a long answer; a client that is gone is noticed long before.
            request_timeout: Duration::from_secs(1800),
            drain: Duration::from_secs(5),
            suspended: false,
        }
    }
}

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Gateway {
    model: watch::Receiver<Option<Arc<Model>>>,
    pipeline: watch::Receiver<Arc<PipelineStatus>>,
    limits: Arc<Limits>,
    keys: Arc<Keys>,
    metrics: Arc<Metrics>,
    client: Client,
    encoders: Arc<Semaphore>,
    /// A number that is this process's, and how many answers it has begun: the id of an answer.
    ids: Arc<(u64, AtomicU64)>,
}

impl Gateway {
    /// A gateway to the ring behind `client`.
    pub fn new(
        client: Client,
        model: watch::Receiver<Option<Arc<Model>>>,
        pipeline: watch::Receiver<Arc<PipelineStatus>>,
        keys: Keys,
        limits: Limits,
        metrics: Metrics,
    ) -> Self {
        Self {
            model,
            pipeline,
            limits: Arc::new(limits),
            keys: Arc::new(keys),
            metrics: Arc::new(metrics),
            client,
            encoders: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            ids: Arc::new((RandomState::new().hash_one(0u8), AtomicU64::new(0))),
        }
    }

    /// The model that is served; `asked` must name it where it is given.
    fn model(&self, asked: Option<&str>) -> Result<Arc<Model>, ApiError> {
        if self.limits.suspended {
            return Err(ApiError::Suspended);
        }
        let Some(model) = self.model.borrow().clone() else {
            let status = self.pipeline.borrow();
            let reason =
                if status.reason.is_empty() { "no shard has announced itself" } else { &status.reason };
            return Err(ApiError::ModelUnknown(reason.to_owned()));
        };
        match asked {
            Some(asked) if asked != model.name => {
                let asked = asked.chars().take(100).collect();
                Err(ApiError::NoSuchModel { asked, served: model.name.clone() })
            }
            _ => Ok(model),
        }
    }

    /// What the ring's refusal is to a client: which shards are missing, how long the prompt is.
    fn explain(&self, error: OpenError, prompt: u32) -> ApiError {
        match error {
            OpenError::Incomplete { missing, reason } => {
                let status = self.pipeline.borrow();
                let offline = status.shards.iter().filter(|shard| !shard.online);
                ApiError::Incomplete {
                    reason,
                    shards: offline.map(|shard| shard.shard_id).collect(),
                    layers: missing,
                }
            }
            OpenError::TooLong { limit, .. } => ApiError::ContextLength { prompt: prompt as usize, limit },
            other => ApiError::Open(other),
        }
    }

    fn answer_id(&self, api: Api) -> String {
        let (process, answers) = &*self.ids;
        let prefix = if api == Api::Chat { "chatcmpl" } else { "cmpl" };
        format!("{prefix}-{process:016x}{:08x}", answers.fetch_add(1, Ordering::Relaxed))
    }
}

/// Serves [`app`] until `shutdown` is ready, then lets connections finish within the limit for that.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: impl Future<Output = ()>) {
    let Limits { connections, body_timeout, write_timeout, drain, .. } = *gateway.limits;
    let limits = Connections { at_once: connections, head: body_timeout, write: write_timeout, drain };
    http::serve(listener, app(gateway), limits, shutdown).await;
}

/// Every route.
pub fn app(gateway: Gateway) -> Router {
    let keyed = |scope| from_fn_with_state((gateway.clone(), scope), auth::require);
    let api = Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completion))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(keyed(Scope::Api));
    let pipeline = Router::new()
        .route(shard_wire::pipeline::PATH, get(pipeline::pipeline))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(keyed(Scope::Pipeline));
    let open = Router::new()
        .route("/healthz", get(pipeline::healthz))
        .route("/readyz", get(pipeline::readyz))
        .route("/metrics", get(pipeline::metrics))
        .method_not_allowed_fallback(method_not_allowed);
    api.merge(pipeline)
        .merge(open)
        .fallback(not_found)
        .layer(from_fn_with_state(gateway.clone(), count))
        .with_state(gateway)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::Method { method: method.to_string(), path: uri.path().to_owned() }
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::NoSuchPath(uri.path().chars().take(200).collect())
}

/// Counts every response by its route.
async fn count(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let route =
        request.extensions().get::<MatchedPath>().map_or("other".into(), |path| path.as_str().to_owned());
    let response = next.run(request).await.into_response();
    gateway.metrics.request(&route, response.status().as_u16());
    response
}
