//! `shardctl call`: one command to one node, as any peer would send it.

use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};
use shard_wire::message::{Request, Response, ResponseError, Status};
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::{Ending, Failure, Shutdown};
use crate::config::args::CallArgs;
use crate::config::{Bootstrap, BootstrapError, Output};
use crate::net::secret::SecretError;
use crate::net::{self, DhtMode, NetConfig, NetError, NetEvent, Network, Secrets};
use crate::telemetry::complain;

/// What can go wrong before the node answers.
#[derive(Debug, Error)]
enum CallError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("'{params}' is not a JSON object: {reason}")]
    Params { params: String, reason: String },
    #[error("'{node}' is neither a peer id nor an address: {source}")]
    Node { node: String, source: BootstrapError },
    #[error("no bootstrap answered")]
    Bootstrap(#[source] Box<NetError>),
    #[error("cannot reach {node}")]
    Reach { node: String, source: Box<NetError> },
    #[error(
        "{node} closed the connection at once: it may be in a cluster with a secret, which --cluster-secret-file would give"
    )]
    Closed { node: String },
    #[error("{}: {}", json!(.0.code).as_str().unwrap_or_default(), .0.message)]
    Refused(ResponseError),
    #[error("{node} did not answer within {after:?}")]
    Timeout { node: String, after: std::time::Duration },
}

/// The end of a connection is seen this soon after a request on it failed.
const WHY: Duration = Duration::from_millis(500);

/// How to find the node.
enum Target {
    /// Somebody there, whoever it is or the peer that the address names.
    At(Bootstrap),
    /// This peer, wherever the DHT says.
    Known(PeerId),
}

pub(super) async fn run(args: CallArgs, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let target = match PeerId::from_str(&args.node) {
        Ok(peer) => Target::Known(peer),
        Err(_) => Target::At(
            args.node.parse().map_err(|source| CallError::Node { node: args.node.clone(), source })?,
        ),
    };
    let params = parameters(&args.params)?;
    let request = Request { command: args.command.clone(), request_id: "shardctl".into(), params };

    let secrets =
        args.secret.clone().source().as_ref().map(Secrets::load).transpose().map_err(CallError::from)?;
    let config = NetConfig {
        secrets,
        transport: args.transport,
        ..NetConfig::new(Keypair::generate_ed25519(), &args.cluster, "shardctl", DhtMode::Client)
    };
    let (network, _requests) = net::spawn(config)?;
    let mut refused = std::pin::pin!(refused(network.events()));
    let closed = || CallError::Closed { node: args.node.clone() };
    let asked = timeout(args.timeout, ask(&network, &args, target, request));
    let response = tokio::select! {
        biased;
        () = &mut refused => return Err(closed().into()),
        response = asked => response
            .map_err(|_| CallError::Timeout { node: args.node.clone(), after: args.timeout })?,
        () = shutdown.begun() => return Ok(Ending::Interrupted),
    };
    let response = match response {
        // The request may fail a moment before the connection's end says why.
        Err(CallError::Reach { .. }) if timeout(WHY, refused).await.is_ok() => return Err(closed().into()),
        response => response?,
    };
    network.shutdown().await;
    print(&response, args.output)
}

/// Ends when a peer wants to hear nothing from us.
async fn refused(mut events: broadcast::Receiver<NetEvent>) {
    loop {
        match events.recv().await {
            Ok(NetEvent::Refused { .. }) => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn parameters(text: &str) -> Result<Value, CallError> {
    let wrong = |reason: String| CallError::Params { params: text.to_owned(), reason };
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(wrong("it is another kind of value".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

async fn ask(
    network: &Network,
    args: &CallArgs,
    target: Target,
    request: Request,
) -> Result<Response, CallError> {
    let failed = |source| CallError::Reach { node: args.node.clone(), source: Box::new(source) };
    let peer = match target {
        Target::At(entry) => {
            network.dial(entry.peer(), entry.addresses(args.transport)).await.map_err(failed)?
        }
        Target::Known(peer) => {
            enter(network, args).await?;
            let nowhere: Vec<Multiaddr> = Vec::new();
            network.dial(Some(peer), nowhere).await.map_err(failed)?
        }
    };
    network.request(peer, request).await.map_err(failed)
}

/// Through the first bootstrap that answers.
async fn enter(network: &Network, args: &CallArgs) -> Result<(), CallError> {
    let mut last = NetError::NoAddress;
    for entry in &args.dial.bootstrap {
        let addresses = entry.addresses(args.transport);
        match network.dial(entry.peer(), addresses.clone()).await {
            Ok(peer) => {
                for address in addresses {
                    network.add_address(peer, address).await;
                }
                return network.bootstrap().await.map_err(|error| CallError::Bootstrap(Box::new(error)));
            }
            Err(error) => last = error,
        }
    }
    Err(CallError::Bootstrap(Box::new(last)))
}

fn print(response: &Response, output: Output) -> Result<Ending, Failure> {
    let ending = if response.status == Status::Ok { Ending::Done } else { Ending::Refused };
    let mut out = io::stdout().lock();
    match (output, &response.error) {
        (Output::Json, _) => writeln!(out, "{}", json!(response))?,
        (Output::Text, None) => writeln!(out, "{:#}", response.data)?,
        (Output::Text, Some(error)) => complain(&CallError::Refused(error.clone())),
    }
    Ok(ending)
}
