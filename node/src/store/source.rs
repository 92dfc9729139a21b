//! Where a model comes from, and how it gets here.
//!
//! ```text
//!  FILE                            ─▶ Source::File                                    used where it lies
//!  http(s)://HOST/…/NAME.gguf      ─▶ Source::Url  ─▶ Remote ─┐
//!  hf:OWNER/NAME/FILE[@REVISION]   ─▶ Source::Hub  ─▶ Remote ─┴▶ fetch ─▶ NAME.gguf.part ─▶ NAME.gguf
//! ```
//! A source is parsed once, without a look at disk or network; [`fetch`] does all of that.

mod answer;
mod client;
mod error;
mod fetch;
mod obtain;
mod part;
mod retry;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use shard_wire::manifest;

pub use client::{Access, Client, Token};
pub use error::{Class, SourceError};
pub use fetch::{Event, Fetched, OnEvent, fetch};
pub use obtain::{Obtained, SourceConfig, obtain};
pub use retry::Patience;

/// Longer names have no room for what is added to them (`.part.json`) in the 255 bytes of file systems.
const MAX_NAME: usize = 200;
/// llama.cpp counts parts in 16 bits; more than this many is no model.
const MAX_PARTS: u32 = 9999;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, or the first of several.
    File(PathBuf),
    /// An address.
    Url(Url),
    /// A file in a repository of a model hub.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Path of the file in it.
        file: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("hf:") {
            return hub(rest);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
            url.set_fragment(None);
            return match file_name(&url) {
                Ok(_) => Ok(Self::Url(url)),
                Err(reason) => Err(reason),
            };
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(format!("cannot fetch by {scheme}: expected {FORMS}")),
            None if text.is_empty() => Err(format!("expected {FORMS}")),
            None => Ok(Self::File(text.into())),
        }
    }
}

const FORMS: &str = "a file, an http(s) URL, or hf:OWNER/NAME/FILE.gguf[@REVISION]";

fn hub(text: &str) -> Result<Source, String> {
    let (path, revision) = text.rsplit_once('@').unwrap_or((text, "main"));
    let parts: Vec<&str> = path.split('/').collect();
    let is_plain = |part: &&str| {
        !matches!(*part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || "\\?#%".contains(c))
    };
    let [owner, name, file @ ..] = &parts[..] else {
        return Err("expected hf:OWNER/NAME/FILE.gguf[@REVISION]".into());
    };
    if file.is_empty() || !parts.iter().all(is_plain) || !revision.split('/').all(|p| is_plain(&p)) {
        return Err("expected hf:OWNER/NAME/FILE.gguf[@REVISION]".into());
    }
    let source = Source::Hub {
        repository: format!("{owner}/{name}"),
        file: file.join("/"),
        revision: revision.to_owned(),
    };
    checked_name(file.last().unwrap_or(&"")).map(|_| source)
}

/// As it was given, but for what is secret in a URL.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(&shown(url)),
            Self::Hub { repository, file, revision } if revision == "main" => {
                write!(f, "hf:{repository}/{file}")
            }
            Self::Hub { repository, file, revision } => write!(f, "hf:{repository}/{file}@{revision}"),
        }
    }
}

impl Source {
    /// What is fetched; `None` for a file on this machine.
    ///
    /// # Errors
    /// Where the hub's address is none.
    pub fn remote(&self, hub: &str) -> Result<Option<Remote>, SourceError> {
        let url = match self {
            Self::File(_) => return Ok(None),
            Self::Url(url) => url.clone(),
            Self::Hub { repository, file, revision } => {
                let wrong = |reason: String| SourceError::Hub { endpoint: hub.to_owned(), reason };
                let mut url = Url::parse(hub).map_err(|error| wrong(error.to_string()))?;
                let mut path = url.path_segments_mut().map_err(|()| wrong("it cannot have a path".into()))?;
                path.pop_if_empty().extend(repository.split('/')).push("resolve").push(revision);
                path.extend(file.split('/'));
                drop(path);
                url
            }
        };
        let name = file_name(&url).map_err(|reason| SourceError::Name { url: shown(&url), reason })?;
        Ok(Some(Remote { url, name }))
    }
}

/// A model at an address: one file, or the first of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its address.
    pub url: Url,
    /// Its name here.
    pub name: String,
}

impl Remote {
    /// All files of the model, as the name of the first says: `NAME-00001-of-00003.gguf` is one of three.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let counted = self.name.strip_suffix(".gguf").and_then(|name| name.rsplit_once("-00001-of-"));
        let count = counted.and_then(|(_, count)| Some(count).filter(|c| c.len() == 5)?.parse().ok());
        match (counted, count) {
            (Some((stem, _)), Some(count @ 2..=MAX_PARTS)) => {
                (1..=count).map(|i| self.beside(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// Another file in the same folder.
    fn beside(&self, name: String) -> Self {
        let mut url = self.url.clone();
        // An address with a file name has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().push(&name);
        }
        Self { url, name }
    }

    /// The address for people: without password, and without the query, which may hold a signature.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&self.url)
    }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // Refused only where there can be none.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// The name that a file from this address gets here.
fn file_name(url: &Url) -> Result<String, String> {
    let last = url.path_segments().and_then(|mut path| path.next_back()).unwrap_or_default();
    let name = decoded(last).ok_or("the file name in its path is not UTF-8")?;
    match name.as_str() {
        "" => Err("its path ends in no file name: expected http(s)://HOST/…/NAME.gguf".into()),
        name => checked_name(name),
    }
}

/// A name from an address is a name and nothing else, and none that a split would write.
fn checked_name(name: &str) -> Result<String, String> {
    let is_taken = name == manifest::FILE_NAME
        || name == manifest::TOKENIZER
        || name.strip_prefix("shard-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_taken {
        return Err(format!("{name} is the name of a split model's file: expected a whole model"));
    }
    let is_plain = !name.starts_with('.') && !name.contains(['/', '\\']) && !name.contains(char::is_control);
    if !is_plain || name.len() > MAX_NAME {
        return Err(format!("{name:?} cannot be a file name here"));
    }
    Ok(if name.ends_with(".gguf") { name.to_owned() } else { format!("{name}.gguf") })
}

/// `%2F` and the like resolved.
fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let escaped = (byte == b'%').then(|| crate::net::hex::decode(text.get(i + 1..i + 3)?)).flatten();
        match escaped.as_deref() {
            Some([value]) => {
                out.push(*value);
                i += 3;
            }
            _ => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
