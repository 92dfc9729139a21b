//! The processes of a fleet: started, watched, stopped.

use std::path::{Path, PathBuf};

use shard_wire::contract as c;
use tokio::process::Command;

use super::group::{ChildError, Group, Stop, flag, told};
use super::home::Home;
use super::ports::Ports;
use crate::cli::{Failure, Shutdown};
use crate::config::{EngineConfig, Transport, word};

/// Every program listens here.
const LOOPBACK: &str = "127.0.0.1";

/// The children of this process.
pub(in crate::cli) struct Fleet {
    run: PathBuf,
    shards_dir: PathBuf,
    secret: PathBuf,
    transport: Transport,
    ports: Ports,
    engine: EngineConfig,
    children: Group,
}

impl Fleet {
    /// Nothing runs yet.
    pub(in crate::cli) fn new(
        home: &Home,
        transport: Transport,
        engine: EngineConfig,
        ports: &Ports,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            run: home.run.clone(),
            shards_dir: home.shards.clone(),
            secret: home.secret.clone(),
            transport,
            ports: *ports,
            engine,
            children: Group::new(&home.run, shutdown),
        }
    }

    /// The file with the cluster secret.
    pub(in crate::cli) fn secret(&self) -> &Path {
        &self.secret
    }

    /// Names and ids of the processes, in the order of starting.
    pub(in crate::cli) fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.children.processes()
    }

    /// The bootstrap.
    pub(in crate::cli) fn start_server(&mut self) -> Result<(), ChildError> {
        let mut server = self.command("server");
        flag(&mut server, c::SERVER_PORT, self.ports.port);
        flag(&mut server, c::SERVER_DIAGNOSTICS_PORT, self.ports.diagnostics);
        self.children.start("server", server)
    }

    /// One node.
    pub(in crate::cli) fn start_shard(&mut self, shard: u32) -> Result<(), ChildError> {
        let engine = self.engine;
        let mut node = self.command("shard_listener");
        self.join(&mut node);
        node.arg(format!("--{}", c::SHARDS_DIR.flag)).arg(&self.shards_dir);
        flag(&mut node, c::SHARD_ID, shard);
        flag(&mut node, c::NODE_PORT, 0);
        if let Some(threads) = engine.threads {
            flag(&mut node, c::THREADS, threads);
        }
        flag(&mut node, c::DEVICE, engine.device);
        flag(&mut node, c::WEIGHTS, word(&engine.weights));
        flag(&mut node, c::KV_DTYPE, word(&engine.kv));
        flag(&mut node, c::ACTIVATION_DTYPE, word(&engine.activations));
        flag(&mut node, c::MAX_SESSIONS, engine.max_sessions);
        if let Some(context) = engine.context {
            flag(&mut node, c::CONTEXT_LENGTH, context);
        }
        self.children.start(&format!("shard_listener-{shard}"), node)
    }

    /// The gateway.
    pub(in crate::cli) fn start_gateway(&mut self) -> Result<(), ChildError> {
        let mut gateway = self.command("web_server");
        self.join(&mut gateway);
        flag(&mut gateway, c::GATEWAY_HTTP_PORT, self.ports.http);
        self.children.start("web_server", gateway)
    }

    fn join(&self, command: &mut Command) {
        flag(command, c::BOOTSTRAP, format!("{LOOPBACK}:{}", self.ports.port));
    }

    /// A program by its link.
    fn command(&self, program: &str) -> Command {
        let mut command = told(Command::new(self.run.join(program)), LOOPBACK);
        flag(&mut command, c::TRANSPORT, word(&self.transport));
        command.arg(format!("--{}", c::CLUSTER_SECRET_FILE.flag)).arg(&self.secret);
        command
    }

    /// Does the work, unless a child dies or the user interrupts.
    pub(in crate::cli) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Stop> {
        self.children.during(work).await
    }

    /// Ends every child.
    pub(in crate::cli) async fn stop(self) {
        self.children.stop().await;
    }
}
