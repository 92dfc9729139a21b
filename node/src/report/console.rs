//! Standard output, in the form that the user chose.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use console::Style;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::{Level, Notice};
use crate::config::LogFormat;

/// The bars of this process: there is one standard output, and who writes past a bar must know of it.
pub(super) static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));

/// Standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    format: LogFormat,
    /// Lines can be drawn again.
    pub(super) redraws: bool,
    colours: bool,
}

impl Console {
    /// In the form of the log; with colours and bars on a terminal that wants them.
    pub fn new(format: LogFormat) -> Self {
        Self::on(format, io::stdout().is_terminal(), |name| env::var_os(name))
    }

    pub(super) fn on(format: LogFormat, terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let redraws = terminal && !dumb && format == LogFormat::Text;
        // https://no-color.org: any value but an empty one.
        let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, redraws, colours: redraws && !plain }
    }

    /// Prints it.
    pub fn say(&self, notice: &Notice) {
        let text = self.render(notice);
        let print = || {
            // Nobody reads a standard output that is closed.
            let _ = writeln!(io::stdout().lock(), "{text}");
        };
        if self.redraws { BARS.suspend(print) } else { print() }
    }

    fn render(&self, notice: &Notice) -> String {
        match self.format {
            LogFormat::Text => self.paint(&notice.text),
            LogFormat::Json => record(notice, &timestamp()),
        }
    }

    pub(super) fn paint(&self, text: &str) -> String {
        if self.colours { text.lines().map(coloured).collect::<Vec<_>>().join("\n") } else { text.to_owned() }
    }
}

/// A notice as one line of JSON; the names are those of the log's records.
pub(super) fn record(notice: &Notice, timestamp: &str) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        timestamp: &'a str,
        level: Level,
        event: &'a str,
        #[serde(flatten)]
        fields: &'a Map<String, Value>,
    }
    let Notice { event, level, fields, .. } = notice;
    // Maps with text for keys always have a JSON form.
    serde_json::to_string(&Record { timestamp, level: *level, event, fields }).unwrap_or_default()
}

/// The time as the log writes it.
fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Tags and rules step back; what went well or wrong stands out.
fn coloured(line: &str) -> String {
    let tag = line.strip_prefix('[').and_then(|rest| rest.find(']')).map_or(0, |end| end + 2);
    let (tag, rest) = line.split_at(tag);
    let mut text = if tag.is_empty() { String::new() } else { style(Style::new().dim(), tag) };
    let characters: Vec<char> = rest.chars().collect();
    for run in characters.chunk_by(|a, b| hue(*a) == hue(*b)) {
        let run_text: String = run.iter().collect();
        match run.first().copied().and_then(hue) {
            Some(hue) => text += &style(hue, &run_text),
            None => text += &run_text,
        }
    }
    text
}

fn hue(c: char) -> Option<Style> {
    let style = Style::new();
    match c {
        '✓' => Some(style.green()),
        '✗' => Some(style.red()),
        '⚠' => Some(style.yellow()),
        '★' | '█' => Some(style.cyan()),
        '═' | '░' => Some(style.dim()),
        _ => None,
    }
}

/// Whether to colour is decided before: the crate would ask the terminal once more.
fn style(style: Style, text: &str) -> String {
    style.force_styling(true).apply_to(text).to_string()
}

/// Standard error, for a log that may share its terminal with the bars.
#[derive(Debug)]
pub struct Beside;

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if io::stdout().is_terminal() {
            BARS.suspend(|| io::stderr().write(bytes))
        } else {
            io::stderr().write(bytes)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
