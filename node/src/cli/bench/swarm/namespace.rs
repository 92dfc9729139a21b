//! This process again, in a network namespace of its own: bridge, links and limits are in it, and go with it.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use thiserror::Error;

use super::tools::{NetTools, last};
use crate::cli::Failure;

/// Says that this process is in its own namespace. Not for users.
pub(super) const INSIDE: &str = "inside-namespace";
/// As root; and for everybody, where the system lets users make namespaces.
const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// Why there is no namespace.
#[derive(Debug, Error)]
enum NamespaceError {
    #[error(
        "this user may not make network namespaces (unshare --net: {as_root}; with --user: {as_user}); run it as root, \
         allow user namespaces, or measure without limited links: --only loopback"
    )]
    Rights { as_root: String, as_user: String },
    #[error("cannot run {command}: {source}")]
    Start { command: String, source: io::Error },
}

/// Becomes the same command in a namespace of its own. Returns only when that fails.
pub(super) fn enter(tools: &NetTools) -> Failure {
    become_inside(tools).into()
}

fn become_inside(tools: &NetTools) -> NamespaceError {
    let start = |source| NamespaceError::Start { command: tools.unshare.display().to_string(), source };
    let mut refusals = [String::new(), String::new()];
    for (way, refusal) in WAYS.iter().zip(&mut refusals) {
        match Command::new(&tools.unshare).args(*way).arg("true").output() {
            Ok(Output { status, .. }) if status.success() => {
                let executable = match env::current_exe() {
                    Ok(executable) => executable,
                    Err(error) => return start(error),
                };
                let mut again = Command::new(&tools.unshare);
                again.args(*way).arg(executable).args(env::args_os().skip(1)).arg(format!("--{INSIDE}"));
                return start(again.exec());
            }
            Ok(output) => *refusal = last(&output.stderr),
            Err(error) => return start(error),
        }
    }
    let [as_root, as_user] = refusals;
    NamespaceError::Rights { as_root, as_user }
}
