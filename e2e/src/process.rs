//! A program that ends with whoever started it, however that ends.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A shell between the two. When its standard input ends, which is when we are gone or let go of it, the program is
/// killed; when the program ends by itself, so does the shell, with its status. (A parent-death signal would come
/// with the end of the thread that started it.)
const WATCHED: &str = r#"
    exec 3<&0
    "$@" 3<&- & program=$!
    { read -r _ <&3; kill -9 "$program"; } & watch=$!
    wait "$program"; status=$?
    kill -9 "$watch"; exit "$status""#;
/// The same for a folder: it is removed when we are gone, at the latest when the programs that write to it are, too.
const REMOVED: &str = r#"read -r _; for _ in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 1; done"#;
/// Lines of a log that an error shows.
const SHOWN: usize = 12;

/// A program under watch. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    shell: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

impl Watched {
    /// Starts a program; what it says goes to `NAME.log` in `folder`, behind what is there.
    pub(crate) fn start(program: &Path, arguments: &[String], folder: &Path) -> io::Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("sh");
        command.args(["-c", WATCHED, "sh"]).arg(program).args(arguments).current_dir(folder);
        command.stdout(output.try_clone()?).stderr(output);
        Self::spawn(command, name, log)
    }

    /// Removes a folder when this is dropped, or when we are gone.
    pub(crate) fn removal(folder: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", REMOVED, "sh"]).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command, "removal".to_owned(), PathBuf::new())
    }

    fn spawn(mut command: Command, name: String, log: PathBuf) -> io::Result<Self> {
        // A group of its own: Ctrl-C on a terminal must not end the watch before the program.
        let mut shell = command.process_group(0).stdin(Stdio::piped()).spawn()?;
        let input = shell.stdin.take();
        Ok(Self { name, shell, input, log })
    }

    /// Its name and how it has ended, where it has.
    pub(crate) fn ended(&mut self) -> Option<(String, ExitStatus)> {
        let status = self.shell.try_wait().ok().flatten()?;
        Some((self.name.clone(), status))
    }

    /// Its name and the last lines that it has said.
    pub(crate) fn last_lines(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        format!("{}:\n  {}", self.name, lines[lines.len().saturating_sub(SHOWN)..].join("\n  "))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.input.take();
        // It ends after the program.
        let _ = self.shell.wait();
    }
}

/// A port of loopback that nobody has, below those that the system gives to whoever asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(89).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
