//! The members of a JSON object, each read once and checked as it is read; an error names the member.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// The members that have not been read yet. `null` is the same as absent, as in OpenAI's API.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body).map_err(|error| ApiError::NotJson(error.to_string()))? {
            Value::Object(members) => Ok(Self(members)),
            other => Err(ApiError::NotJson(format!("it is {}", kind(&other)))),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", &other)),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members))),
            Some(other) => Err(wrong(name, "an object", &other)),
        }
    }

    /// The members by name.
    pub(super) fn into_members(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }

    #[allow(clippy::cast_possible_truncation, reason = "every range read here is one of f32")]
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number as f32)),
            _ => Err(wrong(name, &format!("a number from {} to {}", range.start(), range.end()), &value)),
        }
    }

    pub(super) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, &format!("an integer from {} to {}", range.start(), range.end()), &value)),
        }
    }
}

/// An error that says what was expected and what came instead. A long value is not repeated.
pub(super) fn wrong(param: &str, expected: &str, value: &Value) -> ApiError {
    let got = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        other => kind(other).to_owned(),
    };
    ApiError::parameter(param, format!("expected {expected}, got {got}"))
}

/// The beginning of a text, in quotes. (`{:.40?}` is the whole text: precision means nothing there.)
pub(super) fn brief(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(items) if items.is_empty() => "an empty array",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
