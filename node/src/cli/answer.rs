//! One answer of a gateway: asked for, printed as it comes, summed up.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::http::{Gateway, HttpError};
use super::table::Table;
use crate::config::Output;
use crate::config::args::AskArgs;
use crate::gateway::Timings;

/// Why there is no whole answer.
#[derive(Debug, Error)]
pub(crate) enum AnswerError {
    /// Neither a prompt nor a message.
    #[error("nothing to ask: give --prompt TEXT or --chat TEXT")]
    Nothing,
    /// The gateway did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
    /// It cannot be printed.
    #[error("cannot write to standard output: {0}")]
    Write(#[source] io::Error),
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    path: &'static str,
    body: Value,
}

impl Question {
    /// From the arguments; `None` where they ask nothing.
    pub(crate) fn new(ask: &AskArgs, model: Option<&str>) -> Option<Self> {
        let (path, mut body) = match (&ask.prompt, &ask.chat) {
            (Some(prompt), _) => ("/v1/completions", json!({ "prompt": prompt })),
            (None, Some(chat)) => {
                ("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": chat }] }))
            }
            (None, None) => return None,
        };
        body["max_tokens"] = ask.max_tokens.into();
        // As the user wrote it: 0.7 as f32 would be 0.699999988.
        body["temperature"] = json!(ask.temperature.to_string().parse::<f64>().unwrap_or_default());
        body["stream"] = true.into();
        if let Some(seed) = ask.seed {
            body["seed"] = seed.into();
        }
        if let Some(model) = model {
            body["model"] = model.into();
        }
        Some(Self { path, body })
    }
}

/// What an answer was.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// All of its text.
    pub(crate) text: String,
    /// `stop` or `length`.
    pub(crate) finish_reason: String,
    /// Where the time went.
    pub(crate) timings: Timings,
}

/// The parts of a chunk that are read; the rest is the gateway's.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    timings: Option<Timings>,
    error: Option<ErrorBody>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    text: String,
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    message: String,
}

/// Asks, and prints the answer: as it comes, or as one object at the end.
pub(crate) async fn print(
    gateway: &Gateway,
    question: &Question,
    output: Output,
) -> Result<Summary, AnswerError> {
    let mut out = io::stdout();
    let mut summary = Summary::default();
    let mut events = gateway.stream(question.path, &question.body).await?;
    let mut done = false;
    while let Some(data) = events.next().await? {
        if data == "[DONE]" {
            done = true;
            break;
        }
        let begins = summary.text.is_empty();
        let text = summary.read(&data)?;
        if output == Output::Text {
            // The prompt is not printed, so neither is the space between it and the answer.
            let text = if begins { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(AnswerError::Write)?;
        }
    }
    if !done {
        return Err(AnswerError::BrokenOff("the stream ended early".into()));
    }
    match output {
        Output::Text => writeln!(out),
        Output::Json => writeln!(out, "{}", json!(summary)),
    }
    .map_err(AnswerError::Write)?;
    Ok(summary)
}

impl Summary {
    /// Takes one chunk in, and returns the text that it brings.
    fn read(&mut self, data: &str) -> Result<String, AnswerError> {
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|error| HttpError::Malformed(error.to_string()))?;
        if let Some(error) = chunk.error {
            return Err(AnswerError::BrokenOff(error.message));
        }
        let mut text = String::new();
        for choice in chunk.choices {
            text += &choice.text;
            text += choice.delta.content.as_deref().unwrap_or_default();
            if let Some(reason) = choice.finish_reason {
                self.finish_reason = reason;
            }
        }
        if let Some(timings) = chunk.timings {
            self.timings = timings;
        }
        self.text += &text;
        Ok(text)
    }

    /// Counts, speed and the time per stage, for people.
    pub(crate) fn report(&self) -> String {
        let t = &self.timings;
        let mut text = format!(
            "{} tokens at {:.1} tokens/s · first token after {:.0} ms (prompt of {} tokens) · {:.2} s in all · {}\n",
            t.predicted_n,
            t.predicted_per_second,
            t.time_to_first_token_ms,
            t.prompt_n,
            t.total_ms / 1e3,
            match self.finish_reason.as_str() {
                "length" => "ended at --max-tokens",
                _ => "ended by the model",
            },
        );
        let mut table = Table::new(&["stage", "compute ms", "queue ms", "compute ms/token"]);
        let tokens = f64::from(t.predicted_n.max(1));
        for stage in &t.stages {
            table.row([
                stage.stage.to_string(),
                format!("{:.1}", stage.compute_ms),
                format!("{:.1}", stage.queue_ms),
                format!("{:.3}", stage.compute_ms / tokens),
            ]);
        }
        text += &table.to_string();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_text_reason_and_timings() {
        let mut summary = Summary::default();
        let chunks = [
            (r#"{"choices":[{"index":0,"text":" there","finish_reason":null}]}"#, " there"),
            (
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":" was"},"finish_reason":null}]}"#,
                " was",
            ),
            (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#, ""),
        ];
        for (data, text) in chunks {
            assert_eq!(summary.read(data).unwrap(), text);
        }
        let timings = json!({"choices": [], "timings": Timings { predicted_n: 2, ..Timings::default() }});
        assert_eq!(summary.read(&timings.to_string()).unwrap(), "");
        assert_eq!(
            (summary.text.as_str(), summary.finish_reason.as_str(), summary.timings.predicted_n),
            (" there was", "length", 2)
        );
    }

    #[test]
    fn an_error_in_the_stream_is_the_reason() {
        let error = Summary::default().read(r#"{"error":{"message":"shard 2 was lost"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "the answer broke off: shard 2 was lost");
    }
}
