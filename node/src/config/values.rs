//! From the text of one flag or variable to a value that cannot be wrong. Every refusal says what would be right.

use std::time::Duration;

use shard_wire::command::MAX_INCARNATION;

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

/// The short name of a plan.
pub(super) fn plan(text: &str) -> Result<String, String> {
    if text.len() != 16 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("expected 16 digits from 0 to 9 and a to f, as /api/v1/pipeline has them".into());
    }
    Ok(text.to_owned())
}

/// What a start of an origin is called.
pub(super) fn incarnation(text: &str) -> Result<String, String> {
    if text.len() > MAX_INCARNATION || text.chars().any(char::is_control) {
        return Err(format!("expected at most {MAX_INCARNATION} bytes without control characters"));
    }
    Ok(text.to_owned())
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

/// A number of bytes, alone or with K, M, G or T, each 1024 times the one before. Not zero.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KIB" => Some(10),
        "M" | "MIB" => Some(20),
        "G" | "GIB" => Some(30),
        "T" | "TIB" => Some(40),
        _ => None,
    };
    let total = digits.parse::<u64>().ok().zip(shift).and_then(|(n, shift)| n.checked_mul(1 << shift));
    total
        .filter(|total| *total > 0)
        .ok_or_else(|| "expected a number of bytes above 0, such as 500000, 20M or 1G".into())
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

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_a_unit_or_none() {
        for (text, value) in [
            ("1", Some(1)),
            ("500000", Some(500_000)),
            ("20M", Some(20 << 20)),
            ("20m", Some(20 << 20)),
            ("3GiB", Some(3 << 30)),
            ("16T", Some(16 << 40)),
            ("0", None),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5G", None),
            ("20MB/s", None),
            ("20X", None),
            ("99999999T", None),
            ("5é", None),
        ] {
            assert_eq!(bytes(text).ok(), value, "{text}");
        }
    }
}
