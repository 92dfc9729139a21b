//! The commands of `/json-message/1.0`: parameters in, data out.
//!
//! | command | `params` | `data` |
//! |---|---|---|
//! | `GET_CAPABILITIES` | – | `{peer_id, shards: [announcement]}` |
//! | `LOAD_SHARD` | [`LoadShard`] | [`LoadedShard`] |
//! | `INFERENCE` | [`InferenceParams`] | [`InferenceResult`] |
//! | `LIST_FILES` | [`ListFiles`] | [`FileList`] |
//! | `GET_METRICS` | – | counts and times; the same object over `/metrics/1.0`, whatever is asked there |
//! | `SYNC_TORRENTS` | [`Torrents`] | [`Torrents`] |
//!
//! Fields that a program does not know are ignored; those that it misses have defaults.

mod torrents;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::announce::ReplicaState;
use crate::json::brief;
use crate::message::{Request, RequestError};
use crate::session::{Finish, Sampling};
pub use torrents::{
    MAX_ERROR, MAX_FILES, MAX_INCARNATION, MAX_NAME, MAX_PLANS, MAX_SEEDERS, OriginProgress, TorrentFile,
    TorrentPlan, Torrents,
};

/// The names of all commands.
pub const NAMES: [&str; 6] =
    ["GET_CAPABILITIES", "LOAD_SHARD", "INFERENCE", "LIST_FILES", "GET_METRICS", "SYNC_TORRENTS"];

/// The commands that a node knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// What the node is and can do. Answered with its announcements.
    GetCapabilities,
    /// Serve a shard, beside or instead of those that it serves.
    LoadShard(LoadShard),
    /// Run a prompt through the pipeline.
    Inference(InferenceParams),
    /// Which files the node seeds.
    ListFiles(ListFiles),
    /// Counts and times since the start.
    GetMetrics,
    /// Tell what files there are, and be told.
    SyncTorrents(Torrents),
}

/// Parameters of `LOAD_SHARD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadShard {
    /// The shard.
    pub shard_id: u32,
    /// Give up the shards that the node has, once this one's file is there.
    #[serde(default)]
    pub replace: bool,
    /// The plan that the asker means; empty is the node's own. Another one is refused.
    #[serde(default)]
    pub plan: String,
    /// Answer after this many seconds at the latest, loaded or not.
    #[serde(default = "default_wait_s")]
    pub wait_s: u64,
}

fn default_wait_s() -> u64 {
    60
}

/// Answer to `LOAD_SHARD`: how far the shard is by then. `GET_CAPABILITIES` tells later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedShard {
    /// The shard.
    pub shard_id: u32,
    /// `ready`, or what the node still does.
    pub state: ReplicaState,
    /// Of its download, 0 to 100.
    #[serde(default, deserialize_with = "crate::json::finite")]
    pub percent: f32,
}

/// Parameters of `INFERENCE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceParams {
    /// The text to continue.
    pub prompt: String,
    /// Tokens to generate at most.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// How to choose tokens.
    #[serde(flatten)]
    pub sampling: Sampling,
}

fn default_max_tokens() -> u32 {
    64
}

/// Answer to `INFERENCE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceResult {
    /// The text that follows the prompt.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

/// Parameters of `LIST_FILES`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListFiles {
    /// One file by its name; empty is all of them. A name that the node does not seed is an error.
    pub name: String,
}

/// Answer to `LIST_FILES`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// In the order of names.
    pub files: Vec<TorrentFile>,
}

impl Request {
    /// Which command it is, with its parameters read.
    ///
    /// # Errors
    /// [`RequestError::UnknownCommand`] and [`RequestError::BadParams`].
    pub fn command(&self) -> Result<Command, RequestError> {
        match self.command.as_str() {
            "GET_CAPABILITIES" => Ok(Command::GetCapabilities),
            "LOAD_SHARD" => self.params("LOAD_SHARD").map(Command::LoadShard),
            "INFERENCE" => self.params("INFERENCE").map(Command::Inference),
            "LIST_FILES" => self.optional("LIST_FILES").map(Command::ListFiles),
            "GET_METRICS" => Ok(Command::GetMetrics),
            "SYNC_TORRENTS" => {
                let torrents: Torrents = self.optional("SYNC_TORRENTS")?;
                torrents.check()?;
                Ok(Command::SyncTorrents(torrents))
            }
            unknown => Err(RequestError::UnknownCommand(unknown.chars().take(64).collect())),
        }
    }

    fn params<T: DeserializeOwned>(&self, command: &'static str) -> Result<T, RequestError> {
        T::deserialize(&self.params)
            .map_err(|error| RequestError::BadParams { command, reason: brief(&error) })
    }

    /// `null` or no `params` at all are the defaults.
    fn optional<T: DeserializeOwned + Default>(&self, command: &'static str) -> Result<T, RequestError> {
        if self.params.is_null() { Ok(T::default()) } else { self.params(command) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::message::{ErrorCode, MAX_REQUEST_BYTES, Request};

    fn command(text: &str) -> Result<Command, RequestError> {
        Request::decode(text.as_bytes()).and_then(|request| request.command())
    }

    #[test]
    fn requests_are_read_tolerantly() {
        let table = [
            (r#"{"command":"GET_METRICS","from":"the future"}"#, Command::GetMetrics),
            (r#"{"command":"LIST_FILES"}"#, Command::ListFiles(ListFiles::default())),
            (
                r#"{"command":"LIST_FILES","params":{"name":"shard-1.gguf"}}"#,
                Command::ListFiles(ListFiles { name: "shard-1.gguf".into() }),
            ),
            (r#"{"command":"SYNC_TORRENTS","params":null}"#, Command::SyncTorrents(Torrents::default())),
            (
                r#"{"command":"LOAD_SHARD","request_id":"r","params":{"shard_id":3,"soon":true}}"#,
                Command::LoadShard(LoadShard {
                    shard_id: 3,
                    replace: false,
                    plan: String::new(),
                    wait_s: 60,
                }),
            ),
            (
                r#"{"command":"INFERENCE","params":{"prompt":"Hi","temperature":0.5,"x":1}}"#,
                Command::Inference(InferenceParams {
                    prompt: "Hi".into(),
                    max_tokens: 64,
                    sampling: Sampling { temperature: 0.5, ..Sampling::default() },
                }),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(command(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let code = |text: &str| command(text).unwrap_err().code();
        assert_eq!(code("{"), ErrorCode::BadJson);
        assert_eq!(code("[]"), ErrorCode::BadJson);
        assert_eq!(code("{\"command\":1}"), ErrorCode::BadJson);
        assert_eq!(code("{\"command\":\"REBOOT\"}"), ErrorCode::UnknownCommand);
        let long = " ".repeat(MAX_REQUEST_BYTES + 1);
        assert_eq!(code(&long), ErrorCode::TooLarge);
        let hash = "0".repeat(64);
        let bad = [
            r#"{"command":"INFERENCE","params":{"prompt":7}}"#.to_owned(),
            r#"{"command":"INFERENCE"}"#.into(),
            r#"{"command":"LOAD_SHARD"}"#.into(),
            r#"{"command":"LOAD_SHARD","params":{"shard_id":-1}}"#.into(),
            r#"{"command":"LIST_FILES","params":[1]}"#.into(),
            r#"{"command":"SYNC_TORRENTS","params":{"files":[{"name":"a","size":1,"info_hash":"x"}]}}"#
                .into(),
            format!(
                r#"{{"command":"SYNC_TORRENTS","params":{{"files":[{{"name":"../a","size":1,"info_hash":"{hash}"}}]}}}}"#
            ),
            r#"{"command":"SYNC_TORRENTS","params":{"plans":[{"plan":""}]}}"#.into(),
        ];
        for text in bad {
            assert_eq!(code(&text), ErrorCode::BadParams, "{text}");
        }
        let unknown = command("{\"command\":\"REBOOT\"}").unwrap_err().to_string();
        assert!(NAMES.iter().all(|name| unknown.contains(name)), "{unknown}");
    }

    /// Something that may stand where a member should.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0..300_u32).prop_map(Value::from),
            "[a-z./\\\\\0é]{0,3}|[0-9a-f]{64}|x{250,260}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 20, |inner| {
            let member = prop::sample::select(vec!["name", "size", "info_hash", "seeders", "plan", "files"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map(member.prop_map(String::from), inner, 0..5)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// Whatever the members are, they are refused in a few words, or keep to every bound.
        #[test]
        fn any_members(
            command in prop::sample::select(NAMES.to_vec()),
            files in prop::collection::vec(("[a-z./]{1,3}", any::<u64>(), prop::collection::vec("[a-z]", 0..14)), 0..3),
            members in prop::collection::btree_map(
                prop::sample::select(vec!["shard_id", "wait_s", "prompt", "temperature", "seed", "name", "plans", "files"]),
                value(),
                0..4,
            ),
        ) {
            let file = |(name, size, seeders)| {
                json!({"name": name, "size": size, "info_hash": "0a".repeat(32), "seeders": seeders})
            };
            let mut params = json!({"shard_id": 1, "prompt": "p", "files": files.into_iter().map(file).collect::<Vec<_>>()});
            for (name, value) in members {
                params[name] = value;
            }
            let request = Request { command: command.into(), request_id: String::new(), params };
            match request.command() {
                Ok(Command::SyncTorrents(Torrents { files, plans, .. })) => {
                    prop_assert!(files.len() <= MAX_FILES && plans.len() <= MAX_PLANS);
                    prop_assert!(files.iter().all(|file| !file.name.is_empty() && !file.name.contains('/')));
                    prop_assert!(files.iter().all(|file| file.seeders.len() <= MAX_SEEDERS));
                }
                Ok(_) => {}
                Err(error) => prop_assert!(error.to_string().len() <= 1000, "{error}"),
            }
        }
    }
}
