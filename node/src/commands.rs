//! `/json-message/1.0`: one match from command to answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use serde::Serialize;
use serde_json::{Value, json};
use shard_wire::announce::{ReplicaState, ShardInfo};
use shard_wire::command::{
    Command, InferenceParams, InferenceResult, ListFiles, LoadShard, LoadedShard, Torrents,
};
use shard_wire::message::{ErrorCode, Request, Response};
use shard_wire::session::Finish;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::messages;
use crate::net::Inbound;
use crate::report::{self, Console};
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};
use crate::ring::stage::driver::Stages;
use crate::shards::{Holding, Shards, WantError};
use crate::torrents::{Known, Registry};

mod models;

pub use models::Models;

/// Requests that are worked on at once; more wait, and beyond that the network answers "busy".
const AT_ONCE: usize = 32;
/// An `INFERENCE` is complete within this.
const INFERENCE: Duration = Duration::from_secs(600);
/// `LOAD_SHARD` answers by then, below the 120 s that the asker waits.
const LOAD_WAIT: Duration = Duration::from_secs(100);

/// What a shard node answers from.
#[derive(Clone)]
pub struct Commands {
    /// Its peer id.
    pub peer_id: String,
    /// What it announces.
    pub announced: watch::Receiver<Vec<ShardInfo>>,
    /// Its shards.
    pub shards: Shards,
    /// Its sessions.
    pub stages: Stages,
    /// The pipeline.
    pub client: Client,
    /// The model's tokenizer.
    pub models: Arc<Models>,
    /// Who has which files.
    pub known: Known,
    /// When it started.
    pub started: Instant,
    /// Where its operator sees who asks what.
    pub console: Console,
}

type Answer = Result<Value, (ErrorCode, String)>;

impl Commands {
    /// Answers requests until the network ends.
    pub async fn serve(self, mut requests: mpsc::Receiver<Inbound>) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(Inbound { peer, request, responder }) = requests.recv().await {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let commands = self.clone();
            tokio::spawn(async move {
                messages::received(commands.console, &peer, &request);
                let response = commands.answer(peer, &request).await;
                messages::answer(commands.console, &peer, &request, responder, response).await;
                drop(slot);
            });
        }
    }

    async fn answer(&self, peer: PeerId, request: &Request) -> Response {
        let id = request.request_id.clone();
        let result = match request.command() {
            Err(error) => Err((error.code(), error.to_string())),
            Ok(Command::GetCapabilities) => Ok(self.capabilities()),
            Ok(Command::LoadShard(params)) => self.load_shard(peer, params).await,
            Ok(Command::Inference(params)) => self.inference(params).await,
            Ok(Command::ListFiles(params)) => list_files(&self.known, &params),
            Ok(Command::GetMetrics) => Ok(self.metrics()),
            Ok(Command::SyncTorrents(told)) => {
                sync_torrents(&self.known, peer, told, Registry::union, |_| ())
            }
        };
        respond(id, result)
    }

    fn capabilities(&self) -> Value {
        json!({ "peer_id": self.peer_id, "shards": *self.announced.borrow() })
    }

    /// Counts and times since the start.
    pub fn metrics(&self) -> Value {
        let status = self.stages.status();
        let ended = status.ended.successful + status.ended.failed;
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        json!({
            "uptime_s": self.started.elapsed().as_secs(),
            "requests": {
                "active": status.active,
                "total": ended + status.active as u64,
                "successful": status.ended.successful,
                "failed": status.ended.failed,
                // Without any, nothing has failed.
                "success_rate": if ended == 0 { 1.0 } else { mean(status.ended.successful, ended) },
            },
            "latency": { "forward_ms": mean(status.busy_us, status.forwards) / 1e3 },
            "stages": status,
        })
    }

    /// Takes a shard on and waits a while for it.
    async fn load_shard(&self, by: PeerId, params: LoadShard) -> Answer {
        let LoadShard { shard_id, replace, plan, wait_s } = params;
        if let Some(own) = self.models.plan().filter(|own| !plan.is_empty() && *own != plan) {
            return Err((ErrorCode::BadParams, format!("the node is of plan {own}, not of {plan}")));
        }
        self.shards.want(shard_id, replace).await.map_err(|error| {
            let code = match error {
                WantError::OutOfRange { .. } => ErrorCode::OutOfRange,
                WantError::Busy { .. } | WantError::TooMany => ErrorCode::Busy,
            };
            (code, error.to_string())
        })?;
        self.console.say(&report::shard_assigned(shard_id, &by));
        let mut holdings = self.shards.holdings();
        let ours = |holdings: &[Holding]| holdings.iter().find(|h| h.info.shard_id == shard_id).cloned();
        let ended = holdings.wait_for(|holdings| {
            ours(holdings).is_none_or(|holding| holding.info.serves() || holding.problem.is_some())
        });
        let waited = tokio::time::timeout(Duration::from_secs(wait_s).min(LOAD_WAIT), ended).await;
        drop(waited);
        let Some(holding) = ours(&holdings.borrow()) else {
            return Err((ErrorCode::Failed, format!("shard {shard_id} was given up meanwhile")));
        };
        match holding.problem {
            Some(problem) if holding.info.state != ReplicaState::Ready => {
                let code = if problem.not_found { ErrorCode::NotFound } else { ErrorCode::Failed };
                Err((code, format!("shard {shard_id}: {}; the node goes on trying", problem.text)))
            }
            _ => {
                let loaded = if holding.info.state == ReplicaState::Ready { 100.0 } else { 0.0 };
                let percent = holding.info.download.map_or(loaded, |download| download.percent);
                data(LoadedShard { shard_id, state: holding.info.state, percent })
            }
        }
    }

    async fn inference(&self, params: InferenceParams) -> Answer {
        let model = self.models.get().await.map_err(|reason| (ErrorCode::Unavailable, reason))?;
        let ids = model.encode(&params.prompt);
        let limit = model.context_length;
        let prompt_tokens = ids.len() as u32;
        if prompt_tokens >= limit {
            let message = format!("the prompt has {prompt_tokens} tokens, the context {limit}");
            return Err((ErrorCode::BadParams, message));
        }
        if ids.is_empty() || params.max_tokens == 0 {
            return Err((ErrorCode::BadParams, "an empty prompt, or max_tokens 0".into()));
        }
        let prompt = Prompt {
            plan: Some(model.plan.clone()),
            ids,
            sampling: params.sampling,
            eos: model.end().to_vec(),
            max_tokens: params.max_tokens.min(limit - prompt_tokens),
            deadline: INFERENCE,
        };
        let mut answer = self.client.generate(prompt).await.map_err(|error| open_error(&error))?;
        let (mut ids, mut finish) = (Vec::new(), Finish::Length);
        while let Some(token) = answer.tokens.recv().await {
            let token = token.map_err(|error| answer_error(&error))?;
            finish = token.finish.unwrap_or(finish);
            if token.finish != Some(Finish::Eos) {
                ids.push(token.id);
            }
        }
        data(InferenceResult {
            text: model.decode(&ids),
            prompt_tokens,
            completion_tokens: ids.len() as u32,
            finish,
        })
    }
}

/// `LIST_FILES`, of a node and of a bootstrap.
pub fn list_files(known: &Known, params: &ListFiles) -> Answer {
    match known.list(&params.name) {
        Some(files) => data(files),
        None => Err((ErrorCode::NotFound, format!("no file {:?} is seeded here", params.name))),
    }
}

/// `SYNC_TORRENTS`: remembers what the peer says and answers what `of` the registry is to be told. `new` hears how many
/// files the peer names, where they are not those of before.
pub fn sync_torrents(
    known: &Known,
    peer: PeerId,
    told: Torrents,
    of: impl FnOnce(&Registry) -> Torrents,
    new: impl FnOnce(usize),
) -> Answer {
    let files = told.files.len();
    if known.on_report(peer, told).map_err(|full| (ErrorCode::Busy, full.to_string()))? {
        new(files);
    }
    data(known.read(of))
}

/// The answer to a request.
pub fn respond(request_id: String, result: Answer) -> Response {
    match result {
        Ok(data) => Response::ok(request_id, data),
        Err((code, message)) => Response::error(request_id, code, message),
    }
}

fn data(answer: impl Serialize) -> Answer {
    serde_json::to_value(answer).map_err(|error| (ErrorCode::Failed, error.to_string()))
}

fn open_error(error: &OpenError) -> (ErrorCode, String) {
    let code = match error {
        OpenError::Busy => ErrorCode::Busy,
        OpenError::TooLong { .. } | OpenError::Refused { .. } => ErrorCode::BadParams,
        OpenError::Incomplete { .. } | OpenError::Timeout(_) | OpenError::Closed => ErrorCode::Unavailable,
    };
    (code, error.to_string())
}

fn answer_error(error: &AnswerError) -> (ErrorCode, String) {
    (ErrorCode::Unavailable, error.to_string())
}
