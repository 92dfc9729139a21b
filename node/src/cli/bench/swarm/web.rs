//! The other way to copy a file: nginx gives it, curl gets it, sha256sum reads it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SanType};
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::lab::Host;
use super::tools::{ToolError, Tools, last, output};

/// nginx listens within this time.
const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
const FILE: &str = "model.gguf";

/// Why there is no copy by HTTP.
#[derive(Debug, Error)]
pub(super) enum WebError {
    #[error("cannot prepare nginx: {action} {}: {source}", path.display())]
    Prepare { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("nginx does not listen on {address}: {said}")]
    Silent { address: String, said: String },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("what curl got is not what nginx gave: SHA-256 {found}, not {expected}")]
    Different { found: String, expected: String },
}

/// Seconds of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Copied {
    pub(super) curl: f64,
    pub(super) sha256sum: f64,
}

/// HTTP, or HTTP over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Plain,
    Tls,
}

/// nginx with one file. Dropped, it is killed.
pub(super) struct Web {
    _process: Child,
    host: Host,
    ports: [u16; 2],
    certificate: PathBuf,
    sha256: String,
}

impl Web {
    /// Serves `file`, whose hash is known, from `folder`, which is made for it.
    pub(super) async fn start(
        tools: &Tools,
        host: &Host,
        ports: [u16; 2],
        folder: &Path,
        file: &Path,
        sha256: &str,
    ) -> Result<Self, WebError> {
        let certificate = prepare(folder, host, ports, file)?;
        let log = folder.join("nginx.log");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| WebError::Prepare { action, path, source }
        };
        let errors = fs::File::create(&log).map_err(failed("create", &log))?;
        let mut command = host.command(&tools.nginx);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder);
        let start = |source| WebError::Start { program: tools.nginx.clone(), source };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).process_group(0).kill_on_drop(true);
        let mut process = command.spawn().map_err(start)?;
        let deadline = Instant::now() + START;
        for port in ports {
            let address = format!("{}:{port}", host.address);
            while TcpStream::connect(&address).await.is_err() {
                if Instant::now() > deadline || process.try_wait().map_err(start)?.is_some() {
                    let said = last(&fs::read(&log).unwrap_or_default());
                    return Err(WebError::Silent { address, said });
                }
                sleep(LOOK).await;
            }
        }
        let (host, sha256) = (host.clone(), sha256.to_owned());
        Ok(Self { _process: process, host, ports, certificate, sha256 })
    }

    /// Copies the file to `to` on a machine, and hashes it there.
    pub(super) async fn copy(
        &self,
        tools: &Tools,
        scheme: Scheme,
        host: &Host,
        to: &Path,
    ) -> Result<Copied, WebError> {
        let (scheme, port) = match scheme {
            Scheme::Plain => ("http", self.ports[0]),
            Scheme::Tls => ("https", self.ports[1]),
        };
        // What the user has in a file of settings, or as a proxy, is not meant for this.
        let mut curl = host.command(&tools.curl);
        curl.args(["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert"]);
        curl.arg(&self.certificate).arg("--output").arg(to);
        curl.arg(format!("{scheme}://{}:{port}/{FILE}", self.host.address));
        let begun = Instant::now();
        output(curl).await?;
        let copied = begun.elapsed();
        let mut sum = host.command(&tools.sha256sum);
        let input = fs::File::open(to).map_err(|source| WebError::Prepare {
            action: "open",
            path: to.to_owned(),
            source,
        })?;
        sum.stdin(input);
        let said = output(sum).await?;
        let hashed = begun.elapsed();
        let found = said.split_whitespace().next().unwrap_or_default();
        if found != self.sha256 {
            let (found, expected) = (found.to_owned(), self.sha256.clone());
            return Err(WebError::Different { found, expected });
        }
        let sha256sum = (hashed - copied).as_secs_f64();
        Ok(Copied { curl: copied.as_secs_f64(), sha256sum })
    }
}

/// Settings, certificate and file in the folder; all paths in the settings are relative to it.
fn prepare(folder: &Path, host: &Host, ports: [u16; 2], file: &Path) -> Result<PathBuf, WebError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| WebError::Prepare { action, path, source }
    };
    let files = folder.join("files");
    fs::create_dir_all(&files).map_err(failed("create", &files))?;
    let link = files.join(FILE);
    let _ = fs::remove_file(&link);
    symlink(file, &link).map_err(failed("link", &link))?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(host.address))];
    let certificate = folder.join("certificate.pem");
    for (path, text) in [
        (&certificate, params.self_signed(&key)?.pem()),
        (&folder.join("key.pem"), key.serialize_pem()),
        (&folder.join("nginx.conf"), settings(&host.address.to_string(), ports)),
    ] {
        fs::write(path, text).map_err(failed("write", path))?;
    }
    Ok(certificate)
}

/// What a distribution's settings have, without what needs rights or other folders. One process, so that it ends when it is
/// killed; each copy has one connection, and more would not make it faster.
fn settings(address: &str, [plain, tls]: [u16; 2]) -> String {
    format!(
        "\
daemon off;
master_process off;
user root;
pid nginx.pid;
events {{
    worker_connections 256;
}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {address}:{plain};
        listen {address}:{tls} ssl;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root files;
    }}
}}
"
    )
}
