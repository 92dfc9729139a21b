//! A control plane as processes on loopback, and who gets in.
//!
//! 1. [`Binaries`]: the programs are found, downloaded or built.
//! 2. A folder of its own, for the user alone: etcd's data, keys, tokens, kubeconfigs, logs. It goes with the process.
//! 3. etcd, then kube-apiserver, until `/readyz` says so and the namespace `default` is there.
//! 4. Where wanted kube-controller-manager and kube-scheduler.
//!
//! There are no kubelets: pods are objects, and tests write their status. RBAC is on; the admin is in `system:masters`.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::arguments::{self, Layout, Ports};
use crate::audit::{self, Request};
use crate::binaries::Binaries;
use crate::error::ControlPlaneError;
use crate::options::Options;
use crate::process::{Watched, free_port};

/// A control plane on a slow machine is ready in ten seconds.
const READY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
/// Longer than any run of tests.
const TOKEN_SECONDS: i64 = 6 * 3600;
/// Set to `1`, it keeps the folder of a control plane, with the logs of its programs.
pub const KEEP: &str = "E2E_KEEP";

/// A running control plane; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct ControlPlane {
    binaries: Binaries,
    ports: Ports,
    options: Options,
    // Programs end before what they write to is removed, those that need others first.
    others: Vec<Watched>,
    api: Option<Watched>,
    etcd: Watched,
    _removal: Option<Watched>,
    folder: TempDir,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    pub async fn start(options: impl Into<Options>) -> Result<Self, ControlPlaneError> {
        let options = options.into();
        let parts = options.parts;
        let binaries = Binaries::get(&parts.programs()).await?;
        let (folder, removal) = new_folder().map_err(set_up("a temporary folder"))?;
        let layout = Layout(folder.path());
        let ports = Ports { etcd_clients: free_port(), etcd_peers: free_port(), api: free_port() };

        let key = KeyPair::generate()?;
        write(&layout.accounts_key(), &key.serialize_pem())?;
        write(&layout.accounts_pub(), &key.public_key_pem())?;
        if options.audit {
            write(&layout.audit_policy(), audit::POLICY)?;
        }
        let token = random_token().map_err(set_up("a token"))?;
        write(&layout.tokens(), &format!("{token},admin,admin,system:masters\n"))?;
        write(&layout.kubeconfig(), &arguments::kubeconfig(ports.api, "admin", &token))?;

        let etcd = start(&binaries, "etcd", &arguments::etcd(layout, ports), layout)?;
        let others = Vec::new();
        let mut plane = Self { binaries, ports, options, others, api: None, etcd, _removal: removal, folder };
        plane.start_api_server().await?;
        if parts.controller_manager {
            plane.add("kube-controller-manager", &arguments::controller_manager(plane.layout(), options))?;
        }
        if parts.scheduler {
            plane.add("kube-scheduler", &arguments::scheduler(plane.layout()))?;
        }
        Ok(plane)
    }

    /// Where `kubectl` and others find it; the user is the admin.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout().kubeconfig()
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
        config(&self.kubeconfig()).await
    }

    /// A client that may do everything, of the runtime that asks for it.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A kubeconfig of a service account, which is made where it is not there, with a token as its pods have one.
    ///
    /// # Errors
    /// The API server's, as where there is no such namespace.
    pub async fn kubeconfig_as(&self, namespace: &str, account: &str) -> Result<PathBuf, ControlPlaneError> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let metadata = ObjectMeta { name: Some(account.to_owned()), ..ObjectMeta::default() };
        let wanted = ServiceAccount { metadata, ..ServiceAccount::default() };
        match accounts.create(&PostParams::default(), &wanted).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            made => drop(made?),
        }
        let spec =
            TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let path = self.layout().at(&format!("{namespace}-{account}.kubeconfig"));
        write(&path, &arguments::kubeconfig(self.ports.api, account, &token))?;
        Ok(path)
    }

    /// A client that may do what a service account may; see [`Self::kubeconfig_as`].
    ///
    /// # Errors
    /// As [`Self::kubeconfig_as`].
    pub async fn client_as(&self, namespace: &str, account: &str) -> Result<Client, ControlPlaneError> {
        Ok(Client::try_from(config(&self.kubeconfig_as(namespace, account).await?).await?)?)
    }

    /// What an account has asked for until now, where the control plane was started with `audit`.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn requests_of(&self, namespace: &str, account: &str) -> Result<Vec<Request>, ControlPlaneError> {
        Ok(audit::requests_of(&self.layout().audit_log(), namespace, account)?)
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
        let arguments = arguments::api_server(self.layout(), self.ports, self.options);
        self.api = Some(start(&self.binaries, "kube-apiserver", &arguments, self.layout())?);
        let begun = Instant::now();
        loop {
            let last = match self.look().await {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            if let Some((program, status)) =
                self.api.as_mut().and_then(Watched::ended).or_else(|| self.etcd.ended())
            {
                return Err(ControlPlaneError::Ended { program, status, logs: self.logs() });
            }
            if begun.elapsed() > READY {
                return Err(ControlPlaneError::NotReady { waited: READY, last, logs: self.logs() });
            }
            sleep(LOOK).await;
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
        let started = start(&self.binaries, name, arguments, self.layout())?;
        self.others.push(started);
        Ok(())
    }

    pub(crate) fn layout(&self) -> Layout<'_> {
        Layout(self.folder.path())
    }

    fn logs(&self) -> String {
        let all = [&self.etcd].into_iter().chain(&self.api).chain(&self.others);
        all.map(Watched::last_lines).collect::<Vec<_>>().join("\n")
    }
}

/// For the user alone: keys and tokens are in it. And what removes it when we are gone.
fn new_folder() -> io::Result<(TempDir, Option<Watched>)> {
    let keep = std::env::var_os(KEEP).is_some_and(|value| value == "1");
    let mut builder = tempfile::Builder::new();
    builder.prefix("shardcluster-e2e-").permissions(Permissions::from_mode(0o700)).disable_cleanup(keep);
    let folder = builder.tempdir()?;
    if keep {
        crate::say(&format!("the control plane's logs stay in {}", folder.path().display()));
        return Ok((folder, None));
    }
    let removal = Watched::removal(folder.path())?;
    Ok((folder, Some(removal)))
}

fn start(
    binaries: &Binaries,
    name: &str,
    arguments: &[String],
    layout: Layout<'_>,
) -> Result<Watched, ControlPlaneError> {
    Watched::start(&binaries.path(name), arguments, layout.0).map_err(set_up(name))
}

async fn config(kubeconfig: &Path) -> Result<Config, ControlPlaneError> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)
}

fn write(path: &Path, text: &str) -> Result<(), ControlPlaneError> {
    std::fs::write(path, text).map_err(set_up(&path.display().to_string()))
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn set_up(what: &str) -> impl FnOnce(io::Error) -> ControlPlaneError {
    let what = what.to_owned();
    move |source| ControlPlaneError::SetUp { what, source }
}
