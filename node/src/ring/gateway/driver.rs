//! The task that owns a gateway's sessions: requests, frames and the fleet in, [`Sessions`] decides, actions out.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame::SessionId;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::route::{Fleet, Stage};
use super::sessions::{Action, Event, Limits, Sessions};
use crate::net::NetEvent;
use crate::ring::client::{Answer, AnswerError, Client, Command, OpenError, Prompt, Token};
use crate::ring::lanes::{Inbound, Lanes};

/// Between two looks at deadlines, at what waits, and at clients that are gone.
const TICK: Duration = Duration::from_millis(50);

/// What a gateway's sessions are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Sessions that have a route at each peer.
    pub load: HashMap<PeerId, usize>,
    /// When the last token came through each stage of the fleet.
    pub passed: HashMap<Stage, Instant>,
}

/// Starts the task that owns the sessions of `me`; it ends when the last [`Client`] is gone.
pub fn spawn(
    me: PeerId,
    limits: Limits,
    lanes: Lanes,
    inbox: mpsc::Receiver<Inbound>,
    events: broadcast::Receiver<NetEvent>,
    fleet: watch::Receiver<Fleet>,
) -> (Client, watch::Receiver<Activity>) {
    let (client, commands) = Client::new();
    let (publish, activity) = watch::channel(Activity::default());
    let driver = Driver { sessions: Sessions::new(me, limits), lanes, callers: HashMap::new(), publish };
    tokio::spawn(driver.run(commands, inbox, events, fleet));
    (client, activity)
}

/// Whom a session is for.
enum Caller {
    /// It waits for the session to open.
    Waiting { reply: oneshot::Sender<Result<Answer, OpenError>>, room: usize },
    /// It reads tokens.
    Reading(mpsc::Sender<Result<Token, AnswerError>>),
}

impl Caller {
    fn is_gone(&self) -> bool {
        match self {
            Self::Waiting { reply, .. } => reply.is_closed(),
            Self::Reading(tokens) => tokens.is_closed(),
        }
    }
}

struct Driver {
    sessions: Sessions,
    lanes: Lanes,
    callers: HashMap<SessionId, Caller>,
    publish: watch::Sender<Activity>,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inbox: mpsc::Receiver<Inbound>,
        mut events: broadcast::Receiver<NetEvent>,
        mut fleet: watch::Receiver<Fleet>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = fleet.borrow_and_update().clone();
        self.on(Event::Fleet(first));
        loop {
            tokio::select! {
                biased;
                frame = inbox.recv() => match frame {
                    Some(Inbound::Frame(from, frame)) => self.on(Event::Frame(from, frame)),
                    Some(Inbound::Unsent(to, frame)) => self.on(Event::Unsent(to, frame)),
                    None => return,
                },
                event = events.recv() => match event {
                    Ok(NetEvent::Disconnected { peer, .. }) => {
                        self.lanes.forget(peer);
                        self.on(Event::Gone(peer));
                    }
                    Ok(NetEvent::Connected { peer, .. }) => self.on(Event::Back(peer)),
                    Err(broadcast::error::RecvError::Closed) => return,
                    _ => {}
                },
                changed = fleet.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = fleet.borrow_and_update().clone();
                    self.forget(&now);
                    self.on(Event::Fleet(now));
                }
                command = commands.recv() => match command {
                    Some(Command::Generate { prompt, reply }) => {
                        let id = self.call(&prompt, reply);
                        self.on(Event::Generate(id, prompt));
                    }
                    Some(Command::GenerateOn { route, prompt, reply }) => {
                        let id = self.call(&prompt, reply);
                        self.on(Event::GenerateOn(id, prompt, route));
                    }
                    None => return self.close_all(),
                },
                _ = tick.tick() => {
                    let gone: Vec<SessionId> = self.callers.iter().filter(|(_, c)| c.is_gone()).map(|(id, _)| *id).collect();
                    for id in gone {
                        self.callers.remove(&id);
                        self.on(Event::Cancel(id));
                    }
                    self.on(Event::Tick);
                }
            }
        }
    }

    fn call(&mut self, prompt: &Prompt, reply: oneshot::Sender<Result<Answer, OpenError>>) -> SessionId {
        let id = new_session();
        // Room for the whole answer: a slow client never holds the ring back.
        let room = prompt.max_tokens as usize + 1;
        self.callers.insert(id, Caller::Waiting { reply, room });
        id
    }

    fn on(&mut self, event: Event) {
        let now = Instant::now();
        let actions = self.sessions.on(event, now);
        // Before anybody has a token: who waits for one sees what it proves.
        self.tell(now);
        for action in actions {
            match action {
                Action::Send(to, frame) => self.lanes.send(to, frame),
                Action::Opened(id, opened_in) => {
                    let Some(Caller::Waiting { reply, room }) = self.callers.remove(&id) else { continue };
                    let (sender, tokens) = mpsc::channel(room);
                    // A caller that is gone closes the channel with the answer; the next tick cancels.
                    let _ = reply.send(Ok(Answer { tokens, opened_in }));
                    self.callers.insert(id, Caller::Reading(sender));
                }
                Action::Refused(id, error) => {
                    if let Some(Caller::Waiting { reply, .. }) = self.callers.remove(&id) {
                        let _ = reply.send(Err(error));
                    }
                }
                Action::Deliver(id, token) => {
                    let last = token.finish.is_some();
                    if let Some(Caller::Reading(tokens)) = self.callers.get(&id) {
                        let _ = tokens.try_send(Ok(token));
                    }
                    if last {
                        self.callers.remove(&id);
                    }
                }
                Action::Failed(id, error) => {
                    if let Some(Caller::Reading(tokens)) = self.callers.remove(&id) {
                        let _ = tokens.try_send(Err(error));
                    }
                }
            }
        }
    }

    fn tell(&mut self, now: Instant) {
        let (load, passed) = (self.sessions.load(), self.sessions.take_passed());
        self.publish.send_if_modified(|known| {
            let changed = !passed.is_empty() || known.load != load;
            known.passed.extend(passed.into_iter().map(|stage| (stage, now)));
            known.load = load;
            changed
        });
    }

    /// Keeps nothing of stages that are no longer in the fleet.
    fn forget(&self, fleet: &Fleet) {
        let known: HashSet<Stage> =
            fleet.replicas.iter().map(|replica| Stage { peer: replica.peer, shard: replica.shard }).collect();
        self.publish.send_if_modified(|activity| {
            activity.passed.retain(|stage, _| known.contains(stage));
            false
        });
    }

    /// The program ends: every stage is told, every caller too.
    fn close_all(&mut self) {
        let ids: Vec<SessionId> = self.callers.keys().copied().collect();
        for id in ids {
            match self.callers.remove(&id) {
                Some(Caller::Reading(tokens)) => drop(tokens.try_send(Err(AnswerError::Closed))),
                Some(Caller::Waiting { reply, .. }) => drop(reply.send(Err(OpenError::Closed))),
                None => {}
            }
            self.on(Event::Cancel(id));
        }
    }
}

/// A name that nobody else draws: 122 random bits.
fn new_session() -> SessionId {
    uuid::Uuid::new_v4().as_u128()
}
