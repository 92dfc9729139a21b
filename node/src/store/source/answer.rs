//! What a source's answer is. Pure.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};

/// What an answer is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What was asked for: the rest.
    Rest,
    /// The whole file.
    All { validator: Option<String>, total: Option<u64>, why: Option<&'static str> },
    /// What is here is of no use: ask for all.
    Again(&'static str),
    /// A status that is no file.
    Refused,
    /// It contradicts itself.
    Wrong(String),
}

/// What the answer to a request for `resume`, of a file of `total` bytes, is.
pub(super) fn understand(
    status: StatusCode,
    headers: &HeaderMap,
    resume: Option<(u64, &str)>,
    total: Option<u64>,
) -> Answer {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    // A weak ETag is of no byte in particular.
    let strong = text(&ETAG).filter(|etag| !etag.starts_with("W/"));
    let validator = strong.or_else(|| text(&LAST_MODIFIED)).map(str::to_owned);
    match (status, resume) {
        (StatusCode::OK, _) => {
            let total = text(&CONTENT_LENGTH).and_then(|length| length.parse().ok());
            let why = resume.map(|(_, known)| match validator.as_deref() == Some(known) {
                true => "the source gives no ranges",
                false => "it has changed at the source",
            });
            Answer::All { validator, total, why }
        }
        (StatusCode::PARTIAL_CONTENT, Some((offset, known))) => {
            let range = text(&CONTENT_RANGE).and_then(content_range);
            match range {
                _ if validator.as_deref().is_some_and(|found| found != known) => {
                    Answer::Again("it has changed at the source")
                }
                Some((start, all))
                    if start == offset && (all == total || total.is_none() || all.is_none()) =>
                {
                    Answer::Rest
                }
                Some((start, _)) if start == offset => Answer::Again("its size has changed at the source"),
                _ => Answer::Wrong(format!(
                    "asked for the bytes from {offset} on, it sends {:?}",
                    text(&CONTENT_RANGE).unwrap_or("no Content-Range")
                )),
            }
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            Answer::Again("the source has fewer bytes than are here")
        }
        (status, _) if status.is_success() => Answer::Wrong(format!("{status} to a request for a file")),
        _ => Answer::Refused,
    }
}

/// First byte, and the size of all, of `bytes 10-19/20`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, all) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    match all {
        "*" => Some((start, None)),
        all => Some((start, Some(all.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn every_answer_is_understood() {
        let all = |validator: Option<&str>, total, why| Answer::All {
            validator: validator.map(str::to_owned),
            total,
            why,
        };
        let changed = "it has changed at the source";
        let resume = Some((10, "\"a\""));
        let table = [
            (200, vec![(ETAG, "\"a\""), (CONTENT_LENGTH, "20")], None, all(Some("\"a\""), Some(20), None)),
            (200, vec![(LAST_MODIFIED, "then"), (ETAG, "W/\"a\"")], None, all(Some("then"), None, None)),
            (200, vec![(ETAG, "W/\"a\"")], None, all(None, None, None)),
            (
                200,
                vec![(ETAG, "\"a\"")],
                resume,
                all(Some("\"a\""), None, Some("the source gives no ranges")),
            ),
            (200, vec![(ETAG, "\"b\"")], resume, all(Some("\"b\""), None, Some(changed))),
            (206, vec![(ETAG, "\"a\""), (CONTENT_RANGE, "bytes 10-19/20")], resume, Answer::Rest),
            (206, vec![(CONTENT_RANGE, "bytes 10-19/*")], resume, Answer::Rest),
            (206, vec![(ETAG, "\"b\""), (CONTENT_RANGE, "bytes 10-19/20")], resume, Answer::Again(changed)),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 10-20/21")],
                resume,
                Answer::Again("its size has changed at the source"),
            ),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 0-19/20")],
                resume,
                Answer::Wrong("asked for the bytes from 10 on, it sends \"bytes 0-19/20\"".into()),
            ),
            (
                206,
                vec![],
                resume,
                Answer::Wrong("asked for the bytes from 10 on, it sends \"no Content-Range\"".into()),
            ),
            (206, vec![], None, Answer::Wrong("206 Partial Content to a request for a file".into())),
            (204, vec![], None, Answer::Wrong("204 No Content to a request for a file".into())),
            (416, vec![], resume, Answer::Again("the source has fewer bytes than are here")),
            (416, vec![], None, Answer::Refused),
            (302, vec![], None, Answer::Refused),
            (404, vec![], resume, Answer::Refused),
        ];
        for (status, pairs, resume, answer) in table {
            let found = understand(StatusCode::from_u16(status).unwrap(), &headers(&pairs), resume, Some(20));
            assert_eq!(found, answer, "{status} {pairs:?} {resume:?}");
        }
    }
}
