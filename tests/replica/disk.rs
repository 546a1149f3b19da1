//! A replica's disk in a script.

use keepfs::replica::{LogReader, Persist, SnapshotMark};
use raft::eraftpb::{Entry, HardState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub snapshot: SnapshotMark,
    pub entries: Vec<Entry>,
    /// Trees by the index of their snapshot.
    pub trees: BTreeMap<u64, Vec<u8>>,
}

pub struct Reader(pub Arc<Mutex<Disk>>);

impl LogReader for Reader {
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> std::io::Result<Vec<Entry>> {
        let disk = self.0.lock().unwrap();
        let mut bytes = 0;
        let wanted = disk.entries.iter().filter(|e| (low..high).contains(&e.index));
        let taken = wanted.enumerate().take_while(|(number, entry)| {
            bytes += entry.data.len() as u64;
            *number == 0 || bytes <= max_bytes
        });
        Ok(taken.map(|(_, entry)| entry.clone()).collect())
    }
}

impl Disk {
    pub fn write(&mut self, job: &Persist) {
        if let Some(mark) = &job.snapshot {
            self.entries.clear();
            self.snapshot = mark.clone();
        }
        if let Some(first) = job.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            let last = self.entries.last().map(|entry| entry.index);
            assert!(last.is_none_or(|last| last + 1 == first.index), "a gap in the log");
            self.entries.extend(job.entries.iter().cloned());
        }
        if let Some(to) = job.compact_to {
            self.entries.retain(|entry| entry.index >= to);
        }
        if let Some(hard_state) = &job.hard_state {
            self.hard_state = hard_state.clone();
        }
    }

    /// A log that does not agree with the snapshot gives way to it.
    pub fn agree(&mut self) {
        let SnapshotMark { index, term, .. } = self.snapshot;
        let begins_after = self.entries.first().is_some_and(|entry| entry.index == index + 1);
        let holds = |entry: &Entry| (entry.index, entry.term) == (index, term);
        if !begins_after && !self.entries.iter().any(holds) {
            self.entries.clear();
        }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The log loses its end, as a disk that lied about a sync would make it.
    pub fn lose(&mut self, from: u64) {
        self.entries.retain(|entry| entry.index < from);
        self.hard_state.commit = self.hard_state.commit.min(from - 1);
    }

    /// An entry's bytes change, but the first, which is its level.
    pub fn damage(&mut self, index: u64) {
        let entry = self.entries.iter_mut().find(|entry| entry.index == index);
        let entry = entry.expect("such an entry");
        entry.data = [&entry.data[..1], &[0xff; 19]].concat().into();
    }
}
