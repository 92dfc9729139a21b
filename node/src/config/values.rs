//! From the text of one flag or variable to a value that cannot be wrong. Every refusal says what would be right.

use std::time::Duration;

use super::CLUSTER_NAME_BYTES;

/// A port, or the hint that Kubernetes has set the variable: a Service named `llama` makes every pod of its namespace see
/// `LLAMA_PORT=tcp://10.0.0.1:51820`.
pub(super) fn port(text: &str) -> Result<u16, String> {
    if text.contains("://") {
        return Err("this looks like a Kubernetes service link, which takes the variable's name: \
                    set `enableServiceLinks: false` in the pod, or give the flag"
            .into());
    }
    text.parse().map_err(|_| "expected a port number from 0 to 65535".into())
}

/// A SHA-256, in lower case.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("expected 64 hexadecimal digits, as sha256sum prints them".into());
    }
    Ok(text.to_ascii_lowercase())
}

/// A cluster name: it becomes part of protocol names and DHT keys.
pub(super) fn cluster(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > CLUSTER_NAME_BYTES || !text.chars().all(legal) {
        return Err(format!("expected 1 to {CLUSTER_NAME_BYTES} letters, digits, '-', '_' or '.'"));
    }
    Ok(text.to_owned())
}

/// A time: seconds, or a number with `ms`, `s`, `m` or `h`. Not zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis: Option<u64> = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let total = digits.parse::<u64>().ok().zip(millis).and_then(|(n, unit)| n.checked_mul(unit));
    match total {
        Some(total) if (1..=A_YEAR).contains(&total) => Ok(Duration::from_millis(total)),
        _ => Err("expected a time from 1ms to a year, such as 300, 30s, 5m or 1h".into()),
    }
}

/// In milliseconds: deadlines are sums of times, and stay far from overflow.
const A_YEAR: u64 = 365 * 24 * 3_600_000;

/// A temperature that a sampler can divide by, or 0 for greedy.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=2.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 (greedy) to 2".into()),
    }
}
