//! Whether the operator is alive, and whether it is ready.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::uptime;

/// Each loop goes round in a few seconds, also where the API server does not answer.
const STUCK: Duration = Duration::from_secs(30);
/// Longer than a leader keeps its lease without the API server.
const AWAY: Duration = Duration::from_secs(15);

const LISTS: &str = "the watches have not told yet what there is";
pub(crate) const NO_DEFINITION: &str = "there is no definition of ShardCluster in this cluster: install it by the chart, or by `operator crd | kubectl apply --server-side -f -`";

/// How the operator is.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the loop around the lease last went round.
    election: Option<Duration>,
    /// When the API server last answered it.
    reached: Option<Duration>,
    /// Why it did not count since, in words.
    failure: Option<String>,
    role: Role,
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    Starts,
    Waits {
        leader: Option<String>,
    },
    Leads {
        /// When the task of the reconciles was last seen to run.
        moved: Duration,
        /// What keeps it from knowing what there is.
        lacks: Option<&'static str>,
    },
}

impl Health {
    pub(crate) fn election_moves(&self) {
        self.state().election = Some(uptime());
    }

    pub(crate) fn reached(&self) {
        let mut state = self.state();
        (state.reached, state.failure) = (Some(uptime()), None);
    }

    /// The API server did not answer, or refused: why.
    pub(crate) fn not_reached(&self, why: String) {
        self.state().failure = Some(why);
    }

    pub(super) fn leads(&self) {
        let mut state = self.state();
        state.reached = Some(uptime());
        state.role = Role::Leads { moved: uptime(), lacks: Some(LISTS) };
    }

    pub(super) fn waits(&self, leader: Option<&str>) {
        self.state().role = Role::Waits { leader: leader.map(ToOwned::to_owned) };
    }

    pub(crate) fn reconciles_move(&self) {
        if let Role::Leads { moved, .. } = &mut self.state().role {
            *moved = uptime();
        }
    }

    /// Every watch has told what there is.
    pub fn in_sync(&self) {
        self.lacks(None);
    }

    /// No ShardCluster can be told of.
    pub(crate) fn no_definition(&self) {
        self.lacks(Some(NO_DEFINITION));
    }

    fn lacks(&self, what: Option<&'static str>) {
        if let Role::Leads { lacks, .. } = &mut self.state().role {
            *lacks = what;
        }
    }

    /// Whether it goes on; else what does not.
    pub(crate) fn alive(&self, now: Duration) -> Result<(), String> {
        let state = self.state();
        let stuck = |since: Duration| now.saturating_sub(since) > STUCK;
        match state.role {
            _ if state.election.is_some_and(stuck) => {
                Err(format!("the leader election is stuck for over {STUCK:?}"))
            }
            Role::Leads { moved, .. } if stuck(moved) => {
                Err(format!("the reconciles are stuck for over {STUCK:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it does, or could at once do, its work: in which role; else what is missing.
    pub(crate) fn ready(&self, now: Duration) -> Result<String, String> {
        let state = self.state();
        let away = state.reached.map(|reached| now.saturating_sub(reached));
        let why = || state.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let mut text = match &state.role {
            Role::Starts => return Err(format!("the API server was not reached yet{}", why())),
            _ if away.is_none_or(|away| away > AWAY) => {
                return Err(format!("the API server was not reached for over {AWAY:?}{}", why()));
            }
            Role::Leads { lacks: Some(lacks), .. } => return Err(format!("leads; {lacks}")),
            Role::Leads { .. } => "leads".to_owned(),
            Role::Waits { .. } => "waits".to_owned(),
        };
        if let Role::Waits { leader: Some(leader) } = &state.role {
            let _ = write!(text, ": {leader} leads");
        }
        Ok(text)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_ready_when_its_watches_are_and_who_waits_at_once() {
        let health = Health::default();
        let ready = |later: Duration| health.ready(uptime() + later);
        assert!(ready(Duration::ZERO).unwrap_err().contains("not reached yet"));
        health.not_reached("no route".into());
        assert!(ready(Duration::ZERO).unwrap_err().ends_with("not reached yet: no route"));
        health.reached();
        health.waits(Some("other"));
        assert_eq!(ready(Duration::ZERO).unwrap(), "waits: other leads");
        health.leads();
        assert!(ready(Duration::ZERO).unwrap_err().contains("watches"));
        health.in_sync();
        assert_eq!(ready(Duration::ZERO).unwrap(), "leads");
        let away = || ready(AWAY + Duration::from_secs(1)).unwrap_err();
        assert!(away().ends_with("not reached for over 15s"), "the old reason is over");
        health.not_reached("forbidden".into());
        assert!(away().ends_with("15s: forbidden"));
        assert_eq!(ready(Duration::ZERO).unwrap(), "leads", "one failure is none");
        health.waits(None);
        health.in_sync();
        health.leads();
        assert!(ready(Duration::ZERO).is_err(), "what one term has seen does not hold in the next");
    }

    #[test]
    fn a_loop_that_stands_still_is_told_of() {
        let health = Health::default();
        let alive = |later: Duration| health.alive(uptime() + later);
        let later = STUCK + Duration::from_secs(1);
        assert!(alive(later).is_ok(), "it has not begun");
        health.election_moves();
        assert!(alive(Duration::ZERO).is_ok());
        assert!(alive(later).unwrap_err().contains("election"));

        let health = Health::default();
        health.leads();
        health.reconciles_move();
        assert!(health.alive(uptime()).is_ok());
        assert!(health.alive(uptime() + later).unwrap_err().contains("reconciles"));
        health.waits(None);
        assert!(health.alive(uptime() + later).is_ok(), "nothing is reconciled");
    }
}
