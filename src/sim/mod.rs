//! A whole cluster in one thread, from one seed: the real [`Replica`] and [`Tree`] in a world whose
//! time, network, disks, clocks, crashes and clients are all made of one stream of chance.
//! Checkers, not eyes, judge what comes out. The same seed always tells the same story: see
//! [`Report::trace`].
//!
//! ```text
//! agenda (time, turn) -> Event -> Replica::step -> Effects -> more events
//!                                      |              |-> clients (workload) -> more submissions
//!                                      |              '-> checker
//! ```

mod beliefs;
mod checker;
mod clock;
mod cluster;
mod dice;
mod disk;
mod drive;
mod faults;
mod history;
mod host;
mod layout;
mod membership;
mod network;
mod scene;
mod trace;
mod travel;
mod travellers;
mod upgrades;
mod workload;

pub use cluster::run;

#[cfg(doc)]
use crate::{replica::Replica, tree::Tree};

/// What an entry does beside what it asks for: so little that what sessions leave takes several.
pub(crate) const WORK_IN_ONE_ENTRY: usize = 2;

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000 * MICROSECOND;
pub(crate) const SECOND: u64 = 1_000 * MILLISECOND;

/// What kind of world a seed is played in.
#[derive(Clone, Debug)]
pub struct Settings {
    pub replicas: usize,
    /// On each host.
    pub clients: usize,
    /// Nanoseconds of the world's time with clients, and with faults if there are any. The time to
    /// recover comes on top.
    pub length: u64,
    /// Crashes, partitions, pauses, clock jumps, loss. Without them nothing may ever fail.
    pub faults: bool,
    /// The only faults are replicas that stand still, one at a time, when a client of theirs holds
    /// a lock, and the clients go on and dare by it.
    pub sleepers: bool,
    /// A host takes a snapshot after this many entries.
    pub snapshot_every: u64,
    /// Keep the lines of the trace, not only their hash.
    pub keep_trace: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            replicas: 3,
            clients: 3,
            length: 15 * SECOND,
            faults: true,
            sleepers: false,
            snapshot_every: 100,
            keep_trace: false,
        }
    }
}

/// How one run went.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    /// Hash of all that happened: equal for equal seeds and settings.
    pub trace: u64,
    /// The lines behind the hash, if they were kept.
    pub lines: Vec<String>,
    /// What must never be, and was. Empty: the run is good.
    pub violations: Vec<String>,
    pub counts: Counts,
}

/// How much a run has tried, so that a test can tell whether it tested anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the replicated log that were applied somewhere.
    pub entries: u64,
    /// Operations clients asked for, and those that were answered well.
    pub asked: u64,
    pub answered: u64,
    /// Files made by clients that go from host to host.
    pub travelled: u64,
    /// Locks and tickets held.
    pub held: u64,
    /// Writes under a lock.
    pub guarded: u64,
    pub crashes: u64,
    pub partitions: u64,
    /// Hosts that joined the cluster, and that left it.
    pub joined: u64,
    pub left: u64,
    /// Hosts that came back with an empty disk.
    pub disks_lost: u64,
    pub disks_put_back: u64,
    /// How often the cluster's level rose, and a program was found to be too old for it.
    pub raised: u64,
    pub too_old: u64,
    /// Sessions that ended, by closing, expiry or a new start of their host.
    pub sessions_ended: u64,
    pub snapshots_taken: u64,
    /// Snapshots that a lagging replica needed and got.
    pub snapshots_restored: u64,
}
