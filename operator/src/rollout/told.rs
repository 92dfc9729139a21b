//! A rollout in words: they change when it goes on, and not in between.

use super::{Column, Rollout};

/// Shards that are named; more would hide what is said beside them.
const MAX_NAMED: usize = 8;

impl Rollout {
    /// What moves, and what it waits for; `None` where nothing does.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Manifest => {
                Some("the shards keep their plan until the manifest of the new one is known".into())
            }
            Self::Before(late) => {
                Some(format!("the new plan waits until the one before it has reached {}", named(late)))
            }
            Self::Bootstrap(_) => Some("the shards follow when the new bootstrap is ready".into()),
            Self::Turn { moving, waiting } => {
                let then = match waiting.len() {
                    0 => String::new(),
                    _ => format!(", then {}", named(waiting)),
                };
                Some(match moving.len() {
                    0 => format!("{} wait until all others are ready", named(waiting)),
                    _ => format!("the pods of {} are replaced{then}", named(moving)),
                })
            }
            Self::Column { column, waits_for } => {
                let column = match column {
                    Column::Ordinal(ordinal) => format!("column {ordinal}"),
                    Column::Surge => "the column that is there meanwhile".into(),
                };
                Some(match waits_for.len() {
                    0 => format!("a new plan rolls out: {column} serves"),
                    _ => format!("a new plan rolls out: {column} waits for {}", named(waits_for)),
                })
            }
        }
    }
}

fn named(ids: &[u32]) -> String {
    let mut words: Vec<String> = ids.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(MAX_NAMED);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    format!("{} {}", if ids.len() == 1 { "shard" } else { "shards" }, words.join(", "))
}
