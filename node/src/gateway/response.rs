//! The objects that OpenAI's clients read: whole answers and chunks of them, chat and plain text.

use serde::Serialize;

use super::request::Api;
use super::timings::Timings;
use super::transcript::{Piece, Scored};

/// What JSON can hold instead of a probability of zero.
const LOWEST_LOGPROB: f32 = -9999.0;

/// What all objects of one answer share.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) api: Api,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// The client asked for probabilities.
    pub(super) logprobs: bool,
}

/// Tokens of a request, as OpenAI counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    pub(super) total_tokens: u32,
}

impl Usage {
    pub(super) fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// A whole answer, or a chunk of a stream.
#[derive(Debug, Serialize)]
pub(super) struct Object<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    /// `Some(None)` is `null`: OpenAI's word for "in a later chunk".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timings: Option<Timings>,
}

/// One answer, or the part of it that a chunk brings.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    index: u32,
    #[serde(flatten)]
    content: Content,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Message { role: &'static str, content: String, refusal: Option<()> },
    Delta(Delta),
    Text(String),
}

#[derive(Debug, Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Logprobs {
    Chat {
        content: Vec<ChatToken>,
        refusal: Option<()>,
    },
    Completion {
        tokens: Vec<String>,
        token_logprobs: Vec<f32>,
        top_logprobs: Vec<serde_json::Map<String, serde_json::Value>>,
        text_offset: Vec<usize>,
    },
}

#[derive(Debug, Serialize)]
struct ChatToken {
    #[serde(flatten)]
    token: ChatLogprob,
    top_logprobs: Vec<ChatLogprob>,
}

#[derive(Debug, Serialize)]
struct ChatLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Head {
    /// A whole answer.
    pub(super) fn whole(&self, choices: Vec<Choice>, usage: Usage, timings: Timings) -> Object<'_> {
        let object = if self.api == Api::Chat { "chat.completion" } else { "text_completion" };
        Object { choices, usage: Some(Some(usage)), timings: Some(timings), ..self.object(object) }
    }

    /// A chunk of a stream.
    pub(super) fn chunk(&self, choices: Vec<Choice>) -> Object<'_> {
        let object = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        Object { choices, ..self.object(object) }
    }

    fn object(&self, object: &'static str) -> Object<'_> {
        let (id, model) = (self.id.as_str(), self.model.as_str());
        Object { id, object, created: self.created, model, choices: Vec::new(), usage: None, timings: None }
    }

    /// A choice of a whole answer.
    pub(super) fn choice(&self, index: u32, piece: Piece, finish: &'static str) -> Choice {
        let logprobs = self.logprobs(&piece, true);
        let content = match self.api {
            Api::Chat => Content::Message { role: "assistant", content: piece.text, refusal: None },
            Api::Completion => Content::Text(piece.text),
        };
        Choice { index, content, logprobs, finish_reason: Some(finish) }
    }

    /// The chunk that begins a chat answer; other answers begin with text.
    pub(super) fn beginning(&self, index: u32) -> Option<Choice> {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
        let choice = Choice { index, content: Content::Delta(delta), logprobs: None, finish_reason: None };
        (self.api == Api::Chat).then_some(choice)
    }

    /// More text.
    pub(super) fn part(&self, index: u32, piece: Piece) -> Choice {
        let logprobs = self.logprobs(&piece, false);
        let content = match self.api {
            Api::Chat => Content::Delta(Delta { role: None, content: Some(piece.text) }),
            Api::Completion => Content::Text(piece.text),
        };
        Choice { index, content, logprobs, finish_reason: None }
    }

    /// The end of one choice.
    pub(super) fn end(&self, index: u32, finish: &'static str) -> Choice {
        let content = match self.api {
            Api::Chat => Content::Delta(Delta::default()),
            Api::Completion => Content::Text(String::new()),
        };
        Choice { index, content, logprobs: None, finish_reason: Some(finish) }
    }

    /// `always`: a whole answer has the object even when it is empty.
    fn logprobs(&self, piece: &Piece, always: bool) -> Option<Logprobs> {
        if !self.logprobs || (piece.scores.is_empty() && !always) {
            return None;
        }
        let scores = piece.scores.iter();
        Some(match self.api {
            Api::Chat => Logprobs::Chat {
                content: scores.map(|(_, score)| chat_token(score)).collect(),
                refusal: None,
            },
            Api::Completion => Logprobs::Completion {
                tokens: scores.clone().map(|(_, score)| name(&score.bytes)).collect(),
                token_logprobs: scores.clone().map(|(_, score)| finite(score.logprob)).collect(),
                top_logprobs: scores.clone().map(|(_, score)| top(score)).collect(),
                text_offset: scores.map(|(offset, _)| *offset).collect(),
            },
        })
    }
}

fn chat_token(score: &Scored) -> ChatToken {
    let token = |bytes: &Vec<u8>, logprob| ChatLogprob {
        token: String::from_utf8_lossy(bytes).into_owned(),
        logprob: finite(logprob),
        bytes: bytes.clone(),
    };
    ChatToken {
        token: token(&score.bytes, score.logprob),
        top_logprobs: score.top.iter().map(|(bytes, logprob)| token(bytes, *logprob)).collect(),
    }
}

fn top(score: &Scored) -> serde_json::Map<String, serde_json::Value> {
    score.top.iter().map(|(bytes, logprob)| (name(bytes), finite(*logprob).into())).collect()
}

/// A token's text, or OpenAI's notation of its bytes where they are not text: names of an object differ.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(String::from("bytes:"), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

fn finite(logprob: f32) -> f32 {
    logprob.max(LOWEST_LOGPROB)
}
