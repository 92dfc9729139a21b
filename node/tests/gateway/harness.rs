//! A gateway without a socket, and the ring behind it played by the test.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures::StreamExt;
use serde_json::{Value, json};
use shard_engine::gguf::Gguf;
use shard_node::gateway::{Gateway, Keys, Limits, Metrics, app};
use shard_node::model::{About, Model};
use shard_node::ring::client::{Answer, AnswerError, Client, Command, OpenError, Prompt, Token};
use shard_wire::frame::StageTime;
use shard_wire::pipeline::{PipelineStatus, ShardStatus};
use shard_wire::session::Finish;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tower::ServiceExt;

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const TEXT: &str = "/v1/completions";

/// Whatever takes longer than this has failed.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A gateway and what stands around it.
pub(crate) struct Fleet {
    pub(crate) gateway: Gateway,
    pub(crate) app: Router,
    pub(crate) ring: Ring,
    pub(crate) model: Arc<Model>,
    pub(crate) models: watch::Sender<Option<Arc<Model>>>,
    pub(crate) pipeline: watch::Sender<Arc<PipelineStatus>>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Keys::default())
    }

    pub(crate) fn with(limits: Limits, keys: Keys) -> Self {
        let model = model();
        let (client, commands) = Client::new();
        let (models, known) = watch::channel(Some(Arc::clone(&model)));
        let (pipeline, status) = watch::channel(Arc::new(status("r1")));
        let gateway = Gateway::new(client, known, status, keys, limits, Metrics::new(Default::default()));
        Self { app: app(gateway.clone()), gateway, ring: Ring { commands }, model, models, pipeline }
    }

    /// The response to a request that the ring has no part in.
    pub(crate) async fn respond(&self, request: Request<Body>) -> Response {
        timeout(SOON, read(self.app.clone(), request)).await.expect("a response")
    }

    /// Sends a request, and goes on while the test plays the ring.
    pub(crate) fn send(&self, request: Request<Body>) -> tokio::task::JoinHandle<Response> {
        tokio::spawn(read(self.app.clone(), request))
    }

    /// The response to a request that the ring answers with these tokens.
    pub(crate) async fn answered(&mut self, request: Request<Body>, tokens: Vec<Token>) -> Response {
        let response = self.send(request);
        self.ring.open().await.answer(tokens).await;
        timeout(SOON, response).await.expect("a response").expect("no panic")
    }

    /// Tokens that say `text`, one for each of its encoded ids, and then EOS.
    pub(crate) fn saying(&self, text: &str) -> Vec<Token> {
        let mut ids = self.ids(text);
        ids.push(self.model.end()[0]);
        tokens(&ids, Finish::Eos)
    }

    /// The ids of a text inside an answer.
    pub(crate) fn ids(&self, text: &str) -> Vec<u32> {
        self.model.encode(text).into_iter().skip(1).collect()
    }
}

/// Tokens with a trace of two stages, the first one with the prefill.
pub(crate) fn tokens(ids: &[u32], finish: Finish) -> Vec<Token> {
    let token = |(index, id): (usize, &u32)| Token {
        id: *id,
        position: 10 + index as u32,
        finish: (index + 1 == ids.len()).then_some(finish),
        logprob: None,
        top: Vec::new(),
        trace: vec![
            StageTime { queue_us: 100, compute_us: if index == 0 { 5000 } else { 1000 } },
            StageTime { queue_us: 50, compute_us: if index == 0 { 6000 } else { 2000 } },
        ],
    };
    ids.iter().enumerate().map(token).collect()
}

/// The test's side of the queue of commands.
pub(crate) struct Ring {
    commands: mpsc::Receiver<Command>,
}

/// A session that the gateway wants.
pub(crate) struct Opening {
    pub(crate) prompt: Prompt,
    reply: oneshot::Sender<Result<Answer, OpenError>>,
}

/// A session that the gateway has.
pub(crate) struct Session {
    pub(crate) tokens: mpsc::Sender<Result<Token, AnswerError>>,
}

impl Ring {
    pub(crate) async fn open(&mut self) -> Opening {
        match timeout(SOON, self.commands.recv()).await.expect("a prompt").expect("a client") {
            Command::Generate { prompt, reply } => Opening { prompt, reply },
            #[allow(unreachable_patterns, reason = "the ring may have other commands")]
            other => panic!("{other:?}"),
        }
    }

    /// Nobody has asked for a session since the last one.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.commands.try_recv().is_err()
    }
}

impl Opening {
    pub(crate) fn refuse(self, error: OpenError) {
        let _ = self.reply.send(Err(error));
    }

    /// Opens it with room for so many tokens.
    pub(crate) fn accept(self, room: usize) -> Session {
        let (tokens, receiver) = mpsc::channel(room);
        let _ = self.reply.send(Ok(Answer { tokens: receiver, opened_in: Duration::from_micros(1500) }));
        Session { tokens }
    }

    /// Opens it and answers with these tokens. A gateway that has cancelled misses the rest.
    pub(crate) async fn answer(self, tokens: Vec<Token>) {
        let session = self.accept(64);
        for token in tokens {
            if session.tokens.send(Ok(token)).await.is_err() {
                break;
            }
        }
    }
}

impl Session {
    pub(crate) async fn send(&self, token: Token) {
        timeout(SOON, self.tokens.send(Ok(token))).await.expect("room").expect("a listener");
    }

    /// The gateway has taken all tokens.
    pub(crate) async fn taken(&self) {
        let taken = async {
            while self.tokens.capacity() < self.tokens.max_capacity() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, taken).await.expect("a gateway that reads");
    }

    pub(crate) async fn cancelled(&self) {
        timeout(SOON, self.tokens.closed()).await.expect("a cancelled answer");
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

async fn read(app: Router, request: Request<Body>) -> Response {
    let (head, body) = app.oneshot(request).await.expect("never fails").into_parts();
    let body = to_bytes(body, 1 << 24).await.expect("a body");
    Response { status: head.status, headers: head.headers, body }
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The data of its events.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.body).expect("UTF-8");
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// What the choices of a stream say in all, by index.
    pub(crate) fn streamed(&self) -> BTreeMap<u64, String> {
        let mut texts = BTreeMap::new();
        for event in self.events().iter().filter_map(|data| serde_json::from_str::<Value>(data).ok()) {
            for choice in event["choices"].as_array().into_iter().flatten() {
                let text: &mut String = texts.entry(choice["index"].as_u64().expect("an index")).or_default();
                *text += choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default();
            }
        }
        texts
    }
}

/// A response whose body is still open.
pub(crate) async fn open_stream(app: Router, request: Request<Body>) -> axum::body::BodyDataStream {
    let response = app.oneshot(request).await.expect("never fails");
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().into_data_stream()
}

pub(crate) async fn next_event(stream: &mut axum::body::BodyDataStream) -> Option<String> {
    let event = timeout(SOON, stream.next()).await.expect("an event")?.expect("no error");
    Some(String::from_utf8(event.to_vec()).expect("UTF-8"))
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Body> {
    post_bytes(path, body.to_string())
}

pub(crate) fn post_bytes(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(body.into()).expect("a request")
}

/// A chat request with more members.
pub(crate) fn chat(more: Value) -> Value {
    merged(json!({"messages": [{"role": "user", "content": "Hello!"}]}), more)
}

/// A completion request with more members.
pub(crate) fn once(more: Value) -> Value {
    merged(json!({"prompt": "Once upon a time"}), more)
}

fn merged(mut body: Value, more: Value) -> Value {
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

/// A pipeline of two shards, the second one missing.
pub(crate) fn status(revision: &str) -> PipelineStatus {
    let shard = |shard_id, online| ShardStatus { shard_id, online, ..ShardStatus::default() };
    PipelineStatus {
        revision: revision.into(),
        reason: "shard 1 has no replica".into(),
        shards: vec![shard(0, true), shard(1, false)],
        ..PipelineStatus::default()
    }
}

/// The default model's vocabulary and chat template, read once.
fn model() -> Arc<Model> {
    static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models_cache/tiny-tales-f16.gguf");
        let gguf = Gguf::open(Path::new(path)).expect("the default model");
        let about = About {
            plan: "p".into(),
            name: "tiny-tales".into(),
            sha256: "ab".repeat(32),
            context_length: None,
        };
        Arc::new(Model::from_gguf(&gguf, about).expect("a vocabulary"))
    });
    Arc::clone(&MODEL)
}

/// The object with everything that differs from run to run replaced.
pub(crate) fn stable(mut value: Value) -> Value {
    blank(&mut value, "");
    value
}

fn blank(value: &mut Value, key: &str) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(key, value)| blank(value, key)),
        // The stages' times come from the tokens' traces: they stay.
        Value::Array(_) if key == "stages" => {}
        Value::Array(items) => items.iter_mut().for_each(|item| blank(item, key)),
        Value::String(text) if key == "id" && text.contains("cmpl-") => {
            *text = text.split('-').next().unwrap_or_default().into();
        }
        Value::Number(_) if key == "created" || key.ends_with("_ms") || key.ends_with("_per_second") => {
            *value = "…".into();
        }
        _ => {}
    }
}
