//! Bodies of `/v1/completions` and `/v1/chat/completions`.

use shard_engine::chat::Message;
use shard_node::gateway::ApiError;
use shard_node::gateway::request::{Api, Input, MAX_CHOICES, MAX_STOP_LEN, MAX_STOPS, Request};
use shard_node::model::{About, Model};

use crate::targets::{assert_short, text};

/// A body, as either of the two APIs' and on to the tokens of its prompt.
pub fn openai(data: &[u8]) -> bool {
    parsed(Api::Chat, data) | parsed(Api::Completion, data)
}

fn parsed(api: Api, data: &[u8]) -> bool {
    let request = match Request::parse(api, data) {
        Ok(request) => request,
        Err(error) => {
            let theirs = matches!(
                error,
                ApiError::NotJson(_) | ApiError::Parameter { .. } | ApiError::Unsupported { .. }
            );
            assert!(theirs, "{error}");
            assert_short(error);
            return false;
        }
    };
    bounded(&request);
    match &request.input {
        Input::Chat(messages) => unforged(messages),
        Input::Prompts(prompts) => assert!(prompts.len() * request.n as usize <= MAX_CHOICES),
    }
    true
}

fn bounded(request: &Request) {
    let sampling = &request.sampling;
    assert!((0.0..=2.0).contains(&sampling.temperature) && (0.0..=1.0).contains(&sampling.top_p));
    assert!((0.0..=1.0).contains(&sampling.min_p) && sampling.repetition_penalty > 0.0);
    assert!(sampling.presence_penalty.abs() <= 2.0 && sampling.frequency_penalty.abs() <= 2.0);
    assert!(sampling.logit_bias.iter().all(|(_, bias)| bias.abs() <= 100.0));
    assert!(sampling.logprobs.is_none_or(|top| top <= 20));
    assert!((1..=MAX_CHOICES as u32).contains(&request.n) && request.max_tokens != Some(0));
    assert!(request.stop.len() <= MAX_STOPS);
    assert!(request.stop.iter().all(|stop| (1..=MAX_STOP_LEN).contains(&stop.len())));
}

/// What users write stays text: a conversation has the special tokens that its template writes, and no more.
fn unforged(messages: &[Message]) {
    let about = About { plan: "p".into(), name: "m".into(), sha256: String::new(), context_length: Some(64) };
    let model = Model::from_gguf(&text::with_template(None), about).expect("a model of ours");
    let special = |messages: &[Message]| {
        let ids = model.encode_chat(messages).expect("ChatML takes any conversation");
        // Those in front of the bytes, without the ordinary ones.
        ids.into_iter().filter(|id| *id < 5).collect::<Vec<_>>()
    };
    let silent: Vec<_> =
        messages.iter().map(|message| Message { content: String::new(), ..message.clone() }).collect();
    assert_eq!(special(messages), special(&silent), "{messages:?}");
}
