//! HTTP for models: one client with the user's token, certificates and proxies.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, Response, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{Patience, SourceError, shown};

/// Hubs redirect once or twice.
const REDIRECTS: usize = 10;
/// Of a token file; a token has some hundred bytes.
const MAX_TOKEN: usize = 16 << 10;

/// What opens a source. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from a variable.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    fn read(path: &Path) -> Result<Self, SourceError> {
        let wrong = |reason: String| SourceError::Token { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        if text.len() > MAX_TOKEN {
            return Err(wrong(format!("it has {} bytes, more than {MAX_TOKEN}", text.len())));
        }
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        line.and_then(Self::new).ok_or_else(|| wrong("it is empty".into()))
    }

    fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How a source is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Where the token is read from, anew each time: it may have been replaced.
    pub token_file: Option<PathBuf>,
    /// The token where there is no file.
    pub token: Option<Token>,
    /// Certificates to trust beside the public ones, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long to wait.
    pub patience: Patience,
}

/// Asks a source.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    token: Option<HeaderValue>,
    pub(super) patience: Patience,
}

impl Client {
    /// Reads token and certificates; proxies are those of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// Where a file cannot be used.
    pub fn new(access: &Access) -> Result<Self, SourceError> {
        let token = match &access.token_file {
            Some(path) => Some(Token::read(path)?),
            None => access.token.clone(),
        };
        let token = match token.map(|token| token.header()) {
            Some(None) => {
                let path = access.token_file.clone().unwrap_or_else(|| "the variable".into());
                return Err(SourceError::Token { path, reason: "it has control characters".into() });
            }
            Some(header) => header,
            None => None,
        };
        let failed = |error: &dyn fmt::Display| SourceError::Client(error.to_string());
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| failed(&error))?
                .with_root_certificates(roots(access.ca_file.as_deref())?)
                .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(Policy::custom(redirect))
            // A signed address is nobody else's business.
            .referer(false)
            // Retries are ours, with bytes kept.
            .retry(reqwest::retry::never())
            .connect_timeout(access.patience.connect)
            .read_timeout(access.patience.read)
            .user_agent(concat!("shardcluster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(&chain(&error)))?;
        Ok(Self { http, token, patience: access.patience })
    }

    /// Asks for the file from `offset` on, if it still is what `validator` says, else from its beginning.
    pub(super) async fn get(&self, url: &Url, resume: Option<(u64, &str)>) -> Result<Response, SourceError> {
        let mut headers = HeaderMap::new();
        if let Some((offset, validator)) = resume
            && let (Ok(range), Ok(validator)) =
                (HeaderValue::try_from(format!("bytes={offset}-")), HeaderValue::try_from(validator))
        {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, validator);
        }
        self.send(Method::GET, url, headers).await
    }

    /// The size of a file, if the source says.
    pub(super) async fn size(&self, url: &Url) -> Option<u64> {
        let response = self.send(Method::HEAD, url, HeaderMap::new()).await.ok()?;
        let length = response.headers().get(reqwest::header::CONTENT_LENGTH)?;
        response.status().is_success().then(|| length.to_str().ok()?.parse().ok())?
    }

    async fn send(&self, method: Method, url: &Url, mut headers: HeaderMap) -> Result<Response, SourceError> {
        // Ranges and sizes are of the file itself.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        let sent = self.http.request(method, url.clone()).headers(headers).send().await;
        sent.map_err(|error| {
            let (url, error) = (shown(url), error.without_url());
            let reason = chain(&error);
            match () {
                () if is_untrusted(&error) => SourceError::Untrusted { url, reason },
                () if error.is_redirect() || error.is_builder() => SourceError::Answer { url, reason },
                () => SourceError::Connect { url, reason },
            }
        })
    }
}

/// Follows, but never from https to http. The client itself hands no token to another host.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to http");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it redirects again and again");
    }
    attempt.follow()
}

/// The public roots, and the user's.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SourceError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let Some(path) = ca_file else { return Ok(roots) };
    let wrong = |reason: &dyn fmt::Display| SourceError::Certificates {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
    let mut count = 0;
    for certificate in certificates {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        count += 1;
    }
    if count == 0 { Err(wrong(&"it has none")) } else { Ok(roots) }
}

/// An error and what it comes from, in one line.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some repeat their source.
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        source = error.source();
    }
    text
}

/// Whether the other side's certificate was refused.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An I/O error hides what is in it from those that ask for its source.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    false
}

/// When a source wants to be asked again; the form with a date is rare, and then the usual pause holds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
