//! Events to server-sent events: OpenAI's chunks, then `[DONE]`.
//!
//! An error after the first chunk is a chunk `{"error": …}`, and the stream ends there: no finish reason, no `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, BoxStream, StreamExt};

use super::error::ApiError;
use super::generate::Event;
use super::response::{Choice, Head, Object, Usage};
use super::timings::Timings;

/// A comment is sent when nothing else was, so that a client that is gone is noticed during a long prefill.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Tells nginx and its like to pass each event on as it comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns events into the data of server-sent events.
#[derive(Debug)]
pub(super) struct Chunks {
    head: Head,
    include_usage: bool,
    /// Choices that are not complete.
    open: usize,
    usage: Usage,
    timings: Option<Timings>,
}

impl Chunks {
    /// For `choices` answers to prompts of `prompt_tokens` tokens in all.
    pub(super) fn new(head: Head, include_usage: bool, choices: usize, prompt_tokens: u32) -> Self {
        Self { head, include_usage, open: choices, usage: Usage::new(prompt_tokens, 0), timings: None }
    }

    /// The chunks that begin the choices.
    pub(super) fn begin(&self) -> VecDeque<String> {
        (0..)
            .take(self.open)
            .filter_map(|index| self.head.beginning(index))
            .map(|choice| self.chunk(vec![choice]))
            .collect()
    }

    pub(super) fn event(&mut self, event: Result<Event, ApiError>) -> VecDeque<String> {
        match event {
            Err(error) => VecDeque::from([error.body().to_string()]),
            Ok(Event::Opened { .. }) => VecDeque::new(),
            Ok(Event::Text { index, piece }) => {
                VecDeque::from([self.chunk(vec![self.head.part(index, piece)])])
            }
            Ok(Event::Done { index, piece, finish, meter }) => {
                let mut chunks = VecDeque::new();
                if !piece.is_empty() {
                    chunks.push_back(self.chunk(vec![self.head.part(index, piece)]));
                }
                let timings = meter.timings();
                self.usage =
                    Usage::new(self.usage.prompt_tokens, self.usage.completion_tokens + timings.predicted_n);
                self.timings = Some(match self.timings.take() {
                    Some(others) => others.merge(&timings),
                    None => timings,
                });
                self.open -= 1;
                let end = vec![self.head.end(index, finish)];
                match (self.open, self.include_usage) {
                    (1.., _) => chunks.push_back(self.chunk(end)),
                    (0, true) => chunks.extend([self.chunk(end), self.last(Vec::new())]),
                    (0, false) => chunks.push_back(self.last(end)),
                }
                if self.open == 0 {
                    chunks.push_back("[DONE]".to_owned());
                }
                chunks
            }
        }
    }

    fn chunk(&self, choices: Vec<Choice>) -> String {
        let mut chunk = self.head.chunk(choices);
        chunk.usage = self.include_usage.then_some(None);
        text(&chunk)
    }

    /// The last chunk brings what only the end can tell.
    fn last(&self, choices: Vec<Choice>) -> String {
        let mut chunk = self.head.chunk(choices);
        chunk.usage = self.include_usage.then_some(Some(self.usage));
        chunk.timings.clone_from(&self.timings);
        text(&chunk)
    }
}

fn text(object: &Object<'_>) -> String {
    serde_json::to_string(object)
        .unwrap_or_else(|_| ApiError::Internal("a chunk is not JSON").body().to_string())
}

/// The response whose body is the stream. It is read only as fast as the client reads.
pub(super) fn respond(events: BoxStream<'static, Result<Event, ApiError>>, chunks: Chunks) -> Response {
    let ready = chunks.begin();
    let data = stream::unfold((ready, chunks, events), async |(mut ready, mut chunks, mut events)| {
        loop {
            if let Some(data) = ready.pop_front() {
                let event = SseEvent::default().data(data);
                return Some((Ok::<_, Infallible>(event), (ready, chunks, events)));
            }
            ready = chunks.event(events.next().await?);
        }
    });
    let stream = Sse::new(data).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    ([(UNBUFFERED, "no")], stream).into_response()
}
