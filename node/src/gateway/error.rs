//! Every way in which a request can fail, and the one place that says what that is in HTTP.
//!
//! The body has OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`. An error before the first byte of an
//! answer is a status; one in the middle of a stream is an event with the same body.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shard_wire::layers::LayerRange;
use thiserror::Error;

use crate::ring::client::{AnswerError, OpenError};

/// When a client that found the fleet and its queue full may try again.
const RETRY_BUSY: Duration = Duration::from_secs(2);
/// When a client that found the pipeline incomplete may try again.
const RETRY_INCOMPLETE: Duration = Duration::from_secs(5);

/// Why a request got no answer, or only the beginning of one.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ApiError {
    /// The body is not a JSON object.
    #[error("The body is not a JSON object: {0}.")]
    NotJson(String),
    /// A parameter is missing, of the wrong type, or out of its range.
    #[error("Invalid '{param}': {message}.")]
    Parameter {
        /// Where it stands, e.g. `messages[0].role`.
        param: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// A parameter that would change the answer in a way this server cannot.
    #[error("Unsupported '{param}': {message}.")]
    Unsupported {
        /// Where it stands.
        param: String,
        /// What to do instead.
        message: String,
    },
    /// The prompt leaves no room for a token.
    #[error(
        "This model's maximum context length is {limit} tokens, the prompt has {prompt}: shorten it to at most {} tokens.",
        limit.saturating_sub(1)
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt: usize,
        /// Positions of a session.
        limit: u32,
    },
    /// No key, or one that is not in the file.
    #[error("No valid API key was given: send the header 'Authorization: Bearer KEY'.")]
    Unauthorized,
    /// Another model than the one that is served.
    #[error("The model '{asked}' does not exist here; this endpoint serves '{served}'.")]
    NoSuchModel {
        /// What the client named.
        asked: String,
        /// What it can have.
        served: String,
    },
    /// Nothing is at that path.
    #[error("Nothing is at '{0}'.")]
    NoSuchPath(String),
    /// The path takes another method.
    #[error("'{path}' does not take {method}.")]
    Method {
        /// The method used.
        method: String,
        /// The path.
        path: String,
    },
    /// The body did not arrive in time.
    #[error("The body was not complete within {} s.", .0.as_secs())]
    SlowBody(Duration),
    /// The connection failed while the body was read.
    #[error("The body could not be read: {0}.")]
    BrokenBody(String),
    /// The body is longer than the limit.
    #[error("The body is longer than {0} bytes.")]
    TooLarge(usize),
    /// The body is not declared as JSON. Browsers may send other types to a local server from any page.
    #[error("The content type is '{0}': send 'Content-Type: application/json'.")]
    ContentType(String),
    /// No announcement or manifest has told the model yet.
    #[error("The model is not known yet: {0}.")]
    ModelUnknown(String),
    /// Its shards are stopped on purpose.
    #[error(
        "The cluster is suspended: it answers again when its shards are started, in Kubernetes by 'suspend: false' and 'shards.replicas' above 0."
    )]
    Suspended,
    /// No plan is fully covered.
    #[error("{}", incomplete(.reason, .shards, .layers))]
    Incomplete {
        /// What is missing and why.
        reason: String,
        /// Shards without an online replica.
        shards: Vec<u32>,
        /// Layers that nobody serves.
        layers: Vec<LayerRange>,
    },
    /// The ring would not open a session, for a reason that is neither load nor a missing shard.
    #[error("The session could not be opened: {0}.")]
    Open(OpenError),
    /// The answer broke off.
    #[error("The answer broke off: {0}.")]
    Answer(AnswerError),
    /// The answer was not complete in time.
    #[error("The answer was not complete within {} s.", .0.as_secs())]
    Deadline(Duration),
    /// The chat template refused the messages, or the model has none.
    #[error("The chat template does not take these messages: {0}.")]
    Template(String),
    /// A task of the gateway itself failed.
    #[error("The gateway failed: {0}.")]
    Internal(&'static str),
}

fn incomplete(reason: &str, shards: &[u32], layers: &[LayerRange]) -> String {
    let mut text =
        format!("The pipeline is incomplete: {}", if reason.is_empty() { "no route" } else { reason });
    let list = |items: Vec<String>| items.join(", ");
    if !shards.is_empty() {
        text += &format!("; missing shards: {}", list(shards.iter().map(ToString::to_string).collect()));
    }
    if !layers.is_empty() {
        let ranges = layers.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
        text += &format!("; missing layers: {} (end exclusive)", list(ranges));
    }
    text + "."
}

/// What an error is in HTTP.
struct Shape<'a> {
    status: StatusCode,
    code: &'static str,
    param: Option<&'a str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// A parameter that cannot be used as it is.
    pub(super) fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Parameter { param: param.into(), message: message.into() }
    }

    fn shape(&self) -> Shape<'_> {
        let shape = |status, code| Shape { status, code, param: None, retry_after: None };
        let about = |param, code| Shape { param: Some(param), ..shape(StatusCode::BAD_REQUEST, code) };
        let later = |status, code, after| Shape { retry_after: Some(after), ..shape(status, code) };
        match self {
            Self::NotJson(_) => shape(StatusCode::BAD_REQUEST, "invalid_json"),
            Self::Parameter { param, .. } => about(param.as_str(), "invalid_value"),
            Self::Unsupported { param, .. } => about(param.as_str(), "unsupported_parameter"),
            Self::ContextLength { .. } => shape(StatusCode::BAD_REQUEST, "context_length_exceeded"),
            Self::Template(_) => about("messages", "invalid_messages"),
            Self::BrokenBody(_) => shape(StatusCode::BAD_REQUEST, "incomplete_body"),
            Self::Unauthorized => shape(StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::NoSuchModel { .. } => {
                Shape { param: Some("model"), ..shape(StatusCode::NOT_FOUND, "model_not_found") }
            }
            Self::NoSuchPath(_) => shape(StatusCode::NOT_FOUND, "unknown_url"),
            Self::Method { .. } => shape(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::SlowBody(_) => shape(StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::TooLarge(_) => shape(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::ContentType(_) => shape(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type"),
            Self::Open(OpenError::Busy) => later(StatusCode::TOO_MANY_REQUESTS, "fleet_busy", RETRY_BUSY),
            Self::Suspended => shape(StatusCode::SERVICE_UNAVAILABLE, "suspended"),
            Self::ModelUnknown(_) => {
                later(StatusCode::SERVICE_UNAVAILABLE, "model_not_ready", RETRY_INCOMPLETE)
            }
            Self::Incomplete { .. } | Self::Open(OpenError::Incomplete { .. }) => {
                later(StatusCode::SERVICE_UNAVAILABLE, "pipeline_incomplete", RETRY_INCOMPLETE)
            }
            Self::Open(OpenError::TooLong { .. }) => {
                shape(StatusCode::BAD_REQUEST, "context_length_exceeded")
            }
            Self::Open(OpenError::Refused { .. }) => shape(StatusCode::BAD_GATEWAY, "session_refused"),
            Self::Open(OpenError::Timeout(_)) => shape(StatusCode::GATEWAY_TIMEOUT, "route_timeout"),
            Self::Answer(AnswerError::Lost { .. }) => {
                later(StatusCode::BAD_GATEWAY, "shard_lost", RETRY_INCOMPLETE)
            }
            Self::Deadline(_) | Self::Answer(AnswerError::Deadline(_)) => {
                shape(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded")
            }
            Self::Open(OpenError::Closed) | Self::Answer(AnswerError::Closed) => {
                later(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", RETRY_INCOMPLETE)
            }
            Self::Internal(_) => shape(StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// The body, of a response or of an event.
    pub(super) fn body(&self) -> Value {
        let Shape { status, code, param, .. } = self.shape();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.to_string(), "type": kind, "param": param, "code": code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Shape { status, retry_after, .. } = self.shape();
        let mut response = (status, Json(self.body())).into_response();
        if let Some(after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
