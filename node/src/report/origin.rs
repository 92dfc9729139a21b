//! The origin of a model.

use std::path::Path;
use std::time::Duration;

use super::{Notice, foreign, framed, size};
use crate::origin::{OriginStatus, State};
use crate::store::source::Source;

/// The model is on its way.
pub fn origin_begun(source: &Source) -> Notice {
    let source = source.to_string();
    Notice::info("origin_begun", format!("[ORIGIN] 📦 Getting the model from {}", foreign(&source)))
        .with("source", source)
}

/// A part of it is there from an earlier run.
pub fn origin_resumed(name: &str, bytes: u64) -> Notice {
    let text = format!("[ORIGIN]   {}: {} are there, going on behind them", foreign(name), size(bytes));
    Notice::info("origin_resumed", text).with("name", name).with("bytes", bytes)
}

/// A part has to be fetched from its beginning.
pub fn origin_restarted(name: &str, why: &str) -> Notice {
    let text = format!("[ORIGIN]   {}: from its beginning, because {}", foreign(name), foreign(why));
    Notice::info("origin_restarted", text).with("name", name).with("reason", why)
}

/// An attempt has failed.
pub fn origin_retry(error: &str, after: Duration) -> Notice {
    let text = format!("[ORIGIN] ⚠  {}; trying again in {:.1} s", foreign(error), after.as_secs_f32());
    Notice::warn("origin_retry", text).with("reason", error).with("again_in_s", after.as_secs_f64())
}

/// How far it is.
pub fn origin_progress(state: State, status: &OriginStatus) -> Notice {
    let what = if state == State::Hashing { "Hashing" } else { "Fetching" };
    let mb = |bytes: f64| bytes / f64::from(1 << 20);
    let of = match status.total {
        Some(total) => format!("{:.1}% of {}", status.percent, size(total)),
        None => size(status.bytes),
    };
    let left = status.eta_s.map_or_else(String::new, |eta| format!(", {} left", time(eta)));
    let text = format!("[ORIGIN]   {what}: {of}, {:.1} MB/s{left}", mb(status.bytes_per_s));
    Notice::info("origin_progress", text)
        .with("hashing", state == State::Hashing)
        .with("percent", status.percent)
        .with("bytes", status.bytes)
        .with("total", status.total)
        .with("bytes_per_s", status.bytes_per_s)
}

/// It is here.
pub fn origin_obtained(path: &Path, received: u64) -> Notice {
    let fetched = if received == 0 { String::new() } else { format!(" ({} fetched)", size(received)) };
    let path = path.display().to_string();
    let text =
        format!("[ORIGIN]   ✓ The model is here: {}{fetched}\n[ORIGIN]   Status: Hashing...", foreign(&path));
    Notice::info("origin_obtained", text).with("path", path).with("fetched", received)
}

/// It is given to nodes.
pub fn origin_ready(plan: &str, manifest_sha256: &str, bytes: u64, files: usize) -> Notice {
    let lines = [
        format!("Plan: {plan}"),
        format!("Manifest: {manifest_sha256}"),
        format!("Files: {files}"),
        format!("Size: {}", size(bytes)),
    ];
    Notice::info("origin_ready", framed("ORIGIN", "MODEL READY FOR NODES", &lines))
        .with("plan", plan)
        .with("manifest_sha256", manifest_sha256)
        .with("bytes", bytes)
        .with("files", files)
}

/// It cannot be had.
pub fn origin_failed(error: &str, again_in: Duration) -> Notice {
    let text =
        format!("[ORIGIN] ✗ No model: {}; trying again in {}", foreign(error), time(again_in.as_secs()));
    Notice::error("origin_failed", text).with("reason", error).with("again_in_s", again_in.as_secs())
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_how_fast_and_how_long() {
        let known = OriginStatus {
            percent: 43.2,
            bytes: 6_000_000_000,
            total: Some(13_936_120_299),
            bytes_per_s: 11_744_051.2,
            eta_s: Some(676),
            ..OriginStatus::default()
        };
        assert_eq!(
            origin_progress(State::Fetching, &known).text,
            "[ORIGIN]   Fetching: 43.2% of 12.98 GB (13290.52 MB), 11.2 MB/s, 12 min left"
        );
        let unknown = OriginStatus { bytes: 6 << 20, ..OriginStatus::default() };
        assert_eq!(
            origin_progress(State::Fetching, &unknown).text,
            "[ORIGIN]   Fetching: 0.01 GB (6.00 MB), 0.0 MB/s"
        );
        assert_eq!([0, 119, 120, 7199, 7200].map(time), ["0 s", "119 s", "2 min", "120 min", "2.0 h"]);
    }
}
