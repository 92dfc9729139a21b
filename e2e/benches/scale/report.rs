//! Figures beside their goals.

use std::time::Duration;

pub(crate) struct Figure {
    what: &'static str,
    value: String,
    goal: String,
    reached: bool,
}

impl Figure {
    pub(crate) fn ratio(what: &'static str, one: Duration, other: Duration, goal: f64) -> Self {
        let ratio = one.as_secs_f64() / other.as_secs_f64();
        let value = format!("{ratio:.2} ({one:.1?} : {other:.1?})");
        Self { what, value, goal: format!("<= {goal}"), reached: ratio <= goal }
    }

    pub(crate) fn time(what: &'static str, time: Duration, goal: Duration) -> Self {
        Self { what, value: format!("{time:.2?}"), goal: format!("<= {goal:?}"), reached: time <= goal }
    }

    pub(crate) fn mib(what: &'static str, bytes: u64, goal: u64) -> Self {
        let mib = bytes >> 20;
        Self { what, value: format!("{mib} MiB"), goal: format!("<= {goal} MiB"), reached: mib <= goal }
    }

    pub(crate) fn count(what: &'static str, count: u64, goal: u64) -> Self {
        Self { what, value: count.to_string(), goal: goal.to_string(), reached: count <= goal }
    }

    pub(crate) fn share(what: &'static str, cpu: Duration, of: Duration, goal: f64) -> Self {
        let cores = cpu.as_secs_f64() / of.as_secs_f64();
        Self { what, value: format!("{cores:.3}"), goal: format!("<= {goal}"), reached: cores <= goal }
    }
}

/// As BENCHMARKS.md has it.
pub(crate) fn report(figures: &[Figure]) {
    println!("| figure | measured | goal | |\n|---|---|---|---|");
    for Figure { what, value, goal, reached } in figures {
        println!("| {what} | {value} | {goal} | {} |", if *reached { "reached" } else { "missed" });
    }
}
