//! The ports of a fleet, found free before anything starts.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use shard_wire::contract::{BOOTSTRAP_PORT, DIAGNOSTICS_PORT, HTTP_PORT};
use thiserror::Error;

use crate::config::args::UpPorts;

/// Draws of a port that is free for TCP and UDP alike.
const DRAWS: usize = 64;

/// Where the fleet listens on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Ports {
    pub(in crate::cli) http: u16,
    pub(in crate::cli) port: u16,
    pub(in crate::cli) diagnostics: u16,
}

/// Why a fleet cannot listen.
#[derive(Debug, Error)]
pub(in crate::cli) enum PortError {
    /// Somebody else listens there.
    #[error(
        "port {port} for the {purpose} is not free on 127.0.0.1 ({reason}): stop what uses it, or give another with --{flag}"
    )]
    Taken { port: u16, purpose: &'static str, flag: &'static str, reason: io::Error },
    /// The machine has none left.
    #[error("no free port was found on 127.0.0.1: {0}")]
    NoneFree(io::Error),
}

impl Ports {
    /// The ports asked for; the usual ones where nothing was asked, or any free one with `any`.
    pub(in crate::cli) fn choose(asked: &UpPorts, any: bool) -> Result<Self, PortError> {
        let usual = |port: Option<u16>, usual: u16| port.unwrap_or(if any { 0 } else { usual });
        // All are held until the last one is chosen: so they differ.
        let http = Held::take(usual(asked.http_port, HTTP_PORT), "OpenAI API", "http-port")?;
        let port = Held::take(usual(asked.port, BOOTSTRAP_PORT), "bootstrap", "port")?;
        let diagnostics = Held::take(
            usual(asked.diagnostics_port, DIAGNOSTICS_PORT),
            "bootstrap's diagnostics",
            "diagnostics-port",
        )?;
        Ok(Self { http: http.port, port: port.port, diagnostics: diagnostics.port })
    }
}

/// Ports that are free on 127.0.0.1 and differ.
pub(in crate::cli) fn free<const N: usize>() -> Result<[u16; N], PortError> {
    let held: Vec<Held> = (0..N).map(|_| Held::take(0, "", "")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    ports.iter_mut().zip(held).for_each(|(port, held)| *port = held.port);
    Ok(ports)
}

/// A port that is ours for the moment, TCP and UDP.
struct Held {
    port: u16,
    _tcp: TcpListener,
    _udp: UdpSocket,
}

impl Held {
    fn take(port: u16, purpose: &'static str, flag: &'static str) -> Result<Self, PortError> {
        if port != 0 {
            return Self::bind(port).map_err(|reason| PortError::Taken { port, purpose, flag, reason });
        }
        let mut last = io::Error::other("none drawn");
        for _ in 0..DRAWS {
            match Self::bind(0) {
                Ok(held) => return Ok(held),
                Err(error) => last = error,
            }
        }
        Err(PortError::NoneFree(last))
    }

    fn bind(port: u16) -> io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = tcp.local_addr()?.port();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        Ok(Self { port, _tcp: tcp, _udp: udp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: UpPorts = UpPorts { http_port: None, port: None, diagnostics_port: None };

    #[test]
    fn free_ports_differ() {
        let ports = Ports::choose(&NONE, true).unwrap();
        assert!(
            ports.http != ports.port && ports.port != ports.diagnostics && ports.http != ports.diagnostics
        );
    }

    #[test]
    fn any_number_of_free_ports_differ() {
        let mut ports = free::<8>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert!(ports.len() == 8 && ports[0] != 0, "{ports:?}");
    }

    #[test]
    fn a_port_in_use_is_named_with_its_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Ports::choose(&UpPorts { http_port: Some(port), ..NONE }, true).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} for the OpenAI API")), "{error}");
        assert!(error.contains("--http-port"), "{error}");

        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Ports::choose(&UpPorts { port: Some(port), ..NONE }, true).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} for the bootstrap")), "{error}");
    }
}
