//! The origin of a model.

use std::path::Path;
use std::time::Duration;

use super::{framed, size};
use crate::origin::{OriginStatus, State};
use crate::store::source::Source;

/// The model is on its way.
pub fn origin_begun(source: &Source) -> String {
    format!("[ORIGIN] 📦 Getting the model from {source}")
}

/// A part of it is there from an earlier run.
pub fn origin_resumed(name: &str, bytes: u64) -> String {
    format!("[ORIGIN]   {name}: {} are there, going on behind them", size(bytes))
}

/// A part has to be fetched from its beginning.
pub fn origin_restarted(name: &str, why: &str) -> String {
    format!("[ORIGIN]   {name}: from its beginning, because {why}")
}

/// An attempt has failed.
pub fn origin_retry(error: &str, after: Duration) -> String {
    format!("[ORIGIN] ⚠  {error}; trying again in {:.1} s", after.as_secs_f32())
}

/// How far it is.
pub fn origin_progress(state: State, status: &OriginStatus) -> String {
    let what = if state == State::Hashing { "Hashing" } else { "Fetching" };
    let mb = |bytes: f64| bytes / f64::from(1 << 20);
    let of = match status.total {
        Some(total) => format!("{:.1}% of {}", status.percent, size(total)),
        None => size(status.bytes),
    };
    let left = status.eta_s.map_or_else(String::new, |eta| format!(", {} left", time(eta)));
    format!("[ORIGIN]   {what}: {of}, {:.1} MB/s{left}", mb(status.bytes_per_s))
}

/// It is here.
pub fn origin_obtained(path: &Path, received: u64) -> String {
    let fetched = if received == 0 { String::new() } else { format!(" ({} fetched)", size(received)) };
    format!("[ORIGIN]   ✓ The model is here: {}{fetched}\n[ORIGIN]   Status: Hashing...", path.display())
}

/// It is given to nodes.
pub fn origin_ready(plan: &str, manifest_sha256: &str, bytes: u64, files: usize) -> String {
    let lines = [
        format!("Plan: {plan}"),
        format!("Manifest: {manifest_sha256}"),
        format!("Files: {files}"),
        format!("Size: {}", size(bytes)),
    ];
    framed("ORIGIN", "MODEL READY FOR NODES", &lines)
}

/// It cannot be had.
pub fn origin_failed(error: &str, again_in: Duration) -> String {
    format!("[ORIGIN] ✗ No model: {error}; trying again in {}", time(again_in.as_secs()))
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
            origin_progress(State::Fetching, &known),
            "[ORIGIN]   Fetching: 43.2% of 12.98 GB (13290.52 MB), 11.2 MB/s, 12 min left"
        );
        let unknown = OriginStatus { bytes: 6 << 20, ..OriginStatus::default() };
        assert_eq!(
            origin_progress(State::Fetching, &unknown),
            "[ORIGIN]   Fetching: 0.01 GB (6.00 MB), 0.0 MB/s"
        );
        assert_eq!([0, 119, 120, 7199, 7200].map(time), ["0 s", "119 s", "2 min", "120 min", "2.0 h"]);
    }
}
