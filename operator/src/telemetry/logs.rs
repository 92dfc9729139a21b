//! What is logged, and how.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};

use tracing::{Span, error_span, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::watch::ClusterRef;

/// What is logged where RUST_LOG says nothing.
/// kube's client tells of each failed request without the reason, and its watcher in full, beside our own lines.
const FILTER: &str =
    "info,kube=warn,kube_client::client::builder=off,kube_runtime::watcher=error,hyper=warn,tower=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// From now on.
pub(crate) fn to_stderr(format: LogFormat) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.is_empty());
    let (filter, refused) = filter(wanted.as_deref());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let colours = colours(io::stderr().is_terminal(), |name| env::var_os(name));
            builder.with_ansi(colours).init();
        }
        LogFormat::Json => builder.json().with_span_list(false).init(),
    }
    if let Some(error) = refused {
        warn!(%error, "RUST_LOG is no filter: it is as if it were not set; write it as info,shard_operator=debug");
    }
}

/// What is asked for, or the default, and why what was asked for cannot be had.
fn filter(wanted: Option<&str>) -> (EnvFilter, Option<ParseError>) {
    match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(FILTER), Some(error)),
        None => (EnvFilter::new(FILTER), None),
    }
}

/// On a terminal that has them, unless the user wants none: <https://no-color.org>.
fn colours(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = variable("TERM").is_some_and(|term| term == "dumb");
    terminal && !plain && !dumb
}

/// Around all that one reconcile does. Its lines have these fields, and a trace id that no other reconcile has. It is as
/// important as an error: a filter that lets an error pass lets it pass, too. (In JSON, `name` is the span's own.)
pub(crate) fn reconcile(cluster: &ClusterRef) -> Span {
    let namespace = cluster.namespace.as_deref().unwrap_or_default();
    error_span!("reconcile", namespace, cluster = cluster.name, trace_id = trace_id())
}

/// 16 random bytes, as W3C's Trace Context has them. Without random bytes, reconciles go on with zeros.
fn trace_id() -> String {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_of_people_who_want_them() {
        let table = [
            (true, "", "xterm", true),
            (true, "1", "xterm", false),
            (true, "", "dumb", false),
            (false, "", "xterm", false),
        ];
        for (terminal, no_color, term, expected) in table {
            let variable = |name: &str| match name {
                "NO_COLOR" => Some(no_color.into()),
                "TERM" => Some(term.into()),
                _ => None,
            };
            assert_eq!(colours(terminal, variable), expected, "{terminal}, {no_color}, {term}");
        }
        assert!(colours(true, |_| None));
    }

    #[test]
    fn a_filter_that_is_none_is_told_of_and_the_default_holds() {
        let (default, none) = filter(None);
        assert!(none.is_none());
        let (instead, refused) = filter(Some("info,shard_operator=loud"));
        assert_eq!(instead.to_string(), default.to_string());
        assert!(refused.is_some());
        let (asked, none) = filter(Some("debug"));
        assert!(none.is_none() && asked.to_string() == "debug", "{asked}");
    }

    #[test]
    fn trace_ids_are_32_hex_digits_and_differ() {
        let (one, other) = (trace_id(), trace_id());
        assert!(one.len() == 32 && one.chars().all(|digit| digit.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, other);
    }
}
