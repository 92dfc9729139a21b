//! The time by which leases and health are measured.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Goes on while the machine sleeps, during which a lease ends.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Since the machine was started; no other machine's is compared with it.
pub(crate) fn uptime() -> Duration {
    let time = clock_gettime(CLOCK);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or_default());
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or_default())
}
