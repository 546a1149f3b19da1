//! What time it is here: the only place that asks the operating system for the replica.

use crate::replica::Moment;

/// Now, by both clocks.
pub fn now() -> Moment {
    Moment { monotonic: read(libc::CLOCK_BOOTTIME), wall: read(libc::CLOCK_REALTIME) }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write; both clocks exist on every Linux that has FUSE.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
