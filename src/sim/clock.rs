//! A host's clocks: one that only drifts, one that anybody may set.

use super::MILLISECOND;
use super::dice::Dice;
use crate::replica::Moment;

/// A quartz is bad at 100 parts in a million; a virtual machine may be a hundred times worse.
const DRIFT_PPM_MAX: u64 = 10_000;
/// Noon of some day, nanoseconds since the epoch.
const NOON: u64 = 1_800_000_000_000_000_000;
const SKEW_MAX: u64 = 600_000 * MILLISECOND;

#[derive(Debug)]
pub(super) struct Clock {
    /// Parts per million, from 1,000,000 - drift to 1,000,000 + drift.
    rate: u64,
    /// CLOCK_BOOTTIME at the beginning of the world.
    boot: u64,
    /// The wall clock at the beginning of the world.
    wall: u64,
}

impl Clock {
    pub fn new(dice: &mut Dice) -> Clock {
        let rate = dice.between(1_000_000 - DRIFT_PPM_MAX, 1_000_000 + DRIFT_PPM_MAX);
        let mut clock = Clock { rate, boot: dice.between(0, SKEW_MAX), wall: 0 };
        clock.jump(dice);
        clock
    }

    /// Somebody sets the wall clock, forward or back.
    pub fn jump(&mut self, dice: &mut Dice) {
        self.wall = NOON + dice.between(0, 2 * SKEW_MAX) - SKEW_MAX;
    }

    /// What both clocks say when the world's time is `now`.
    pub fn read(&self, now: u64) -> Moment {
        let passed = (u128::from(now) * u128::from(self.rate) / 1_000_000) as u64;
        Moment { monotonic: self.boot + passed, wall: self.wall + passed }
    }
}
