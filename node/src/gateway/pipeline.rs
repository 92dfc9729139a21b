//! What the gateway says of itself and its pipeline: the operator, the console, probes and Prometheus read it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use shard_wire::pipeline::WAIT_SECONDS;
use tokio::time::timeout;

use super::Gateway;
use super::error::ApiError;

/// The longest wait of a long poll.
const LONGEST_WAIT_SECS: u64 = 60;

/// `?since=REV&wait=SECONDS`
#[derive(Debug, Deserialize)]
pub(super) struct Poll {
    since: Option<String>,
    wait: Option<u64>,
}

/// The pipeline object: at once, or, when `since` is its revision, when it has changed or after `wait`.
pub(super) async fn pipeline(
    State(gateway): State<Gateway>,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(poll) = poll.map_err(|rejection| ApiError::parameter("wait", rejection.body_text()))?;
    let mut pipeline = gateway.pipeline.clone();
    if let Some(since) = poll.since {
        let wait = Duration::from_secs(poll.wait.unwrap_or(WAIT_SECONDS).min(LONGEST_WAIT_SECS));
        // Too late, or the sender is gone: either way the latest object is the answer.
        let _ = timeout(wait, pipeline.wait_for(|status| status.revision != since)).await;
    }
    let status = Arc::clone(&pipeline.borrow());
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(&*status)).into_response())
}

/// The owner of the sessions is alive.
pub(super) async fn healthz(State(gateway): State<Gateway>) -> Response {
    if gateway.client.is_closed() {
        let body = json!({"status": "failed", "reason": "the owner of the sessions has ended"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

/// Ready means that the API is served, its 503 for an incomplete pipeline included.
pub(super) async fn readyz(State(gateway): State<Gateway>) -> Response {
    let complete = gateway.pipeline.borrow().pipeline_complete;
    if gateway.client.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "shutting down"}))).into_response();
    }
    Json(json!({"status": "ready", "pipeline_complete": complete})).into_response()
}

pub(super) async fn metrics(State(gateway): State<Gateway>) -> Result<Response, ApiError> {
    let text =
        gateway.metrics.render().map_err(|_| ApiError::Internal("the metrics could not be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
