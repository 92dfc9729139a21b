//! Who may ask: API keys, one per line of a file or in files of a folder (so a Secret is mounted, an entry for each
//! key), and the operator's key, good for the pipeline object only.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Gateway;
use super::error::ApiError;

/// A key file that cannot be used. It is no reason to go on without.
#[derive(Debug, Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("the key file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no key.
    #[error("the key file {} holds no key: one per line, lines that begin with # are comments", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The keys, as digests: the comparison takes the same time whatever was sent, and nothing can print them.
#[derive(Clone, Default)]
pub struct Keys {
    api: Vec<[u8; 32]>,
    operator: Vec<[u8; 32]>,
}

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// An API key.
    Api,
    /// An API key or the operator's.
    Pipeline,
}

impl Keys {
    /// Reads `--api-keys-file` and `--operator-key-file`. Without API keys everything is open.
    ///
    /// # Errors
    /// A file that cannot be read or holds no key.
    pub fn load(api: Option<&Path>, operator: Option<&Path>) -> Result<Self, KeysError> {
        let digests = |path: Option<&Path>| {
            let Some(path) = path else { return Ok(Vec::new()) };
            let mut keys = Vec::new();
            for file in files(path)? {
                let read = fs::read_to_string(&file);
                let text = read.map_err(|source| KeysError::Read { path: file, source })?;
                let lines = text.lines().map(str::trim);
                keys.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(digest));
            }
            if keys.is_empty() { Err(KeysError::Empty { path: path.to_owned() }) } else { Ok(keys) }
        };
        Ok(Self { api: digests(api)?, operator: digests(operator)? })
    }

    fn permit(&self, scope: Scope, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.api.is_empty() {
            return Ok(());
        }
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, key) = sent.and_then(|value| value.split_once(' ')).ok_or(ApiError::Unauthorized)?;
        let sent = digest(key.trim());
        let operator = if scope == Scope::Pipeline { self.operator.as_slice() } else { &[] };
        // Every key is compared, so that the time tells neither which one matched nor how far.
        let known = self.api.iter().chain(operator).fold(false, |known, key| known | same(key, &sent));
        if known && scheme.eq_ignore_ascii_case("bearer") { Ok(()) } else { Err(ApiError::Unauthorized) }
    }
}

/// The file itself, or those of a folder. What begins with a dot is how Kubernetes swaps a mounted Secret as a whole.
fn files(path: &Path) -> Result<Vec<PathBuf>, KeysError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| KeysError::Read { path: path.to_owned(), source };
    let entries: io::Result<Vec<_>> = fs::read_dir(path).map_err(failed)?.collect();
    let is_key = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    Ok(entries.map_err(failed)?.iter().filter(|entry| is_key(entry)).map(fs::DirEntry::path).collect())
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    black_box(a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b))) == 0
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys {{ api: {}, operator: {} }}", self.api.len(), self.operator.len())
    }
}

/// Refuses a request without a key of the scope, before its body is read.
pub(super) async fn require(
    State((gateway, scope)): State<(Gateway, Scope)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    gateway.keys.permit(scope, request.headers())?;
    Ok(next.run(request).await)
}
