//! The program that runs until it is told to stop.

use std::io;

use kube::Client;
use shard_wire::contract::HTTP_PORT;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::controller::{self, GatewayPort};
use crate::settings::Settings;

/// What is logged where RUST_LOG says nothing.
const FILTER: &str = "info,kube=warn,hyper=warn,tower=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
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
    Client(#[source] kube::Error),
}

/// Runs until SIGTERM or SIGINT, and finishes what it has begun.
///
/// # Errors
/// Where it cannot begin; later errors are retried.
pub fn operate(settings: Settings, format: LogFormat) -> Result<(), OperatorError> {
    log_to_stderr(format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(OperatorError::Runtime)?.block_on(async {
        let terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signals)?;
        let client = Client::try_default().await.map_err(OperatorError::Client)?;
        info!(?settings, "the operator starts");
        controller::run(client, settings, GatewayPort(HTTP_PORT), told_to_stop(terminate, interrupt)).await;
        Ok(())
    })
}

async fn told_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: finishing what is under way"),
        _ = interrupt.recv() => info!("SIGINT: finishing what is under way"),
    }
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
