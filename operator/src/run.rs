//! The program that runs until it is told to stop.
//!
//! ```text
//!  signals ─▶ stop ─┬▶ lead ─▶ a term: controller, whose writes pass the lead's fence and are counted
//!                   └──────────────▶ when it has ended: http
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::client::ClientBuilder;
use kube::config::InferConfigError;
use kube::{Client, Config};
use shard_wire::contract::HTTP_PORT;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{error, info};

use crate::controller::{self, GatewayPort};
use crate::http;
use crate::lead::{self, Candidate, Fence, LeadError};
use crate::patience::Patience;
use crate::settings::Settings;
use crate::telemetry::logs::{self, LogFormat};
use crate::telemetry::{CountWrites, Health, Telemetry};
use crate::words::words;

/// How often the task of the reconciles says that it runs.
const PULSE: Duration = Duration::from_secs(1);

/// What holds for this process alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Whose name the lease has; `None` is the host's.
    pub pod_name: Option<String>,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why the operator does not run.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// There are no threads.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// It could not be told to stop.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// Nobody says where the API server is.
    #[error(
        "cannot find an API server: neither a kubeconfig (KUBECONFIG, ~/.kube/config) nor a pod's own account is there"
    )]
    Config(#[source] InferConfigError),
    /// What is said of the API server makes no sense.
    #[error("cannot make a client for the API server at {server}")]
    Client {
        /// Where.
        server: String,
        /// Why.
        source: kube::Error,
    },
    /// Somebody else listens there, as another operator on this machine.
    #[error("cannot serve health and metrics on {at}: choose another address with --listen, as 127.0.0.1:0")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no name of its own for the lease.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
    /// See [`LeadError`].
    #[error(transparent)]
    Lead(LeadError),
}

/// Runs until SIGTERM or SIGINT, and finishes what it has begun.
///
/// # Errors
/// Where it cannot begin, or breaks; what an API server does is waited out.
pub fn operate(settings: Settings, process: Process) -> Result<(), OperatorError> {
    logs::to_stderr(process.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(OperatorError::Runtime)?.block_on(until_told(settings, process))
}

async fn until_told(settings: Settings, process: Process) -> Result<(), OperatorError> {
    let terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signals)?;
    let mut config = Config::infer().await.map_err(OperatorError::Config)?;
    // A write that is tried again behind the fence would pass it; whoever reads tries again by itself.
    config.default_retry = false;
    let config = Arc::new(config);
    let server = config.cluster_url.to_string();
    let client = Client::try_from(Config::clone(&config));
    let client = client.map_err(|source| OperatorError::Client { server, source })?;
    let identity = lead::identity(process.pod_name.as_deref()).map_err(OperatorError::Random)?;
    let listening = |source| OperatorError::Listen { at: process.listen, source };
    let listener = TcpListener::bind(process.listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    info!(?settings, identity, %address, server = %config.cluster_url, "the operator starts");

    let telemetry = Telemetry::default();
    let (end, ended) = oneshot::channel::<()>();
    let ended = async { drop(ended.await) };
    let served = tokio::spawn(http::serve(listener, telemetry.clone(), ended));
    let stop = told_to_stop(terminate, interrupt).boxed().shared();
    let candidate = Candidate::new(client, settings.namespace.clone(), identity, telemetry.clone());
    let until = stop.clone();
    let term =
        move |fence| term(Arc::clone(&config), settings.clone(), telemetry.clone(), fence, until.clone());
    let led = candidate.run(stop, term).await;
    drop(end);
    let _ = served.await;
    led.map_err(OperatorError::Lead)
}

/// As a leader, with connections of its own: they end with it.
async fn term(
    config: Arc<Config>,
    settings: Settings,
    telemetry: Telemetry,
    fence: Fence,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let builder = match ClientBuilder::try_from(Config::clone(&config)) {
        Ok(builder) => builder,
        Err(error) => return error!(error = %words(&error), "cannot make another client"),
    };
    let builder = builder.with_layer(&Patience).with_layer(&CountWrites(telemetry.metrics.clone()));
    let client = builder.with_layer(&fence).build();
    let gateways = GatewayPort(HTTP_PORT);
    let pulse = pulse(telemetry.health.clone());
    select! {
        () = controller::run(client, settings, gateways, telemetry, stop) => {}
        () = pulse => {}
    }
}

/// In the task of the reconciles: one that blocks it stops this, too.
async fn pulse(health: Health) {
    loop {
        health.reconciles_move();
        sleep(PULSE).await;
    }
}

async fn told_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    select! {
        _ = terminate.recv() => info!("SIGTERM: finishing what is under way"),
        _ = interrupt.recv() => info!("SIGINT: finishing what is under way"),
    }
}
