use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use shard_engine::gguf::GgufError;

use crate::store::model::ModelError;

/// Why a model was not fetched. What has arrived is kept, but for what cannot be of use.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The hub's address is none.
    #[error(
        "{endpoint:?} is not the address of a model hub: {reason}; expected https://HOST (--hf-endpoint)"
    )]
    Hub {
        /// What was given.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The address gives no file name.
    #[error("{url}: {reason}")]
    Name {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The token cannot be read.
    #[error("no token in {path} (--token-file): {reason}", path = path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificates cannot be read.
    #[error("no certificates in {path} (--ca-file): {reason}; expected a PEM file", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No TLS, no proxy: a setting that cannot be used.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// No answer.
    #[error("{url}: {reason}")]
    Connect {
        /// The address.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// Somebody else's certificate, or that of an authority that nobody knows.
    #[error("{url}: {reason}; if its authority is to be trusted, name its certificate by --ca-file")]
    Untrusted {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer ended early.
    #[error("{url}: the connection broke after {bytes} bytes{of}: {reason}", of = of(*.total))]
    Broken {
        /// The address.
        url: String,
        /// Bytes that are there.
        bytes: u64,
        /// Of so many, if the source says.
        total: Option<u64>,
        /// What the network said.
        reason: String,
    },
    /// The source refuses.
    #[error("{url}: the source answers {status}{hint}", hint = hint(*.status))]
    Status {
        /// The address.
        url: String,
        /// Its answer.
        status: StatusCode,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The source contradicts itself.
    #[error("{url}: the source's answer cannot be used: {reason}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Not a model.
    #[error("{url}: this is no GGUF file: it begins with {start:?}; is the address that of the file itself?")]
    NotGguf {
        /// The address.
        url: String,
        /// Its first bytes.
        start: String,
    },
    /// Its header is wrong.
    #[error("{url}: {source}")]
    Header {
        /// The address.
        url: String,
        /// What is wrong.
        source: GgufError,
    },
    /// The parts are not what the first says.
    #[error(
        "{url}: its header says that the model has {said} parts, its name {named}: the others cannot be found"
    )]
    Parts {
        /// The address of the first.
        url: String,
        /// `split.count`.
        said: u32,
        /// By the name.
        named: usize,
    },
    /// Other bytes than the user expects.
    #[error(
        "{url}: SHA-256 is {found}, expected {expected}: the file at the source is another one or the checksum is wrong; what was fetched is removed"
    )]
    Checksum {
        /// The address, or the file.
        url: String,
        /// Of the bytes.
        found: String,
        /// What the user said.
        expected: String,
    },
    /// A file here, with other bytes than the user expects.
    #[error("{path}: SHA-256 is {found}, expected {expected}: it is another file, or the checksum is wrong", path = path.display())]
    OtherFile {
        /// The file, or the first part.
        path: PathBuf,
        /// Of the bytes.
        found: String,
        /// What the user said.
        expected: String,
    },
    /// A file here that is no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file here that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another program fetches the same.
    #[error("{path}: another program is fetching it: wait for it, or choose another folder", path = path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file in the way.
    #[error("{path} is there and was not fetched by this program: it is kept; give its name as the source, move it away, or choose another folder", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The disk.
    #[error("cannot write {path}: {source} ({needed})", path = path.display(), needed = still(*.needed))]
    Write {
        /// The file.
        path: PathBuf,
        /// Bytes that the file still needs, if known.
        needed: Option<u64>,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether it helps to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Soon.
    Passing,
    /// When somebody has made room or put a file on this machine.
    Here,
    /// Only when somebody has changed the source or the settings.
    Lasting,
}

impl SourceError {
    /// Whether it helps to try again.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => Class::Passing,
            Self::Status { status, .. } => {
                let passing =
                    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                let passes = status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED;
                if passes || passing.contains(status) { Class::Passing } else { Class::Lasting }
            }
            Self::Busy { .. } | Self::Write { .. } | Self::Model(_) | Self::Read { .. } => Class::Here,
            _ => Class::Lasting,
        }
    }
}

fn of(total: Option<u64>) -> String {
    total.map(|total| format!(" of {total}")).unwrap_or_default()
}

fn still(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!("{bytes} bytes are still to come; what is there is kept"),
        None => "what is there is kept".into(),
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => ": it wants a token (--token-file, or LLAMA_HF_TOKEN for hf:, LLAMA_MODEL_TOKEN for URLs)",
        403 => {
            ": the token does not allow this file, the licence has to be accepted there, or a signed address has run out"
        }
        404 | 410 => ": there is no such file; look at its name and revision",
        407 => ": the proxy wants a name and a password (HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT)",
        _ => "",
    }
}
