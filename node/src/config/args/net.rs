//! Arguments of everything that joins the network.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use libp2p::Multiaddr;
use shard_wire::contract as c;

use crate::config::values::cluster;
use crate::config::{Bootstrap, NetConfig, SecretSource, Transport};

/// Who dials an entry to the network.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct DialArgs {
    /// Entry to the network, HOST:PORT or a multiaddr; may be given several times
    #[arg(long = c::BOOTSTRAP.flag, env = c::BOOTSTRAP.env, default_value = c::BOOTSTRAP.default, value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) bootstrap: Vec<Bootstrap>,
}

/// What a member of the cluster knows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct SecretArgs {
    /// File with the cluster secret, 32 bytes or more: who does not know it is refused; LLAMA_CLUSTER_SECRET may hold it instead [default: none, an open cluster]
    #[arg(long = c::CLUSTER_SECRET_FILE.flag, env = c::CLUSTER_SECRET_FILE.env, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,
}

/// A secret in an argument would be seen in the list of processes.
pub const SECRET_VARIABLE: &str = "The cluster secret itself, where there is no --cluster-secret-file";

impl SecretArgs {
    /// Where the secret is: the file, or the variable where that is set.
    pub(crate) fn source(self) -> Option<SecretSource> {
        let variable = || std::env::var_os(c::CLUSTER_SECRET.env).map(|_| SecretSource::Variable);
        self.cluster_secret_file.map(SecretSource::File).or_else(variable)
    }
}

/// How a program listens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct NetArgs {
    /// Name of the cluster; programs of other clusters are not seen
    #[arg(long = c::CLUSTER.flag, env = c::CLUSTER.env, default_value = c::CLUSTER.default, value_name = "NAME", value_parser = cluster)]
    cluster: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// What to listen on and dial; dual is QUIC first, then TCP
    #[arg(long = c::TRANSPORT.flag, env = c::TRANSPORT.env, default_value = c::TRANSPORT.default)]
    transport: Transport,
    /// Interface to listen on
    #[arg(long = c::LISTEN_ADDR.flag, env = c::LISTEN_ADDR.env, default_value = c::LISTEN_ADDR.default, value_name = "IP")]
    listen_addr: IpAddr,
    /// Multiaddr at which others reach this program; may be given several times
    #[arg(long = c::EXTERNAL_ADDRESS.flag, env = c::EXTERNAL_ADDRESS.env, value_delimiter = ',', value_name = "MULTIADDR")]
    external_address: Vec<Multiaddr>,
    /// File with the key pair, made when it is not there, so that the peer id stays [default: a new one each run]
    #[arg(long = c::IDENTITY_FILE.flag, env = c::IDENTITY_FILE.env, value_name = "FILE")]
    identity_file: Option<PathBuf>,
}

impl NetArgs {
    pub(super) fn resolve(self, port: u16, bootstrap: Vec<Bootstrap>) -> NetConfig {
        NetConfig {
            cluster: self.cluster,
            secret: self.secret.source(),
            transport: self.transport,
            listen: self.listen_addr,
            port,
            external: self.external_address,
            bootstrap,
            identity_file: self.identity_file,
        }
    }
}
