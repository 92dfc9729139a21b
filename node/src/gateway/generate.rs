//! One request's answers: prompts in, events out.
//!
//! ```text
//! Job ── ring ───▶ Opened ── token ─▶ decoder ─▶ transcript ──▶ Text … ──▶ Done
//!          │429, 503            │504, lost            │stop string: the rest is dropped
//! ```
//! Nothing runs unless it is polled: a client that reads slowly holds tokens back in the bounded queue of the ring, and
//! one that goes away drops the stream, the answer in it, and so the session on every stage.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use shard_engine::tokenizer::Decoder;
use shard_wire::session::Finish;
use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::error::ApiError;
use super::metrics::Counted;
use super::prompt::Job;
use super::timings::Meter;
use super::transcript::{Piece, Scored, Transcript};
use crate::model::Model;
use crate::ring::client::{Answer, AnswerError, OpenError, Token};

/// What happens to an answer, in this order: `Opened`, any number of `Text`, `Done`.
#[derive(Debug)]
pub(super) enum Event {
    /// Every stage has reserved.
    Opened { queued: Duration, opened_in: Duration },
    /// More text of choice `index`, not empty.
    Text { index: u32, piece: Piece },
    /// Choice `index` is complete with this last text.
    Done { index: u32, piece: Piece, finish: &'static str, meter: Meter },
}

/// The events of all answers to a request as they come. An error is the last item: it cancels what still runs.
pub(super) fn answers(
    gateway: &Gateway,
    model: &Arc<Model>,
    jobs: Vec<Job>,
    arrived: Instant,
) -> BoxStream<'static, Result<Event, ApiError>> {
    let waiting = |job| Waiting { gateway: gateway.clone(), model: Arc::clone(model), job, arrived };
    let runs = jobs.into_iter().map(|job| answer(waiting(job)).boxed());
    let events = stream::select_all(runs);
    stream::unfold(Some(events), async |events| {
        let mut events = events?;
        match events.next().await? {
            Ok(event) => Some((Ok(event), Some(events))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// The states of one answer.
enum State {
    Waiting(Box<Waiting>),
    Running(Box<Running>),
    Ended,
}

/// An answer whose session is not open.
struct Waiting {
    gateway: Gateway,
    model: Arc<Model>,
    job: Job,
    arrived: Instant,
}

fn answer(waiting: Waiting) -> impl Stream<Item = Result<Event, ApiError>> {
    stream::try_unfold(State::Waiting(Box::new(waiting)), async |state| match state {
        State::Waiting(waiting) => {
            let (running, opened) = open(*waiting).await?;
            Ok(Some((opened, State::Running(running))))
        }
        State::Running(mut running) => match running.next().await? {
            done @ Event::Done { .. } => Ok(Some((done, State::Ended))),
            event => Ok(Some((event, State::Running(running)))),
        },
        State::Ended => Ok(None),
    })
}

/// Opens the session. Nodes may have a shorter context than the model: then the answer gets what is left of that.
async fn open(waiting: Waiting) -> Result<(Box<Running>, Event), ApiError> {
    let Waiting { gateway, model, mut job, arrived } = waiting;
    let used = u32::try_from(job.prompt.ids.len()).unwrap_or(u32::MAX);
    let (begun, until) = (Instant::now(), arrived + job.prompt.deadline);
    let waiting = Counted::new(&gateway.metrics.waiting);
    let opening = async {
        match gateway.client.generate(job.prompt.clone()).await {
            Err(OpenError::TooLong { limit, .. }) if used < limit && used + job.prompt.max_tokens > limit => {
                job.prompt.max_tokens = limit - used;
                gateway.client.generate(job.prompt.clone()).await
            }
            opened => opened,
        }
    };
    let answer = timeout_at(until, opening).await.map_err(|_| ApiError::Deadline(until - arrived))?;
    drop(waiting);
    let answer = answer.map_err(|error| gateway.explain(error, used))?;
    let opened_in = answer.opened_in;
    let queued = begun.elapsed().saturating_sub(opened_in);
    let running = Running {
        answer,
        _active: Counted::new(&gateway.metrics.active),
        index: job.index,
        decoder: model.decoder(job.start),
        transcript: Transcript::new(job.stop),
        prefix: job.prefix,
        meter: Meter::new(arrived, queued, opened_in, used),
        prompt: used,
        timeout: job.prompt.deadline,
        until,
        end: "cancelled",
        model,
        gateway,
    };
    Ok((Box::new(running), Event::Opened { queued, opened_in }))
}

/// An answer under way.
struct Running {
    answer: Answer,
    _active: Counted,
    index: u32,
    decoder: Decoder,
    transcript: Transcript,
    /// Text still to be put before the first piece.
    prefix: String,
    meter: Meter,
    prompt: u32,
    timeout: Duration,
    until: Instant,
    /// How it ended, for the metrics: dropped before its end, it was cancelled.
    end: &'static str,
    model: Arc<Model>,
    gateway: Gateway,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gateway.metrics.answer(self.end, self.prompt, &self.meter);
    }
}

impl Running {
    /// The next event: text that may be shown, or the end.
    async fn next(&mut self) -> Result<Event, ApiError> {
        loop {
            let token = self.token().await.inspect_err(|_| self.end = "error")?;
            let eos = token.finish == Some(Finish::Eos);
            if let Some(after) = self.meter.token(&token, !eos) {
                self.gateway.metrics.first_token(after);
            }
            let (mut piece, mut stopped) = if eos { Default::default() } else { self.add(&token) };
            if token.finish.is_some() && !stopped {
                let (rest, cut) = self.transcript.finish(&self.decoder.clone().finish());
                piece.append(rest);
                stopped = cut;
            }
            match token.finish {
                _ if stopped => return Ok(self.done(piece, "stop")),
                Some(Finish::Eos) => return Ok(self.done(piece, "stop")),
                Some(Finish::Length) => return Ok(self.done(piece, "length")),
                None if piece.is_empty() && self.prefix.is_empty() => {}
                None => return Ok(Event::Text { index: self.index, piece: self.prefixed(piece) }),
            }
        }
    }

    async fn token(&mut self) -> Result<Token, ApiError> {
        match timeout_at(self.until, self.answer.tokens.recv()).await {
            Ok(Some(Ok(token))) => Ok(token),
            Ok(Some(Err(AnswerError::Deadline(_)))) | Err(_) => Err(ApiError::Deadline(self.timeout)),
            Ok(Some(Err(error))) => Err(ApiError::Answer(error)),
            Ok(None) => Err(ApiError::Internal("the ring ended an answer without its last token")),
        }
    }

    /// The text of one token, and whether it completes a stop string.
    fn add(&mut self, token: &Token) -> (Piece, bool) {
        let bytes = |id| self.model.bytes(id).to_vec();
        let score = token.logprob.map(|logprob| Scored {
            bytes: bytes(token.id),
            logprob,
            top: token.top.iter().map(|(id, logprob)| (bytes(*id), *logprob)).collect(),
        });
        let text = self.model.push(&mut self.decoder, token.id);
        self.transcript.push(&text, score)
    }

    fn prefixed(&mut self, mut piece: Piece) -> Piece {
        if !self.prefix.is_empty() {
            piece.text.insert_str(0, &std::mem::take(&mut self.prefix));
        }
        piece
    }

    fn done(&mut self, piece: Piece, finish: &'static str) -> Event {
        self.end = finish;
        let piece = self.prefixed(piece);
        Event::Done { index: self.index, piece, finish, meter: self.meter.clone() }
    }
}
