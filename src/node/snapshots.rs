//! Snapshots of the tree: when one is due, writing it beside the driver, and carrying it to a
//! replica that lags behind the log.

use super::arrived::Arrived;
use super::shared::{Job, Shared};
use crate::disk::SnapshotReader;
use crate::mailbox::Taken;
use crate::peers::bulk::BulkHandler;
use crate::replica::{Input, PeerMessage, SnapshotMark};
use crate::tree::{Level, ReplicaId, Tree};
use log::{info, warn};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Under which the side channel carries them.
pub const BULK_KIND: &str = "snapshot";
/// Log since the last snapshot that makes the next one due. Not less than the snapshot itself: so
/// writing snapshots at most doubles what is written.
const LOG_BYTES: u64 = 64 << 20;
/// Entries likewise: a restart applies them all again, at some microseconds each.
const LOG_ENTRIES: u64 = 200_000;
/// What an entry costs the log beside its data.
const ENTRY_BYTES: u64 = 48;
/// After a snapshot that could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// For this replica to hear from a new leader that it leads.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);
const LEADER_POLL: Duration = Duration::from_millis(20);

/// Decides when a snapshot is due.
pub struct Trigger {
    entries: u64,
    bytes: u64,
    last_bytes: u64,
    busy: bool,
    not_before: Instant,
}

impl Trigger {
    pub fn new(shared: &Shared) -> Trigger {
        let newest = shared.snapshots.list().ok().and_then(|list| list.into_iter().next());
        Trigger {
            entries: 0,
            bytes: 0,
            last_bytes: newest.map_or(0, |file| file.bytes),
            busy: false,
            not_before: Instant::now(),
        }
    }

    /// Counts what was applied; true if the tree shall be frozen now.
    pub fn is_due(&mut self, entries: u64, bytes: u64) -> bool {
        self.entries += entries;
        self.bytes += bytes + entries * ENTRY_BYTES;
        let much = self.bytes > LOG_BYTES.max(self.last_bytes) || self.entries > LOG_ENTRIES;
        much && self.force()
    }

    /// A snapshot is wanted now; false if one is being written or has just failed.
    pub fn force(&mut self) -> bool {
        let free = !self.busy && Instant::now() >= self.not_before;
        if free {
            (self.entries, self.bytes, self.busy) = (0, 0, true);
        }
        free
    }

    /// The writer is done; `None`: it failed.
    pub fn written(&mut self, bytes: Option<u64>) {
        self.busy = false;
        match bytes {
            Some(bytes) => self.last_bytes = bytes,
            None => {
                self.entries = LOG_ENTRIES;
                self.not_before = Instant::now() + RETRY;
            }
        }
    }

    /// The log starts anew after a snapshot of the leader's.
    pub fn restored(&mut self) {
        (self.entries, self.bytes) = (0, 0);
    }
}

/// The writer's thread: one snapshot at a time, beside the driver.
pub fn write_frozen(shared: &Arc<Shared>) {
    let mut frozen = Vec::new();
    while shared.frozen.take(&mut frozen, None) == Taken::Items {
        for (mark, tree) in frozen.drain(..) {
            let started = Instant::now();
            let written = shared.snapshots.write(&mark, |to| tree.write_snapshot(to));
            match &written {
                Ok(file) => info!(
                    "snapshot at {}: {} bytes in {:.1?}",
                    mark.index,
                    file.bytes,
                    started.elapsed()
                ),
                Err(error) => warn!("no snapshot at {}, trying again soon: {error}", mark.index),
            }
            shared.metrics.snapshots_written.add(u64::from(written.is_ok()));
            shared.tell(Job::SnapshotWritten { mark, bytes: written.ok().map(|file| file.bytes) });
        }
    }
}

/// Carries the snapshot at (`index`, `term`) to a peer on a thread of its own, and then raft's
/// message about it.
pub fn send(shared: &Arc<Shared>, to: ReplicaId, index: u64, term: u64, message: Vec<u8>) {
    let started = shared.spawn("send-snapshot", move |shared| {
        let pushed = push(shared, to, index, term);
        if let Err(error) = &pushed {
            warn!("snapshot {index} does not reach replica {to}: {error}");
        } else {
            shared.metrics.snapshots_sent.add(1);
            shared.queue(to, PeerMessage::Snapshot { index, term, message });
            shared.peers.flush();
        }
        shared.tell(Job::Input(Input::SnapshotSent { to, ok: pushed.is_ok() }));
    });
    if let Err(error) = started {
        warn!("{error}");
        shared.tell(Job::Input(Input::SnapshotSent { to, ok: false }));
    }
}

fn push(shared: &Shared, to: ReplicaId, index: u64, term: u64) -> io::Result<()> {
    let found = shared.snapshots.find(index, term)?;
    let file = found.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "it is gone"))?;
    let mut data = File::open(&file.path)?;
    let name = format!("{index}-{term}");
    info!("sending snapshot {index} ({} bytes) to replica {to}", file.bytes);
    shared.peers.bulk().push(to, BULK_KIND, &name, file.bytes, &mut data).map(drop)
}

/// Receives what [`send`] carries, one at a time.
pub struct Receiver {
    pub shared: Arc<Shared>,
    pub busy: Mutex<()>,
}

impl Receiver {
    /// Only the leader's snapshots are worth their room. It may lead since a moment.
    fn check_leader(&self, from: ReplicaId) -> io::Result<()> {
        let end = Instant::now() + LEADER_PATIENCE;
        while self.shared.status.lock().leader != Some(from) {
            if Instant::now() >= end {
                let text = "only the leader sends snapshots";
                return Err(io::Error::new(ErrorKind::PermissionDenied, text));
            }
            std::thread::sleep(LEADER_POLL);
        }
        Ok(())
    }

    fn check_cluster(&self, tree: &Tree) -> io::Result<()> {
        let own = self.shared.tree.read().cluster();
        if own.is_some() && tree.cluster() != own {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is another cluster's"));
        }
        Ok(())
    }
}

impl BulkHandler for Receiver {
    fn receive(
        &self,
        from: ReplicaId,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        let parse = || -> Option<(u64, u64)> {
            let (index, term) = name.split_once('-')?;
            Some((index.parse().ok()?, term.parse().ok()?))
        };
        let (index, term) = parse().ok_or(ErrorKind::InvalidInput)?;
        let Some(_one) = self.busy.try_lock() else {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "another one is on its way"));
        };
        self.check_leader(from)?;
        let file = self.shared.snapshots.receive(index, term, length, data)?;
        let loaded = load(file.path(), self.shared.config.program.level);
        let (mark, tree) = loaded.inspect_err(|error| {
            if error.kind() == ErrorKind::Unsupported {
                self.shared.refused(format!("the leader's snapshot was {error}"));
            }
        })?;
        self.check_cluster(&tree)?;
        info!("snapshot {index} ({length} bytes) has come from replica {from}");
        *self.shared.arrived.lock() = Some(Arrived { from, mark, tree, file });
        Ok(Vec::new())
    }

    fn fetch(
        &self,
        _: ReplicaId,
        _: &str,
        _: u64,
        _: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)> {
        Err(io::Error::new(ErrorKind::Unsupported, "snapshots are pushed, not fetched"))
    }
}

/// Reads a snapshot file, all of it checked. `Unsupported` if a program that `can` do so much
/// cannot read it.
pub fn load(path: &Path, can: Level) -> io::Result<(SnapshotMark, Tree)> {
    let mut reader = SnapshotReader::open(path)?;
    let mark = reader.mark().clone();
    let tree = Tree::read_snapshot(&mut reader, can)?;
    reader.finish()?;
    if tree.zxid() != mark.index {
        let text = format!("says {} but holds the tree at {}", mark.index, tree.zxid());
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok((mark, tree))
}
