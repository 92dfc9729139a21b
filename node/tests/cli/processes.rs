//! Programs of a fleet, one by one, for tests that stop or kill some of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, default_model, program, run, text};

const SOON: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = program(name);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub(super) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Sends a request and reads until `enough` is in the answer, or it ends; empty where nobody listens.
pub(super) fn ask(port: &str, request: &str, enough: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(format!("127.0.0.1:{port}")) else { return String::new() };
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer += &String::from_utf8_lossy(&buffer[..read]);
        if answer.contains(enough) {
            break;
        }
    }
    answer
}

pub(super) fn get(port: &str, path: &str, enough: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), enough)
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Cuts the default model into shards in this folder, and gives its path.
pub(super) fn split<'a>(folder: &'a Folder, shards: &str) -> &'a str {
    let dir = folder.0.to_str().unwrap();
    let model = default_model();
    let output = run("shardctl", &["split", model.to_str().unwrap(), "--shards", shards, "--out", dir]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    dir
}
