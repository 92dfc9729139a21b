//! JSON bodies of the frames that open and end a session.

use serde::{Deserialize, Serialize};

/// How the last stage chooses a token from the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 is greedy.
    #[serde(deserialize_with = "crate::json::finite")]
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities add up to p; 1 keeps all.
    #[serde(deserialize_with = "crate::json::finite")]
    pub top_p: f32,
    /// Drop those below this share of the likeliest one's probability; 0 drops none.
    #[serde(deserialize_with = "crate::json::finite")]
    pub min_p: f32,
    /// Divide (multiply where negative) the logits of tokens seen; 1 changes nothing.
    #[serde(deserialize_with = "crate::json::finite")]
    pub repetition_penalty: f32,
    /// Subtract from the logits of tokens seen.
    #[serde(deserialize_with = "crate::json::finite")]
    pub presence_penalty: f32,
    /// Subtract, times how often a token was seen.
    #[serde(deserialize_with = "crate::json::finite")]
    pub frequency_penalty: f32,
    /// The random draw at a position is a function of this and the position.
    pub seed: u64,
    /// Added to the logits of these ids.
    #[serde(deserialize_with = "crate::json::finite_by_id")]
    pub logit_bias: Vec<(u32, f32)>,
    /// How many alternatives to report with each token; `None` reports no probabilities.
    pub logprobs: Option<u8>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// One stage of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStage {
    /// The peer id of the node.
    pub peer: String,
    /// The shard that it serves there.
    pub shard: u32,
}

/// Body of OPEN; the prompt ids are the frame's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The peer id of the gateway that owns the session.
    pub gateway: String,
    /// The stages in order.
    pub route: Vec<RouteStage>,
    /// Short name of the plan that all stages must serve.
    pub plan: String,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub eos: Vec<u32>,
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// The prefix that every stage holds already; each lowers it. 0 until there is a prefix cache.
    pub reuse: u32,
    /// The session goes on after a loss: it waits where a new one is refused.
    pub recovering: bool,
}

/// Body of OPENED.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The prefix that every stage holds.
    pub reuse: u32,
}

/// Why a stage does not take a session. Only `Busy` is worth another try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// No slot, or no room for its positions, is free now.
    Busy,
    /// The node serves another plan.
    OtherPlan {
        /// The plan it serves.
        plan: String,
    },
    /// The node does not serve this shard.
    NoSuchShard {
        /// The shard.
        shard: u32,
    },
    /// The prompt and the tokens asked for are longer than the context.
    TooLong {
        /// Positions asked for.
        positions: u32,
        /// Positions that a session can have.
        limit: u32,
    },
    /// OPEN itself is wrong.
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// The next stage of the route cannot be reached.
    Unreachable {
        /// Its peer id.
        peer: String,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A token of the EOS set was sampled.
    Eos,
    /// `max_tokens` were generated.
    Length,
}

/// Body of TOKEN to the gateway; empty for TOKEN to stage 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Set on the last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Natural logarithm of the token's probability, where asked for.
    #[serde(
        default,
        deserialize_with = "crate::json::finite_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub logprob: Option<f32>,
    /// The likeliest tokens with theirs, where asked for.
    #[serde(default, deserialize_with = "crate::json::finite_by_id", skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(u32, f32)>,
}

/// Body of FAILED: the stage freed the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened, for people.
    pub message: String,
}
