//! The console lines of a node: `[TAG] text`, one function for each thing that happens.
//!
//! The functions only make text, one string a line group; [`Console`] is what prints. Operators read these lines and
//! scripts look for them: they are a contract, and a test shows all of them.

mod dht;
mod loading;
mod network;
mod origin;
pub mod status;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

pub use dht::*;
pub use loading::*;
pub use network::*;
pub use origin::*;

use crate::config::LogFormat;

/// Standard output, in the form that the user chose.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    format: LogFormat,
}

impl Console {
    /// In the form of the log.
    pub fn new(format: LogFormat) -> Self {
        Self { format }
    }

    /// Prints lines; as JSON, one object for each.
    pub fn say(&self, lines: &str) {
        let mut out = io::stdout().lock();
        // Nobody reads a standard output that is closed.
        let _ = match self.format {
            LogFormat::Text => writeln!(out, "{lines}"),
            LogFormat::Json => {
                lines.lines().try_for_each(|line| writeln!(out, "{}", serde_json::json!({ "console": line })))
            }
        };
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
    format!("{:.2} GB ({:.2} MB)", bytes as f64 / f64::from(1 << 30), bytes as f64 / f64::from(1 << 20))
}
