//! The messages of a chat request: roles that a template knows, and text.

use serde_json::Value;
use shard_engine::chat::Message;

use super::error::ApiError;
use super::fields::{brief, wrong};

pub(super) fn parse(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
    match value {
        None => Err(ApiError::parameter("messages", "it is required")),
        Some(Value::Array(messages)) if !messages.is_empty() => {
            messages.into_iter().enumerate().map(|(index, value)| message(index, value)).collect()
        }
        Some(other) => Err(wrong("messages", "an array of at least one message", &other)),
    }
}

fn message(index: usize, value: Value) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let Value::Object(mut members) = value else {
        return Err(wrong(&format!("messages[{index}]"), "an object", &value));
    };
    let role = match members.get("role").unwrap_or(&Value::Null) {
        Value::String(role) => match role.as_str() {
            // OpenAI's newer name; templates know the older one.
            "system" | "developer" => "system",
            "user" => "user",
            "assistant" => "assistant",
            other => {
                let message = format!("expected system, developer, user or assistant, got {}", brief(other));
                return Err(ApiError::parameter(at("role"), message));
            }
        },
        other => return Err(wrong(&at("role"), "a string", other)),
    };
    if members
        .get("tool_calls")
        .is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty()) && !calls.is_null())
    {
        return Err(ApiError::Unsupported {
            param: at("tool_calls"),
            message: "tools are not offered here".into(),
        });
    }
    let content = match members.remove("content").unwrap_or(Value::Null) {
        Value::String(text) => text,
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(part, value)| text_part(&at(&format!("content[{part}]")), value))
            .collect::<Result<_, _>>()?,
        // An assistant that only called a tool, or refused, has none.
        Value::Null if role == "assistant" => String::new(),
        other => return Err(wrong(&at("content"), "a string or an array of text parts", &other)),
    };
    Ok(Message { role: role.to_owned(), content })
}

fn text_part(at: &str, value: Value) -> Result<String, ApiError> {
    let Value::Object(mut members) = value else { return Err(wrong(at, "an object", &value)) };
    match members.get("type") {
        Some(Value::String(kind)) if kind == "text" => {}
        kind => {
            let got = kind.and_then(Value::as_str).unwrap_or("nothing");
            let message = format!("only text is offered, not {}", brief(got));
            return Err(ApiError::Unsupported { param: format!("{at}.type"), message });
        }
    }
    match members.remove("text") {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(&format!("{at}.text"), "a string", &other.unwrap_or(Value::Null))),
    }
}
