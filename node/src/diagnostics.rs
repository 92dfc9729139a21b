//! Diagnostics HTTP: `/healthz`, `/readyz`, `/metrics` (Prometheus) and `/status` (JSON).
//!
//! Alive means that the program's loops answer; ready means that it does what it is there for. What these are, each
//! program says by [`Subject`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::http::{self, Connections};
use crate::shutdown::Shutdown;

/// A loop that needs longer for an answer is stuck: nothing in it waits for I/O or for an engine.
const ANSWER: Duration = Duration::from_secs(2);
/// Few ask: probes, a scraper and a person.
const CONNECTIONS: Connections = Connections {
    at_once: 256,
    head: Duration::from_secs(10),
    write: Duration::from_secs(10),
    drain: Duration::from_secs(1),
};
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What diagnostics are about.
pub trait Subject: Clone + Send + Sync + 'static {
    /// Whether every loop and thread answers; the error says which does not.
    fn alive(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether it does what it is there for; the error says what is missing.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// All that it knows, for people and tools.
    fn status(&self) -> impl Future<Output = Value> + Send;

    /// The numbers of this moment.
    fn metrics(&self) -> impl Future<Output = Registry> + Send;
}

/// Why diagnostics cannot be served.
#[derive(Debug, Error)]
#[error("cannot listen for diagnostics on {address}: {source}; give another port with --diagnostics-port")]
pub struct DiagnosticsError {
    address: SocketAddr,
    source: io::Error,
}

/// Serves in the background until the program ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start<S: Subject>(
    address: SocketAddr,
    subject: S,
    mut shutdown: Shutdown,
) -> Result<(), DiagnosticsError> {
    let listener = TcpListener::bind(address).await.map_err(|source| DiagnosticsError { address, source })?;
    let app = app(subject);
    tokio::spawn(async move {
        http::serve(listener, app, CONNECTIONS, async move { shutdown.begun().await }).await;
    });
    Ok(())
}

/// The routes.
pub fn app<S: Subject>(subject: S) -> Router {
    Router::new()
        .route("/healthz", get(healthz::<S>))
        .route("/readyz", get(readyz::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/status", get(status::<S>))
        .with_state(subject)
}

async fn healthz<S: Subject>(State(subject): State<S>) -> Response {
    verdict(subject.alive()).await
}

async fn readyz<S: Subject>(State(subject): State<S>) -> Response {
    verdict(subject.ready()).await
}

/// The same form for both: 200 and `ok`, or 503 and the reason.
async fn verdict(check: impl Future<Output = Result<(), String>>) -> Response {
    let checked = timeout(ANSWER, check).await;
    match checked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}"))) {
        Ok(()) => Json(serde_json::json!({ "status": "ok" })).into_response(),
        Err(reason) => {
            let body = Json(serde_json::json!({ "status": "unavailable", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn metrics<S: Subject>(State(subject): State<S>) -> Response {
    let mut text = String::new();
    match timeout(ANSWER, subject.metrics()).await.map(|registry| encode(&mut text, &registry)) {
        Ok(Ok(())) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn status<S: Subject>(State(subject): State<S>) -> Response {
    match timeout(ANSWER, subject.status()).await {
        Ok(status) => Json(status).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
