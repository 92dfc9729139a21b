//! Fetches a model by HTTP.
//!
//! ```text
//!  1. look     what is there of every part: whole, begun, nothing          part.rs
//!  2. ask      for the rest of this version, else for all of it            client.rs
//!  3. decide   what the answer is                                          answer.rs: pure
//!  4. write    and hash, on a thread beside the network
//!  5. again    after a pause, where that helps                             retry.rs: pure
//!  6. check    the hash of all parts
//!  7. publish  every part gets its final name
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Response;
use sha2::{Digest, Sha256};
use shard_engine::gguf::Gguf;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use super::answer::{Answer, understand};
use super::client::{Client, chain, retry_after};
use super::part::{Part, WriteError};
use super::{Remote, SourceError, shown};
use crate::store::hash;

/// Chunks between network and disk: enough that neither waits for each bump of the other.
const QUEUE: usize = 64;

/// What happens meanwhile.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many bytes of the model are there, of so many if that is known.
    Bytes {
        /// Bytes.
        done: u64,
        /// Of all parts.
        total: Option<u64>,
    },
    /// Bytes of an earlier fetch are there: it goes on behind them.
    Resumed {
        /// The file.
        name: &'a str,
        /// How many.
        bytes: u64,
    },
    /// The file has to be fetched from its beginning.
    Restarted {
        /// The file.
        name: &'a str,
        /// Why.
        why: &'static str,
    },
    /// An attempt has failed; another one follows.
    Retry {
        /// Why.
        error: &'a SourceError,
        /// When.
        after: Duration,
    },
}

/// Hears of what happens.
pub type OnEvent<'a> = &'a mut (dyn FnMut(Event<'_>) + Send);

/// A model that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its files, the first part first.
    pub paths: Vec<PathBuf>,
    /// Size of all.
    pub bytes: u64,
    /// Hex SHA-256 of all, one after the other.
    pub sha256: String,
    /// How many of them came over the network now.
    pub received: u64,
}

/// Fetches a model into `dir`. `sha256` is of all its parts, one after the other.
///
/// Dropping the future stops it at once; what has arrived is kept and the next fetch goes on behind it.
///
/// # Errors
/// See [`SourceError`].
pub async fn fetch(
    client: &Client,
    remote: &Remote,
    dir: &Path,
    sha256: Option<&str>,
    on_event: OnEvent<'_>,
) -> Result<Fetched, SourceError> {
    std::fs::create_dir_all(dir).map_err(|source| SourceError::Write {
        path: dir.to_owned(),
        needed: None,
        source,
    })?;
    let mut model = Fetch { client, remote, dir, received: 0, done: 0, total: None, on_event };
    let mut parts = model.all(false).await?;
    let mut found = hash_of(&parts);
    if sha256.is_some_and(|expected| expected != found) && parts.iter().any(Part::is_published) {
        // Fetched earlier, and the user now expects another version.
        let why = "what is here has another checksum";
        (model.on_event)(Event::Restarted { name: &remote.name, why });
        // What is open is locked.
        drop(parts);
        parts = model.all(true).await?;
        found = hash_of(&parts);
    }
    if let Some(expected) = sha256.filter(|expected| *expected != found) {
        parts.into_iter().for_each(Part::discard);
        return Err(SourceError::Checksum { url: remote.shown(), found, expected: expected.to_owned() });
    }
    let bytes = parts.iter().map(Part::bytes).sum();
    let paths = parts.into_iter().map(Part::publish).collect::<Result<_, _>>()?;
    Ok(Fetched { paths, bytes, sha256: found, received: model.received })
}

fn hash_of(parts: &[Part]) -> String {
    hash::finish(parts.last().map_or_else(Sha256::new, |part| part.hasher().clone()))
}

struct Fetch<'a> {
    client: &'a Client,
    remote: &'a Remote,
    dir: &'a Path,
    /// Over the network.
    received: u64,
    /// Of the parts before the current one.
    done: u64,
    /// Of the parts other than the current one, if known.
    total: Option<u64>,
    on_event: OnEvent<'a>,
}

impl Fetch<'_> {
    /// All parts, whole.
    async fn all(&mut self, fresh: bool) -> Result<Vec<Part>, SourceError> {
        let remotes = self.remote.parts();
        let mut known = None;
        let mut parts: Vec<Part> = Vec::with_capacity(remotes.len());
        self.done = 0;
        for (i, remote) in remotes.iter().enumerate() {
            let before = parts.last().map_or_else(Sha256::new, |part| part.hasher().clone());
            let mut part = self.open(remote, before, fresh).await?;
            if part.bytes() > 0 {
                (self.on_event)(Event::Resumed { name: part.name(), bytes: part.bytes() });
            }
            while !part.is_whole() {
                let sizes = match &known {
                    Some(sizes) => sizes,
                    None => known.insert(sizes(self.client, &remotes).await),
                };
                let others = sizes.iter().enumerate().filter(|(j, _)| *j != i);
                self.total = others.map(|(_, size)| *size).sum::<Option<u64>>();
                part = self.rest(part).await?;
            }
            if i == 0 {
                check_header(&part, remotes.len())?;
            }
            self.done += part.bytes();
            parts.push(part);
        }
        Ok(parts)
    }

    async fn open(&mut self, remote: &Remote, before: Sha256, fresh: bool) -> Result<Part, SourceError> {
        let (remote, dir) = (remote.clone(), self.dir.to_owned());
        let (tell, mut told) = mpsc::channel(1);
        let opened = spawn_blocking(move || {
            // Who is not listening misses a number.
            Part::open(&remote, &dir, before, fresh, |more| {
                let _ = tell.blocking_send(more);
            })
        });
        let mut bytes = 0;
        while let Some(more) = told.recv().await {
            bytes += more;
            self.tell(bytes, None);
        }
        joined(opened.await)
    }

    fn tell(&mut self, bytes: u64, total: Option<u64>) {
        let total = self.total.zip(total).map(|(others, this)| others + this);
        (self.on_event)(Event::Bytes { done: self.done + bytes, total });
    }

    /// The rest of a part, with as many attempts as bring something.
    async fn rest(&mut self, mut part: Part) -> Result<Part, SourceError> {
        let (mut failed, mut most) = (0, part.bytes());
        loop {
            let (same, ended) = self.attempt(part).await;
            part = same?;
            let Err(error) = ended else { return Ok(part) };
            failed = if part.bytes() > most { 1 } else { failed + 1 };
            most = most.max(part.bytes());
            let Some(after) = self.client.patience.pause(failed, &error) else { return Err(error) };
            (self.on_event)(Event::Retry { error: &error, after });
            tokio::time::sleep(after).await;
        }
    }

    /// One request and its answer. The part is lost only where this program is at fault.
    async fn attempt(&mut self, mut part: Part) -> (Result<Part, SourceError>, Result<(), SourceError>) {
        let response = match self.client.get(part.url(), part.resume()).await {
            Ok(response) => response,
            Err(error) => return (Ok(part), Err(error)),
        };
        let answer = understand(response.status(), response.headers(), part.resume(), part.total());
        let begun = match answer {
            Answer::Rest => Ok(()),
            Answer::All { validator, total, why } => {
                if let Some(why) = why {
                    (self.on_event)(Event::Restarted { name: part.name(), why });
                }
                part.restart(validator, total).map_err(|error| part.write_error(error))
            }
            Answer::Again(why) => {
                (self.on_event)(Event::Restarted { name: part.name(), why });
                let url = shown(part.url());
                let restarted = part.restart(None, None).map_err(|error| part.write_error(error));
                let again = SourceError::Connect { url, reason: why.into() };
                restarted.and(Err(again))
            }
            Answer::Refused => Err(SourceError::Status {
                url: shown(part.url()),
                status: response.status(),
                retry_after: retry_after(response.headers()),
            }),
            Answer::Wrong(reason) => Err(SourceError::Answer { url: shown(part.url()), reason }),
        };
        match begun {
            Ok(()) => self.body(part, response).await,
            Err(error) => (Ok(part), Err(error)),
        }
    }

    /// Writes a body behind what is there.
    async fn body(
        &mut self,
        mut part: Part,
        mut response: Response,
    ) -> (Result<Part, SourceError>, Result<(), SourceError>) {
        let (total, mut bytes) = (part.total(), part.bytes());
        let url = shown(part.url());
        self.tell(bytes, total);
        let (chunks, writing) = mpsc::channel(QUEUE);
        let writer = spawn_blocking(move || {
            let written = part.write_all(writing);
            (part, written)
        });
        let broken = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let length = chunk.len() as u64;
                    if total.is_some_and(|total| bytes + length > total) {
                        break Some("it sends more than it said".to_owned());
                    }
                    if chunks.send(chunk).await.is_err() {
                        // The writer says why.
                        break None;
                    }
                    bytes += length;
                    self.received += length;
                    self.tell(bytes, total);
                }
                Ok(None) => break None,
                Err(error) => break Some(chain(&error.without_url())),
            }
        };
        drop(chunks);
        let (part, written) = match joined(writer.await.map(Ok)) {
            Ok(done) => done,
            Err(error) => return (Err(error), Ok(())),
        };
        let ended = match (written, broken) {
            (Err(WriteError::Io(error)), _) => Err(part.write_error(error)),
            (Err(WriteError::NotGguf(start)), _) => Err(SourceError::NotGguf { url, start }),
            (Ok(()), Some(reason)) => Err(SourceError::Broken { url, bytes: part.bytes(), total, reason }),
            (Ok(()), None) if total.is_some_and(|total| part.bytes() < total) || part.bytes() == 0 => {
                let reason = "it ended early".into();
                Err(SourceError::Broken { url, bytes: part.bytes(), total, reason })
            }
            (Ok(()), None) => return finish(part).await,
        };
        (Ok(part), ended)
    }
}

/// Of every part of a model in several, so that progress is of all of it.
async fn sizes(client: &Client, remotes: &[Remote]) -> Vec<Option<u64>> {
    let mut sizes = vec![None; remotes.len()];
    for (size, remote) in sizes.iter_mut().zip(remotes).filter(|_| remotes.len() > 1) {
        *size = client.size(&remote.url).await;
        // One that does not say is not asked again.
        if size.is_none() {
            break;
        }
    }
    sizes
}

/// Brings all bytes to the disk, which may take a while.
async fn finish(mut part: Part) -> (Result<Part, SourceError>, Result<(), SourceError>) {
    let finished = spawn_blocking(move || {
        let finished = part.finish().map_err(|error| part.write_error(error));
        (part, finished)
    });
    match joined(finished.await.map(Ok)) {
        Ok((part, finished)) => (Ok(part), finished),
        Err(error) => (Err(error), Ok(())),
    }
}

/// A thread's result; its panic is this task's.
pub(super) fn joined<T>(result: Result<Result<T, SourceError>, JoinError>) -> Result<T, SourceError> {
    match result.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(SourceError::Client("the program is ending".into())),
    }
}

/// The first part is the beginning of a model in so many parts.
fn check_header(part: &Part, parts: usize) -> Result<(), SourceError> {
    let url = shown(part.url());
    let wrong = |source| SourceError::Header { url: url.clone(), source };
    let header = Gguf::open(&part.path()).map_err(wrong)?;
    let said = header.metadata.get::<u32>("split.count").map_err(wrong)?.unwrap_or(1).max(1);
    if said as usize == parts { Ok(()) } else { Err(SourceError::Parts { url, said, named: parts }) }
}
