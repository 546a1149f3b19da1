//! One host: a disk and clocks that stay, and a running replica that comes and goes.

use super::clock::Clock;
use super::dice::Dice;
use super::disk::{Disk, Snapshot};
use super::{MILLISECOND, SECOND};
use crate::replica::{LogBounds, Moment, Replica, ReplicaConfig};
use crate::tree::{
    FIRST_LEVEL, Incarnation, Level, Member, NameKey, Program, ReplicaId, SessionId, Tree,
    TreeLimits,
};
use std::collections::BTreeMap;

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
    /// Of what is on its disk.
    pub incarnation: Incarnation,
    /// What runs on it at its next start.
    pub program: Program,
    /// The founders it has heard, as its disk knows them.
    pub met: BTreeMap<ReplicaId, Incarnation>,
    pub disk: Disk,
    pub clock: Clock,
    /// Counts the starts: what an earlier process began finds nobody to tell.
    pub boot: u64,
    /// The world's time until which the process stands still, if it does.
    pub paused_until: u64,
    /// Only the replica's process stands still: the host's clients go on asking it.
    pub clients_go_on: bool,
    pub running: Option<Running>,
    /// Asked to leave the cluster; it may or may not have come to that.
    pub leaving: bool,
    /// Has lost its disk, and is not who it says it is.
    pub forgot: bool,
    /// Runs on an older copy of its disk, and has not found out yet what it promised since.
    pub doubtful: bool,
    /// An older copy of its disk is in the disk's place, found out or not.
    pub was_put_back: bool,
    /// A copy of its disk.
    pub copy: Option<Disk>,
    /// Has left, and does not start again.
    pub left: bool,
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

/// What runs on a host that can do so much.
pub(super) fn program(level: Level) -> Program {
    Program { level, version: format!("0.{level}.0") }
}

impl Host {
    pub fn new(index: usize, id: ReplicaId, dice: &mut Dice) -> Host {
        Host {
            id,
            name: name_of(index),
            incarnation: incarnation_of(index),
            program: program(FIRST_LEVEL),
            met: BTreeMap::new(),
            disk: Disk::default(),
            clock: Clock::new(dice),
            boot: 0,
            paused_until: 0,
            clients_go_on: false,
            running: None,
            leaving: false,
            forgot: false,
            doubtful: false,
            was_put_back: false,
            copy: None,
            left: false,
        }
    }

    pub fn read_clock(&self, now: u64) -> Moment {
        self.clock.read(now)
    }

    /// Starts a replica from what the disk holds.
    ///
    /// # Errors
    /// A sentence, if it cannot: the disk of this world never gives it a reason.
    /// `founders` is how many founded the cluster, this one among them; 0: it joins.
    pub fn start(&mut self, founders: usize, dice: &mut Dice) -> Result<(), String> {
        let recovered = self.disk.recover(dice, self.program.level);
        let (recovered, tree, log) =
            recovered.map_err(|error| format!("cannot recover: {error}"))?;
        let snapshot = recovered.snapshot.index;
        let founding = founders > 0 && self.disk.is_blank();
        let config = ReplicaConfig {
            id: self.id,
            incarnation: self.incarnation,
            program: self.program.clone(),
            name: self.name.clone(),
            heartbeat: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            session_timeout: SESSION_TIMEOUT,
            op_timeout: OP_TIMEOUT,
            visibility_timeout: VISIBILITY_TIMEOUT,
            log: LOG,
            seed: dice.next(),
            with_session: true,
            doubtful: self.doubtful,
            found: founding.then(|| (CLUSTER, members(founders), LIMITS, NameKey::new([1; 16]))),
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

    /// Another disk, empty, of a host that is down. It can only leave now.
    pub fn lose_disk(&mut self) {
        self.disk = Disk::default();
        self.met.clear();
        self.copy = None;
        self.incarnation += 1000;
        (self.forgot, self.leaving) = (true, true);
    }

    /// The copy takes the disk's place, of a host that is down.
    pub fn put_copy_back(&mut self, copy: Disk) {
        self.disk = copy;
        (self.doubtful, self.was_put_back) = (true, true);
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

/// The replica of a host that founds the cluster. Those that join are given theirs.
pub(super) fn founder(index: usize) -> ReplicaId {
    ReplicaId(index as u64 + 1)
}

pub(super) fn name_of(index: usize) -> String {
    format!("h{index}")
}

fn members(founders: usize) -> Vec<Member> {
    let member = |index| Member {
        id: founder(index),
        name: name_of(index),
        address: address_of(index),
        learner: false,
        incarnation: 0,
    };
    (0..founders).map(member).collect()
}

/// Of a host's first data directory.
pub(super) fn incarnation_of(index: usize) -> Incarnation {
    index as u64 + 1
}

pub(super) fn address_of(index: usize) -> String {
    format!("{}:1", name_of(index))
}
