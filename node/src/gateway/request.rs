//! JSON to a request that cannot be wrong: every parameter read, ranges checked, defaults resolved.
//!
//! Without `max_tokens` an answer may take the rest of the context. What would change the answer and is not offered
//! (`tools`, JSON mode, images, …) is refused by name; what would not (`user`, `metadata`, …) is ignored.

use serde_json::Value;
use shard_engine::chat::Message;
use shard_wire::session::Sampling;

use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::messages;
use super::sampling;

/// Choices of one request over all its prompts: each is a session of its own and takes a slot.
pub const MAX_CHOICES: usize = 16;
/// Stop strings of one request, OpenAI's limit.
pub const MAX_STOPS: usize = 4;
/// Bytes of one stop string: text is held back for as long as it may become one.
pub const MAX_STOP_LEN: usize = 256;

/// Which of the two APIs a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

/// What the answer shall continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Messages for the chat template.
    Chat(Vec<Message>),
    /// One or several texts or token sequences, each answered by itself.
    Prompts(Vec<Text>),
}

/// One prompt of `/v1/completions`.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// Text, still to be encoded.
    Plain(String),
    /// Token ids, used as they are.
    Ids(Vec<u32>),
}

/// A valid request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which of the two it speaks.
    pub api: Api,
    /// What to continue.
    pub input: Input,
    /// The model that the client named.
    pub model: Option<String>,
    /// Answers for each prompt.
    pub n: u32,
    /// Tokens to generate at most; `None` is the rest of the context.
    pub max_tokens: Option<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Events instead of one object.
    pub stream: bool,
    /// The last event says how many tokens there were.
    pub include_usage: bool,
    /// Begin the text of the answer with the prompt.
    pub echo: bool,
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError::NotJson`], [`ApiError::Parameter`] and [`ApiError::Unsupported`].
    pub fn parse(api: Api, body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        refuse_unsupported(api, &mut fields)?;
        let input = match api {
            Api::Chat => Input::Chat(messages::parse(fields.take("messages"))?),
            Api::Completion => Input::Prompts(prompts(fields.take("prompt"))?),
        };
        let n = fields.integer("n", 1..=MAX_CHOICES as i64)?.map_or(1, to_u32);
        let prompts = if let Input::Prompts(prompts) = &input { prompts.len() } else { 1 };
        if prompts * n as usize > MAX_CHOICES {
            let message =
                format!("{prompts} prompts with {n} choices each are more than {MAX_CHOICES} answers");
            return Err(ApiError::parameter("n", message));
        }
        let stream = fields.flag("stream")?.unwrap_or(false);
        let request = Self {
            api,
            input,
            n,
            model: fields.text("model")?,
            max_tokens: max_tokens(&mut fields)?,
            sampling: sampling::parse(api, &mut fields)?,
            stop: stops(fields.take("stop"))?,
            stream,
            include_usage: include_usage(stream, &mut fields)?,
            echo: api == Api::Completion && fields.flag("echo")?.unwrap_or(false),
        };
        if request.echo && request.sampling.logprobs.is_some() {
            let message =
                "the probabilities of prompt tokens are not computed: leave out 'echo' or 'logprobs'";
            return Err(ApiError::Unsupported { param: "echo".into(), message: message.into() });
        }
        Ok(request)
    }
}

pub(super) fn to_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// `max_completion_tokens` is the newer name of the same bound.
fn max_tokens(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let range = || 1..=i64::from(u32::MAX);
    let newer = fields.integer("max_completion_tokens", range())?;
    let older = fields.integer("max_tokens", range())?;
    Ok(newer.or(older).map(to_u32))
}

fn include_usage(stream: bool, fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.object("stream_options")? {
        Some(_) if !stream => Err(ApiError::parameter("stream_options", "it is only for 'stream': true")),
        Some(mut options) => Ok(options.flag("include_usage")?.unwrap_or(false)),
        None => Ok(false),
    }
}

fn stops(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let expected = format!("a string or up to {MAX_STOPS} strings of 1 to {MAX_STOP_LEN} bytes");
    let values = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    if values.len() > MAX_STOPS {
        return Err(ApiError::parameter("stop", format!("expected {expected}, got {}", values.len())));
    }
    let stop = |value| match value {
        Value::String(text) if (1..=MAX_STOP_LEN).contains(&text.len()) => Ok(text),
        Value::String(text) => {
            Err(ApiError::parameter("stop", format!("expected {expected}, got {} bytes", text.len())))
        }
        other => Err(wrong("stop", &expected, &other)),
    };
    values.into_iter().map(stop).collect()
}

/// A string, strings, token ids, or lists of token ids.
fn prompts(value: Option<Value>) -> Result<Vec<Text>, ApiError> {
    let expected = "a string, an array of strings, an array of token ids, or an array of such arrays";
    let one = |value: Value| match value {
        Value::String(text) => Ok(Text::Plain(text)),
        Value::Array(ids) => {
            ids.iter().map(id).collect::<Option<_>>().map(Text::Ids).ok_or(Value::Array(ids))
        }
        other => Err(other),
    };
    let prompts = match value {
        None => return Err(ApiError::parameter("prompt", "it is required")),
        Some(Value::Array(items)) if items.first().is_some_and(|first| !first.is_number()) => {
            items.into_iter().map(one).collect()
        }
        Some(single) => one(single).map(|prompt| vec![prompt]),
    };
    prompts.map_err(|value| wrong("prompt", expected, &value))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Parameters with a value that asks for more than this server can do.
fn refuse_unsupported(api: Api, fields: &mut Fields) -> Result<(), ApiError> {
    let refuse = |param: &str, message: &str| {
        Err(ApiError::Unsupported { param: param.to_owned(), message: message.to_owned() })
    };
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let chat = ["tools", "functions", "audio", "web_search_options"];
    let completion = ["suffix"];
    for param in if api == Api::Chat { chat.as_slice() } else { completion.as_slice() } {
        if fields.take(param).is_some_and(|value| !empty(&value) && value != "") {
            return refuse(param, "it is not offered here; leave it out");
        }
    }
    if fields.take("response_format").is_some_and(|format| format["type"] != "text") {
        return refuse("response_format", "only {\"type\": \"text\"} is offered");
    }
    if fields.take("modalities").is_some_and(|list| list != serde_json::json!(["text"])) {
        return refuse("modalities", "only [\"text\"] is offered");
    }
    if fields.take("best_of").is_some_and(|best| best != 1) {
        return refuse("best_of", "only 1 is offered; use 'n'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-3i64..20).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-3.0..3.0f64).prop_map(Value::from),
            ".{0,3}".prop_map(Value::from),
            prop_oneof![Just("text"), Just("user"), Just("7")].prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let name = prop_oneof![Just("role"), Just("content"), Just("type"), Just("text"), Just("7")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..4).prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        /// Whatever a member is, it is refused by its name, or what comes out keeps to every bound.
        #[test]
        fn any_value_of_a_member(
            name in prop_oneof![
                Just("messages"), Just("prompt"), Just("model"), Just("n"), Just("max_tokens"), Just("stop"), Just("seed"),
                Just("temperature"), Just("top_p"), Just("top_k"), Just("min_p"), Just("logprobs"), Just("logit_bias"),
                Just("stream"), Just("echo"), Just("tools"), Just("response_format"), Just("best_of"),
            ],
            value in value(),
        ) {
            for (api, mut body) in [
                (Api::Chat, json!({"messages": [{"role": "user", "content": "Hi"}]})),
                (Api::Completion, json!({"prompt": "Hi"})),
            ] {
                body[name] = value.clone();
                match Request::parse(api, body.to_string().as_bytes()) {
                    Ok(request) => {
                        let Sampling { temperature, top_p, min_p, repetition_penalty, logit_bias, .. } = request.sampling;
                        prop_assert!((0.0..=2.0).contains(&temperature) && (0.0..=1.0).contains(&top_p));
                        prop_assert!((0.0..=1.0).contains(&min_p) && repetition_penalty > 0.0);
                        prop_assert!(logit_bias.iter().all(|(_, bias)| bias.abs() <= 100.0));
                        prop_assert!((1..=MAX_CHOICES as u32).contains(&request.n) && request.max_tokens != Some(0));
                        prop_assert!(request.stop.len() <= MAX_STOPS && request.stop.iter().all(|stop| !stop.is_empty()));
                    }
                    Err(ApiError::Parameter { param, .. } | ApiError::Unsupported { param, .. }) => {
                        prop_assert!(param.starts_with(name) || param == "n", "{param} for {name}");
                    }
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
        }
    }
}
