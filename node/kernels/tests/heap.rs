//! Freed memory goes back to the system. One test in its own process: it reads the whole process's memory.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used)] // a test

const MIB: usize = 1 << 20;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn what_is_freed_below_a_block_that_stays_is_not_kept() {
    shard_kernels::heap::give_back_freed_memory();
    let before = resident();
    // glibc's own way keeps the second round: by then it takes such blocks from its heap, where the last one is on top.
    for _ in 0..2 {
        let mut blocks: Vec<Vec<u8>> = (0..100).map(|_| vec![1; MIB]).collect();
        assert!(resident() > before + 90 * MIB);
        let last = blocks.pop();
        drop(blocks);
        assert!(resident() < before + 10 * MIB, "{} MiB are kept", (resident() - before) / MIB);
        drop(last);
    }
    // Small ones, among some that stay.
    let mut blocks: Vec<Vec<u8>> = (0..100_000).map(|_| vec![1; 1000]).collect();
    assert!(resident() > before + 90 * MIB);
    let mut at = 0;
    blocks.retain(|_| {
        at += 1;
        at % 1000_usize == 0
    });
    let begun = std::time::Instant::now();
    while resident() > before + 10 * MIB {
        assert!(begun.elapsed().as_secs() < 20, "{} MiB are kept", (resident() - before) / MIB);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(blocks.len(), 100);
}
