//! `run-PID` in a state folder: links named as the programs, and a log of each. It is removed when the run ends well, else
//! by the next one.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;

use super::home::{HomeError, failed, make};

const PROGRAMS: [&str; 3] = ["server", "shard_listener", "web_server"];

/// What only this run needs.
#[derive(Debug)]
pub(in crate::cli) struct RunFolder {
    pub(in crate::cli) path: PathBuf,
    /// Locked as long as this run lives.
    _alive: File,
}

impl RunFolder {
    /// Makes it in `state`, which exists, and removes those of runs that have ended.
    pub(in crate::cli) fn make(state: &Path) -> Result<Self, HomeError> {
        sweep(state);
        let path = state.join(format!("run-{}", process::id()));
        make(&path)?;
        let alive_path = path.join("alive");
        let alive = File::create(&alive_path).map_err(failed("create", &alive_path))?;
        alive.lock().map_err(failed("lock", &alive_path))?;
        let executable = env::current_exe().map_err(failed("find the executable for", &path))?;
        for program in PROGRAMS {
            let link = path.join(program);
            symlink(&executable, &link).map_err(failed("link", &link))?;
        }
        Ok(Self { path, _alive: alive })
    }

    /// Removes it.
    pub(in crate::cli) fn forget(self) {
        // Left behind, the next run removes it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sweep(state: &Path) {
    let Ok(entries) = fs::read_dir(state) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let of_a_run = entry.file_name().to_string_lossy().starts_with("run-");
        let ended = || File::open(path.join("alive")).is_ok_and(|alive| alive.try_lock().is_ok());
        if of_a_run && ended() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
