//! What a replica keeps across restarts, in one data directory:
//!
//! ```text
//! DIR/identity     whose directory this is          identity.rs
//! DIR/starts       its starts                       starts.rs
//! DIR/place        where the directory lies         place.rs
//! DIR/lock         held by the running process      directory.rs
//! DIR/log/         the Raft log and hard state      log.rs on log_files.rs
//! DIR/snapshots/   the tree at an index, whole      snapshots.rs
//! DIR/backup/      the backup repositories          (backup/)
//! ```
//!
//! A write that fails is the end: the kernel may have dropped the pages it could not write, so a
//! later success proves nothing. The failed log refuses everything after its first error, and the
//! node above stops with a message that names the file.

mod directory;
mod identity;
mod log;
mod log_files;
mod place;
pub mod private;
mod snapshots;
mod starts;
mod torn;

pub use directory::DataDirectory;
pub use identity::{FORMAT, Identity};
pub use log::RaftLog;
pub use log_files::{FaultInjector, FileOperation};
pub use snapshots::{ReceivedSnapshot, SnapshotFile, SnapshotReader, Snapshots};
pub use starts::Starts;

use raft::eraftpb::{Entry, HardState};
use std::io;

/// The log of one replica. Any error of [`Disk::write`] is final: the caller stops for good.
pub trait Disk: Send + Sync {
    /// Makes all of it durable with one write and one sync, in order.
    fn write(&self, writes: &[LogWrite]) -> io::Result<()>;

    /// Durable entries `low..high`, fewer if they exceed `max_bytes`, but at least one.
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>>;

    /// What a restart starts from.
    fn state(&self) -> LogState;

    /// Gives back or recycles the files that compaction emptied. May take a while.
    fn purge(&self) -> io::Result<()>;

    /// Bytes the log takes on disk.
    fn bytes(&self) -> u64;
}

/// One step of a log. The fields take effect in their order.
#[derive(Clone, Debug, Default)]
pub struct LogWrite {
    /// Forget every entry: the log goes on after a snapshot at this index.
    pub restart_after: Option<u64>,
    /// Replace whatever stood at their indexes and behind.
    pub entries: Vec<Entry>,
    /// Forget the entries before this index.
    pub compact_to: Option<u64>,
    pub hard_state: Option<HardState>,
}

/// The durable state of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogState {
    pub hard_state: HardState,
    /// Entries up to here are gone: only a snapshot at or after this index can stand for them.
    pub base: u64,
    /// First and last index, if there is any entry.
    pub span: Option<(u64, u64)>,
}
