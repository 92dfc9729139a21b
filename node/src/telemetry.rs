//! The log, the form of standard output, and how a failure is told.
//!
//! Standard output has the console lines of [`crate::report`]; the log and failures go to standard error.

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::report::Beside;

/// What is logged unless `RUST_LOG` says otherwise: libp2p tells of every peer that misbehaves.
const FILTER: &str =
    "info,libp2p=warn,libp2p_kad=error,quinn=warn,quinn_proto=warn,multistream_select=warn,yamux=warn";

/// Starts the log.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Beside);
    // A second start, which only tests could make, changes nothing.
    let _ = match format {
        LogFormat::Text => log.with_ansi(colours()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

/// On a terminal, unless the user wants none: <https://no-color.org>.
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Text for the user, on standard error.
pub fn tell(text: &str) {
    // A standard error that is closed has no reader to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A failure on standard error, with all that led to it.
pub fn complain(error: &(dyn Error + 'static)) {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    let mut said = error.to_string();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some messages end with their source's.
        if !said.contains(&message) {
            text += &format!("  because {message}\n");
            said = message;
        }
        cause = error.source();
    }
    tell(&text);
}
