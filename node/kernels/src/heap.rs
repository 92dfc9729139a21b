//! The C library's allocator, told to keep less than it would.

/// Freed blocks of this size and more go back to the system at once, and so does as much at the heap's end. These are
/// glibc's first values; left alone it raises them with every large block that is freed, up to 32 and 64 MiB, and the
/// process keeps what prefills and ended sessions have taken.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

/// From now on freed memory goes back to the system; without effect where the C library is not glibc.
///
/// A program that stays calls it once, first of all.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: two parameters of the allocator, taken under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}
