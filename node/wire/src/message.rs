//! `/json-message/1.0`: one JSON object asks, one answers.
//!
//! ```text
//! → {"command": "GET_CAPABILITIES", "request_id": "req-1", "params": {}}
//! ← {"status": "ok", "request_id": "req-1", "data": {…}, "error": null}
//! ← {"status": "error", "request_id": "req-1", "data": null, "error": {"code": "busy", "message": "…"}}
//! ```
//! Unknown fields are ignored and missing ones have defaults, so that versions can differ. Activations and model
//! files never travel this way.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::session::{Finish, Sampling};

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

/// The commands that a node knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// What the node is and can do. Answered with its announcements.
    GetCapabilities,
    /// Run a prompt through the pipeline. Answered with [`InferenceResult`].
    Inference(InferenceParams),
    /// Counts and times since the start.
    GetMetrics,
}

/// Parameters of `INFERENCE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceParams {
    /// The text to continue.
    pub prompt: String,
    /// Tokens to generate at most.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// How to choose tokens.
    #[serde(flatten)]
    pub sampling: Sampling,
}

fn default_max_tokens() -> u32 {
    64
}

/// Answer to `INFERENCE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceResult {
    /// The text that follows the prompt.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a request is not a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is larger than [`MAX_REQUEST_BYTES`].
    #[error("the request is larger than {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
    /// It is not a JSON object with a command.
    #[error("the request is not {{\"command\", \"request_id\", \"params\"}} in JSON: {0}")]
    BadJson(String),
    /// No such command.
    #[error("unknown command {0:?}: this node knows GET_CAPABILITIES, INFERENCE and GET_METRICS")]
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
        serde_json::from_slice(bytes).map_err(|error| RequestError::BadJson(error.to_string()))
    }

    /// Which command it is, with its parameters read.
    ///
    /// # Errors
    /// [`RequestError::UnknownCommand`] and [`RequestError::BadParams`].
    pub fn command(&self) -> Result<Command, RequestError> {
        match self.command.as_str() {
            "GET_CAPABILITIES" => Ok(Command::GetCapabilities),
            "INFERENCE" => self.params("INFERENCE").map(Command::Inference),
            "GET_METRICS" => Ok(Command::GetMetrics),
            unknown => Err(RequestError::UnknownCommand(unknown.chars().take(64).collect())),
        }
    }

    fn params<T: DeserializeOwned>(&self, command: &'static str) -> Result<T, RequestError> {
        T::deserialize(&self.params)
            .map_err(|error| RequestError::BadParams { command, reason: error.to_string() })
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
    fn requests_are_read_tolerantly() {
        let request = Request::decode(br#"{"command":"GET_METRICS","from":"the future"}"#).unwrap();
        assert_eq!(request.command(), Ok(Command::GetMetrics));
        assert_eq!(request.request_id, "");

        let request = Request::decode(
            br#"{"command":"INFERENCE","request_id":"r","params":{"prompt":"Hi","temperature":0.5,"x":1}}"#,
        )
        .unwrap();
        let Ok(Command::Inference(params)) = request.command() else { panic!("not INFERENCE: {request:?}") };
        assert_eq!((params.prompt.as_str(), params.max_tokens), ("Hi", 64));
        assert_eq!(params.sampling, Sampling { temperature: 0.5, ..Sampling::default() });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let code =
            |bytes: &[u8]| Request::decode(bytes).and_then(|request| request.command()).unwrap_err().code();
        assert_eq!(code(b"{"), ErrorCode::BadJson);
        assert_eq!(code(b"[]"), ErrorCode::BadJson);
        assert_eq!(code(b"{\"command\":1}"), ErrorCode::BadJson);
        assert_eq!(code(b"{\"command\":\"REBOOT\"}"), ErrorCode::UnknownCommand);
        assert_eq!(code(b"{\"command\":\"INFERENCE\",\"params\":{\"prompt\":7}}"), ErrorCode::BadParams);
        assert_eq!(code(b"{\"command\":\"INFERENCE\"}"), ErrorCode::BadParams);
        assert_eq!(code(&vec![b' '; MAX_REQUEST_BYTES + 1]), ErrorCode::TooLarge);
    }

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
