//! llama.cpp's own benchmark on the same file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde::Deserialize;
use thiserror::Error;

/// What is said of a failed run.
const LAST_BYTES: usize = 1000;

/// What llama-bench measured in one turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Theirs {
    /// Prompt tokens a second.
    pub(super) prefill: f64,
    /// Tokens a second after the prompt.
    pub(super) decode: f64,
    /// `build 7654 (abc1234), CPU`.
    pub(super) version: String,
}

/// Why there are no figures to compare with.
#[derive(Debug, Error)]
pub(super) enum LlamaError {
    #[error("cannot run {}: {source}; --against is the path of llama.cpp's llama-bench", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{} ended with {status}: {said}", program.display())]
    Failed { program: PathBuf, status: ExitStatus, said: String },
    #[error("the output of {} cannot be read: {reason}", program.display())]
    Output { program: PathBuf, reason: String },
}

/// What is read of an entry of its JSON.
#[derive(Debug, Deserialize)]
struct Entry {
    build_commit: String,
    build_number: u32,
    #[serde(default)]
    backends: String,
    avg_ts: f64,
}

/// One turn: the prompt, then as many tokens at the position where it ends.
pub(super) fn run(
    program: &Path,
    model: &Path,
    threads: usize,
    prompt: usize,
    decode: usize,
) -> Result<Theirs, LlamaError> {
    let prefill = measure(program, model, threads, [prompt, 0, 0])?;
    let after = measure(program, model, threads, [0, decode, prompt])?;
    let Entry { build_commit, build_number, backends, avg_ts } = prefill;
    let version = format!("build {build_number} ({build_commit}), {backends}");
    Ok(Theirs { prefill: avg_ts, decode: after.avg_ts, version })
}

fn measure(
    program: &Path,
    model: &Path,
    threads: usize,
    [prompt, generate, depth]: [usize; 3],
) -> Result<Entry, LlamaError> {
    let number = |value: usize| value.to_string();
    let output = Command::new(program)
        .arg("-m")
        .arg(model)
        .args(["-p", &number(prompt), "-n", &number(generate), "-d", &number(depth), "-t", &number(threads)])
        .args(["-r", "1", "-ngl", "0", "-o", "json"])
        .output()
        .map_err(|source| LlamaError::Start { program: program.to_owned(), source })?;
    if !output.status.success() {
        let said = &output.stderr[output.stderr.len().saturating_sub(LAST_BYTES)..];
        let said = String::from_utf8_lossy(said).trim().to_owned();
        return Err(LlamaError::Failed { program: program.to_owned(), status: output.status, said });
    }
    read(&output.stdout).map_err(|reason| LlamaError::Output { program: program.to_owned(), reason })
}

fn read(json: &[u8]) -> Result<Entry, String> {
    let mut entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match (entries.pop(), entries.len()) {
        (Some(entry), 0) => Ok(entry),
        (last, before) => {
            Err(format!("{} entries where 1 was asked for", before + usize::from(last.is_some())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_read_and_nothing_else() {
        let entry =
            r#"{"build_commit": "abc", "build_number": 7, "backends": "CPU", "n_prompt": 8, "avg_ts": 1.5}"#;
        assert_eq!(read(format!("[{entry}]").as_bytes()).unwrap().avg_ts, 1.5);
        for (json, reason) in [
            ("[]".to_owned(), "0 entries"),
            (format!("[{entry},{entry}]"), "2 entries"),
            ("[{}]".to_owned(), "build_commit"),
            ("error: no model".to_owned(), "expected value"),
        ] {
            assert!(read(json.as_bytes()).unwrap_err().contains(reason), "{json}");
        }
    }
}
