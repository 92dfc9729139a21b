//! A small HTTP client for a gateway: one request a connection, JSON or server-sent events back.

mod events;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::args::GatewayAddress;

/// A connection is there within this time, or the gateway is not.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of a JSON answer at most; the pipeline object of 256 shards has some 200 KiB.
const MAX_BODY: usize = 16 << 20;

/// Why a gateway gave no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// The URL is not one that can be asked.
    #[error("'{url}' is not the URL of a gateway: {reason}; expected http://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The key file cannot be used.
    #[error("no API key in {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody listens there.
    #[error(
        "cannot connect to the gateway at {address}: {reason}; is `shardctl up` or `web_server` running there?"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to the gateway broke")]
    Broken(#[source] hyper::Error),
    /// The gateway refused.
    #[error("the gateway answered {status}: {message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// The answer is not what a gateway sends.
    #[error("the gateway's answer cannot be read: {0}")]
    Malformed(String),
}

/// A gateway's address.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// HOST:PORT.
    authority: String,
    /// HOST and port to connect to.
    host: String,
    port: u16,
    /// `Bearer KEY`.
    authorization: Option<HeaderValue>,
}

impl Gateway {
    /// The gateway that the user names, with the first key of the user's file.
    pub(crate) fn open(address: &GatewayAddress) -> Result<Self, HttpError> {
        let mut gateway = Self::parse(&address.url)?;
        if let Some(path) = &address.api_key_file {
            let wrong = |reason: String| HttpError::Key { path: path.clone(), reason };
            let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let mut keys =
                text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let key = keys.next().ok_or_else(|| wrong("it has no key".into()))?;
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| wrong("a key has no control characters".into()))?;
            value.set_sensitive(true);
            gateway.authorization = Some(value);
        }
        Ok(gateway)
    }

    /// Reads `http://HOST[:PORT][/]`.
    fn parse(url: &str) -> Result<Self, HttpError> {
        let wrong = |reason: &str| HttpError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| wrong(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("TLS is not spoken here, ask the gateway itself")),
            _ => return Err(wrong("it does not begin with http://")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: authority.to_string(), host, port, authorization: None })
    }

    /// An object by GET.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        let body = collect(response).await?;
        serde_json::from_slice(&body).map_err(|error| HttpError::Malformed(error.to_string()))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, HttpError> {
        let connect = |reason: String| HttpError::Connect { address: self.authority.clone(), reason };
        let stream = timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port)))
            .await
            .map_err(|_| connect(format!("no answer within {CONNECT:?}")))?
            .map_err(|error| connect(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
        // Its errors are seen by whoever waits for the response.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.authorization {
            request = request.header(AUTHORIZATION, key);
        }
        let request =
            request.body(Full::new(body)).map_err(|error| HttpError::Malformed(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(HttpError::Broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = collect(response).await?;
        Err(HttpError::Refused { status, message: message(&body) })
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, HttpError> {
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| HttpError::Malformed(error.to_string()))
}

/// What an error object says, or the text as it is.
fn message(body: &[u8]) -> String {
    let object: Option<Value> = serde_json::from_slice(body).ok();
    let message = object.as_ref().and_then(|o| o.pointer("/error/message")).and_then(Value::as_str);
    message.map_or_else(|| String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_http_host_and_port() {
        let parsed = |url: &str| Gateway::parse(url).map(|g| (g.host, g.port)).map_err(|e| e.to_string());
        assert_eq!(parsed("http://localhost:8080"), Ok(("localhost".into(), 8080)));
        assert_eq!(parsed("http://[::1]:8080/"), Ok(("::1".into(), 8080)));
        assert_eq!(parsed("http://gateway"), Ok(("gateway".into(), 80)));
        for (url, reason) in [
            ("https://host", "TLS"),
            ("localhost:8080", "http://"),
            ("http://host/v1", "path"),
            ("", "empty"),
        ] {
            assert!(parsed(url).unwrap_err().contains(reason), "{url}: {:?}", parsed(url));
        }
    }
}
