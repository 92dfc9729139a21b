//! A rollout in words: they change when it goes on, and not in between.

use super::{Column, Rollout};
use crate::named::shards;

impl Rollout {
    /// What moves, and what it waits for; `None` where nothing does.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Manifest => {
                Some("the shards keep their plan until the manifest of the new one is known".into())
            }
            Self::Unmade => {
                Some("the shards stay as they are until a gateway says which plan the new origin has made".into())
            }
            Self::Before(late) => {
                Some(format!("the new plan waits until the one before it has reached {}", shards(late)))
            }
            Self::Bootstrap(_) => Some("the shards follow when the new bootstrap is ready".into()),
            Self::Unheard(_) => Some(
                "the shards follow when a gateway hears which wire version the new bootstrap speaks: if that does not come, see why no gateway answers or reaches it"
                    .into(),
            ),
            Self::Turn { moving, waiting } => {
                let then = match waiting.len() {
                    0 => String::new(),
                    _ => format!(", then {}", shards(waiting)),
                };
                Some(match moving.len() {
                    0 => format!("{} wait until all others are ready", shards(waiting)),
                    _ => format!("the pods of {} are replaced{then}", shards(moving)),
                })
            }
            Self::Gateway => {
                Some("a new plan rolls out: one column serves, the others wait for the new gateway".into())
            }
            Self::Column { column, waits_for } => {
                let column = match column {
                    Column::Ordinal(ordinal) => format!("column {ordinal}"),
                    Column::Surge => "the column that is there meanwhile".into(),
                };
                Some(match waits_for.len() {
                    0 => format!("a new plan rolls out: {column} serves"),
                    _ => format!("a new plan rolls out: {column} waits for {}", shards(waits_for)),
                })
            }
        }
    }
}
