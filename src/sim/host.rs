//! One host: a disk and clocks that stay, and a running replica that comes and goes.

use super::clock::Clock;
use super::dice::Dice;
use super::disk::{Disk, Snapshot};
use super::{MILLISECOND, SECOND};
use crate::replica::{LogBounds, Moment, Replica, ReplicaConfig};
use crate::tree::{Member, ReplicaId, SessionId, Tree, TreeLimits};

pub(super) const HEARTBEAT: u64 = 50 * MILLISECOND;
pub(super) const ELECTION_TIMEOUT: u64 = 500 * MILLISECOND;
pub(super) const SESSION_TIMEOUT: u64 = 5 * SECOND;
pub(super) const OP_TIMEOUT: u64 = 4 * SECOND;
const VISIBILITY_TIMEOUT: u64 = 200 * MILLISECOND;
/// So little that a host away for a second may need a snapshot.
const LOG: LogBounds =
    LogBounds { window_bytes: 8 << 10, window_entries: 64, tail_bytes: 1 << 20, tail_entries: 32 };
const CLUSTER: u128 = 0x5157;
const LIMITS: TreeLimits =
    TreeLimits { file_bytes: 1 << 20, tree_bytes: 64 << 20, inodes: 1 << 16 };

pub(super) struct Host {
    pub id: ReplicaId,
    pub name: String,
    pub disk: Disk,
    pub clock: Clock,
    /// Counts the starts: what an earlier process began finds nobody to tell.
    pub boot: u64,
    /// The world's time until which the process stands still, if it does.
    pub paused_until: u64,
    pub running: Option<Running>,
}

/// What a crash takes away.
pub(super) struct Running {
    pub replica: Replica,
    pub tree: Tree,
    pub session: Option<SessionId>,
    /// Index of the last snapshot of its own, and whether one is being written.
    pub snapshot: u64,
    pub snapshotting: bool,
    /// How long this host's mount takes to show a change, nanoseconds.
    pub mount_delay: u64,
}

impl Host {
    pub fn new(index: usize, dice: &mut Dice) -> Host {
        Host {
            id: id_of(index),
            name: name_of(index),
            disk: Disk::default(),
            clock: Clock::new(dice),
            boot: 0,
            paused_until: 0,
            running: None,
        }
    }

    pub fn read_clock(&self, now: u64) -> Moment {
        self.clock.read(now)
    }

    /// Starts a replica from what the disk holds.
    ///
    /// # Errors
    /// A sentence, if it cannot: the disk of this world never gives it a reason.
    pub fn start(&mut self, replicas: usize, dice: &mut Dice) -> Result<(), String> {
        let (recovered, tree, log) =
            self.disk.recover(dice).map_err(|error| format!("cannot recover: {error}"))?;
        let snapshot = recovered.snapshot.index;
        let config = ReplicaConfig {
            id: self.id,
            name: self.name.clone(),
            heartbeat: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            session_timeout: SESSION_TIMEOUT,
            op_timeout: OP_TIMEOUT,
            visibility_timeout: VISIBILITY_TIMEOUT,
            log: LOG,
            seed: dice.next(),
            with_session: true,
            found: self.disk.is_blank().then(|| (CLUSTER, members(replicas), LIMITS)),
        };
        let mut replica =
            Replica::new(config, recovered, log).map_err(|error| format!("no start: {error}"))?;
        replica.restored(&tree);
        let mount_delay = [MILLISECOND / 10, MILLISECOND, 400 * MILLISECOND][dice.roll(3)];
        self.running = Some(Running {
            replica,
            tree,
            session: None,
            snapshot,
            snapshotting: false,
            mount_delay,
        });
        self.boot += 1;
        Ok(())
    }

    /// The process or the machine dies; what was not durable is gone.
    pub fn crash(&mut self, dice: &mut Dice) {
        self.running = None;
        self.boot += 1;
        self.paused_until = 0;
        self.disk.crash(dice);
    }

    /// The tree as it stands, to be written as a snapshot, if one is due.
    pub fn take_snapshot(&mut self, every: u64) -> Option<Snapshot> {
        let running = self.running.as_mut()?;
        let mark = running.replica.applied();
        if running.snapshotting || mark.index < running.snapshot + every {
            return None;
        }
        running.snapshotting = true;
        running.snapshot = mark.index;
        Some(Snapshot { mark, bytes: bytes_of(&running.tree).into() })
    }
}

pub(super) fn bytes_of(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_snapshot(&mut bytes).expect("memory takes what is written");
    bytes
}

pub(super) fn id_of(index: usize) -> ReplicaId {
    ReplicaId(index as u64 + 1)
}

/// The host of a replica, if there is such a host.
pub(super) fn index_of(id: ReplicaId) -> usize {
    id.0 as usize - 1
}

fn name_of(index: usize) -> String {
    format!("h{index}")
}

fn members(replicas: usize) -> Vec<Member> {
    let member = |index| Member {
        id: id_of(index),
        name: name_of(index),
        address: format!("{}:1", name_of(index)),
        learner: false,
    };
    (0..replicas).map(member).collect()
}
