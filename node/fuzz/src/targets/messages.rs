//! Requests and answers of `/json-message/1.0`.

use serde_json::{Value, json};
use shard_wire::command::{
    Command, FileList, InferenceResult, LoadedShard, MAX_FILES, MAX_NAME, MAX_PLANS, MAX_SEEDERS, Torrents,
};
use shard_wire::message::{Request, Response};

use crate::targets::{assert_short, json};

/// A request, down to the parameters of its command.
pub fn request(data: &[u8]) -> bool {
    let request = match Request::decode(data) {
        Ok(request) => request,
        Err(error) => {
            assert_short(error);
            return false;
        }
    };
    let command = match request.command() {
        Ok(command) => command,
        Err(error) => {
            assert_short(error);
            return false;
        }
    };
    if let Command::SyncTorrents(torrents) = &command {
        bounded(torrents);
    }
    let again = Request { params: params(&command), ..request };
    let bytes = serde_json::to_vec(&again).expect("data of ours");
    let again = Request::decode(&bytes).expect("written by us").command();
    assert_eq!(again, Ok(command), "written as {}", String::from_utf8_lossy(&bytes));
    true
}

fn params(command: &Command) -> Value {
    match command {
        Command::GetCapabilities | Command::GetMetrics => Value::Null,
        Command::LoadShard(params) => json!(params),
        Command::Inference(params) => json!(params),
        Command::ListFiles(params) => json!(params),
        Command::SyncTorrents(params) => json!(params),
    }
}

/// What a registry of files takes in.
fn bounded(torrents: &Torrents) {
    assert!(torrents.files.len() <= MAX_FILES && torrents.plans.len() <= MAX_PLANS);
    for file in &torrents.files {
        assert!((1..=MAX_NAME).contains(&file.name.len()) && file.seeders.len() <= MAX_SEEDERS);
        let path = std::path::Path::new(&file.name);
        assert_eq!(path.file_name(), Some(path.as_os_str()), "{:?} is a path", file.name);
    }
    for plan in &torrents.plans {
        assert!((1..=32).contains(&plan.plan.len()) && plan.seeders.len() <= MAX_SEEDERS);
    }
}

/// An answer, and its data as each command's.
pub fn response(data: &[u8]) -> bool {
    let Ok(response) = serde_json::from_slice::<Response>(data) else { return false };
    let bytes = serde_json::to_vec(&response).expect("data of ours");
    let again: Response = serde_json::from_slice(&bytes).expect("written by us");
    assert_eq!(
        (&again.status, &again.request_id, &again.error),
        (&response.status, &response.request_id, &response.error)
    );
    let data = serde_json::to_vec(&response.data).expect("data of ours");
    json::<LoadedShard>(&data);
    json::<InferenceResult>(&data);
    json::<FileList>(&data);
    if let Some(torrents) = json::<Torrents>(&data) {
        match torrents.check() {
            Ok(()) => bounded(&torrents),
            Err(error) => assert_short(error),
        }
    }
    true
}
