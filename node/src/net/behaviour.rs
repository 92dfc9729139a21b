//! What a peer speaks, and the limits on each.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, identify, kad, ping};
use shard_wire::keys;
use shard_wire::message::Response;

use super::codec::{Asked, JsonCodec};
use super::records::RecordTable;
use super::{DhtMode, NetConfig, NetError, keep};

/// Connections that have not proved who they are.
const MAX_HALF_OPEN: u32 = 64;
/// Connections in all, and those that others opened: a fleet of 256 shards with replicas, gateways, tools.
const MAX_CONNECTIONS: u32 = 1024;
const MAX_INCOMING: u32 = 768;
/// Two sides that dial one another at once, over two transports, and one more of each on the way out.
const MAX_CONNECTIONS_PER_PEER: u32 = 8;
/// A command may generate text; streams of its own carry anything that takes longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Commands under way on one connection.
const MAX_REQUEST_STREAMS: usize = 32;
/// Peers that store a record, and that a lookup asks: a few of them may be gone or new. The bootstraps are told
/// directly, too.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(6).unwrap();
/// How long a DHT query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one peer may take over one step of a query: the others are asked meanwhile.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What the command protocol reports.
pub(super) type MessageEvent = request_response::Event<Asked, Response>;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First: a connection over the limit is refused before anybody allocates for it.
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kademlia: kad::Behaviour<RecordTable>,
    pub(super) messages: request_response::Behaviour<JsonCodec>,
    pub(super) streams: libp2p_stream::Behaviour,
    pub(super) keep: keep::Behaviour,
}

impl Behaviour {
    pub(super) fn new(config: &NetConfig) -> Result<Self, NetError> {
        let protocol = protocol(keys::kademlia(&config.cluster))?;
        Ok(Self {
            limits: connection_limits::Behaviour::new(
                ConnectionLimits::default()
                    .with_max_pending_incoming(Some(MAX_HALF_OPEN))
                    .with_max_pending_outgoing(Some(MAX_HALF_OPEN))
                    .with_max_established_incoming(Some(MAX_INCOMING))
                    .with_max_established(Some(MAX_CONNECTIONS))
                    .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER)),
            ),
            identify: identify::Behaviour::new(
                identify::Config::new(config.identify.clone(), config.keypair.public())
                    .with_agent_version(concat!("shardcluster/", env!("CARGO_PKG_VERSION")).to_owned())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
            kademlia: kademlia(config, protocol),
            messages: request_response::Behaviour::with_codec(
                JsonCodec::default(),
                [
                    (StreamProtocol::new(keys::JSON_MESSAGE), ProtocolSupport::Full),
                    (StreamProtocol::new(keys::METRICS), ProtocolSupport::Inbound),
                ],
                request_response::Config::default()
                    .with_request_timeout(REQUEST_TIMEOUT)
                    .with_max_concurrent_streams(MAX_REQUEST_STREAMS),
            ),
            streams: libp2p_stream::Behaviour::new(),
            keep: keep::Behaviour::default(),
        })
    }
}

fn protocol(name: String) -> Result<StreamProtocol, NetError> {
    StreamProtocol::try_from_owned(name.clone()).map_err(|_| NetError::Protocol { name })
}

/// Nothing is republished behind our back: each peer announces its own records again, and they expire without it.
fn kademlia(config: &NetConfig, protocol: StreamProtocol) -> kad::Behaviour<RecordTable> {
    let peer = config.keypair.public().to_peer_id();
    let mut settings = kad::Config::new(protocol);
    settings
        .set_replication_factor(REPLICATION)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_substreams_timeout(STEP_TIMEOUT)
        .set_record_ttl(Some(config.record_ttl))
        .set_provider_record_ttl(Some(config.record_ttl))
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    let mut behaviour = kad::Behaviour::with_config(
        peer,
        RecordTable::new(config.cluster.clone(), config.secrets.clone()),
        settings,
    );
    behaviour.set_mode(Some(match config.dht {
        DhtMode::Server => kad::Mode::Server,
        DhtMode::Client => kad::Mode::Client,
    }));
    behaviour
}
