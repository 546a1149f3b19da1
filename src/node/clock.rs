//! What time it is here: the only place that asks the operating system for the replica.

use crate::replica::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, by both clocks.
pub fn now() -> Moment {
    Moment { monotonic: read(ClockId::Boottime), wall: read(ClockId::Realtime) }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
