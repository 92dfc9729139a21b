//! A program that ends with whoever started it, however that ends.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A shell between the two: when its standard input ends, which is when we are gone or let go of it, so does the
/// program. (A parent-death signal would come with the end of the thread that started it.)
const WATCHED: &str = r#""$@" & child=$!; read -r _; kill -9 "$child""#;
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
        let mut shell = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let input = shell.stdin.take();
        Ok(Self { name, shell, input, log })
    }

    /// Its name and the last lines that it has said.
    pub(crate) fn last_lines(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
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
