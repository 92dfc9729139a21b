//! Memory of a process, as the system counts it.

use serde::Serialize;

/// One process at the end of its fleet.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessMemory {
    pub(super) process: String,
    /// Physical memory, pages of mapped files included; `None` where the system does not tell.
    pub(super) resident_bytes: Option<u64>,
    /// The same, but a page that several processes map counts for each in part: the program's own text, above all.
    pub(super) proportional_bytes: Option<u64>,
    /// The most that it ever was.
    pub(super) peak_bytes: Option<u64>,
}

pub(super) fn of(name: &str, pid: u32) -> ProcessMemory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    ProcessMemory {
        process: name.to_owned(),
        resident_bytes: field(&status, "VmRSS:"),
        proportional_bytes: field(&rollup, "Pss:"),
        peak_bytes: field(&status, "VmHWM:"),
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_kib() {
        let status = "VmPeak:\t  900 kB\nVmHWM:\t    12 kB\nVmRSS:\t    10 kB\n";
        assert_eq!(super::field(status, "VmHWM:"), Some(12 * 1024));
        assert_eq!(super::field(status, "VmRSS:"), Some(10 * 1024));
        assert_eq!(super::field("Name: x", "VmRSS:"), None);
    }
}
