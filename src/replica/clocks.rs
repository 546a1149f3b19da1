//! What time the members' clocks say it is. Stamps, and so all times of the tree, are the leader's
//! wall clock within [`TRUSTED`] of the median of all members' that were heard lately: one wrong
//! clock of three, or two of five, moves nothing, not even the leader's. With two members, or when
//! nobody is heard, a clock has only itself.
//!
//! Each member says its clock to all each second, so that a new leader knows at once.

use crate::tree::{ReplicaId, STANDSTILL, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// Nanoseconds by which a stamp may differ from the median; a clock further off is told.
pub(super) const TRUSTED: u64 = 1_000_000_000;
/// Nanoseconds between two words about the own clock.
const INTERVAL: u64 = 1_000_000_000;
/// Nanoseconds after which a word about a clock counts no more.
const FRESH: u64 = 5 * INTERVAL;

#[derive(Default)]
pub(super) struct Clocks {
    /// What each other member's clock said, and when that was heard, by the monotonic clock here:
    /// the own wall clock may jump.
    heard: BTreeMap<ReplicaId, (Stamp, u64)>,
    say_at: u64,
}

impl Clocks {
    /// Whether it is time to say the own clock to everyone.
    pub(super) fn says(&mut self, now: u64) -> bool {
        let due = now >= self.say_at;
        if due {
            self.say_at = now + INTERVAL;
        }
        due
    }

    pub(super) fn heard(&mut self, from: ReplicaId, wall: Stamp, now: u64) {
        self.heard.insert(from, (wall, now));
    }

    /// Only these are members (any more).
    pub(super) fn keep_only(&mut self, members: &BTreeSet<ReplicaId>) {
        self.heard.retain(|id, _| members.contains(id));
    }

    /// What the clocks heard lately say now.
    fn readings(&self, now: u64) -> impl Iterator<Item = (ReplicaId, Stamp)> {
        self.heard.iter().filter_map(move |(id, (wall, at))| {
            let passed = now.saturating_sub(*at);
            (passed <= FRESH).then(|| (*id, wall.saturating_add(passed)))
        })
    }

    /// The median of all clocks; between the middle two of an even number, the nearest to `wall`,
    /// the own.
    fn median(&self, wall: Stamp, now: u64) -> Stamp {
        let mut all: Vec<Stamp> = self.readings(now).map(|(_, reading)| reading).collect();
        all.push(wall);
        all.sort_unstable();
        wall.clamp(all[(all.len() - 1) / 2], all[all.len() / 2])
    }

    /// What time it is, by all of them.
    pub(super) fn time(&self, wall: Stamp, now: u64) -> Stamp {
        let median = self.median(wall, now);
        wall.clamp(median.saturating_sub(TRUSTED), median.saturating_add(TRUSTED))
    }

    /// By how much each clock is ahead of the median, nanoseconds; `here` is this replica's.
    pub(super) fn offsets(&self, here: ReplicaId, wall: Stamp, now: u64) -> Vec<(ReplicaId, i64)> {
        let median = self.median(wall, now);
        let all = self.readings(now).chain([(here, wall)]);
        all.map(|(id, reading)| (id, reading.wrapping_sub(median) as i64)).collect()
    }
}

/// The stamp after `last` at `time`: later, unless `last` is so far ahead that it must be wrong.
pub(super) fn stamp_after(last: Stamp, time: Stamp) -> Stamp {
    match last.saturating_sub(time) <= STANDSTILL {
        true => time.max(last.saturating_add(1)),
        false => time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 86_400 * INTERVAL;
    const NOON: u64 = 50 * YEAR;

    /// Clocks of which these others said so much at the moment 0.
    fn clocks(others: &[u64]) -> Clocks {
        let mut clocks = Clocks::default();
        let ids = (2..).map(ReplicaId);
        others.iter().zip(ids).for_each(|(wall, id)| clocks.heard(id, *wall, 0));
        clocks
    }

    #[test]
    fn the_minority_of_clocks_moves_no_stamp_beyond_the_bound() {
        let right = [NOON, NOON + 3];
        assert_eq!(clocks(&right).time(NOON + YEAR, 0), NOON + 3 + TRUSTED);
        assert_eq!(clocks(&right).time(NOON - YEAR, 0), NOON - TRUSTED);
        assert_eq!(clocks(&[NOON + YEAR, NOON]).time(NOON + 5, 0), NOON + 5);
        let five = clocks(&[NOON + YEAR, NOON + YEAR, NOON, NOON + 1]);
        assert_eq!(five.time(NOON + 2, 0), NOON + 2);
        let leads = clocks(&[NOON + YEAR, NOON, NOON + 1, NOON + 2]);
        assert_eq!(leads.time(NOON + YEAR, 0), NOON + 2 + TRUSTED);
    }

    #[test]
    fn a_clock_has_itself_when_no_majority_knows_better() {
        assert_eq!(clocks(&[]).time(NOON, 0), NOON);
        assert_eq!(clocks(&[NOON + YEAR]).time(NOON, 0), NOON);
        let stale = clocks(&[NOON, NOON]);
        assert_eq!(stale.time(NOON + YEAR, FRESH + 1), NOON + YEAR);
    }

    #[test]
    fn a_clock_that_was_heard_goes_on() {
        let later = clocks(&[NOON, NOON]).time(NOON + YEAR, 4 * INTERVAL);
        assert_eq!(later, NOON + 4 * INTERVAL + TRUSTED);
    }

    #[test]
    fn stamps_stand_still_for_a_little_and_not_for_a_year() {
        assert_eq!(stamp_after(NOON - 1, NOON), NOON);
        assert_eq!(stamp_after(NOON, NOON), NOON + 1);
        assert_eq!(stamp_after(NOON + STANDSTILL, NOON), NOON + STANDSTILL + 1);
        assert_eq!(stamp_after(NOON + YEAR, NOON), NOON);
    }

    #[test]
    fn who_is_off_is_known() {
        let clocks = clocks(&[NOON - 7, NOON + YEAR]);
        let offsets = clocks.offsets(ReplicaId(1), NOON, 0);
        let year = YEAR as i64;
        assert_eq!(offsets, [(ReplicaId(2), -7), (ReplicaId(3), year), (ReplicaId(1), 0)]);
    }
}
