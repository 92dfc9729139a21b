//! The programs that a measurement needs beside our own.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;
use tokio::process::Command;

/// Where administrators' programs are; they are not in every user's PATH.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// What is said of a failed program.
const LAST_BYTES: usize = 1000;

/// Why a program did not do what it was asked.
#[derive(Debug, Error)]
pub(super) enum ToolError {
    #[error(
        "{program} is not in PATH: install it (Debian: apt-get install {package}), or leave out what needs it with --only"
    )]
    Missing { program: &'static str, package: &'static str },
    #[error("--nginx {}: there is no such file", .0.display())]
    NoNginx(PathBuf),
    #[error("cannot run {command}: {source}")]
    Start { command: String, source: io::Error },
    #[error("{command} ended with {status}: {said}")]
    Failed { command: String, status: ExitStatus, said: String },
}

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) nginx: PathBuf,
    pub(super) curl: PathBuf,
    pub(super) sha256sum: PathBuf,
}

/// What namespaces and their links need.
#[derive(Clone, Debug)]
pub(super) struct NetTools {
    pub(super) ip: PathBuf,
    pub(super) tc: PathBuf,
    pub(super) unshare: PathBuf,
    pub(super) nsenter: PathBuf,
    /// Keeps a namespace alive.
    pub(super) cat: PathBuf,
}

impl Tools {
    pub(super) fn find(nginx: Option<&Path>) -> Result<Self, ToolError> {
        let nginx = match nginx {
            Some(path) if path.is_file() => path.to_owned(),
            Some(path) => return Err(ToolError::NoNginx(path.to_owned())),
            None => find("nginx", "nginx")?,
        };
        Ok(Self { nginx, curl: find("curl", "curl")?, sha256sum: find("sha256sum", "coreutils")? })
    }
}

impl NetTools {
    pub(super) fn find() -> Result<Self, ToolError> {
        Ok(Self {
            ip: find("ip", "iproute2")?,
            tc: find("tc", "iproute2")?,
            unshare: find("unshare", "util-linux")?,
            nsenter: find("nsenter", "util-linux")?,
            cat: find("cat", "coreutils")?,
        })
    }
}

fn find(program: &'static str, package: &'static str) -> Result<PathBuf, ToolError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from));
    let mut found = folders.map(|folder| folder.join(program)).filter(|path| path.is_file());
    found.next().ok_or(ToolError::Missing { program, package })
}

/// Runs a program to its end and returns what it says; it is killed when the wait for it is given up.
pub(super) async fn output(mut command: Command) -> Result<String, ToolError> {
    let line = line(&command);
    let output = command.kill_on_drop(true).process_group(0).output().await;
    let output = output.map_err(|source| ToolError::Start { command: line.clone(), source })?;
    if !output.status.success() {
        let said = last(&output.stderr);
        return Err(ToolError::Failed { command: line, status: output.status, said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of what a program said.
pub(super) fn last(output: &[u8]) -> String {
    let last = &output[output.len().saturating_sub(LAST_BYTES)..];
    String::from_utf8_lossy(last).trim().to_owned()
}

/// What a user would type.
fn line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_where_it_comes_from() {
        assert!(find("sh", "dash").unwrap().is_file());
        let error = find("no-such-program", "some-package").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("some-package"), "{error}");
        let error = Tools::find(Some(Path::new("/nowhere/nginx"))).unwrap_err().to_string();
        assert!(error.contains("--nginx /nowhere/nginx"), "{error}");
    }

    #[tokio::test]
    async fn a_failed_program_is_quoted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it is broken >&2; exit 3"]);
        let error = output(command).await.unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.ends_with("it is broken"), "{error}");
        assert_eq!(output(Command::new("true")).await.unwrap(), "");
    }
}
