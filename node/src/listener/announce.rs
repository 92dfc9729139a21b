//! What a node announces of its shards: every change at once, but the progress of a download only now and then, for
//! every announcement is a walk through the DHT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_wire::announce::{FileInfo, MemberInfo, ShardInfo};
use shard_wire::command::TorrentFile;
use shard_wire::keys::Role;
use tokio::sync::watch;

use crate::clock::sleep_until;
use crate::config::EngineConfig;
use crate::library::Library;
use crate::serving;
use crate::shards::Holding;

/// Points of progress that are worth an announcement, and the least time between two for progress alone.
const STEP: f32 = 5.0;
const PAUSE: Duration = Duration::from_secs(5);

/// Follows the holdings until they end.
pub(super) fn spawn(mut holdings: watch::Receiver<Vec<Holding>>) -> watch::Receiver<Vec<ShardInfo>> {
    let first = infos(&holdings.borrow_and_update());
    let (publish, announced) = watch::channel(first);
    tokio::spawn(async move {
        let (mut last, mut due) = (Instant::now(), None);
        loop {
            let open = tokio::select! {
                changed = holdings.changed() => changed.is_ok(),
                () = sleep_until(due) => true,
            };
            if !open {
                return;
            }
            let (new, now) = (infos(&holdings.borrow_and_update()), Instant::now());
            let worth = worth(&publish.borrow(), &new);
            due = match worth {
                Worth::Nothing => None,
                Worth::Later if now < last + PAUSE => Some(last + PAUSE),
                Worth::Later | Worth::Now => {
                    last = now;
                    publish.send_replace(new);
                    None
                }
            };
        }
    });
    announced
}

/// A node without a shard is a spare, as long as it has none.
pub(super) fn spare(
    mut holdings: watch::Receiver<Vec<Holding>>,
    engine: EngineConfig,
) -> watch::Receiver<Option<MemberInfo>> {
    let info = move |holdings: &[Holding]| {
        let capabilities = serving::capabilities(&engine);
        holdings.is_empty().then_some(MemberInfo { role: Role::Spare, capabilities })
    };
    let (publish, spare) = watch::channel(info(&holdings.borrow_and_update()));
    tokio::spawn(async move {
        while holdings.changed().await.is_ok() {
            let now = info(&holdings.borrow_and_update());
            publish.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    });
    spare
}

/// The files that are registered in the DHT.
pub(super) fn files(
    mut listed: watch::Receiver<Vec<TorrentFile>>,
    plan: watch::Receiver<Option<Arc<Library>>>,
) -> watch::Receiver<Vec<FileInfo>> {
    let infos = move |listed: &[TorrentFile]| {
        let plan = plan.borrow().clone();
        let of_plan = |file: &TorrentFile| {
            let library = plan.as_ref()?;
            library.manifest.file(&file.name).filter(|named| named.sha256 == file.info_hash)?;
            Some(library.plan.clone())
        };
        let info = |file: &TorrentFile| FileInfo {
            info_hash: file.info_hash.clone(),
            name: file.name.clone(),
            size: file.size,
            plan: of_plan(file),
        };
        listed.iter().map(info).collect::<Vec<_>>()
    };
    let (publish, files) = watch::channel(infos(&listed.borrow_and_update()));
    tokio::spawn(async move {
        while listed.changed().await.is_ok() {
            let now = infos(&listed.borrow_and_update());
            publish.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    });
    files
}

fn infos(holdings: &[Holding]) -> Vec<ShardInfo> {
    holdings.iter().map(|holding| holding.info.clone()).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Worth {
    Nothing,
    Later,
    Now,
}

fn worth(old: &[ShardInfo], new: &[ShardInfo]) -> Worth {
    let plain = |infos: &[ShardInfo]| {
        infos.iter().map(|info| ShardInfo { download: None, ..info.clone() }).collect::<Vec<_>>()
    };
    if plain(old) != plain(new) {
        return Worth::Now;
    }
    let percent = |info: &ShardInfo| info.download.map_or(0.0, |download| download.percent);
    let far = old.iter().zip(new).any(|(old, new)| (percent(new) - percent(old)).abs() >= STEP);
    if far { Worth::Later } else { Worth::Nothing }
}

#[cfg(test)]
mod tests {
    use shard_wire::announce::ReplicaState;
    use shard_wire::pipeline::Download;

    use super::*;

    fn info(state: ReplicaState, percent: Option<f32>) -> ShardInfo {
        let engine = crate::config::EngineConfig {
            threads: Some(1),
            device: shard_engine::Device::Cpu,
            weights: crate::config::Weights::Auto,
            kv: crate::config::KvDtype::F16,
            activations: crate::config::ActivationDtype::F32,
            max_sessions: 4,
            context: None,
        };
        let download = percent.map(|percent| Download { percent, ..Download::default() });
        ShardInfo { download, ..crate::serving::unloaded(None, 1, state, &engine) }
    }

    #[test]
    fn states_at_once_and_progress_in_steps() {
        use ReplicaState::{Downloading, Loading};
        let table = [
            ((Downloading, Some(10.0)), (Downloading, Some(14.0)), Worth::Nothing),
            ((Downloading, Some(10.0)), (Downloading, Some(15.0)), Worth::Later),
            ((Downloading, Some(99.0)), (Loading, None), Worth::Now),
            ((Loading, None), (Downloading, Some(0.0)), Worth::Now),
        ];
        for (old, new, expected) in table {
            assert_eq!(worth(&[info(old.0, old.1)], &[info(new.0, new.1)]), expected, "{old:?} to {new:?}");
        }
        assert_eq!(worth(&[], &[info(Loading, None)]), Worth::Now);
    }
}
