//! `/json-message/1.0`: one JSON object asks, one answers.
//!
//! ```text
//! → {"command": "GET_CAPABILITIES", "request_id": "req-1", "params": {}}
//! ← {"status": "ok", "request_id": "req-1", "data": {…}, "error": null}
//! ← {"status": "error", "request_id": "req-1", "data": null, "error": {"code": "busy", "message": "…"}}
//! ```
//! Unknown fields are ignored and missing ones have defaults, so that versions can differ. Activations and model
//! files never travel this way.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use crate::command::Command;
use crate::json::brief;

/// Bytes of a request at most: a prompt fits, a tensor does not.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Bytes of an answer at most.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// A command on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Name of the command, in capitals.
    pub command: String,
    /// Chosen by who asks; the answer repeats it.
    #[serde(default)]
    pub request_id: String,
    /// What the command needs.
    #[serde(default)]
    pub params: Value,
}

/// Why a request is not a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is larger than [`MAX_REQUEST_BYTES`].
    #[error("the request is larger than {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
    /// It is large, and the node has other large ones.
    #[error("the node has as many large requests as it takes: try again")]
    Busy,
    /// It is not a JSON object with a command.
    #[error("the request is not {{\"command\", \"request_id\", \"params\"}} in JSON: {0}")]
    BadJson(String),
    /// No such command.
    #[error("unknown command {0:?}: this node knows {known}", known = crate::command::NAMES.join(", "))]
    UnknownCommand(String),
    /// The parameters do not fit the command.
    #[error("the parameters of {command} do not fit: {reason}")]
    BadParams {
        /// The command.
        command: &'static str,
        /// What does not fit.
        reason: String,
    },
}

impl RequestError {
    /// The code that the answer carries.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge => ErrorCode::TooLarge,
            Self::Busy => ErrorCode::Busy,
            Self::BadJson(_) => ErrorCode::BadJson,
            Self::UnknownCommand(_) => ErrorCode::UnknownCommand,
            Self::BadParams { .. } => ErrorCode::BadParams,
        }
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`RequestError::TooLarge`] and [`RequestError::BadJson`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        serde_json::from_slice(bytes).map_err(|error| RequestError::BadJson(brief(&error)))
    }
}

/// Whether a command was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// `data` holds the answer.
    Ok,
    /// `error` says why not.
    Error,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Whether it was carried out.
    pub status: Status,
    /// The request's.
    #[serde(default)]
    pub request_id: String,
    /// The answer.
    #[serde(default)]
    pub data: Value,
    /// Why there is none.
    #[serde(default)]
    pub error: Option<ResponseError>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Larger than the limit.
    TooLarge,
    /// Not JSON, or not a request.
    BadJson,
    /// No such command.
    UnknownCommand,
    /// The parameters do not fit.
    BadParams,
    /// The plan has no such shard.
    OutOfRange,
    /// Nobody has such a file.
    NotFound,
    /// The node has as much work as it takes; try again.
    Busy,
    /// The node cannot do it now.
    Unavailable,
    /// It was tried and failed.
    Failed,
    /// A code of a newer version.
    #[serde(other)]
    Other,
}

impl Response {
    /// The answer to a command that was carried out.
    pub fn ok(request_id: impl Into<String>, data: Value) -> Self {
        Self { status: Status::Ok, request_id: request_id.into(), data, error: None }
    }

    /// The answer to one that was not.
    pub fn error(request_id: impl Into<String>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status: Status::Error,
            request_id: request_id.into(),
            data: Value::Null,
            error: Some(ResponseError { code, message: message.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn responses_look_as_documented() {
        let ok = serde_json::to_value(Response::ok("r", json!({"a": 1}))).unwrap();
        assert_eq!(ok, json!({"status": "ok", "request_id": "r", "data": {"a": 1}, "error": null}));
        let error = serde_json::to_value(Response::error("r", ErrorCode::Busy, "full")).unwrap();
        assert_eq!(
            error,
            json!({"status": "error", "request_id": "r", "data": null, "error": {"code": "busy", "message": "full"}})
        );
        let newer: Response =
            serde_json::from_str(r#"{"status":"error","error":{"code":"moved","message":""}}"#).unwrap();
        assert_eq!(newer.error.unwrap().code, ErrorCode::Other);
    }
}
