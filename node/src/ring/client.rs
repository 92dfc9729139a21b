//! The handle by which a program asks the ring for an answer.
//!
//! One task owns every session of a gateway; [`Client`] is the door to it. An [`Answer`] that is dropped is
//! cancelled: its slots are freed on every stage.

use std::time::Duration;

use shard_wire::frame::StageTime;
use shard_wire::layers::LayerRange;
use shard_wire::session::{Finish, Refusal, Sampling};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::gateway::route::Route;

/// Requests that wait for the owner of the sessions; a full queue is "busy".
const COMMANDS: usize = 256;

/// One prompt for the ring.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The plan whose vocabulary the ids are of: no other one serves it. `None` takes the one that is served.
    pub plan: Option<String>,
    /// Token ids, at least one.
    pub ids: Vec<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub eos: Vec<u32>,
    /// Tokens to generate at most, at least one.
    pub max_tokens: u32,
    /// The answer is complete by then, or it fails.
    pub deadline: Duration,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its place in the sequence, the prompt included.
    pub position: u32,
    /// Set on the last token. A token of the EOS set comes with [`Finish::Eos`] and is no text.
    pub finish: Option<Finish>,
    /// Natural logarithm of its probability, where asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens there, where asked for.
    pub top: Vec<(u32, f32)>,
    /// What each stage spent on it, in the order of the route; the first token's entry holds the prefill.
    pub trace: Vec<StageTime>,
}

/// An answer that is under way. Dropping it cancels it.
#[derive(Debug)]
pub struct Answer {
    /// Tokens in order, each position once; it closes after the one with `finish`, or after an error.
    pub tokens: mpsc::Receiver<Result<Token, AnswerError>>,
    /// From OPEN until every stage had reserved.
    pub opened_in: Duration,
}

/// Why no session could be opened.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum OpenError {
    /// No plan is fully covered.
    #[error("the pipeline is incomplete: {reason}")]
    Incomplete {
        /// Layers that nobody serves.
        missing: Vec<LayerRange>,
        /// What is missing and why.
        reason: String,
    },
    /// Every slot is taken, and stayed so while the request waited.
    #[error("every slot of the fleet is taken")]
    Busy,
    /// Prompt and answer do not fit the context.
    #[error("the prompt and the answer need {positions} positions, the context has {limit}")]
    TooLong {
        /// Positions asked for.
        positions: u32,
        /// What a session can have.
        limit: u32,
    },
    /// A stage refused for another reason.
    #[error("shard {shard} refused the session: {refusal:?}")]
    Refused {
        /// The shard.
        shard: u32,
        /// What it said.
        refusal: Refusal,
    },
    /// The stages did not answer in time.
    #[error("the route did not answer within {0:?}")]
    Timeout(Duration),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Closed,
}

/// Why an answer broke off.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AnswerError {
    /// A stage was lost, and no other one could take over.
    #[error("shard {shard} was lost: {reason}")]
    Lost {
        /// The shard.
        shard: u32,
        /// What was seen.
        reason: String,
    },
    /// The deadline passed.
    #[error("the answer was not complete within {0:?}")]
    Deadline(Duration),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Closed,
}

/// What the owner of the sessions is asked.
#[derive(Debug)]
pub enum Command {
    /// Open a session for a prompt.
    Generate {
        /// The prompt.
        prompt: Prompt,
        /// Where the answer, or the reason why there is none, goes.
        reply: oneshot::Sender<Result<Answer, OpenError>>,
    },
    /// Open a session on this route, and on no other.
    GenerateOn {
        /// The route.
        route: Route,
        /// The prompt.
        prompt: Prompt,
        /// Where the answer, or the reason why there is none, goes.
        reply: oneshot::Sender<Result<Answer, OpenError>>,
    },
}

/// The door to the owner of the sessions.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
}

impl Client {
    /// A client, and the queue that the owner of the sessions reads.
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (Self { commands }, queue)
    }

    /// The owner of the sessions has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Opens a session along a complete route.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing stays reserved.
    pub async fn generate(&self, prompt: Prompt) -> Result<Answer, OpenError> {
        self.ask(|reply| Command::Generate { prompt, reply }).await
    }

    /// Opens a session along this route, now or not at all: it waits for no slot, and a stage that is lost ends it.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing stays reserved.
    pub async fn generate_on(&self, route: Route, prompt: Prompt) -> Result<Answer, OpenError> {
        self.ask(|reply| Command::GenerateOn { route, prompt, reply }).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<Answer, OpenError>>) -> Command,
    ) -> Result<Answer, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OpenError::Busy,
            mpsc::error::TrySendError::Closed(_) => OpenError::Closed,
        })?;
        answer.await.unwrap_or(Err(OpenError::Closed))
    }
}
