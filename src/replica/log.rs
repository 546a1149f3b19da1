//! The end of the log, in memory, as raft-rs reads it: [`raft::Storage`].
//!
//! Entries enter when raft hands them out, before they are durable, and leave from the front once
//! they are durable and applied and the window is full; older ones are read from the disk. Terms of
//! the whole log stay in memory as runs, so that only entries ever cost a read.

use super::terms::Terms;
use super::{LogBounds, LogReader, Recovered, SnapshotMark};
use crate::error::Error;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

pub(super) struct Window {
    bounds: LogBounds,
    reader: Box<dyn LogReader>,
    /// What the disk knew at start; raft asks once.
    initial: (HardState, ConfState),
    terms: Terms,
    /// The end of the log, without gaps.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Read ahead of [`raft::RawNode::ready`], which could not bear a failing disk.
    fetched: Vec<Entry>,
    snapshot: SnapshotMark,
    /// Someone needs a newer snapshot than there is.
    wants_snapshot: Cell<bool>,
    /// A read that failed inside raft, where only "not there" can be said.
    failure: RefCell<Option<io::Error>>,
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<Entry>()
}

impl Window {
    pub(super) fn recover(
        bounds: LogBounds,
        recovered: Recovered,
        reader: Box<dyn LogReader>,
    ) -> Result<Window, Error> {
        let Recovered { mut hard_state, snapshot, first, last, tail } = recovered;
        let base = base_of(&snapshot, first, last)?;
        let last = if last < first { snapshot.index } else { last };
        // A snapshot holds only what was committed; the hard state may be older than it.
        hard_state.commit = hard_state.commit.max(snapshot.index);
        if hard_state.term < snapshot.term {
            (hard_state.term, hard_state.vote) = (snapshot.term, 0);
        }
        if hard_state.commit > last {
            return Err(Error::Other(format!(
                "the log ends at {last}, but {} was committed: the disk lost entries",
                hard_state.commit
            )));
        }
        let mut window = Window {
            bounds,
            reader,
            initial: (hard_state, snapshot.conf.clone()),
            terms: Terms::starting_at(last, 0),
            entries: VecDeque::new(),
            bytes: 0,
            fetched: Vec::new(),
            snapshot,
            wants_snapshot: Cell::new(false),
            failure: RefCell::new(None),
        };
        window.take_tail(tail, base);
        window.check_snapshot(base)?;
        window.terms = Terms::find(base, last, |index| window.read_term(index))?;
        Ok(window)
    }

    /// Keeps the part of the tail that ends at `last` without a gap, after the base.
    fn take_tail(&mut self, tail: Vec<Entry>, base: u64) {
        for entry in tail.into_iter().rev() {
            if entry.index == self.start() - 1 && entry.index > base {
                self.bytes += size(&entry);
                self.entries.push_front(entry);
            }
        }
    }

    /// Raft would go on with entries that a snapshot has replaced.
    fn check_snapshot(&self, base: u64) -> Result<(), Error> {
        let SnapshotMark { index, term, .. } = self.snapshot;
        if index > base && self.stored_term(index)? != term {
            return Err(Error::Other(format!(
                "the log does not agree with the snapshot at {index}"
            )));
        }
        Ok(())
    }

    fn read_term(&self, index: u64) -> Result<u64, Error> {
        match index == self.snapshot.index {
            true => Ok(self.snapshot.term),
            false => self.stored_term(index),
        }
    }

    fn stored_term(&self, index: u64) -> Result<u64, Error> {
        if let Some(entry) = self.held(index) {
            return Ok(entry.term);
        }
        let read = self.reader.entries(index, index + 1, 0);
        let found = read.map(|entries| entries.first().map(|entry| entry.term));
        match found {
            Ok(Some(term)) => Ok(term),
            Ok(None) => Err(Error::Other(format!("the log does not hold its entry {index}"))),
            Err(error) => Err(Error::Other(format!("cannot read log entry {index}: {error}"))),
        }
    }

    /// Index of the first entry in memory; `last + 1` if there is none.
    fn start(&self) -> u64 {
        self.terms.last() + 1 - self.entries.len() as u64
    }

    fn held(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.start())? as usize)
    }

    pub(super) fn first(&self) -> u64 {
        self.terms.base() + 1
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    /// Adds entries; those they conflict with go. They follow the log without a gap.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let (base, last) = (self.terms.base(), self.terms.last());
        assert!(
            base < first.index && first.index <= last + 1,
            "raft appends at {}, to a log of {base} to {last}",
            first.index
        );
        self.truncate(first.index);
        for entry in entries {
            self.terms.push(entry.term);
            self.bytes += size(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Removes the entries from `index` on.
    fn truncate(&mut self, index: u64) {
        let kept = index.saturating_sub(self.start()).min(self.entries.len() as u64);
        self.bytes -= self.entries.drain(kept as usize..).map(|entry| size(&entry)).sum::<usize>();
        self.terms.truncate(index);
    }

    /// The log starts anew after a snapshot that came from the leader.
    pub(super) fn restart_at(&mut self, mark: SnapshotMark) {
        self.entries.clear();
        self.bytes = 0;
        self.terms = Terms::starting_at(mark.index, mark.term);
        self.snapshot = mark;
    }

    /// Makes room: entries up to `done` are durable and applied.
    pub(super) fn evict(&mut self, done: u64) {
        while (self.bytes > self.bounds.window_bytes
            || self.entries.len() > self.bounds.window_entries)
            && self.entries.front().is_some_and(|entry| entry.index <= done)
        {
            let entry = self.entries.pop_front().expect("there is a first entry");
            self.bytes -= size(&entry);
        }
    }

    /// A snapshot at `mark` is durable. Drops the log before it but for a tail for followers that
    /// lag, and nothing from `keep` on; tells the new base, if there is one.
    pub(super) fn compact(&mut self, mark: SnapshotMark, keep: u64) -> Option<u64> {
        if mark.index <= self.snapshot.index || mark.index > self.terms.last() {
            return None;
        }
        let (mut to, mut bytes) = (mark.index, 0);
        while to > self.terms.base() && mark.index - to < self.bounds.tail_entries {
            let Some(entry) = self.held(to) else { break };
            bytes += size(entry);
            if bytes > self.bounds.tail_bytes {
                break;
            }
            to -= 1;
        }
        self.snapshot = mark;
        let to = to.min(keep);
        (to > self.terms.base()).then(|| {
            self.drop_before(to);
            to
        })
    }

    /// Makes the entry at `index` the base.
    fn drop_before(&mut self, index: u64) {
        self.terms.drop_before(index);
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            let entry = self.entries.pop_front().expect("there is a first entry");
            self.bytes -= size(&entry);
        }
    }

    /// Reads what raft is about to hand out for applying, where it is no longer in memory.
    pub(super) fn fetch(&mut self, low: u64, high: u64, max_bytes: u64) -> io::Result<()> {
        self.fetched.clear();
        if low < self.start() && low < high {
            let high = high.min(self.start());
            self.fetched = self.reader.entries(low, high, max_bytes)?;
            if self.fetched.first().is_none_or(|entry| entry.index != low) {
                let text = format!("the log does not hold its entry {low}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }

    /// Whether raft asked for a snapshot that there is not, since the last call.
    pub(super) fn take_snapshot_wish(&self) -> bool {
        self.wants_snapshot.take()
    }

    /// A failed read since the last call.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Entries `low..high` that have left the memory, as far as they go.
    fn read_old(&self, low: u64, high: u64, max_bytes: u64) -> raft::Result<Vec<Entry>> {
        if let Some(first) = self.fetched.first()
            && first.index <= low
            && low < first.index + self.fetched.len() as u64
        {
            let skipped = (low - first.index) as usize;
            let wanted = (high - low) as usize;
            return Ok(self.fetched[skipped..].iter().take(wanted).cloned().collect());
        }
        self.reader.entries(low, high, max_bytes).map_err(|error| {
            self.failure.replace(Some(error));
            raft::Error::Store(StorageError::Compacted)
        })
    }
}

/// The entry before the first readable one. Its term must be known: it is the snapshot's, or that
/// of the first entry on disk.
fn base_of(snapshot: &SnapshotMark, first: u64, last: u64) -> Result<u64, Error> {
    if last < first || first == snapshot.index + 1 {
        return Ok(snapshot.index);
    }
    if first > snapshot.index || last < snapshot.index {
        return Err(Error::Other(format!(
            "the log holds {first} to {last}, but the newest snapshot is at {}: entries are missing",
            snapshot.index
        )));
    }
    Ok(first)
}

impl Storage for Window {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let (hard_state, conf) = self.initial.clone();
        Ok(RaftState::new(hard_state, conf))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.terms.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let max = max_size.into().unwrap_or(u64::MAX);
        let start = self.start();
        if low < start {
            return self.read_old(low, high.min(start), max);
        }
        let mut bytes = 0;
        let wanted = self.entries.range((low - start) as usize..(high - start) as usize);
        let taken = wanted.enumerate().take_while(|(number, entry)| {
            bytes += size(entry) as u64;
            *number == 0 || bytes <= max
        });
        Ok(taken.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.terms.of(index).ok_or(raft::Error::Store(if index < self.terms.base() {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.terms.last())
    }

    /// The newest one, if it can be restored by `to`: raft takes none that does not know its
    /// receiver.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let SnapshotMark { index, conf, .. } = &self.snapshot;
        let known = conf.voters.contains(&to) || conf.learners.contains(&to);
        if *index == 0 || *index < request_index || !known {
            self.wants_snapshot.set(true);
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot.index;
        metadata.term = self.snapshot.term;
        metadata.set_conf_state(self.snapshot.conf.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
