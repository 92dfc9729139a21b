//! etcd, kube-apiserver, and where wanted kube-controller-manager and kube-scheduler, as processes on loopback.
//!
//! There are no kubelets: pods are objects, and tests write their status. RBAC is on; the admin is in `system:masters`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rcgen::KeyPair;
use tempfile::TempDir;
use thiserror::Error;
use tokio::time::sleep;

use crate::binaries::{Binaries, BinariesError};
use crate::process::{Watched, free_port};

/// A control plane on a slow machine is ready in ten seconds.
const READY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);
/// Service addresses; nothing routes them.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// What runs beside etcd and the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Makes pods of StatefulSets and Deployments, and deletes what has lost its owner.
    pub controller_manager: bool,
    /// Says of pods why they do not fit.
    pub scheduler: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { controller_manager: true, scheduler: true };

    fn programs(self) -> Vec<&'static str> {
        let mut programs = vec!["etcd", "kube-apiserver", "kubectl"];
        programs.extend(self.controller_manager.then_some("kube-controller-manager"));
        programs.extend(self.scheduler.then_some("kube-scheduler"));
        programs
    }
}

/// Why there is no control plane.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    /// Its programs are not there.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// A file of it cannot be written, or a program not started.
    #[error("cannot set up {what}: {source}")]
    SetUp {
        /// The file or program.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No key for service accounts.
    #[error("no key for tokens of service accounts: {0}")]
    Key(#[from] rcgen::Error),
    /// The configuration that we wrote is not understood: a fault of ours.
    #[error("the kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// No client.
    #[error("cannot make a client: {0}")]
    Client(#[from] kube::Error),
    /// It does not come up.
    #[error("not ready after {READY:?}: {last}\n{logs}")]
    NotReady {
        /// What it answered last.
        last: String,
        /// The last lines of all programs.
        logs: String,
    },
}

/// A running control plane; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct ControlPlane {
    binaries: Binaries,
    api_arguments: Vec<String>,
    // Programs end before what they write to is removed, those that need others first.
    others: Vec<Watched>,
    api: Option<Watched>,
    _etcd: Watched,
    folder: TempDir,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    pub async fn start(parts: Parts) -> Result<Self, ControlPlaneError> {
        let binaries = Binaries::get(&parts.programs())?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| ControlPlaneError::SetUp { what, source }
        };
        let folder = tempfile::tempdir().map_err(failed("a temporary folder"))?;
        let at = |name: &str| folder.path().join(name);
        let [client, peer, port] = std::array::from_fn(|_| free_port());
        let etcd = [
            format!("--data-dir={}", at("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            "--quota-backend-bytes=4294967296".to_owned(),
        ];
        let etcd = Watched::start(&binaries.path("etcd"), &etcd, folder.path()).map_err(failed("etcd"))?;

        let key = KeyPair::generate()?;
        write(&at("accounts.key"), &key.serialize_pem())?;
        write(&at("accounts.pub"), &key.public_key_pem())?;
        let token = hex(&key.serialize_der());
        write(&at("tokens.csv"), &format!("{token},admin,admin,system:masters\n"))?;
        let api_arguments = [
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", at("certificates").display()),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--service-account-key-file={}", at("accounts.pub").display()),
            format!("--service-account-signing-key-file={}", at("accounts.key").display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", at("tokens.csv").display()),
        ]
        .to_vec();
        write(&at("kubeconfig"), &kubeconfig(port, &token))?;
        let mut plane = Self { binaries, api_arguments, others: Vec::new(), api: None, _etcd: etcd, folder };
        plane.start_api_server().await?;

        let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig().display());
        let common = [kubeconfig, "--leader-elect=false".to_owned(), "--secure-port=0".to_owned()];
        if parts.controller_manager {
            let key = plane.folder.path().join("accounts.key");
            let own = [
                format!("--service-account-private-key-file={}", key.display()),
                "--use-service-account-credentials".to_owned(),
            ];
            plane.add("kube-controller-manager", &[&common[..], &own].concat())?;
        }
        if parts.scheduler {
            plane.add("kube-scheduler", &common)?;
        }
        Ok(plane)
    }

    /// Where `kubectl` and others find it; the user is the admin.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A program that was asked for, or `kubectl`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.path(name)
    }

    /// How the admin gets in.
    ///
    /// # Errors
    /// Where our own configuration is not understood.
    pub async fn config(&self) -> Result<Config, ControlPlaneError> {
        let read = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)
    }

    /// A client that may do everything, of the runtime that asks for it.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A client that may do what a service account may.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub async fn client_as(&self, namespace: &str, account: &str) -> Result<Client, ControlPlaneError> {
        let mut config = self.config().await?;
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{account}"));
        let groups = ["system:serviceaccounts", "system:authenticated"].map(ToOwned::to_owned);
        config.auth_info.impersonate_groups = Some(groups.to_vec());
        Ok(Client::try_from(config)?)
    }

    /// Kills the API server. Clients see their watches end, and then nobody.
    pub fn stop_api_server(&mut self) {
        self.api = None;
    }

    /// Starts it, again, where it was; returns when it is ready.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    pub async fn start_api_server(&mut self) -> Result<(), ControlPlaneError> {
        self.api = None;
        let program = self.binaries.path("kube-apiserver");
        let started = Watched::start(&program, &self.api_arguments, self.folder.path());
        let what = "kube-apiserver".to_owned();
        self.api = Some(started.map_err(|source| ControlPlaneError::SetUp { what, source })?);
        let begun = Instant::now();
        loop {
            match self.look().await {
                Ok(()) => return Ok(()),
                Err(last) if begun.elapsed() > READY => {
                    return Err(ControlPlaneError::NotReady { last, logs: self.logs() });
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        // Its certificate is there after a moment.
        let client = self.client().await.map_err(|error| error.to_string())?;
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
        client.request_text(request).await.map_err(|error| error.to_string())?;
        // The namespace that everybody expects comes a little later.
        let namespaces = Api::<Namespace>::all(client).list(&ListParams::default()).await;
        let namespaces = namespaces.map_err(|error| error.to_string())?;
        let has_default = namespaces.iter().any(|one| one.metadata.name.as_deref() == Some("default"));
        has_default.then_some(()).ok_or_else(|| "there is no namespace default yet".to_owned())
    }

    fn add(&mut self, name: &str, arguments: &[String]) -> Result<(), ControlPlaneError> {
        let started = Watched::start(&self.binaries.path(name), arguments, self.folder.path());
        let what = name.to_owned();
        self.others.push(started.map_err(|source| ControlPlaneError::SetUp { what, source })?);
        Ok(())
    }

    fn logs(&self) -> String {
        let all = [&self._etcd].into_iter().chain(&self.api).chain(&self.others);
        all.map(Watched::last_lines).collect::<Vec<_>>().join("\n")
    }
}

fn write(path: &Path, text: &str) -> Result<(), ControlPlaneError> {
    let what = path.display().to_string();
    std::fs::write(path, text).map_err(|source| ControlPlaneError::SetUp { what, source })
}

/// The API server makes its certificate itself; the file has its authority, too.
fn kubeconfig(port: u16, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: e2e\n\
         clusters: [{{name: e2e, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: certificates/apiserver.crt}}}}]\n\
         users: [{{name: admin, user: {{token: {token}}}}}]\n\
         contexts: [{{name: e2e, context: {{cluster: e2e, user: admin}}}}]\n"
    )
}

/// The last bytes of a private key: nobody else knows them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().take(16).map(|byte| format!("{byte:02x}")).collect()
}
