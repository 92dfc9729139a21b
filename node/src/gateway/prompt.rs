//! A request to prompts for the ring: encoded, within the context, one for each choice.

use std::time::Duration;

use shard_engine::tokenizer::Start;

use super::error::ApiError;
use super::request::{Api, Input, Request, Text};
use crate::model::Model;
use crate::ring::client::Prompt;

/// One answer to make.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Index of the choice in the response.
    pub(super) index: u32,
    pub(super) prompt: Prompt,
    pub(super) stop: Vec<String>,
    /// What the text begins with: the prompt, where the client wants its echo.
    pub(super) prefix: String,
    /// A message stands for itself; a completion goes on behind its prompt.
    pub(super) start: Start,
}

/// Choice `i` of a prompt draws with `seed + i`; `n` choices of the first prompt come first.
pub(super) fn jobs(model: &Model, request: Request, timeout: Duration) -> Result<Vec<Job>, ApiError> {
    if let Some((id, _)) = request.sampling.logit_bias.iter().find(|(id, _)| *id >= model.vocabulary()) {
        return Err(ApiError::parameter("logit_bias", unknown(*id, model)));
    }
    let prompts = match request.input {
        Input::Chat(messages) => {
            let ids = model.encode_chat(&messages).map_err(|error| ApiError::Template(error.to_string()))?;
            vec![(ids, String::new())]
        }
        Input::Prompts(texts) => {
            texts.into_iter().map(|text| encode(model, text, request.echo)).collect::<Result<_, _>>()?
        }
    };
    let start = if request.api == Api::Chat { Start::Text } else { Start::Continuation };
    let mut jobs = Vec::with_capacity(prompts.len() * request.n as usize);
    for (ids, prefix) in prompts {
        let room = room(&ids, model.context_length)?;
        for choice in 0..request.n {
            let mut sampling = request.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(u64::from(choice));
            jobs.push(Job {
                index: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
                prompt: Prompt {
                    plan: Some(model.plan.clone()),
                    ids: ids.clone(),
                    sampling,
                    eos: model.end().to_vec(),
                    max_tokens: request.max_tokens.map_or(room, |wanted| wanted.min(room)),
                    deadline: timeout,
                },
                stop: request.stop.clone(),
                prefix: prefix.clone(),
                start,
            });
        }
    }
    Ok(jobs)
}

/// The ids of a prompt, and its text where it is to be repeated.
fn encode(model: &Model, text: Text, echo: bool) -> Result<(Vec<u32>, String), ApiError> {
    match text {
        Text::Plain(text) => {
            let ids = model.encode(&text);
            Ok((ids, if echo { text } else { String::new() }))
        }
        Text::Ids(ids) => {
            if let Some(id) = ids.iter().find(|id| **id >= model.vocabulary()) {
                return Err(ApiError::parameter("prompt", unknown(*id, model)));
            }
            let text = if echo { model.decode(&ids) } else { String::new() };
            Ok((ids, text))
        }
    }
}

/// Positions left for the answer.
fn room(ids: &[u32], limit: u32) -> Result<u32, ApiError> {
    if ids.is_empty() {
        return Err(ApiError::parameter("prompt", "it has no token"));
    }
    let used = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    match limit.checked_sub(used) {
        Some(room) if room > 0 => Ok(room),
        _ => Err(ApiError::ContextLength { prompt: ids.len(), limit }),
    }
}

fn unknown(id: u32, model: &Model) -> String {
    format!("token id {id} is not in the vocabulary of {} tokens", model.vocabulary())
}
