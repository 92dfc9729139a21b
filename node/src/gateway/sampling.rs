//! The parameters that say how tokens are chosen.
//!
//! Defaults are OpenAI's where it has them: `temperature` is 1.0. `top_k`, `min_p` and `repetition_penalty` are
//! extensions, with the names and neutral values that vLLM and llama.cpp use.

use std::hash::{BuildHasher, RandomState};

use shard_wire::session::Sampling;

use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::request::{Api, to_u32};

/// Entries of `logit_bias`; they travel with OPEN through every stage.
const MAX_BIASES: usize = 1024;

pub(super) fn parse(api: Api, fields: &mut Fields) -> Result<Sampling, ApiError> {
    let logprobs = match api {
        Api::Chat => {
            let wanted = fields.flag("logprobs")?.unwrap_or(false);
            match fields.integer("top_logprobs", 0..=20)? {
                Some(_) if !wanted => {
                    return Err(ApiError::parameter("top_logprobs", "it needs 'logprobs': true"));
                }
                top => wanted.then(|| top.unwrap_or(0)),
            }
        }
        Api::Completion => fields.integer("logprobs", 0..=5)?,
    };
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
        // -1 is vLLM's word for "all".
        top_k: fields.integer("top_k", -1..=i64::from(i32::MAX))?.map_or(0, |k| to_u32(k.max(0))),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?.unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        seed: fields.integer("seed", i64::MIN..=i64::MAX)?.map_or_else(random, i64::cast_unsigned),
        logit_bias: logit_bias(fields)?,
        logprobs: logprobs.map(|top| u8::try_from(top).unwrap_or(u8::MAX)),
    })
}

/// Without a seed every answer is another one: the hasher's keys come from the operating system.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    for (id, bias) in biases.into_members() {
        let Ok(token) = id.parse::<u32>() else {
            return Err(ApiError::parameter("logit_bias", "the names of its members are token ids"));
        };
        #[allow(clippy::cast_possible_truncation, reason = "-100 to 100")]
        match bias.as_f64() {
            Some(number) if (-100.0..=100.0).contains(&number) => list.push((token, number as f32)),
            _ => return Err(wrong(&format!("logit_bias.{token}"), "a number from -100 to 100", &bias)),
        }
        if list.len() > MAX_BIASES {
            return Err(ApiError::parameter("logit_bias", format!("it has more than {MAX_BIASES} members")));
        }
    }
    Ok(list)
}
