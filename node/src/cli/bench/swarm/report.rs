//! Figures of `shardctl bench swarm` as tables and as an object. Pure.

mod tables;

use serde::Serialize;

use super::counts::FirstRound;
use super::many::{Compared, Many};
use super::pair::Pair;
use super::{LINK_MBIT, ORIGIN_MBIT, SEEDING_MBIT};
use crate::cli::bench::statistics::{median, round};

/// Of curl over TLS and sha256sum, on loopback.
const LOOPBACK_GOAL: f64 = 0.6;
/// Of curl, on the limited link, hashing included.
const LINK_GOAL: f64 = 0.95;
/// Copies of the model that leave the origin.
const COPIES_GOAL: f64 = 1.1;
/// From so many nodes on they are to take at most 2/N of HTTP's time.
const TIME_NODES: usize = 4;

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) loopback: Option<Pair>,
    pub(super) link: Option<Pair>,
    pub(super) origin: Option<Vec<Compared>>,
    pub(super) seeding: Option<Many>,
}

/// What it comes to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    transport: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    loopback: Option<PairFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<PairFigures>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origin: Vec<ManyFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seeding: Option<SeedingFigures>,
}

/// One seeder to one node; medians of all turns.
#[derive(Clone, Debug, Serialize)]
struct PairFigures {
    #[serde(skip_serializing_if = "Option::is_none")]
    link_mbit: Option<u64>,
    bytes: u64,
    turns: usize,
    /// The first one is what the others are held against.
    ways: Vec<Way>,
    goal: Goal,
}

#[derive(Clone, Debug, Serialize)]
struct Way {
    way: &'static str,
    seconds: f64,
    mb_per_s: f64,
    /// Speed over that of the first way.
    over_first: f64,
}

/// A figure, and what it is to be.
#[derive(Clone, Copy, Debug, Serialize)]
struct Goal {
    is: f64,
    goal: f64,
    reached: bool,
}

impl Goal {
    fn at_least(is: f64, goal: f64) -> Self {
        Self { is: round(is), goal, reached: is >= goal }
    }

    fn at_most(is: f64, goal: f64) -> Self {
        Self { is: round(is), goal, reached: is <= goal }
    }
}

/// One origin, so many nodes.
#[derive(Clone, Debug, Serialize)]
struct ManyFigures {
    nodes: usize,
    origin_mbit: u64,
    bytes: u64,
    http_s: f64,
    first_node_s: f64,
    last_node_s: f64,
    /// Of HTTP's time; there is no goal for few nodes.
    time: TimeFigure,
    origin_bytes: u64,
    copies: Goal,
    /// With headers and all else on the origin's link.
    copies_on_link: f64,
    /// (times, pieces that the origin gave so often).
    pieces: Vec<(u32, usize)>,
    first_round: FirstRound,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum TimeFigure {
    Goal(Goal),
    Only { is: f64 },
}

/// What leaves a slow origin in which order.
#[derive(Clone, Debug, Serialize)]
struct SeedingFigures {
    nodes: usize,
    origin_mbit: u64,
    bytes: u64,
    last_node_s: f64,
    first_round: FirstRound,
    /// (times, pieces that the origin gave so often).
    pieces: Vec<(u32, usize)>,
    copies: f64,
    reached: bool,
}

impl Report {
    pub(super) fn new(transport: String, measured: &Measured) -> Self {
        Self {
            transport,
            loopback: measured.loopback.as_ref().map(loopback),
            link: measured.link.as_ref().map(link),
            origin: measured.origin.iter().flatten().map(many).collect(),
            seeding: measured.seeding.as_ref().map(seeding),
        }
    }
}

fn loopback(pair: &Pair) -> PairFigures {
    let tls_and_sum = median(pair.tls.iter().map(|copied| copied.curl + copied.sha256sum));
    let tls = median(pair.tls.iter().map(|copied| copied.curl));
    let first = [("curl over TLS, then sha256sum", tls_and_sum), ("curl over TLS", tls)];
    let [plain, plain_and_sum] = plain(pair);
    let ways = first.into_iter().chain([plain_and_sum, plain]).chain(swarm(pair));
    figures(pair, None, ways, LOOPBACK_GOAL)
}

fn link(pair: &Pair) -> PairFigures {
    figures(pair, Some(LINK_MBIT), plain(pair).into_iter().chain(swarm(pair)), LINK_GOAL)
}

fn plain(pair: &Pair) -> [(&'static str, f64); 2] {
    let curl = median(pair.plain.iter().map(|copied| copied.curl));
    let both = median(pair.plain.iter().map(|copied| copied.curl + copied.sha256sum));
    [("curl", curl), ("curl, then sha256sum", both)]
}

const SWARM: &str = "swarm";

fn swarm(pair: &Pair) -> [(&'static str, f64); 2] {
    let fetching = median(pair.swarm.iter().map(|fetched| fetched.whole - fetched.begun));
    let whole = median(pair.swarm.iter().map(|fetched| fetched.whole));
    [(SWARM, fetching), ("swarm, start and join included", whole)]
}

fn figures(
    pair: &Pair,
    link_mbit: Option<u64>,
    ways: impl Iterator<Item = (&'static str, f64)>,
    goal: f64,
) -> PairFigures {
    let ways: Vec<_> = ways.collect();
    let first = ways.first().map_or(0.0, |(_, seconds)| *seconds);
    let is = ways.iter().find(|(way, _)| *way == SWARM).map_or(0.0, |(_, seconds)| first / seconds);
    let way = |(way, seconds): (&'static str, f64)| Way {
        way,
        seconds: round(seconds),
        mb_per_s: round(pair.bytes as f64 / 1e6 / seconds),
        over_first: round(first / seconds),
    };
    PairFigures {
        link_mbit,
        bytes: pair.bytes,
        turns: pair.swarm.len(),
        ways: ways.into_iter().map(way).collect(),
        goal: Goal::at_least(is, goal),
    }
}

fn many(compared: &Compared) -> ManyFigures {
    let Compared { http, swarm } = compared;
    let nodes = swarm.nodes.len();
    let of_http = swarm.last() / http;
    let copies = |bytes: u64| bytes as f64 / swarm.bytes.max(1) as f64;
    ManyFigures {
        nodes,
        origin_mbit: ORIGIN_MBIT,
        bytes: swarm.bytes,
        http_s: round(*http),
        first_node_s: round(swarm.first()),
        last_node_s: round(swarm.last()),
        time: match nodes {
            TIME_NODES.. => TimeFigure::Goal(Goal::at_most(of_http, 2.0 / nodes as f64)),
            _ => TimeFigure::Only { is: round(of_http) },
        },
        origin_bytes: swarm.origin_bytes,
        copies: Goal::at_most(copies(swarm.origin_bytes), COPIES_GOAL),
        copies_on_link: round(copies(swarm.sent_bytes)),
        pieces: swarm.pieces.clone(),
        first_round: rounded(swarm.first_round),
    }
}

fn seeding(swarm: &Many) -> SeedingFigures {
    let first_round = rounded(swarm.first_round);
    SeedingFigures {
        nodes: swarm.nodes.len(),
        origin_mbit: SEEDING_MBIT,
        bytes: swarm.bytes,
        last_node_s: round(swarm.last()),
        first_round,
        pieces: swarm.pieces.clone(),
        copies: round(swarm.origin_bytes as f64 / swarm.bytes.max(1) as f64),
        reached: first_round.complete_s.is_some() && first_round.again_of_all == 0,
    }
}

fn rounded(first_round: FirstRound) -> FirstRound {
    FirstRound { complete_s: first_round.complete_s.map(round), ..first_round }
}

#[cfg(test)]
mod tests {
    use super::super::watch::Fetched;
    use super::super::web::Copied;
    use super::*;

    fn pair(tls: bool) -> Pair {
        let copied = |curl| Copied { curl, sha256sum: 0.5 };
        let swarm = [0.9, 1.2, 1.0].map(|seconds| Fetched { begun: 0.4, whole: 0.4 + seconds });
        Pair {
            bytes: 256_000_000,
            plain: [0.2, 0.3, 0.1].map(copied).to_vec(),
            tls: if tls { [0.5, 0.4, 0.6].map(copied).to_vec() } else { Vec::new() },
            swarm: swarm.to_vec(),
        }
    }

    fn nodes(count: usize, last: f64, again: usize) -> Many {
        let begun = 0.5;
        let node = |at| Fetched { begun, whole: last - at as f64 / 10.0 };
        Many {
            bytes: 128_000_000,
            nodes: (0..count).rev().map(node).collect(),
            origin_bytes: 128_000_000 + again as u64 * 1_000_000,
            sent_bytes: 137_000_000,
            first_round: FirstRound {
                complete_s: Some(12.5),
                again_of_file: 0,
                again_of_all: again,
                ..FirstRound::default()
            },
            pieces: vec![(1, 128 - again), (2, again)],
        }
    }

    fn measured() -> Measured {
        Measured {
            loopback: Some(pair(true)),
            link: Some(pair(false)),
            origin: Some(vec![
                Compared { http: 10.7, swarm: nodes(2, 5.9, 0) },
                Compared { http: 21.4, swarm: nodes(4, 6.1, 20) },
                Compared { http: 42.8, swarm: nodes(8, 12.0, 3) },
            ]),
            seeding: Some(nodes(4, 14.0, 0)),
        }
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!("tables", Report::new("dual".into(), &measured()).to_string());
    }

    #[test]
    fn object() {
        let report = Report::new("dual".into(), &measured());
        insta::assert_snapshot!("object", serde_json::to_string_pretty(&report).unwrap());
    }

    #[test]
    fn what_was_left_out_is_not_there() {
        let seeding = Some(nodes(4, 14.0, 2));
        let report = Report::new("tcp".into(), &Measured { seeding, ..Measured::default() });
        insta::assert_snapshot!("one_part", report.to_string());
        let object = serde_json::to_value(&report).unwrap();
        let keys: Vec<_> = object.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["seeding", "transport"]);
    }
}
