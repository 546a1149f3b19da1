//! Which inodes the kernel holds: it counts lookups, and so do we. What it does not hold needs no
//! invalidation.

use crate::cow::CowMap;
use crate::tree::{Ino, Name};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Inodes in one chunk of the table: 4 KiB.
const CHUNK: usize = 256;

pub struct Inodes {
    table: Mutex<CowMap<Ino, Known, CHUNK>>,
    /// Names asked for in the root: every path begins with one.
    root_names: Mutex<BTreeSet<Name>>,
    began: Instant,
}

/// What the kernel may remember of one inode.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Lookups it has not forgotten yet, and above them the two flags.
    lookups_and_flags: u32,
    answered: Ticks,
}

/// The kernel holds whatever it has memory for: millions, after a walk through the whole tree.
const _: () = assert!(size_of::<(Ino, Known)>() == 16);

/// It may hold pages of the data, or of the listing.
const PAGES: u32 = 1 << 31;
/// It may hold names of this directory, absent ones too.
const NAMES: u32 = 1 << 30;
/// As far as lookups are counted.
const LOOKUPS_MAX: u32 = NAMES - 1;

impl Default for Inodes {
    fn default() -> Self {
        Inodes { table: Mutex::default(), root_names: Mutex::default(), began: Instant::now() }
    }
}

impl Inodes {
    /// The kernel is about to be told of this inode once more. Call it before the reply leaves.
    pub fn looked_up(&self, ino: Ino) {
        let mut table = self.table.lock();
        let answered = Ticks::of(self.began.elapsed());
        if let Some(known) = table.get_mut(ino) {
            known.count();
            known.answered = answered;
        } else {
            table.insert(ino, Known { lookups_and_flags: 1, answered });
        }
    }

    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut table = self.table.lock();
        let Some(known) = table.get_mut(ino) else { return };
        if known.forget(lookups) == 0 && ino != Ino::ROOT {
            table.remove(ino);
        }
    }

    pub fn is_known(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.table.lock().contains(ino)
    }

    /// Whether the kernel was told of it within `span`, so that it may not have got round to
    /// entering it into its own table. True for up to two ticks longer, never less long.
    pub fn answered_within(&self, ino: Ino, span: Duration) -> bool {
        let table = self.table.lock();
        let now = Ticks::of(self.began.elapsed());
        table.get(ino).is_some_and(|known| known.answered.are_within(span, now))
    }

    /// Pages of its data or listing are about to be handed out.
    pub fn gives_pages(&self, ino: Ino) {
        self.with(ino, |known| known.lookups_and_flags |= PAGES);
    }

    /// Whether it was given any since it was looked up. Invalidating them does not end that: a
    /// reader may bring in others before the invalidation is through.
    pub fn may_hold_pages(&self, ino: Ino) -> bool {
        self.table.lock().get(ino).is_some_and(|known| known.lookups_and_flags & PAGES != 0)
    }

    /// This name in this directory, or its absence, is about to be told for keeps.
    pub fn gives_name(&self, directory: Ino, name: &[u8]) {
        self.with(directory, |known| known.lookups_and_flags |= NAMES);
        if directory == Ino::ROOT {
            let mut names = self.root_names.lock();
            if !names.contains(name) {
                names.insert(name.into());
            }
        }
    }

    /// The names the kernel may know in the root.
    pub fn root_names(&self) -> BTreeSet<Name> {
        std::mem::take(&mut self.root_names.lock())
    }

    /// Whether the kernel may hold names of it; it holds none once the caller has invalidated them.
    pub fn takes_names_back(&self, directory: Ino) -> bool {
        self.with(directory, Known::take_names).unwrap_or(false)
    }

    /// Every inode the kernel holds, in ascending order.
    pub fn all(&self) -> Vec<Ino> {
        self.table.lock().iter().map(|(ino, _)| ino).collect()
    }

    fn with<T>(&self, ino: Ino, then: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut table = self.table.lock();
        if ino == Ino::ROOT && !table.contains(ino) {
            table.insert(ino, Known::default());
        }
        table.get_mut(ino).map(then)
    }
}

impl Known {
    fn lookups(&self) -> u32 {
        self.lookups_and_flags & LOOKUPS_MAX
    }

    fn set_lookups(&mut self, lookups: u32) {
        self.lookups_and_flags = self.lookups_and_flags & !LOOKUPS_MAX | lookups;
    }

    fn count(&mut self) {
        self.set_lookups((self.lookups() + 1).min(LOOKUPS_MAX));
    }

    /// Returns the lookups that are left. A count that has reached the top may stand for more: only
    /// who forgets that many at once, as the kernel does when it drops an inode, has forgotten all.
    fn forget(&mut self, lookups: u64) -> u32 {
        let left = u64::from(self.lookups()).saturating_sub(lookups) as u32;
        if left == 0 || self.lookups() < LOOKUPS_MAX {
            self.set_lookups(left);
        }
        self.lookups()
    }

    fn take_names(&mut self) -> bool {
        let had = self.lookups_and_flags & NAMES != 0;
        self.lookups_and_flags &= !NAMES;
        had
    }
}

/// Time since the mount began, as precise as matters here. They last for eight years, and then stay
/// at their top, where everything counts as answered just now.
#[derive(Clone, Copy, Default)]
struct Ticks(u32);

const TICK_MS: u64 = 64;

impl Ticks {
    fn of(since_began: Duration) -> Ticks {
        Ticks(u32::try_from(since_began.as_millis() / u128::from(TICK_MS)).unwrap_or(u32::MAX))
    }

    /// Whether they may lie less than `span` before `now`: each of both is up to a tick too early.
    fn are_within(self, span: Duration, now: Ticks) -> bool {
        let ticks = now.0.saturating_sub(self.0).saturating_sub(1);
        Duration::from_millis(u64::from(ticks) * TICK_MS) < span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_holds_an_inode_until_it_has_forgotten_every_lookup() {
        let inodes = Inodes::default();
        inodes.looked_up(Ino(20));
        inodes.looked_up(Ino(20));
        inodes.forget(Ino(20), 1);
        assert!(inodes.is_known(Ino(20)));
        inodes.forget(Ino(20), 1);
        assert!(!inodes.is_known(Ino(20)));
        assert!(inodes.is_known(Ino::ROOT));
    }

    #[test]
    fn the_kernel_holds_pages_only_of_inodes_it_holds() {
        let inodes = Inodes::default();
        inodes.gives_pages(Ino(20));
        assert!(!inodes.may_hold_pages(Ino(20)));
        inodes.looked_up(Ino(20));
        assert!(!inodes.may_hold_pages(Ino(20)));
        inodes.gives_pages(Ino(20));
        assert!(inodes.may_hold_pages(Ino(20)));
        inodes.forget(Ino(20), 1);
        assert!(!inodes.may_hold_pages(Ino(20)));
    }

    /// Each lookup counts, and so does what is forgotten of them, until the count is at its top.
    #[test]
    fn more_lookups_than_can_be_counted_are_forgotten_only_as_a_whole() {
        let mut known = Known::default();
        known.set_lookups(LOOKUPS_MAX - 1);
        known.lookups_and_flags |= PAGES;
        assert_eq!(known.forget(1), LOOKUPS_MAX - 2);
        for _ in 0..3 {
            known.count();
        }
        assert_eq!(known.forget(1), LOOKUPS_MAX);
        assert_eq!(known.lookups_and_flags & (PAGES | NAMES), PAGES);
        assert_eq!(known.forget(u64::from(LOOKUPS_MAX) + 1), 0);
    }

    #[test]
    fn names_are_taken_back_once() {
        let inodes = Inodes::default();
        inodes.gives_name(Ino(20), b"nobody");
        assert!(!inodes.takes_names_back(Ino(20)));
        inodes.looked_up(Ino(20));
        inodes.gives_name(Ino(20), b"somebody");
        inodes.gives_name(Ino::ROOT, b"somebody");
        for directory in [Ino(20), Ino::ROOT] {
            assert!(inodes.takes_names_back(directory));
            assert!(!inodes.takes_names_back(directory));
        }
        assert_eq!(inodes.all(), [Ino::ROOT, Ino(20)]);
        assert!(!inodes.may_hold_pages(Ino(20)));
    }

    /// Wherever between two ticks either moment lies; and for long after the ticks have run out.
    #[test]
    fn an_answer_is_within_a_span_for_no_less_than_it() {
        let span = Duration::from_secs(1);
        let after = |answered: Duration, elapsed: Duration| {
            Ticks::of(answered).are_within(span, Ticks::of(answered + elapsed))
        };
        for ms in 0..200 {
            let answered = Duration::from_millis(ms);
            assert!(after(answered, Duration::ZERO));
            assert!(after(answered, span - Duration::from_nanos(1)));
            assert!(!after(answered, span + Duration::from_millis(2 * TICK_MS)));
        }
        let nine_years = Duration::from_secs(9 * 365 * 86_400);
        assert!(after(nine_years, span / 2));
    }
}
