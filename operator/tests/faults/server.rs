//! An API server in memory, behind kube's client: it does what it is asked, but for the faults that a test has ordered.
//!
//! ```text
//!  Request ─▶ Call ─▶ fault? ─▶ Objects ─▶ answer
//!                                  └─▶ watches, until they are cut
//! ```

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use shard_operator::patience::Patience;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, Service};

use crate::call::{Call, Verb};
use crate::objects::{Objects, Place, Refusal};

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered so, and nothing is done.
    Code(u16, &'static str),
    /// 429, with the seconds to wait.
    Busy(u32),
    /// It does not get there.
    Unreachable,
    /// It is done, and the answer does not get here.
    Lost,
    /// 200, and no JSON.
    Garbage,
    /// It is never answered.
    Silence,
}

/// How watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    End,
    Broken,
    Gone,
    Garbage,
    /// They are open, and nothing comes any more.
    Silence,
}

/// A request that has come, and how it was answered; 0 is not at all.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) call: Call,
    pub(crate) code: u16,
    /// An object is other than it was.
    pub(crate) changed: bool,
}

type Matches = Box<dyn Fn(&Call) -> bool + Send>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) seen: Vec<Seen>,
    faults: Vec<(usize, Fault, Matches)>,
    cuts: Vec<(String, Cut)>,
    /// So many more watches end when they have told what there is to tell, and been open for so long.
    short: (usize, Duration),
}

#[derive(Clone, Default)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    ticks: watch::Sender<u64>,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::new(Patience.layer(self.clone()), "default")
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes whenever anything has happened.
    pub(crate) fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    /// The next so many requests like this fail.
    pub(crate) fn fail(&self, times: usize, fault: Fault, matches: impl Fn(&Call) -> bool + Send + 'static) {
        self.lock().faults.push((times, fault, Box::new(matches)));
    }

    pub(crate) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Ends the watches of a kind; what happens in `meanwhile` they do not tell of.
    pub(crate) fn cut(&self, kind: &str, cut: Cut, meanwhile: impl FnOnce(&mut Objects)) {
        let mut state = self.lock();
        state.cuts.push((kind.to_owned(), cut));
        meanwhile(&mut state.objects);
        drop(state);
        self.tick();
    }

    /// The next so many watches end by themselves, as those do that a proxy has had enough of.
    pub(crate) fn end_watches(&self, times: usize, after: Duration) {
        self.lock().short = (times, after);
    }

    /// Somebody else's doing, of which watches tell.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.lock().objects);
        self.tick();
    }

    fn tick(&self) {
        self.ticks.send_modify(|tick| *tick += 1);
    }

    fn fault(&self, call: &Call) -> Option<Fault> {
        let mut state = self.lock();
        let (left, fault, _) =
            state.faults.iter_mut().find(|(left, _, matches)| *left > 0 && matches(call))?;
        *left -= 1;
        Some(*fault)
    }

    async fn serve(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let call = Call::read(request).await;
        let fault = self.fault(&call);
        let answer = match fault {
            None | Some(Fault::Lost) => self.perform(&call),
            Some(fault) => {
                let code = match fault {
                    Fault::Code(code, _) => code,
                    Fault::Busy(_) => 429,
                    Fault::Garbage => 200,
                    Fault::Unreachable | Fault::Lost | Fault::Silence => 0,
                };
                self.note(&call, code, false);
                Err((0, ""))
            }
        };
        match fault {
            None => answer.or_else(|(code, reason)| Ok(refused(code, reason, None))),
            Some(Fault::Code(code, reason)) => Ok(refused(code, reason, None)),
            Some(Fault::Busy(seconds)) => Ok(refused(429, "TooManyRequests", Some(seconds))),
            Some(Fault::Unreachable | Fault::Lost) => Err("the connection is reset".into()),
            Some(Fault::Garbage) => Ok(Response::new(full("<html>welcome</html>"))),
            Some(Fault::Silence) => std::future::pending().await,
        }
    }

    fn perform(&self, call: &Call) -> Result<Answer, Refusal> {
        let (since, mut state) = (call.since, self.lock());
        let (before, objects) = (state.objects.version, &mut state.objects);
        let (place, body) = (call.place.clone(), call.body.clone());
        let done = match call.verb {
            Verb::Get => objects.get(&place).cloned(),
            Verb::List => {
                let items = objects.list(&place, &call.label);
                Ok(json!({"metadata": {"resourceVersion": before.to_string()}, "items": items}))
            }
            Verb::Watch => Ok(Value::Null),
            Verb::Create => objects.create(place, body),
            Verb::Apply => objects.apply(place, &call.subresource, body),
            Verb::Merge => objects.merge(place, &body),
            Verb::Delete => objects.delete_seen(&place, &body["preconditions"]),
        };
        let changed = objects.version > before;
        drop(state);
        self.note(call, done.as_ref().err().map_or(200, |(code, _)| *code), changed);
        Ok(match call.verb {
            Verb::Watch => self.watch(call, since),
            _ => Response::new(full(&done?.to_string())),
        })
    }

    fn note(&self, call: &Call, code: u16, changed: bool) {
        let seen = Seen { at: Instant::now(), call: call.clone(), code, changed };
        self.lock().seen.push(seen);
        self.tick();
    }

    fn watch(&self, call: &Call, since: u64) -> Answer {
        let (server, place, label) = (self.clone(), call.place.clone(), call.label.clone());
        let (ticks, known) = (self.ticks(), self.lock().cuts.len());
        let end = self.end();
        let frames = stream::unfold(Some((since, ticks)), move |open| {
            let (server, place, label) = (server.clone(), place.clone(), label.clone());
            async move {
                let (mut version, mut ticks) = open?;
                loop {
                    if let Some(cut) = server.cut_since(known, &place) {
                        return last(cut).await;
                    }
                    let change = server.lock().objects.change_after(version, &place, &label);
                    if let Some((at, event)) = change {
                        version = at;
                        return Some((Ok(line(&event.to_string())), Some((version, ticks))));
                    }
                    tokio::select! {
                        biased;
                        () = at(end) => return None,
                        changed = ticks.changed() => changed.ok()?,
                    }
                }
            }
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
    }

    /// When a watch that is opened now ends.
    fn end(&self) -> Option<Instant> {
        let (left, after) = &mut self.lock().short;
        *left = left.checked_sub(1)?;
        Some(Instant::now() + *after)
    }

    fn cut_since(&self, known: usize, place: &Place) -> Option<Cut> {
        let state = self.lock();
        state.cuts.iter().skip(known).find(|(kind, _)| *kind == place.kind).map(|(_, cut)| *cut)
    }
}

type Frames = Option<(Result<Frame<Bytes>, BoxError>, Option<(u64, watch::Receiver<u64>)>)>;

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What a watch says before it ends.
async fn last(cut: Cut) -> Frames {
    match cut {
        Cut::End => None,
        Cut::Broken => Some((Err("the connection is reset".into()), None)),
        Cut::Garbage => Some((Ok(line("<html>bye</html>")), None)),
        Cut::Gone => {
            let gone = json!({"type": "ERROR", "object": status(410, "Expired", None)});
            Some((Ok(line(&gone.to_string())), None))
        }
        Cut::Silence => std::future::pending().await,
    }
}

fn line(text: &str) -> Frame<Bytes> {
    Frame::data(format!("{text}\n").into())
}

fn full(text: &str) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(BoxError::from).boxed_unsync()
}

fn status(code: u16, reason: &str, seconds: Option<u32>) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("the API server says {reason}"), "details": {"retryAfterSeconds": seconds.unwrap_or(0)},
    })
}

fn refused(code: u16, reason: &str, seconds: Option<u32>) -> Answer {
    let mut answer = Response::builder().status(code);
    if let Some(seconds) = seconds {
        answer = answer.header("Retry-After", seconds);
    }
    answer.body(full(&status(code, reason, seconds).to_string())).unwrap()
}

impl Service<Request<Body>> for Server {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}
