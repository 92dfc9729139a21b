//! What is under way: on a terminal a line that is drawn again, elsewhere a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::console::BARS;
use super::download::{Download, downloading};
use super::loading::tensor_load_progress;
use super::{Console, Notice};

/// Between two lines, at least: what is done within this needs none before the last.
const EVERY: Duration = Duration::from_secs(2);
/// A line by then, however slowly it goes on.
const LATEST: Duration = Duration::from_secs(10);
/// How far it should have come for the next line.
const STEP: u64 = 10;

/// One thing that is under way, from its first bytes to its last. It disappears with its owner.
#[derive(Debug)]
pub struct Bar {
    console: Console,
    begun: Instant,
    pace: Pace,
    line: Option<ProgressBar>,
}

impl Console {
    /// A bar that is shown when there is something to show.
    pub fn bar(self) -> Bar {
        Bar { console: self, begun: Instant::now(), pace: Pace::default(), line: None }
    }
}

impl Bar {
    /// A shard is hashed and loaded: so much of it is done.
    pub fn load(&mut self, shard: u32, done: u64, total: u64) {
        let percent = percent(done, total);
        self.show(percent, || tensor_load_progress(shard, percent));
    }

    /// A file is fetched: so much of it is here.
    pub fn download(&mut self, download: &Download) {
        self.show(download.percent(), || downloading(download));
    }

    fn show(&mut self, percent: u64, notice: impl FnOnce() -> Notice) {
        let due = self.pace.due(self.begun.elapsed(), percent);
        if !self.console.redraws || percent == 100 {
            self.clear();
            if due {
                self.console.say(&notice());
            }
        } else {
            let line = self.line.get_or_insert_with(|| BARS.add(line()));
            line.set_message(self.console.paint(&notice().text));
        }
    }

    fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
            BARS.remove(&line);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line() -> ProgressBar {
    // Cut to the terminal's width: a line that wraps cannot be drawn again.
    let style = ProgressStyle::with_template("{wide_msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Whole percent; all of nothing is everything.
pub(super) fn percent(done: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { (u128::from(done.min(total)) * 100 / u128::from(total)) as u64 }
}

/// `████░░░░`
pub(super) fn blocks(percent: u64, width: u64) -> String {
    let full = percent * width / 100;
    "█".repeat(full as usize) + &"░".repeat((width - full) as usize)
}

/// When the next line is due where none can be drawn again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    at: Duration,
    percent: u64,
}

impl Pace {
    /// The last one always is, once.
    pub(super) fn due(&mut self, now: Duration, percent: u64) -> bool {
        let since = now.saturating_sub(self.at);
        let further = percent.saturating_sub(self.percent);
        let due = match percent {
            100 => self.percent < 100,
            _ => since >= EVERY && further >= STEP || since >= LATEST,
        };
        if due {
            (self.at, self.percent) = (now, percent);
        }
        due
    }
}
