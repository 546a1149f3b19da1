//! A host's disk: what is durable, and what is only on its way there when the power goes.

use super::WORK_IN_ONE_ENTRY;
use super::dice::Dice;
use crate::replica::{LogReader, Persist, Recovered, SnapshotMark};
use crate::tree::{Level, Tree};
use parking_lot::Mutex;
use raft::eraftpb::{Entry, HardState};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// A snapshot as a file would hold it.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub mark: SnapshotMark,
    pub bytes: Arc<[u8]>,
}

/// How many snapshots a host keeps.
const SNAPSHOTS_KEPT: usize = 2;

#[derive(Clone, Debug, Default)]
struct Durable {
    hard_state: HardState,
    log: BTreeMap<u64, Entry>,
    /// Of this replica's own making, or received and then adopted by the log.
    snapshots: BTreeMap<u64, Snapshot>,
    /// Received whole, not yet adopted: the next start ignores it.
    received: BTreeMap<u64, Snapshot>,
}

impl Durable {
    fn carry_out(&mut self, job: &Persist) {
        if let Some(mark) = &job.snapshot {
            self.log.clear();
            if let Some(received) = self.received.remove(&mark.index) {
                self.keep(Snapshot { mark: mark.clone(), ..received });
            }
        }
        if let Some(first) = job.entries.first() {
            self.log.split_off(&first.index);
            self.log.extend(job.entries.iter().map(|entry| (entry.index, entry.clone())));
        }
        if let Some(hard_state) = &job.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(index) = job.compact_to {
            self.log = self.log.split_off(&index);
        }
    }

    /// A log that neither holds the snapshot's entry nor begins right after it gives way.
    fn agree_with(&mut self, mark: &SnapshotMark) {
        let begins_after = self.log.keys().next() == Some(&(mark.index + 1));
        let holds = self.log.get(&mark.index).is_some_and(|entry| entry.term == mark.term);
        if !begins_after && !holds {
            self.log.clear();
        }
    }

    fn keep(&mut self, snapshot: Snapshot) {
        self.snapshots.insert(snapshot.mark.index, snapshot);
        while self.snapshots.len() > SNAPSHOTS_KEPT {
            self.snapshots.pop_first();
        }
    }
}

/// Reads what is durable, as the replica's window asks for it.
struct Reader(Arc<Mutex<Durable>>);

impl LogReader for Reader {
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let durable = self.0.lock();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in low..high {
            let Some(entry) = durable.log.get(&index) else {
                let gap = format!("entry {index} of {low}..{high} is not in the log");
                return Err(io::Error::new(io::ErrorKind::NotFound, gap));
            };
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

#[derive(Default)]
pub(super) struct Disk {
    durable: Arc<Mutex<Durable>>,
    /// Given by the replica, waiting for the write that is under way.
    waiting: VecDeque<Persist>,
    /// In the write that is under way.
    writing: Vec<Persist>,
}

impl Disk {
    /// What is durable now, on another disk.
    pub fn copy(&self) -> Disk {
        let durable = self.durable.lock().clone();
        Disk { durable: Arc::new(Mutex::new(durable)), ..Disk::default() }
    }

    /// Takes a job; true if the disk was idle, so that a write of all that waits begins now.
    pub fn submit(&mut self, job: Persist) -> bool {
        self.waiting.push_back(job);
        self.start_writing()
    }

    fn start_writing(&mut self) -> bool {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.writing = self.waiting.drain(..).collect();
        true
    }

    /// The write under way is durable: its jobs, and whether another begins at once.
    pub fn written(&mut self) -> (Vec<Persist>, bool) {
        let done = std::mem::take(&mut self.writing);
        let mut durable = self.durable.lock();
        done.iter().for_each(|job| durable.carry_out(job));
        drop(durable);
        (done, self.start_writing())
    }

    /// The power goes. Of the write under way any number of whole jobs got through: a torn one is
    /// cut off by its checksum at the next start. What waited is lost.
    pub fn crash(&mut self, dice: &mut Dice) {
        let through = dice.roll(self.writing.len() + 1);
        let mut durable = self.durable.lock();
        self.writing.drain(..).take(through).for_each(|job| durable.carry_out(&job));
        durable.received.clear();
        self.waiting.clear();
    }

    /// A snapshot of this replica's own is durable.
    pub fn keep_snapshot(&mut self, snapshot: Snapshot) {
        self.durable.lock().keep(snapshot);
    }

    /// A snapshot from a peer is durable and verified.
    pub fn receive_snapshot(&mut self, snapshot: Snapshot) {
        self.durable.lock().received.insert(snapshot.mark.index, snapshot);
    }

    /// One that is there, of one's own or received.
    pub fn snapshot(&self, index: u64) -> Option<Snapshot> {
        let durable = self.durable.lock();
        durable.snapshots.get(&index).or_else(|| durable.received.get(&index)).cloned()
    }

    pub fn is_blank(&self) -> bool {
        let durable = self.durable.lock();
        durable.log.is_empty()
            && durable.snapshots.is_empty()
            && durable.hard_state == HardState::default()
    }

    /// What the replica starts from, with the tree of the newest snapshot. Between nothing and all
    /// of the log is in the `tail`: the window has to fetch the rest.
    pub fn recover(
        &self,
        dice: &mut Dice,
        can: Level,
    ) -> io::Result<(Recovered, Tree, Box<dyn LogReader>)> {
        let mut durable = self.durable.lock();
        let (mark, mut tree) = match durable.snapshots.last_key_value() {
            Some((_, newest)) => {
                (newest.mark.clone(), Tree::read_snapshot(&mut &*newest.bytes, can)?)
            }
            None => (SnapshotMark::default(), Tree::new()),
        };
        tree.limit_work(WORK_IN_ONE_ENTRY);
        durable.agree_with(&mark);
        let last = durable.log.last_key_value().map_or(mark.index, |(index, _)| *index);
        let first = durable.log.first_key_value().map_or(last + 1, |(index, _)| *index);
        let kept = dice.roll(durable.log.len() + 1);
        let tail = durable.log.values().skip(durable.log.len() - kept).cloned().collect();
        let hard_state = durable.hard_state.clone();
        let recovered = Recovered { hard_state, snapshot: mark, first, last, tail };
        Ok((recovered, tree, Box::new(Reader(self.durable.clone()))))
    }
}
