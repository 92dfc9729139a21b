//! Out of the bootstrap to where the model is. A policy knows no host names, so it is ports to anywhere.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPort};

use super::port;
use crate::cluster::{Cluster, Source};

const HUB: &str = "https://huggingface.co";
/// Redirects of downloads lead there.
const HTTPS: u16 = 443;
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Nothing, where the model is on a volume or in an image: nodes pull these, not pods.
pub(super) fn egress(cluster: &Cluster) -> Option<NetworkPolicyEgressRule> {
    let url = match &cluster.model.source {
        Source::Http { url, .. } => url.as_str(),
        Source::Hub { endpoint, .. } => endpoint.as_deref().unwrap_or(HUB),
        Source::Claim { .. } | Source::Image { .. } | Source::Builtin { .. } => return None,
    };
    let proxies = cluster
        .bootstrap
        .pod
        .env
        .iter()
        .filter(|variable| PROXIES.iter().any(|name| variable.name.eq_ignore_ascii_case(name)));
    let proxies = proxies.map(|variable| variable.value.as_deref().and_then(port_of));
    let ports: Option<BTreeSet<u16>> = proxies.chain([port_of(url), Some(HTTPS)]).collect();
    // An address that is not known here, such as a proxy's from a ConfigMap: any port.
    let all = NetworkPolicyPort { protocol: Some("TCP".into()), port: None, end_port: None };
    let ports = match ports {
        Some(ports) => ports.into_iter().map(|number| port("TCP", number)).collect(),
        None => vec![all],
    };
    Some(NetworkPolicyEgressRule { ports: Some(ports), to: None })
}

/// Of `scheme://[user@]host[:port]/…`; the scheme's own where it has none.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let after_brackets = host.rsplit(']').next().unwrap_or(host);
    match after_brackets.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => match scheme {
            "http" => Some(80),
            "https" => Some(HTTPS),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::port_of;

    #[test]
    fn ports_of_addresses() {
        for (url, port) in [
            ("https://host/m.gguf", Some(443)),
            ("http://host", Some(80)),
            ("https://host:8443?x=:1", Some(8443)),
            ("http://[2001:db8::1]/a", Some(80)),
            ("http://[2001:db8::1]:3128", Some(3128)),
            ("http://me:secret@proxy:3128/", Some(3128)),
            ("proxy:3128", Some(3128)),
            ("socks5://proxy", None),
            ("http://host:port", None),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}
