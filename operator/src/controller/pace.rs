//! Whether a status is news, or only another percentage: of those a download has a hundred. Pure.

use std::time::Duration;

use crate::crd::ShardClusterStatus;

/// Between two writes that tell of nothing but progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// What is to be done with a new status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It says what is written already.
    Nothing,
    /// Not before this time is over.
    Later(Duration),
    /// At once.
    Now,
}

/// `age` is the time since the last write, where this program has written one.
pub(super) fn pace(
    old: Option<&ShardClusterStatus>,
    new: &ShardClusterStatus,
    age: Option<Duration>,
) -> Pace {
    let Some(old) = old else { return Pace::Now };
    if old == new {
        return Pace::Nothing;
    }
    match age.and_then(|age| PROGRESS.checked_sub(age)).filter(|rest| !rest.is_zero()) {
        Some(rest) if coarse(old) == coarse(new) => Pace::Later(rest),
        _ => Pace::Now,
    }
}

/// Without what changes while all is well.
fn coarse(status: &ShardClusterStatus) -> ShardClusterStatus {
    let mut status = status.clone();
    for row in &mut status.shards {
        row.download_percent = row.download_percent.map(|_| 0);
    }
    for condition in &mut status.conditions {
        condition.message = without_progress(&condition.message);
    }
    status
}

/// "40 %, from 2 peers" is progress, and "20-60 %" of several shards; "shard 3" is none, and "shards 0-3" neither.
fn without_progress(message: &str) -> String {
    let words: Vec<&str> = message.split(' ').collect();
    let is_progress = |next: &&str| next.starts_with('%') || next.starts_with("peer");
    let kept = words.iter().enumerate().filter(|&(at, word)| {
        let counts = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            && words.get(at + 1).is_some_and(is_progress);
        !counts && !word.starts_with("peer")
    });
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::*;
    use crate::crd::ShardRow;

    fn status(message: &str, percent: Option<u32>) -> ShardClusterStatus {
        let condition: Condition = serde_json::from_value(json!({
            "type": "PipelineComplete", "status": "False", "reason": "ShardsMissing", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        ShardClusterStatus {
            conditions: vec![condition],
            shards: vec![ShardRow { download_percent: percent, ..ShardRow::default() }],
            ..ShardClusterStatus::default()
        }
    }

    #[test]
    fn progress_waits_and_news_does_not() {
        let before = status("layers 12-16: shard 3 is downloading, 40 %, from 2 peers", Some(40));
        let table = [
            ("layers 12-16: shard 3 is downloading, 40 %, from 2 peers", Some(40), Pace::Nothing),
            (
                "layers 12-16: shard 3 is downloading, 45 %, from 1 peer",
                Some(45),
                Pace::Later(Duration::from_secs(3)),
            ),
            (
                "layers 12-16: shard 3 is downloading, 40 %, from 2 peers",
                Some(45),
                Pace::Later(Duration::from_secs(3)),
            ),
            ("layers 12-16: shard 4 is downloading, 40 %, from 2 peers", Some(40), Pace::Now),
            ("layers 12-16: shard 3 is loading its weights", Some(40), Pace::Now),
            ("layers 12-16: shard 3 is downloading, 40 %, from 2 peers", None, Pace::Now),
        ];
        for (message, percent, expected) in table {
            let found = pace(Some(&before), &status(message, percent), Some(Duration::from_secs(2)));
            assert_eq!(found, expected, "{message}, {percent:?}");
        }
        let before = status("layers 0-16: shards 0-3 are downloading, 20-60 %, from 0-2 peers", None);
        let later = Pace::Later(Duration::from_secs(3));
        let table = [
            ("layers 0-16: shards 0-3 are downloading, 25-60 %, from 0-3 peers", later),
            ("layers 0-16: shards 0-3 are downloading, 60 %, from 1 peer", later),
            ("layers 0-12: shards 0-2 are downloading, 20-60 %, from 0-2 peers", Pace::Now),
            (
                "layers 0-12: shards 0-2 are downloading, 20-60 %, from 0-2 peers; layers 12-16: shard 3 is starting",
                Pace::Now,
            ),
        ];
        for (message, expected) in table {
            let found = pace(Some(&before), &status(message, None), Some(Duration::from_secs(2)));
            assert_eq!(found, expected, "{message}");
        }
        let later = status("layers 0-16: shards 0-3 are downloading, 25-60 %, from 1 peer", None);
        assert_eq!(pace(Some(&before), &later, Some(PROGRESS)), Pace::Now);
        assert_eq!(pace(Some(&before), &later, None), Pace::Now, "written before this program began");
        assert_eq!(pace(None, &before, None), Pace::Now);
    }
}
