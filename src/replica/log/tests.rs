//! The window over a disk that holds or fails.

use super::*;

/// A disk that holds every entry below its bound, and fails above.
struct Disk(u64);

fn entry(index: u64) -> Entry {
    Entry { index, term: 1 + index / 10, data: vec![0; 100].into(), ..Entry::default() }
}

impl LogReader for Disk {
    fn entries(&self, low: u64, high: u64, _max_bytes: u64) -> io::Result<Vec<Entry>> {
        if high > self.0 {
            Err(io::Error::other("gone"))
        } else {
            Ok((low..high).map(entry).collect())
        }
    }
}

/// Entries 1 to 40, of which the window keeps the last 16.
fn window(disk: Disk) -> Window {
    let bounds = LogBounds { window_entries: 16, tail_entries: 8, ..LogBounds::default() };
    let mut window = Window::recover(bounds, Recovered::default(), Box::new(disk)).unwrap();
    window.append(&(1..=40).map(entry).collect::<Vec<_>>());
    window.evict(40);
    window
}

fn read(window: &Window, low: u64, high: u64) -> raft::Result<Vec<u64>> {
    let read = window.entries(low, high, None, GetEntriesContext::empty(false))?;
    Ok(read.iter().map(|entry| entry.index).collect())
}

#[test]
fn what_has_left_the_memory_is_read_from_the_disk() {
    let window = window(Disk(100));
    assert_eq!((window.start(), window.first_index(), window.last_index()), (25, Ok(1), Ok(40)));
    assert_eq!(read(&window, 30, 33), Ok(vec![30, 31, 32]));
    assert_eq!(read(&window, 22, 30), Ok(vec![22, 23, 24]), "as far as the disk has to go");
    assert_eq!((window.term(5), window.term(29)), (Ok(1), Ok(3)));
}

#[test]
fn what_is_not_yet_durable_or_applied_stays_in_memory() {
    let mut window = window(Disk(0));
    window.append(&(41..=90).map(entry).collect::<Vec<_>>());
    window.evict(50);
    assert_eq!(window.start(), 51);
    assert_eq!(read(&window, 51, 54), Ok(vec![51, 52, 53]));
}

#[test]
fn a_failing_disk_is_noticed() {
    let mut window = window(Disk(0));
    assert!(read(&window, 3, 5).is_err());
    assert_eq!(window.take_failure().unwrap().to_string(), "gone");
    assert!(window.take_failure().is_none());
    assert!(window.fetch(3, 9, 1).is_err());
    assert!(window.fetch(30, 39, 1).is_ok(), "nothing to read");
}

#[test]
fn a_snapshot_leaves_a_tail() {
    let mark = |index| SnapshotMark { index, term: 1 + index / 10, conf: ConfState::default() };
    let mut window = window(Disk(100));
    assert_eq!(window.compact(mark(36), u64::MAX), Some(28));
    assert_eq!((window.first(), window.term(28), window.last_index()), (29, Ok(3), Ok(40)));
    assert!(matches!(read(&window, 28, 30), Err(raft::Error::Store(StorageError::Compacted))));
    assert_eq!(window.compact(mark(36), u64::MAX), None, "an older one leaves all as it is");
    assert_eq!(window.compact(mark(39), 30), Some(30), "nothing that a follower needs");
}

#[test]
fn a_log_that_lacks_entries_is_refused() {
    let refused = |index, term, first, last| {
        let snapshot = SnapshotMark { index, term, conf: ConfState::default() };
        let recovered = Recovered { snapshot, first, last, ..Recovered::default() };
        Window::recover(LogBounds::default(), recovered, Box::new(Disk(100))).is_err()
    };
    assert!(!refused(20, 3, 10, 30));
    assert!(!refused(20, 3, 21, 20) && !refused(20, 3, 21, 30));
    assert!(refused(20, 3, 22, 30), "a gap");
    assert!(refused(20, 3, 10, 19), "it ends before the snapshot");
    assert!(refused(20, 4, 10, 30), "another history");
}
