//! llama.cpp's own benchmark, as the yardstick.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Repetitions, of which llama-bench gives the mean.
const REPETITIONS: &str = "3";

/// What llama-bench measured, in tokens per second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LlamaFigures {
    /// Number and commit of the build.
    pub(super) build: String,
    pub(super) threads: usize,
    pub(super) prefill: f64,
    pub(super) decode: f64,
}

/// Why there is nothing to compare with.
#[derive(Debug, Error)]
pub(super) enum LlamaError {
    #[error("cannot start {program}: {source}", program = program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{program} failed ({status}): {message}", program = program.display())]
    Failed { program: PathBuf, status: std::process::ExitStatus, message: String },
    #[error("{program} did not print the JSON of llama-bench: {source}", program = program.display())]
    Output { program: PathBuf, source: serde_json::Error },
    #[error("{program} printed no figures of {what}", program = program.display())]
    Missing { program: PathBuf, what: &'static str },
}

/// One entry of `llama-bench -o json`; the rest of its keys do not matter here.
#[derive(Debug, Deserialize)]
struct Entry {
    build_commit: String,
    build_number: u64,
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
}

/// Runs `program` on the processor alone.
pub(super) fn run(
    program: &Path,
    model: &Path,
    threads: usize,
    prompt: usize,
    generate: usize,
) -> Result<LlamaFigures, LlamaError> {
    let numbers = [threads, prompt, generate].map(|number| number.to_string());
    let output = Command::new(program)
        .arg("-m")
        .arg(model)
        .args(["-t", &numbers[0], "-p", &numbers[1], "-n", &numbers[2]])
        .args(["-r", REPETITIONS, "-ngl", "0", "-o", "json"])
        .output()
        .map_err(|source| LlamaError::Start { program: program.to_owned(), source })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let message = errors.lines().last().unwrap_or_default().to_owned();
        return Err(LlamaError::Failed { program: program.to_owned(), status: output.status, message });
    }
    figures(program, &output.stdout, threads)
}

fn figures(program: &Path, json: &[u8], threads: usize) -> Result<LlamaFigures, LlamaError> {
    let entries: Vec<Entry> = serde_json::from_slice(json)
        .map_err(|source| LlamaError::Output { program: program.to_owned(), source })?;
    let missing = |what| LlamaError::Missing { program: program.to_owned(), what };
    let prefill = entries.iter().find(|entry| entry.n_gen == 0).ok_or_else(|| missing("prefill"))?;
    let decode = entries.iter().find(|entry| entry.n_prompt == 0).ok_or_else(|| missing("decode"))?;
    let build = format!("{} ({})", prefill.build_number, prefill.build_commit);
    Ok(LlamaFigures { build, threads, prefill: prefill.avg_ts, decode: decode.avg_ts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_prompt_and_generation() {
        let json = br#"[
            {"build_commit": "abc", "build_number": 7, "n_prompt": 512, "n_gen": 0, "avg_ts": 107.5, "n_threads": 1},
            {"build_commit": "abc", "build_number": 7, "n_prompt": 0, "n_gen": 64, "avg_ts": 40.25, "n_threads": 1}
        ]"#;
        let got = figures(Path::new("llama-bench"), json, 1).unwrap();
        let build = "7 (abc)".to_owned();
        assert_eq!(got, LlamaFigures { build, threads: 1, prefill: 107.5, decode: 40.25 });
        let error = figures(Path::new("llama-bench"), b"[]", 1).unwrap_err();
        assert_eq!(error.to_string(), "llama-bench printed no figures of prefill");
        let error = figures(Path::new("true"), b"", 1).unwrap_err();
        assert!(error.to_string().starts_with("true did not print the JSON of llama-bench"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Path::new("/no/llama-bench"), Path::new("m.gguf"), 1, 1, 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot start /no/llama-bench"), "{error}");
    }
}
