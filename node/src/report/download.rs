//! A file is fetched from peers.

use std::time::Duration;

use libp2p::PeerId;
use serde::Serialize;

use super::bar::{blocks, percent};
use super::{Notice, amount, foreign, plural, seconds, time};

/// Blocks of a bar that shares its line with numbers.
const WIDTH: u64 = 12;

/// How far a download has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Download {
    /// The file.
    pub file: String,
    /// Bytes that are here and verified.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// Peers that it comes from.
    pub peers: u32,
}

impl Download {
    /// Whole percent.
    pub fn percent(&self) -> u64 {
        percent(self.done, self.total)
    }

    /// When it is done if it goes on like this; `None` where nothing comes.
    pub fn eta(&self) -> Option<Duration> {
        let rest = self.total.saturating_sub(self.done);
        (self.rate > 0).then(|| Duration::from_secs(rest.div_ceil(self.rate)))
    }
}

/// A file is wanted; some of it may be here already.
pub fn download_begun(name: &str, bytes: u64, here: u64) -> Notice {
    let resumed = if here > 0 { format!(", {} of it already here", amount(here)) } else { String::new() };
    let text = format!("[TORRENT] ⬇ Downloading {} ({}{resumed})", foreign(name), amount(bytes));
    Notice::info("download_begun", text).with("file", name).with("bytes", bytes).with("already", here)
}

/// So much of it is here: [`super::Bar::download`] says it.
pub(super) fn downloading(download: &Download) -> Notice {
    let Download { file, done, total, rate, peers } = download;
    let percent = download.percent();
    let eta = download.eta();
    Notice::info("download_progress", format!("[TORRENT] {}", progress(download)))
        .with("file", file.as_str())
        .with("percent", percent)
        .with("done", *done)
        .with("bytes", *total)
        .with("bytes_per_s", *rate)
        .with("peers", *peers)
        .with("eta_s", eta.map(|eta| eta.as_secs()))
}

/// `⬇ shard-1.gguf  [█████░░░░░░░] 42 %  12.3 of 29.1 MB  8.1 MB/s  3 peers  ETA 2 s`
pub(super) fn progress(download: &Download) -> String {
    let Download { file, done, total, rate, peers } = download;
    let percent = download.percent();
    let all = amount(*total);
    // In the unit of the whole: "0.1 of 13.0 GB".
    let done = match all.rsplit_once(' ') {
        Some((_, "GB")) => format!("{:.2}", super::giga(*done)),
        Some((_, "MB")) => format!("{:.1}", super::mega(*done)),
        Some((_, "KB")) => format!("{:.1}", *done as f64 / 1024.0),
        _ => done.to_string(),
    };
    let (rate, peers) = (amount(*rate), plural(u64::from(*peers), "peer"));
    let eta = match download.eta() {
        Some(eta) if eta < Duration::from_secs(120) => format!("{} s", eta.as_secs()),
        Some(eta) => time(eta),
        None => "unknown".to_owned(),
    };
    let (file, bar) = (foreign(file), blocks(percent, WIDTH));
    format!("⬇ {file}  [{bar}] {percent} %  {done} of {all}  {rate}/s  {peers}  ETA {eta}")
}

/// The file is whole, verified and has its final name.
pub fn download_done(name: &str, fetched: u64, reused: u64, took: Duration, peers: usize) -> Notice {
    let rate = (fetched as f64 / took.as_secs_f64().max(1e-3)) as u64;
    let text = format!(
        "[TORRENT] ✓ Downloaded {}: {} fetched, {} reused, {}, {}/s, {}",
        foreign(name),
        amount(fetched),
        amount(reused),
        time(took),
        amount(rate),
        plural(peers as u64, "peer"),
    );
    Notice::info("download_done", text)
        .with("file", name)
        .with("fetched", fetched)
        .with("reused", reused)
        .with("took_s", seconds(took))
        .with("bytes_per_s", rate)
        .with("peers", peers)
}

/// It did not come; where it is tried again, the time says when. What is here is kept.
pub fn download_failed(name: &str, reason: &str, again_in: Option<Duration>) -> Notice {
    let next = again_in.map_or_else(String::new, |wait| format!("; trying again in {}", time(wait)));
    let text = format!("[TORRENT] ✗ Downloading {} failed: {}{next}", foreign(name), foreign(reason));
    let (level, again) = match again_in {
        Some(wait) => (super::Level::Warn, Some(seconds(wait))),
        None => (super::Level::Error, None),
    };
    Notice::new(level, "download_failed", text)
        .with("file", name)
        .with("reason", reason)
        .with("again_in_s", again)
}

/// A peer sent what is not in the file: it is asked for it no more.
pub fn peer_banned(name: &str, peer: &PeerId, reason: &str) -> Notice {
    let text = format!("[TORRENT] ⚠  {peer} is banned for {}: {}", foreign(name), foreign(reason));
    Notice::warn("peer_banned", text).with("file", name).shown("peer", peer).with("reason", reason)
}
