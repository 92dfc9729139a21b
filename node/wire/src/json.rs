//! What JSON from outside needs beyond serde: numbers that can be written again, and errors that stay short.
//!
//! `1e39` is read as an infinite `f32`, and written as `null`, which the next program cannot read.

use serde::de::{Deserialize, Deserializer, Error};

/// Characters of an error: serde_json repeats what it did not expect, however long it is.
const MAX_ERROR: usize = 200;

/// A number that `f32` holds.
pub(crate) fn finite<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
    f32::deserialize(from).and_then(check)
}

/// A number that `f32` holds, or none.
pub(crate) fn finite_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f32>, D::Error> {
    Option::deserialize(from)?.map(check).transpose()
}

/// Ids, each with a number that `f32` holds.
pub(crate) fn finite_by_id<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u32, f32)>, D::Error> {
    let pairs = Vec::<(u32, f32)>::deserialize(from)?;
    pairs.into_iter().map(|(id, number)| Ok((id, check(number)?))).collect()
}

fn check<E: Error>(number: f32) -> Result<f32, E> {
    if number.is_finite() { Ok(number) } else { Err(E::custom("a number is beyond 32 bits")) }
}

/// What an error says, cut short.
pub(crate) fn brief(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_ERROR) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::message::{Request, RequestError};
    use crate::pipeline::Download;
    use crate::session::{Sampled, Sampling};

    #[test]
    fn numbers_beyond_f32_are_refused() {
        assert!(serde_json::from_str::<Sampling>(r#"{"temperature":3e38,"logit_bias":[[1,-3e38]]}"#).is_ok());
        for text in [r#"{"temperature":1e39}"#, r#"{"min_p":-1e39}"#, r#"{"logit_bias":[[0,1],[1,1e39]]}"#] {
            assert!(serde_json::from_str::<Sampling>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Sampled>(r#"{"logprob":null}"#).is_ok());
        for text in [r#"{"logprob":1e39}"#, r#"{"top":[[1,-1e39]]}"#] {
            assert!(serde_json::from_str::<Sampled>(text).is_err(), "{text}");
        }
        let percent = r#"{"percent":1e39,"bytes_per_s":0,"peers":0}"#;
        assert!(serde_json::from_str::<Download>(percent).is_err());
    }

    #[test]
    fn an_error_does_not_repeat_a_long_text() {
        let long = "\u{7f}".repeat(10_000);
        for text in [
            format!(r#"{{"command":"LOAD_SHARD","params":{{"shard_id":"{long}"}}}}"#),
            format!(r#""{long}""#),
        ] {
            let error = Request::decode(text.as_bytes()).and_then(|request| request.command()).unwrap_err();
            assert!(matches!(error, RequestError::BadJson(_) | RequestError::BadParams { .. }));
            assert!(error.to_string().len() < 1000, "{error}");
        }
    }
}
