//! An entry to the network, as a user writes it: a multiaddr or HOST:PORT.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use thiserror::Error;

use super::Transport;

/// A host and a port; which transports to dial there is [`Transport`]'s, whichever the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    host: Protocol<'static>,
    port: u16,
    peer: Option<PeerId>,
}

/// Why a bootstrap address is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected HOST:PORT, /ip4/ADDRESS/tcp/PORT, /ip4/ADDRESS/udp/PORT/quic-v1 (ip6, dns, dns4 and dns6 too), each with or without /p2p/PEER: {0}"
)]
pub struct BootstrapError(String);

impl Bootstrap {
    /// What to dial, the preferred first.
    pub fn addresses(&self, transport: Transport) -> Vec<Multiaddr> {
        let base = Multiaddr::empty().with(self.host.clone());
        let quic = base.clone().with(Protocol::Udp(self.port)).with(Protocol::QuicV1);
        let tcp = base.with(Protocol::Tcp(self.port));
        let chosen = match transport {
            Transport::Dual => vec![quic, tcp],
            Transport::Quic => vec![quic],
            Transport::Tcp => vec![tcp],
        };
        let named = |address: Multiaddr| match self.peer {
            Some(peer) => address.with(Protocol::P2p(peer)),
            None => address,
        };
        chosen.into_iter().map(named).collect()
    }

    /// The peer that must answer there, where the user named one.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    fn from_multiaddr(text: &str) -> Result<Self, BootstrapError> {
        let wrong = |what: String| BootstrapError(what);
        let address = Multiaddr::from_str(text).map_err(|e| wrong(format!("'{text}': {e}")))?;
        let mut parts = address.iter();
        let host = match parts.next() {
            Some(
                host @ (Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)),
            ) => host.acquire(),
            _ => return Err(wrong(format!("'{text}' does not begin with a host"))),
        };
        let (port, mut rest) = match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), rest) => (port, rest),
            (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => (port, parts.next()),
            _ => return Err(wrong(format!("'{text}' names neither tcp nor udp with quic-v1"))),
        };
        let peer = match rest.take() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(other) => return Err(wrong(format!("'{text}' goes on with '{other}'"))),
        };
        if let Some(extra) = parts.next() {
            return Err(wrong(format!("'{text}' goes on with '{extra}'")));
        }
        match &host {
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) if !is_host_name(name) => {
                Err(wrong(format!("'{name}' is no host")))
            }
            _ => Self::checked(host, port, peer, text),
        }
    }

    fn from_host_port(text: &str) -> Result<Self, BootstrapError> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| BootstrapError(format!("'{text}' has no port")))?;
        let port = port.parse().map_err(|_| BootstrapError(format!("'{port}' is no port")))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host = if let Ok(ip) = bare.parse::<Ipv4Addr>() {
            Protocol::Ip4(ip)
        } else if let Ok(ip) = bare.parse::<Ipv6Addr>() {
            Protocol::Ip6(ip)
        } else if is_host_name(bare) {
            Protocol::Dns(bare.to_owned().into())
        } else {
            return Err(BootstrapError(format!("'{host}' is no host")));
        };
        Self::checked(host, port, None, text)
    }

    fn checked(
        host: Protocol<'static>,
        port: u16,
        peer: Option<PeerId>,
        text: &str,
    ) -> Result<Self, BootstrapError> {
        if port == 0 {
            return Err(BootstrapError(format!("'{text}' has port 0, which nobody can dial")));
        }
        Ok(Self { host, port, peer })
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Protocol::Ip6(ip) => write!(f, "[{ip}]:{}", self.port),
            Protocol::Ip4(ip) => write!(f, "{ip}:{}", self.port),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                write!(f, "{name}:{}", self.port)
            }
            other => write!(f, "{other}:{}", self.port),
        }
    }
}

impl FromStr for Bootstrap {
    type Err = BootstrapError;

    fn from_str(text: &str) -> Result<Self, BootstrapError> {
        if text.starts_with('/') { Self::from_multiaddr(text) } else { Self::from_host_port(text) }
    }
}

impl From<(IpAddr, u16)> for Bootstrap {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        Self { host: Protocol::from(ip), port, peer: None }
    }
}

/// RFC 1123, with the underscores that some name servers allow.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWKk3zSVNqbNdPFsNXQkWVSAKrhJFXwGubV7WZ13fh6wBt";

    #[test]
    fn written_in_any_way_it_dials_what_the_transport_allows() {
        let table = [
            ("127.0.0.1:51820", "/ip4/127.0.0.1", ""),
            ("[::1]:51820", "/ip6/::1", ""),
            ("bootstrap.llm.svc:51820", "/dns/bootstrap.llm.svc", ""),
            ("/ip4/127.0.0.1/tcp/51820", "/ip4/127.0.0.1", ""),
            ("/ip4/127.0.0.1/udp/51820/quic-v1", "/ip4/127.0.0.1", ""),
            ("/dns4/host/tcp/51820/p2p/PEER", "/dns4/host", "/p2p/PEER"),
            ("/ip6/::1/udp/51820/quic-v1/p2p/PEER", "/ip6/::1", "/p2p/PEER"),
        ];
        for (text, host, peer) in table {
            let bootstrap: Bootstrap = text.replace("PEER", PEER).parse().unwrap();
            let peer = peer.replace("PEER", PEER);
            let quic = format!("{host}/udp/51820/quic-v1{peer}");
            let tcp = format!("{host}/tcp/51820{peer}");
            let dialled = |transport| {
                bootstrap.addresses(transport).iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            assert_eq!(dialled(Transport::Dual), [quic.clone(), tcp.clone()], "{text}");
            assert_eq!(dialled(Transport::Quic), [quic], "{text}");
            assert_eq!(dialled(Transport::Tcp), [tcp], "{text}");
        }
    }

    proptest! {
        /// What is dialled, and what is shown, is read as the same entry.
        #[test]
        fn what_is_read_can_be_written(
            host in r"[a-z0-9_.-]{1,20}|[0-9.]{7,15}|\[[0-9a-f:]{2,12}\]|/(ip4|ip6|dns|dns4|dns6)/[a-z0-9.: -]{1,20}",
            rest in "(:|/tcp/|/udp/)[0-9]{1,5}(/quic-v1)?",
        ) {
            let Ok(bootstrap) = format!("{host}{rest}").parse::<Bootstrap>() else { return Ok(()) };
            for address in bootstrap.addresses(Transport::Dual) {
                prop_assert_eq!(address.to_string().parse(), Ok(bootstrap.clone()));
            }
            let shown: Bootstrap = bootstrap.to_string().parse().unwrap();
            prop_assert_eq!(shown.to_string(), bootstrap.to_string());
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let table = [
            ("", "has no port"),
            ("host", "has no port"),
            ("host:http", "is no port"),
            ("host:70000", "is no port"),
            ("host:0", "port 0"),
            ("ho st:1", "is no host"),
            (":51820", "is no host"),
            ("http://host:80", "is no host"),
            ("/tcp/51820", "does not begin with a host"),
            ("/dns4/ho st/tcp/51820", "'ho st' is no host"),
            ("/ip4/127.0.0.1", "neither tcp nor udp"),
            ("/ip4/127.0.0.1/udp/51820", "neither tcp nor udp"),
            ("/ip4/127.0.0.1/tcp/51820/ws", "goes on with '/ws'"),
            ("/ip4/127.0.0.1/tcp/51820/p2p/PEER/p2p-circuit", "goes on with '/p2p-circuit'"),
            ("/ip4/300.0.0.1/tcp/51820", "'/ip4/300.0.0.1/tcp/51820'"),
        ];
        for (text, reason) in table {
            let error = text.replace("PEER", PEER).parse::<Bootstrap>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
