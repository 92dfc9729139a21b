//! `/v1/…`: one request, one way.
//!
//! 1. the body is read and checked (`request`, pure: JSON to a valid [`Request`]);
//! 2. it is encoded for the model that is served (`prompt`, pure: [`Request`] to prompts);
//! 3. sessions are opened and tokens become events (`generate`, by the ring);
//! 4. events become chunks (`stream`) or one object (`whole`, the fold of the same events).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::BodyDataStream;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::Gateway;
use super::error::ApiError;
use super::generate::{self, Event};
use super::prompt::{self, Job};
use super::request::{Api, Request};
use super::response::{Head, Usage};
use super::stream::{self, Chunks};
use super::timings::{self, Timings};
use super::transcript::Piece;
use crate::model::Model;

/// How many times the limit of a body is read before the connection is cut off.
const FORGIVEN: usize = 16;
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

pub(super) async fn chat(State(gateway): State<Gateway>, request: HttpRequest) -> Result<Response, ApiError> {
    complete(gateway, Api::Chat, request).await
}

pub(super) async fn completion(
    State(gateway): State<Gateway>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    complete(gateway, Api::Completion, request).await
}

pub(super) async fn models(State(gateway): State<Gateway>) -> Result<Json<Value>, ApiError> {
    let known = gateway.model.borrow().clone();
    let data: Vec<_> = known.iter().map(|model| describe(model)).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

pub(super) async fn model(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(describe(&*gateway.model(Some(&name))?)))
}

fn describe(model: &Model) -> Value {
    json!({
        "id": model.name, "object": "model", "created": model.created, "owned_by": "shardcluster",
        "sha256": model.sha256, "context_length": model.context_length,
    })
}

async fn complete(gateway: Gateway, api: Api, request: HttpRequest) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let body = read(&gateway, request).await?;
    let request = Request::parse(api, &body)?;
    drop(body);
    let model = gateway.model(request.model.as_deref())?;
    let head = Head {
        api,
        id: gateway.answer_id(api),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        model: model.name.clone(),
        logprobs: request.sampling.logprobs.is_some(),
    };
    let (streaming, include_usage, n) = (request.stream, request.include_usage, request.n as usize);
    let jobs = encode(&gateway, &model, request).await?;
    let count = jobs.len();
    // The choices of one prompt share its tokens.
    let prompt_tokens = jobs.iter().step_by(n).map(|job| job.prompt.ids.len()).sum::<usize>();
    let prompt_tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
    let events = generate::answers(&gateway, &model, jobs, arrived);
    if streaming {
        stream_events(events, Chunks::new(head, include_usage, count, prompt_tokens)).await
    } else {
        whole(events, &head, prompt_tokens).await
    }
}

/// The body of a request that says that it is JSON, within the limits of size and time.
async fn read(gateway: &Gateway, request: HttpRequest) -> Result<Vec<u8>, ApiError> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).map_or(b"missing".as_slice(), HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(&kind[..kind.len().min(100)]).into_owned();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::ContentType(kind));
    }
    let patience = gateway.limits.body_timeout;
    let body = request.into_body().into_data_stream();
    timeout(patience, collect(body, gateway.limits.body_bytes))
        .await
        .map_err(|_| ApiError::SlowBody(patience))?
}

/// Reads up to `limit` bytes. Of a body that is longer the rest is read too, within reason, and forgotten: a client that
/// is still sending would see a broken connection instead of the answer.
async fn collect(mut body: BodyDataStream, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut len = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ApiError::BrokenBody(error.to_string()))?;
        len += chunk.len();
        if len <= limit {
            bytes.extend_from_slice(&chunk);
        } else if len > limit.saturating_mul(FORGIVEN) {
            break;
        }
    }
    if len > limit { Err(ApiError::TooLarge(limit)) } else { Ok(bytes) }
}

/// Tokenising a long text takes a while: off the threads that serve connections, and not for all clients at once.
async fn encode(gateway: &Gateway, model: &Arc<Model>, request: Request) -> Result<Vec<Job>, ApiError> {
    let failed = ApiError::Internal("the tokeniser stopped");
    let _permit = gateway.encoders.acquire().await.map_err(|_| failed.clone())?;
    let (model, timeout) = (Arc::clone(model), gateway.limits.request_timeout);
    let jobs = tokio::task::spawn_blocking(move || prompt::jobs(&model, request, timeout));
    jobs.await.map_err(|_| failed)?
}

/// Waits until the first session is open, so that a request that cannot be served has a status of its own.
async fn stream_events(
    mut events: BoxStream<'static, Result<Event, ApiError>>,
    chunks: Chunks,
) -> Result<Response, ApiError> {
    let first = events.next().await.unwrap_or(Err(ApiError::Internal("no answer was begun")))?;
    let mut response = stream::respond(events, chunks);
    if let Event::Opened { queued, opened_in } = first {
        set_timing(&mut response, &timings::opening(timings::ms(queued), timings::ms(opened_in)));
    }
    Ok(response)
}

/// The same events as one object.
async fn whole(
    mut events: BoxStream<'static, Result<Event, ApiError>>,
    head: &Head,
    prompt_tokens: u32,
) -> Result<Response, ApiError> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut choices = Vec::new();
    let mut total: Option<Timings> = None;
    while let Some(event) = events.next().await {
        let (index, piece, end) = match event? {
            Event::Opened { .. } => continue,
            Event::Text { index, piece } => (index, piece, None),
            Event::Done { index, piece, finish, meter } => (index, piece, Some((finish, meter.timings()))),
        };
        let slot = index as usize;
        if pieces.len() <= slot {
            pieces.resize(slot + 1, Piece::default());
        }
        pieces[slot].append(piece);
        if let Some((finish, timings)) = end {
            choices.push((index, head.choice(index, std::mem::take(&mut pieces[slot]), finish)));
            total = Some(total.map_or(timings.clone(), |others| others.merge(&timings)));
        }
    }
    choices.sort_by_key(|(index, _)| *index);
    let choices = choices.into_iter().map(|(_, choice)| choice).collect();
    let timings = total.ok_or(ApiError::Internal("no answer was begun"))?;
    let timing = timings.header();
    let usage = Usage::new(prompt_tokens, timings.predicted_n);
    let mut response = Json(head.whole(choices, usage, timings)).into_response();
    set_timing(&mut response, &timing);
    Ok(response)
}

fn set_timing(response: &mut Response, value: &str) {
    // Digits, names and punctuation are a valid header.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(SERVER_TIMING, value);
    }
}
