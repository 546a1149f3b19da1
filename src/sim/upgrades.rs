//! Hosts that are started with other programs: newer ones, and now and then an older one, which
//! must notice by itself that it cannot do what the cluster has come to do.

use super::cluster::{Event, World};
use super::host::program;
use super::{MILLISECOND, SECOND};
use crate::tree::{FIRST_LEVEL, Level, Tree};

/// The newest program of this world.
const LEVEL_MAX: Level = 5;

impl World {
    /// What runs on a host from its next start on.
    pub fn choose_program(&mut self, host: usize) {
        let (level, boot) = (self.hosts[host].program.level, self.hosts[host].boot);
        let level = match self.dice.roll(8) {
            chosen if boot == 0 => level + 1 + (chosen % 2) as Level,
            0 | 1 => level + 1,
            2 if self.settings.faults && !self.calm => level.saturating_sub(2).max(FIRST_LEVEL),
            _ => level,
        };
        self.hosts[host].program = program(level.min(LEVEL_MAX));
    }

    /// One host after the other gets a newer program.
    pub fn upgrade_everyone(&mut self) {
        let level = (self.newest_level() + 1).min(LEVEL_MAX);
        self.trace.note(self.now, format_args!("all are upgraded to level {level}"));
        for host in 0..self.hosts.len() {
            let after = host as u64 * SECOND / 2;
            self.at(after, Event::Upgrade { host, level });
        }
    }

    /// One that is down has it when it starts again.
    pub fn upgrade(&mut self, host: usize, level: Level) {
        if self.calm {
            return;
        }
        let newer = self.hosts[host].program.level.max(level);
        self.hosts[host].program = program(newer);
        if self.hosts[host].running.is_some() {
            self.crash(host);
            let away = self.dice.between(10 * MILLISECOND, SECOND / 4);
            self.at(away, Event::Start { host });
        }
    }

    /// The newest tree's: whoever joins has to be able to do that.
    pub fn newest_level(&self) -> Level {
        let trees = self.hosts.iter().filter_map(|host| Some(&host.running.as_ref()?.tree));
        trees.map(Tree::level).max().unwrap_or(FIRST_LEVEL)
    }

    /// A host has stopped, or not started, because its program is too old: an operator installs the
    /// one that the others run. False if there is another reason.
    pub fn was_too_old(&mut self, host: usize, why: &str) -> bool {
        let newest = self.checker.highest_level();
        if !why.contains("written by a newer keepfs") || self.hosts[host].program.level >= newest {
            return false;
        }
        self.counts.too_old += 1;
        self.hosts[host].program = program(newest);
        let away = self.dice.between(10 * MILLISECOND, SECOND);
        self.at(away, Event::Start { host });
        true
    }

    /// The end: everyone has said what it runs, and the level is what all can do.
    pub fn judge_levels(&mut self) {
        let Some(first) = self.members().first().copied() else { return };
        let Some(running) = &self.hosts[first].running else { return };
        let tree = &running.tree;
        let (level, of_all) = (tree.level(), tree.level_of_all());
        let undeclared = |host: &&usize| {
            let host = &self.hosts[**host];
            tree.program(host.id).cloned().unwrap_or_default() != host.program
        };
        let members = self.members();
        let undeclared: Vec<usize> = members.iter().filter(undeclared).copied().collect();
        if level < of_all {
            self.checker.violated(self.now, format!("the level is {level}, and all can {of_all}"));
        }
        if !undeclared.is_empty() {
            let what = format!("hosts {undeclared:?} have not said what they run");
            self.checker.violated(self.now, what);
        }
    }
}
