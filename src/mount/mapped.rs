//! What the kernel was given into its page cache of files that may be mapped for writing.
//!
//! A store through a shared mapping comes back as whole pages, with whatever the page held when it
//! was read. Meanwhile a `write` of this host, which passes the page by, or another host may have
//! changed other bytes of it. So what the kernel was given is remembered, and of what it writes
//! back only the bytes that differ are the mapping's.
//!
//! The kernel reads, writes back and drops any one page strictly one after the other, so that what
//! is remembered of it is what it had. It drops all pages of a file that is mapped for writing
//! anew: what it was given before anybody had the file open for that need not be known.

use crate::tree::{Ino, Stored};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The grain in which pages are remembered: no kernel has smaller ones.
const PAGE_BYTES: usize = 4096;
/// Pages remembered at most, in all files together: 64 MiB. Of one that is not, what comes back is
/// written whole.
const PAGES_MAX: usize = 16_384;

type Page = [u8; PAGE_BYTES];

#[derive(Default)]
pub struct Mapped {
    files: Mutex<HashMap<Ino, File>>,
    pages: Arc<AtomicUsize>,
}

struct File {
    /// Descriptors for reading and writing: one is needed to map the file for writing.
    descriptors: usize,
    pages: Arc<Mutex<Pages>>,
}

struct Pages {
    /// There was no room for some.
    incomplete: bool,
    by_number: BTreeMap<u64, Box<Page>>,
    /// Those of all files.
    count: Arc<AtomicUsize>,
}

impl Mapped {
    /// A descriptor for reading and writing was opened; no reply has left yet.
    pub fn opened(&self, ino: Ino) {
        let new = || File { descriptors: 0, pages: Arc::new(Mutex::new(self.no_pages())) };
        self.files.lock().entry(ino).or_insert_with(new).descriptors += 1;
    }

    /// One that was [`Mapped::opened`] is closed, and with it every mapping that was made of it.
    pub fn closed(&self, ino: Ino) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&ino) else { return };
        file.descriptors -= 1;
        if file.descriptors == 0 {
            files.remove(&ino);
        }
    }

    /// Whether the kernel was given pages of it, so that a mapping may have changed some.
    pub fn is_mapped(&self, ino: Ino) -> bool {
        self.pages_of(ino).is_some_and(|pages| {
            let pages = pages.lock();
            pages.incomplete || !pages.by_number.is_empty()
        })
    }

    /// The kernel asked for `length` bytes at `offset`, whole pages, and is about to be given
    /// `data`; it takes what is missing for zeros.
    pub fn given(&self, ino: Ino, offset: u64, length: usize, data: &[u8]) {
        let Some(pages) = self.pages_of(ino) else { return };
        let mut pages = pages.lock();
        for start in (0..length).step_by(PAGE_BYTES) {
            let now = data.get(start..data.len().min(start + PAGE_BYTES)).unwrap_or_default();
            pages.keep(offset + start as u64, now);
        }
    }

    /// What of `data`, which the kernel writes back at `offset`, was stored through mappings.
    /// `None`: nothing.
    pub fn stored(&self, ino: Ino, offset: u64, data: &[u8]) -> Option<Stored> {
        let mut changed = vec![0; data.len().div_ceil(8)];
        let pages = self.pages_of(ino);
        let pages = pages.as_ref().map(|pages| pages.lock());
        for (at, now) in pieces(offset, data.len()) {
            let place = offset + at.start as u64;
            let page = pages.as_ref().and_then(|pages| pages.by_number.get(&number(place)));
            let before = page.map(|page| &page[now]);
            for (index, byte) in data[at.clone()].iter().enumerate() {
                if before.is_none_or(|before| before[index] != *byte) {
                    changed[(at.start + index) / 8] |= 1 << ((at.start + index) % 8);
                }
            }
        }
        // Most stores touch little of a page: what lies before and after need not travel.
        let first = changed.iter().position(|bits| *bits != 0)?;
        let last = changed.iter().rposition(|bits| *bits != 0)?;
        Some(Stored {
            ino,
            offset: offset + 8 * first as u64,
            data: data[8 * first..data.len().min(8 * last + 8)].into(),
            changed: changed[first..=last].into(),
        })
    }

    /// What the kernel wrote back is committed: its pages were changed from this on.
    pub fn taken(&self, ino: Ino, offset: u64, data: &[u8]) {
        let Some(pages) = self.pages_of(ino) else { return };
        let mut pages = pages.lock();
        for (at, within) in pieces(offset, data.len()) {
            let number = number(offset + at.start as u64);
            if let Some(page) = pages.by_number.get_mut(&number) {
                page[within].copy_from_slice(&data[at]);
            }
        }
    }

    /// The kernel drops what lies in this range, and makes zeros of what shares a page with it, as
    /// it does where a file is cut off or a hole is made.
    pub fn zeroed(&self, ino: Ino, from: u64, to: u64) {
        let Some(pages) = self.pages_of(ino) else { return };
        let mut pages = pages.lock();
        for (number, page) in pages.by_number.range_mut(number(from)..=number(to)) {
            let start = number * PAGE_BYTES as u64;
            let within = |place: u64| place.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
            page[within(from)..within(to)].fill(0);
        }
    }

    fn pages_of(&self, ino: Ino) -> Option<Arc<Mutex<Pages>>> {
        self.files.lock().get(&ino).map(|file| Arc::clone(&file.pages))
    }

    fn no_pages(&self) -> Pages {
        let (by_number, count) = (BTreeMap::new(), Arc::clone(&self.pages));
        Pages { incomplete: false, by_number, count }
    }
}

impl Pages {
    fn keep(&mut self, offset: u64, data: &[u8]) {
        let number = number(offset);
        if !self.by_number.contains_key(&number) {
            if self.count.load(Ordering::Relaxed) >= PAGES_MAX {
                self.incomplete = true;
                return;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let page = self.by_number.entry(number).or_insert_with(|| Box::new([0; PAGE_BYTES]));
        page[..data.len()].copy_from_slice(data);
        page[data.len()..].fill(0);
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.count.fetch_sub(self.by_number.len(), Ordering::Relaxed);
    }
}

fn number(offset: u64) -> u64 {
    offset / PAGE_BYTES as u64
}

type Range = std::ops::Range<usize>;

/// `length` bytes at `offset`, page by page: where in the bytes, and where in the page.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (Range, Range)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let within = ((offset + at as u64) % PAGE_BYTES as u64) as usize;
        let taken = (PAGE_BYTES - within).min(length - at);
        let piece = (at..at + taken, within..within + taken);
        at += taken;
        (taken > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(20);
    const PAGE: u64 = PAGE_BYTES as u64;

    /// What was stored, as (offset, bytes) of each run.
    fn runs(mapped: &Mapped, offset: u64, data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let Some(stored) = mapped.stored(FILE, offset, data) else { return Vec::new() };
        let run = |(at, data): (u64, &[u8])| (at, data.to_vec());
        stored.runs().map(run).collect()
    }

    fn with_two_pages() -> Mapped {
        let mapped = Mapped::default();
        mapped.opened(FILE);
        mapped.given(FILE, 0, 2 * PAGE_BYTES, &[1; PAGE_BYTES + 10]);
        mapped
    }

    #[test]
    fn only_what_differs_was_stored() {
        let mapped = with_two_pages();
        let mut page = [1; PAGE_BYTES];
        assert_eq!(runs(&mapped, 0, &page), []);
        page[7..9].fill(2);
        page[4000] = 3;
        let stored = [(7, vec![2, 2]), (4000, vec![3])];
        assert_eq!(runs(&mapped, 0, &page), stored);
        assert_eq!(runs(&mapped, 0, &page), stored, "until it is committed");
        mapped.taken(FILE, 0, &page);
        assert_eq!(runs(&mapped, 0, &page), []);
        page[7] = 1;
        assert_eq!(runs(&mapped, 0, &page), [(7, vec![1])]);
    }

    #[test]
    fn what_was_missing_was_zeros_and_what_is_unknown_was_stored() {
        let mapped = with_two_pages();
        assert_eq!(runs(&mapped, PAGE, &[1; 12]), [(PAGE + 10, vec![1, 1])]);
        assert_eq!(runs(&mapped, 2 * PAGE - 1, &[0, 0]), [(2 * PAGE, vec![0])]);
        mapped.closed(FILE);
        assert_eq!(runs(&mapped, 0, &[1; 3]), [(0, vec![1; 3])]);
    }

    #[test]
    fn what_is_cut_off_leaves_zeros() {
        let mapped = with_two_pages();
        mapped.zeroed(FILE, 5, u64::MAX);
        let mut page = [0; PAGE_BYTES];
        page[..5].fill(1);
        assert_eq!(runs(&mapped, 0, &page), []);
        assert_eq!(runs(&mapped, PAGE, &[0; 20]), []);
    }

    #[test]
    fn no_more_is_remembered_than_has_room() {
        let mapped = Mapped::default();
        for ino in 0..20 {
            mapped.opened(Ino(ino));
            mapped.given(Ino(ino), 0, 1000 * PAGE_BYTES, &[]);
        }
        assert_eq!(mapped.pages.load(Ordering::Relaxed), PAGES_MAX);
        assert!((0..20).all(|ino| mapped.is_mapped(Ino(ino))));
        assert!(mapped.stored(Ino(0), 0, &[0]).is_none());
        assert!(mapped.stored(Ino(19), 0, &[0]).is_some());
        (0..20).for_each(|ino| mapped.closed(Ino(ino)));
        assert_eq!(mapped.pages.load(Ordering::Relaxed), 0);
    }
}
