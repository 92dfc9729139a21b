//! `/json-message/1.0`: one match from command to answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shard_wire::announce::ShardInfo;
use shard_wire::message::{Command, ErrorCode, InferenceParams, InferenceResult, Request, Response};
use shard_wire::session::Finish;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::model::Model;
use crate::net::Inbound;
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};
use crate::ring::stage::driver::Stages;

/// Requests that are worked on at once; more wait, and beyond that the network answers "busy".
const AT_ONCE: usize = 32;
/// An `INFERENCE` is complete within this.
const INFERENCE: Duration = Duration::from_secs(600);

/// What a shard node answers from.
#[derive(Clone)]
pub struct Commands {
    /// Its peer id.
    pub peer_id: String,
    /// What it announces.
    pub shards: watch::Receiver<Vec<ShardInfo>>,
    /// Its sessions.
    pub stages: Stages,
    /// The pipeline.
    pub client: Client,
    /// The model's tokenizer.
    pub model: Arc<Model>,
    /// When it started.
    pub started: Instant,
}

impl Commands {
    /// Answers requests until the network ends.
    pub async fn serve(self, mut requests: mpsc::Receiver<Inbound>) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(Inbound { peer, request, responder }) = requests.recv().await {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let commands = self.clone();
            tokio::spawn(async move {
                tracing::debug!(%peer, command = request.command, "asked");
                responder.send(commands.answer(&request).await).await;
                drop(slot);
            });
        }
    }

    async fn answer(&self, request: &Request) -> Response {
        let id = request.request_id.clone();
        let result = match request.command() {
            Err(error) => Err((error.code(), error.to_string())),
            Ok(Command::GetCapabilities) => Ok(self.capabilities()),
            Ok(Command::GetMetrics) => Ok(self.metrics()),
            Ok(Command::Inference(params)) => self.inference(params).await,
        };
        match result {
            Ok(data) => Response::ok(id, data),
            Err((code, message)) => Response::error(id, code, message),
        }
    }

    fn capabilities(&self) -> Value {
        json!({ "peer_id": self.peer_id, "shards": *self.shards.borrow() })
    }

    /// Counts and times since the start.
    pub fn metrics(&self) -> Value {
        let status = self.stages.status();
        json!({ "uptime_s": self.started.elapsed().as_secs(), "stages": status })
    }

    async fn inference(&self, params: InferenceParams) -> Result<Value, (ErrorCode, String)> {
        let ids = self.model.encode(&params.prompt);
        let limit = self.model.context_length;
        let prompt_tokens = ids.len() as u32;
        if prompt_tokens >= limit {
            let message = format!("the prompt has {prompt_tokens} tokens, the context {limit}");
            return Err((ErrorCode::BadParams, message));
        }
        if ids.is_empty() || params.max_tokens == 0 {
            return Err((ErrorCode::BadParams, "an empty prompt, or max_tokens 0".into()));
        }
        let prompt = Prompt {
            ids,
            sampling: params.sampling,
            eos: self.model.end().to_vec(),
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
        let result = InferenceResult {
            text: self.model.decode(&ids),
            prompt_tokens,
            completion_tokens: ids.len() as u32,
            finish,
        };
        serde_json::to_value(result).map_err(|error| (ErrorCode::Failed, error.to_string()))
    }
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
