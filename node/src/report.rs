//! What a program says on standard output: one function for each thing that happens.
//!
//! ```text
//! start     who it is, what it was told, that it is up, that it leaves
//! loading   [TENSOR_LOAD] [SHARD]             files become shards that are served
//! files     [TORRENT] [TORRENT_SYNC]          files are found, seeded, registered, synchronised
//! download  [TORRENT]                         files are fetched
//! network   [TRANSPORT] [LISTEN] [CONNECT]
//! message   [MSG]                             commands and their answers
//! dht       [DHT]
//! status    [STATUS]                          all of it, at join, on change and every minute
//! console   prints: text, coloured text on a terminal, or one JSON object for each event
//! bar       what is under way: redrawn in place on a terminal, now and then a line elsewhere
//! ```
//! The functions only make a [`Notice`]; [`Console`] is what prints. Operators read the lines, scripts look for them
//! and programs read the records: they are a contract, and a test shows all of them.

mod bar;
mod console;
mod dht;
mod download;
mod files;
mod loading;
mod message;
mod network;
mod origin;
mod start;
pub mod status;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

pub use bar::Bar;
pub use console::{Beside, Console};
pub use dht::*;
pub use download::*;
pub use files::*;
pub use loading::*;
pub use message::*;
pub use network::*;
pub use origin::*;
pub use start::*;

/// Characters of a value that somebody else chose: a name or a reason is shorter, and a line stays one.
const FOREIGN: usize = 300;
/// Hex digits of a hash on the console.
const SHORT_HASH: usize = 16;

/// Something that happened, for people and for programs.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "only a console prints it"]
pub struct Notice {
    /// Its name, in snake case; it stays.
    pub event: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Its values. None is called `timestamp`, `level` or `event`.
    pub fields: Map<String, Value>,
    /// Its lines, without colours.
    pub text: String,
}

/// How bad a notice is: the words of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it should be.
    Info,
    /// It goes on, but somebody may want to look.
    Warn,
    /// Something could not be done.
    Error,
}

impl Notice {
    fn new(level: Level, event: &'static str, text: impl Into<String>) -> Self {
        Self { event, level, fields: Map::new(), text: text.into() }
    }

    fn info(event: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Info, event, text)
    }

    fn warn(event: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warn, event, text)
    }

    fn error(event: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Error, event, text)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// A value as it is written in text.
    fn shown(self, name: &str, value: impl Display) -> Self {
        self.with(name, value.to_string())
    }
}

/// A block between two rules.
fn framed(tag: &str, title: &str, lines: &[String]) -> String {
    let rule = format!("[{tag}] {}", "═".repeat(71));
    let body: String = lines.iter().map(|line| format!("[{tag}]   {line}\n")).collect();
    format!("{rule}\n[{tag}] ✓✓✓ {title} ✓✓✓\n{body}{rule}")
}

/// Bytes as both documents print them.
fn size(bytes: u64) -> String {
    format!("{:.2} GB ({:.2} MB)", giga(bytes), mega(bytes))
}

/// Bytes in the unit that fits.
fn amount(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", mega(bytes)),
        _ => format!("{:.2} GB", giga(bytes)),
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn giga(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// A time in the unit that fits.
fn time(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Seconds of a record, to the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// What somebody else chose, as part of a line: it neither ends the line nor steers the terminal, and is not endless.
fn foreign(text: &str) -> String {
    bounded(text, FOREIGN, text.len())
}

/// The first characters of a text that is so many bytes in all.
fn bounded(text: &str, most: usize, bytes: usize) -> String {
    let mut safe = String::new();
    let mut characters = text.chars();
    for c in characters.by_ref().take(most) {
        match c {
            // Quotes and backslashes are harmless, and JSON is full of them.
            '"' | '\'' | '\\' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    if !characters.as_str().is_empty() {
        let _ = write!(safe, "… ({bytes} bytes)");
    }
    safe
}

fn short(hash: &str) -> String {
    hash.chars().take(SHORT_HASH).filter(char::is_ascii_alphanumeric).collect()
}
