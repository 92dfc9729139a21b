//! The C library's allocator, told to keep less than it would.

/// Freed blocks of this size and more go back to the system at once, and so does as much at the heap's end. These are
/// glibc's first values; left alone it raises them with every large block that is freed, up to 32 and 64 MiB, and the
/// process keeps what prefills and ended sessions have taken.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;
/// Freed bytes between what is in use: less is for the next request.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MUCH: usize = 8 << 20;
/// Between two looks at them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// From now on freed memory goes back to the system: large blocks at once, and within seconds what a flood of small ones
/// leaves between those in use. Without effect where the C library is not glibc.
///
/// A program that stays calls it once, first of all.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: two parameters of the allocator, taken under its own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        }
        // Without the thread the program holds more than it needs, and works.
        let _ = std::thread::Builder::new().name("heap".into()).stack_size(64 << 10).spawn(|| {
            let (mut kept, mut left) = (resident(), free());
            loop {
                std::thread::sleep(LOOK);
                // What was given back still counts as free: there is something to give where the process has grown since,
                // or where more has become free, as when the last look was in the middle of a flood.
                let (now, unused) = (resident(), free());
                if unused > MUCH && (now > kept + MUCH || unused > left + MUCH) {
                    trim();
                    (kept, left) = (resident(), free());
                } else {
                    (kept, left) = (kept.min(now), left.min(unused));
                }
            }
        });
    }
}

/// Bytes that the allocator holds and nobody uses.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn free() -> usize {
    // SAFETY: counts of the allocator, taken under its own locks.
    unsafe { libc::mallinfo2() }.fordblks
}

/// Bytes of the process that are in memory; 0 where the system does not say, so that nothing is given back in vain.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm");
    let pages = pages.ok().and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    // SAFETY: a constant of the system.
    pages.unwrap_or_default() * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: whole pages inside free blocks go back to the system, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}
