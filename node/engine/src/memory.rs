//! How much memory this process may still take.

use std::path::Path;

/// Bytes that can be taken without swapping or being killed: the system's, and below a cgroup limit the rest of that.
/// `None` where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    let system = read("/proc/meminfo").as_deref().and_then(mem_available);
    let group = "/sys/fs/cgroup";
    let limit = read(&format!("{group}/memory.max")).and_then(|text| text.trim().parse::<u64>().ok());
    let used = read(&format!("{group}/memory.current")).and_then(|text| text.trim().parse::<u64>().ok());
    let stat = read(&format!("{group}/memory.stat"));
    let cache = stat.as_deref().and_then(|text| field(text, "inactive_file")).unwrap_or(0);
    // The page cache counts as used, but gives way.
    let group = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used.saturating_sub(cache)));
    [system, group].into_iter().flatten().min()
}

/// Bytes of physical memory that this process holds, pages of mapped files included.
pub(crate) fn resident() -> Option<u64> {
    field(&read("/proc/self/status")?, "VmRSS:").map(|kib| kib * 1024)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path)).ok()
}

fn mem_available(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemAvailable:").map(|kib| kib * 1024)
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let meminfo = "MemTotal:       24606112 kB\nMemAvailable:   23013128 kB\n";
        assert_eq!(mem_available(meminfo), Some(23_013_128 * 1024));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert_eq!(field("anon 5\ninactive_file 4096\n", "inactive_file"), Some(4096));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
