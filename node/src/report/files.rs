//! Model files: found, seeded, registered in the DHT, synchronised with the rendezvous server.

use libp2p::PeerId;

use super::{Notice, foreign, plural, short, size};

/// The folder was looked through.
pub fn files_found(count: usize) -> Notice {
    Notice::info("files_found", format!("[TORRENT] Found {count} GGUF file(s)")).with("files", count)
}

/// A shard file of the plan is offered to others.
pub fn seeding_primary(name: &str, info_hash: &str) -> Notice {
    let text = format!("[TORRENT] ✓ Seeding primary shard: {} (hash: {})", foreign(name), short(info_hash));
    Notice::info("seeding_primary", text).with("file", name).with("info_hash", info_hash)
}

/// A file beyond the plan's shards is there.
pub fn found_additional(name: &str) -> Notice {
    Notice::info(
        "found_additional",
        format!("[TORRENT] Found additional GGUF file to seed: {}", foreign(name)),
    )
    .with("file", name)
}

/// A file that cannot be offered.
pub fn not_seeding(name: &str, reason: &str) -> Notice {
    let text = format!("[TORRENT] ⚠  Not seeding {}: {}", foreign(name), foreign(reason));
    Notice::warn("not_seeding", text).with("file", name).with("reason", reason)
}

/// Everything in the folder is offered: `primary` of the plan's shard files, and others. Of a plan that is not known
/// there are 0 shards.
pub fn seeding_complete(primary: usize, total_shards: u32, additional: usize) -> Notice {
    let all = primary + additional;
    let of_plan = match total_shards.checked_sub(1) {
        Some(last) => format!("Primary shards (0-{last}): {primary}/{total_shards} seeded"),
        None => "Primary shards: not known yet".to_owned(),
    };
    let text = format!(
        "[TORRENT] Torrent seeding complete:\n\
         [TORRENT]   {of_plan}\n\
         [TORRENT]   Additional files: {additional} seeded\n\
         [TORRENT]   Total files available for seeding: {all}"
    );
    Notice::info("seeding_complete", text)
        .with("primary", primary)
        .with("total_shards", total_shards)
        .with("additional", additional)
        .with("files", all)
}

/// The DHT is told of the files.
pub fn registering_files(count: usize) -> Notice {
    let text = format!("[TORRENT] Registering {count} torrent file(s) in DHT for auto-propagation...");
    Notice::info("registering_files", text).with("files", count)
}

/// It knows of one.
pub fn file_registered(name: &str, info_hash: &str) -> Notice {
    let text =
        format!("[TORRENT] ✓ Registered torrent file in DHT: {} (hash: {})", foreign(name), short(info_hash));
    Notice::info("file_registered", text).with("file", name).with("info_hash", info_hash)
}

/// Nobody took the record: it is put again at the next occasion.
pub fn file_not_registered(name: &str, reason: &str) -> Notice {
    let text = format!(
        "[TORRENT] ⚠  Registering {} in DHT failed ({}); it is tried again",
        foreign(name),
        foreign(reason)
    );
    Notice::warn("file_not_registered", text).with("file", name).with("reason", reason)
}

/// It knows of all.
pub fn files_registered(count: usize) -> Notice {
    Notice::info(
        "files_registered",
        "[TORRENT] ✓ All torrent files registered in DHT - auto-propagation enabled",
    )
    .with("files", count)
}

/// A file of an earlier plan is gone from the folder.
pub fn leftover_removed(name: &str, bytes: u64) -> Notice {
    let text = format!("[PLAN] Removed {}, of an earlier plan ({})", foreign(name), size(bytes));
    Notice::info("leftover_removed", text).with("file", name).with("bytes", bytes)
}

/// The rendezvous server is asked for its files and told of ours.
pub fn sync_begun(peer: &PeerId) -> Notice {
    let text = "[TORRENT_SYNC] 🔄 Initiating automatic torrent synchronization with rendezvous server...";
    Notice::info("sync_begun", text).shown("peer", peer)
}

/// It has answered with all files that it knows, some of them `new` to us, and their seeders.
pub fn sync_done(peer: &PeerId, files: usize, seeders: usize, new: usize) -> Notice {
    let (file, seeder) = (plural(files as u64, "file"), plural(seeders as u64, "seeder"));
    let text = format!("[TORRENT_SYNC] ✓ Synchronized: {file} known, {new} of them new, {seeder}");
    Notice::info("sync_done", text)
        .shown("peer", peer)
        .with("files", files)
        .with("seeders", seeders)
        .with("new", new)
}

/// It has not: it is asked again.
pub fn sync_failed(peer: &PeerId, reason: &str) -> Notice {
    let text = format!(
        "[TORRENT_SYNC] ⚠  Synchronization with {peer} failed ({}); it is tried again",
        foreign(reason)
    );
    Notice::warn("sync_failed", text).shown("peer", peer).with("reason", reason)
}

/// A member seeds other files than before: the rendezvous server passes it on, members hear of it.
pub fn sync_changed(peer: &PeerId, files: usize) -> Notice {
    let text = format!("[TORRENT_SYNC] 🔄 {peer} now seeds {}", plural(files as u64, "file"));
    Notice::info("sync_changed", text).shown("peer", peer).with("files", files)
}
