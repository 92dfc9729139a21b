//! Server-sent events, as they come.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Gateway, HttpError};

/// Bytes of one event at most.
const MAX_EVENT: usize = 1 << 20;

impl Gateway {
    /// The gateway on this machine.
    pub(crate) fn local(port: u16) -> Self {
        Self::at("127.0.0.1".to_owned(), port)
    }

    /// One of which host and port are known.
    pub(crate) fn at(host: String, port: u16) -> Self {
        Self { authority: format!("{host}:{port}"), host, port, authorization: None }
    }

    /// The stream that answers a POST.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Result<Events, HttpError> {
        let response = self.send(Method::POST, path, body.to_string().into()).await?;
        Ok(Events { body: response.into_body(), buffer: Vec::new() })
    }
}

/// Server-sent events. Dropping them ends the request.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The data of the next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, HttpError> {
        loop {
            while let Some(event) = take_event(&mut self.buffer) {
                if let Some(data) = data(&event)? {
                    return Ok(Some(data));
                }
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(HttpError::Malformed(format!("an event is longer than {MAX_EVENT} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(HttpError::Broken)?;
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |bytes| bytes));
                }
            }
        }
    }
}

/// Cuts the first whole event off the buffer: it ends with an empty line.
fn take_event(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let rest = buffer.split_off(end + 2);
    Some(std::mem::replace(buffer, rest))
}

/// The data lines of an event; `None` where it is only a comment.
fn data(event: &[u8]) -> Result<Option<String>, HttpError> {
    let text = std::str::from_utf8(event).map_err(|error| HttpError::Malformed(error.to_string()))?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let data: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    Ok((!data.is_empty()).then(|| data.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_at_empty_lines_wherever_the_bytes_are() {
        let stream = b": comment\n\ndata: {\"a\": 1}\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\nda";
        for step in 1..stream.len() {
            let mut buffer = Vec::new();
            let mut seen = Vec::new();
            for chunk in stream.chunks(step) {
                buffer.extend_from_slice(chunk);
                while let Some(event) = take_event(&mut buffer) {
                    seen.extend(data(&event).unwrap());
                }
            }
            assert_eq!(seen, ["{\"a\": 1}", "two\nlines", "[DONE]"]);
            assert_eq!(buffer, b"da");
        }
    }
}
