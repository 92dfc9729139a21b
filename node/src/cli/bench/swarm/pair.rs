//! One seeder to one node, beside one copy by HTTP: on loopback, and over a limited link.

use super::fetch::{Machines, Ports, fetch};
use super::lab::{Host, Lab};
use super::watch::{Fetched, Want};
use super::web::{Copied, Scheme, Web};
use super::{Bench, LINK_MBIT, Sized};
use crate::cli::bench::say;
use crate::cli::up::group::Stop;
use crate::cli::up::ports::free;

/// All turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pair {
    /// Of the model, which HTTP copies.
    pub(super) bytes: u64,
    pub(super) plain: Vec<Copied>,
    /// Where TLS is measured.
    pub(super) tls: Vec<Copied>,
    pub(super) swarm: Vec<Fetched>,
}

/// Loopback: with TLS.
pub(super) async fn loopback(bench: &Bench, model: &Sized) -> Result<Pair, Stop> {
    let [plain, tls, bootstrap, origin_diagnostics, node] = free()?;
    let ports = Ports { bootstrap, origin_diagnostics, diagnostics: vec![node] };
    let nodes = [Host::loopback("node 0")];
    let origin = Host::loopback("origin");
    let machines = Machines { origin: &origin, nodes: &nodes, ports: &ports, lab: None };
    let schemes = [Scheme::Tls, Scheme::Plain];
    turns(bench, model, &machines, [plain, tls], &schemes, "loopback").await
}

/// The limited link: without TLS.
pub(super) async fn link(bench: &Bench, lab: &Lab, model: &Sized) -> Result<Pair, Stop> {
    bench.during(async { Ok(lab.limit(LINK_MBIT).await?) }).await?;
    let ports = super::many::ports(1);
    let nodes = lab.nodes.get(..1).unwrap_or_default();
    let machines = Machines { origin: &lab.origin, nodes, ports: &ports, lab: Some(lab) };
    turns(bench, model, &machines, super::many::HTTP_PORTS, &[Scheme::Plain], "link").await
}

async fn turns(
    bench: &Bench,
    model: &Sized,
    machines: &Machines<'_>,
    http: [u16; 2],
    schemes: &[Scheme],
    what: &str,
) -> Result<Pair, Stop> {
    let Machines { origin, nodes, .. } = machines;
    let mut pair = Pair { bytes: model.bytes, ..Pair::default() };
    for turn in 1..=bench.repeat {
        let folder = bench.run.join("nginx");
        let starting = Web::start(&bench.tools, origin, http, &folder, &model.path, &model.sha256);
        let web = bench.during(async { Ok(starting.await?) }).await?;
        let to = bench.data.join("copy");
        for node in *nodes {
            for &scheme in schemes {
                let copying = web.copy(&bench.tools, scheme, node, &to);
                let copied = bench.during(async { Ok(copying.await?) }).await?;
                let name = if scheme == Scheme::Tls { "curl over TLS" } else { "curl" };
                say(&format!(
                    "{what}, turn {turn}: {name} {:.3} s, sha256sum {:.3} s",
                    copied.curl, copied.sha256sum
                ));
                match scheme {
                    Scheme::Plain => pair.plain.push(copied),
                    Scheme::Tls => pair.tls.push(copied),
                }
            }
        }
        drop(web);
        let outcome = fetch(bench, machines, model, 1, Want::Shard).await?;
        for fetched in &outcome.nodes {
            say(&format!(
                "{what}, turn {turn}: swarm {:.3} s, after {:.3} s for start and join",
                fetched.fetching(),
                fetched.begun
            ));
        }
        pair.swarm.extend(outcome.nodes);
    }
    Ok(pair)
}
