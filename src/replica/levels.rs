//! The cluster's feature level: each member declares in the log what it runs, and the leader raises
//! the level when all can. What a member's next program can do is known before it says anything, so
//! one that is away holds the level down until it is upgraded, or removed.

use super::effects::Fatal;
use super::{Failure, Replica};
use crate::session::RETRY_AFTER;
use crate::tree::{Command, FIRST_LEVEL, Level, Newer, Program, Refusal, ReplicaId, Tree};

/// What the tree says of levels.
pub(super) struct Levels {
    pub cluster: Level,
    of_all: Level,
    /// What this replica runs is not what the tree has of it.
    undeclared: bool,
    /// When to propose it (again).
    declare_at: u64,
    raise_at: u64,
}

impl Default for Levels {
    fn default() -> Levels {
        let (cluster, of_all) = (FIRST_LEVEL, FIRST_LEVEL);
        Levels { cluster, of_all, undeclared: false, declare_at: 0, raise_at: 0 }
    }
}

impl Levels {
    fn learn(&mut self, tree: &Tree, here: ReplicaId, program: &Program) {
        (self.cluster, self.of_all) = (tree.level(), tree.level_of_all());
        let is_member = tree.members().iter().any(|member| member.id == here);
        let known = tree.program(here).cloned().unwrap_or_default();
        self.undeclared = is_member && tree.cluster().is_some() && known != *program;
    }
}

impl Replica {
    /// The members, or what they run, or the level are others now.
    pub(super) fn take_levels(&mut self, tree: &Tree) {
        self.levels.learn(tree, self.config.id, &self.config.program);
    }

    /// Nobody knows what entries mean that follow a level which this program cannot do.
    pub(super) fn check_level(&self, tree: &Tree) -> Result<(), Fatal> {
        let newer = Newer::check(tree.level(), self.config.program.level);
        newer.map_err(|newer| Fatal::Newer(format!("what the cluster agrees on is {newer}")))
    }

    /// Whether a command may be proposed here.
    pub(super) fn admits_level(&self, command: &Command) -> Result<(), Failure> {
        match command.level() > self.levels.cluster {
            true => Err(Failure::Refused(Refusal::TooNew)),
            false => Ok(()),
        }
    }

    /// Says what this replica runs, and on the leader raises the level. A membership change that is
    /// on its way is waited for: whoever comes by it may not be able to do as much.
    pub(super) fn tend_level(&mut self) {
        let now = self.now.monotonic;
        let levels = &mut self.levels;
        if levels.undeclared && self.leadership.leader.is_some() && now >= levels.declare_at {
            levels.declare_at = now + RETRY_AFTER;
            let (replica, program) = (self.config.id, self.config.program.clone());
            self.own_commands.push(Command::DeclareProgram { replica, program });
        }
        let may_raise = self.leadership.here
            && self.raw.raft.apply_to_current_term()
            && !self.raw.raft.has_pending_conf();
        if levels.of_all > levels.cluster && may_raise && now >= levels.raise_at {
            levels.raise_at = now + RETRY_AFTER;
            self.own_commands.push(Command::RaiseLevel { to: levels.of_all });
        }
    }
}
