//! This process as a gateway: it finds the shards in the DHT and talks to them, and to nobody else.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use shard_wire::contract as c;
use shard_wire::session::Sampling;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::Failure;
use crate::clock::now_ms;
use crate::config::{Bootstrap, NetConfig, SecretSource, Transport};
use crate::front::Front;
use crate::joiner::{Joiner, JoinerConfig};
use crate::net::{DhtMode, Network};
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};
use crate::ring::gateway::sessions;
use crate::ring::lanes::{INBOX, Inboxes, Lanes};
use crate::start::{self, Member};
use crate::watch::WatchConfig;

/// Loading the largest shard that fits a machine takes less.
const COMPLETE: Duration = Duration::from_secs(600);
/// The route is known so soon after the pipeline is complete.
const ROUTE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(25);

#[derive(Debug, Error)]
enum RingError {
    #[error("the pipeline was not complete within {COMPLETE:?}: {0}")]
    Incomplete(String),
    #[error("the pipeline took no request within {ROUTE:?} after it was complete")]
    NoRoute(#[source] OpenError),
    #[error("the first request got no token")]
    NoToken(#[source] Option<AnswerError>),
}

pub(super) struct Ring {
    pub(super) client: Client,
    front: Front,
    joiner: Joiner,
    network: Network,
}

impl Ring {
    /// Joins through the bootstrap on this machine.
    pub(super) fn join(bootstrap: u16, transport: Transport, secret: &Path) -> Result<Self, Failure> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let bootstrap: Bootstrap = format!("{loopback}:{bootstrap}").parse()?;
        let config = NetConfig {
            cluster: c::CLUSTER.default.to_owned(),
            secret: Some(SecretSource::File(secret.to_owned())),
            transport,
            listen: loopback,
            port: 0,
            external: Vec::new(),
            bootstrap: vec![bootstrap],
            identity_file: None,
        };
        let ttl = start::record_ttl();
        let identify = format!("gateway/{}", config.cluster);
        let Member { network, keypair, requests } = start::member(&config, identify, DhtMode::Client, ttl)?;
        tokio::spawn(start::refuse(requests, "this is a benchmark: it serves no shard"));
        let joining = JoinerConfig {
            cluster: config.cluster.clone(),
            keypair,
            incarnation: now_ms(),
            entries: start::entries(&config),
            shards: None,
            member: None,
            files: None,
            refresh_interval: ttl / 3,
        };
        let joiner = Joiner::spawn(network.clone(), joining, |_| {});
        let watch = WatchConfig { cluster: config.cluster, forget_after: ttl };
        let view = crate::watch::spawn(network.clone(), watch);
        let (gateway, inbox) = mpsc::channel(INBOX);
        let inboxes = Inboxes { stage: None, gateway: Some(gateway) };
        let lanes = Lanes::spawn(network.local_peer(), network.streams(), inboxes)?;
        let front = Front::spawn(&network, lanes, inbox, view, sessions::Limits::default());
        Ok(Self { client: front.client.clone(), front, joiner, network })
    }

    /// Waits until a token has gone through every shard.
    pub(super) async fn complete(&mut self) -> Result<(), Failure> {
        let complete = self.front.view.wait_for(|view| view.complete());
        if timeout(COMPLETE, complete).await.is_err() {
            return Err(RingError::Incomplete(self.front.view.borrow().reason()).into());
        }
        let deadline = Instant::now() + ROUTE;
        let mut answer = loop {
            let prompt = Prompt {
                plan: None,
                ids: vec![0],
                sampling: Sampling::default(),
                eos: Vec::new(),
                max_tokens: 1,
                deadline: ROUTE,
            };
            match self.client.generate(prompt).await {
                Ok(answer) => break answer,
                Err(error) if Instant::now() > deadline => return Err(RingError::NoRoute(error).into()),
                Err(_) => sleep(AGAIN).await,
            }
        };
        match answer.tokens.recv().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(RingError::NoToken(Some(error)).into()),
            None => Err(RingError::NoToken(None).into()),
        }
    }

    pub(super) async fn leave(self) {
        self.joiner.leave().await;
        self.network.shutdown().await;
    }
}
