//! The report for people.

use std::fmt;

use super::{Goal, ManyFigures, PairFigures, Report, SeedingFigures, TimeFigure};
use crate::cli::table::Table;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, loopback, link, origin, seeding } = self;
        let mut paragraphs = Vec::new();
        paragraphs.extend(loopback.as_ref().map(pair));
        paragraphs.extend(link.as_ref().map(pair));
        if !origin.is_empty() {
            paragraphs.push(many(origin));
        }
        paragraphs.extend(seeding.as_ref().map(first_round));
        write!(f, "transport {transport}\n\n{}", paragraphs.join("\n"))
    }
}

fn pair(figures: &PairFigures) -> String {
    let PairFigures { link_mbit, bytes, turns, ways, goal } = figures;
    let place = link_mbit.map_or_else(|| "on loopback".to_owned(), |mbit| format!("over {mbit} Mbit/s"));
    let first = ways.first().map_or("", |way| way.way);
    let mut table = Table::new(&["way", "seconds", "MB/s", "/ first"]);
    for way in ways {
        table.row([
            way.way.to_owned(),
            format!("{:.3}", way.seconds),
            format!("{:.1}", way.mb_per_s),
            format!("{:.2}", way.over_first),
        ]);
    }
    format!(
        "One seeder to one node {place}: {:.1} MB, median of {turns}\n\n{table}\
         swarm at least {:.2} of {first}: {}\n",
        mb(*bytes),
        goal.goal,
        outcome(goal)
    )
}

fn many(all: &[ManyFigures]) -> String {
    let (mbit, bytes) = all.first().map_or((0, 0), |many| (many.origin_mbit, many.bytes));
    let mut table = Table::new(&[
        "nodes",
        "HTTP s",
        "first node s",
        "last node s",
        "/ HTTP",
        "at most",
        "",
        "origin MB",
        "/ model",
        "at most",
        "",
        "on the link / model",
    ]);
    for many in all {
        let (time, time_goal, time_reached) = match &many.time {
            TimeFigure::Goal(goal) => (goal.is, format!("{:.2}", goal.goal), reached(goal.reached)),
            TimeFigure::Only { is } => (*is, "-".to_owned(), "-"),
        };
        table.row([
            many.nodes.to_string(),
            format!("{:.2}", many.http_s),
            format!("{:.2}", many.first_node_s),
            format!("{:.2}", many.last_node_s),
            format!("{time:.3}"),
            time_goal,
            time_reached.to_owned(),
            format!("{:.1}", mb(many.origin_bytes)),
            format!("{:.3}", many.copies.is),
            format!("{:.2}", many.copies.goal),
            reached(many.copies.reached).to_owned(),
            format!("{:.3}", many.copies_on_link),
        ]);
    }
    format!("One origin at {mbit} Mbit/s, every node wants the whole model of {:.1} MB\n\n{table}", mb(bytes))
}

fn first_round(figures: &SeedingFigures) -> String {
    let SeedingFigures { nodes, origin_mbit, bytes, last_node_s, first_round, pieces, copies, reached } =
        figures;
    let mut table = Table::new(&["times", "pieces that the origin gave so often"]);
    for (times, pieces) in pieces {
        table.row([times.to_string(), pieces.to_string()]);
    }
    let complete =
        first_round.complete_s.map_or_else(|| "never".to_owned(), |seconds| format!("after {seconds:.1} s"));
    format!(
        "The origin at {origin_mbit} Mbit/s, {nodes} nodes, {:.1} MB\n\n{table}\
         all pieces had left once {complete}, the last node was whole after {last_node_s:.1} s; {copies:.3} of the \
         model left the origin\n\
         given again before that: {} pieces while others of their file had not left, {} while others of any file had not\n\
         no piece a second time before all have left once: {}\n",
        mb(*bytes),
        first_round.again_of_file,
        first_round.again_of_all,
        self::reached(*reached)
    )
}

fn outcome(goal: &Goal) -> String {
    format!("{} ({:.2})", reached(goal.reached), goal.is)
}

fn reached(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
