//! Hosts that join the cluster and leave it while everything else goes wrong.

use super::cluster::{Event, World};
use super::host::program;
use super::host::{Host, address_of, incarnation_of, name_of};
use super::{MILLISECOND, SECOND};
use crate::replica::Input;
use crate::tree::{Member, Tree};

/// Hosts a world may come to have.
const HOSTS_MAX: usize = 8;
/// Replicas that stay members whatever happens: with one of them left, nobody's vote makes up for
/// that of one who left too early.
const MEMBERS_MIN: usize = 1;
/// Hosts that are on their way out at once.
const LEAVING_MAX: usize = 2;
/// Numbers of these requests, apart from the clients' own.
const REQUESTS: u64 = 1 << 40;

impl World {
    /// Somebody asks a replica, any, to let another host join or a member leave.
    pub fn change_members(&mut self) {
        let via = self.dice.roll(self.hosts.len());
        let Some(running) = &self.hosts[via].running else { return };
        if self.stands_still(via) {
            return;
        }
        let members = running.tree.members().to_vec();
        if self.hosts.len() < HOSTS_MAX && self.dice.chance(600) {
            let id = REQUESTS + self.now;
            let (name, address) = (name_of(self.hosts.len()), address_of(self.hosts.len()));
            self.trace.note(self.now, format_args!("h{via} is asked to let {name} join"));
            let incarnation = incarnation_of(self.hosts.len());
            let level = self.newest_level();
            return self.step(via, Input::AddMember { id, name, address, incarnation, level });
        }
        self.let_one_leave(via, &members);
        if self.dice.chance(400) {
            // Maybe another one, asked by another one.
            let via = self.dice.roll(self.hosts.len());
            if !self.stands_still(via) {
                self.let_one_leave(via, &members);
            }
        }
    }

    /// Who stands still hears nothing that is asked of it.
    fn stands_still(&self, host: usize) -> bool {
        self.hosts[host].paused_until > self.now
    }

    fn let_one_leave(&mut self, via: usize, members: &[Member]) {
        let outstanding = self.hosts.iter().filter(|host| host.leaving && !host.left).count();
        // While a disk that was lost is in the list, an operator takes out that one and no other,
        // and waits for one that was put back.
        let forgot = self.hosts.iter().any(|host| host.forgot || host.doubtful);
        if outstanding < LEAVING_MAX
            && members.len() > MEMBERS_MIN + outstanding
            && let Some(member) = self.dice.pick(members)
            && let Some(leaving) = self.hosts.iter().position(|host| host.id == member.id)
            && (!self.hosts[leaving].leaving || self.hosts[leaving].forgot)
            && (!forgot || self.hosts[leaving].forgot)
        {
            let (id, member) = (REQUESTS + self.now + leaving as u64, member.id);
            self.trace.note(self.now, format_args!("h{via} is asked to let h{leaving} leave"));
            self.hosts[leaving].leaving = true;
            self.step(via, Input::RemoveMember { id, member });
        }
    }

    /// A host comes back with an empty disk, as the member it was. It must be of no account; in the
    /// end it is taken out of the list.
    pub fn lose_a_disk(&mut self, host: usize) {
        if !self.can_bear_a_loss(host) {
            return;
        }
        self.trace.note(self.now, format_args!("h{host} loses its disk"));
        self.crash(host);
        self.hosts[host].lose_disk();
        self.counts.disks_lost += 1;
        let away = self.dice.between(10 * MILLISECOND, SECOND);
        self.at(away, Event::Start { host });
    }

    /// A host's disk is copied, and another time the copy is put in its place.
    pub fn put_a_disk_back(&mut self, host: usize) {
        if !self.can_bear_a_loss(host) {
            return;
        }
        match self.hosts[host].copy.take() {
            None => self.hosts[host].copy = Some(self.hosts[host].disk.copy()),
            Some(copy) => {
                self.trace.note(self.now, format_args!("h{host} goes back to an older disk"));
                self.crash(host);
                self.hosts[host].put_copy_back(copy);
                self.counts.disks_put_back += 1;
                let away = self.dice.between(10 * MILLISECOND, SECOND);
                self.at(away, Event::Start { host });
            }
        }
    }

    /// As many disks are lost at once as a majority of those who vote can bear.
    fn can_bear_a_loss(&self, host: usize) -> bool {
        let members = self.members();
        let suffers = |(index, host): (usize, &Host)| {
            let is_lost = host.forgot && members.contains(&index);
            host.leaving && !host.left || host.doubtful || is_lost
        };
        self.voters().len() >= 3
            && members.contains(&host)
            && !self.hosts.iter().enumerate().any(suffers)
    }

    /// An operator replaces those whose disks were lost, and those on an older disk that wait for
    /// the word of somebody who has left since.
    pub fn remove_those_who_forgot(&mut self) {
        for host in 0..self.hosts.len() {
            if self.waits_for_one_gone(host) {
                (self.hosts[host].forgot, self.hosts[host].leaving) = (true, true);
            }
        }
        for host in 0..self.hosts.len() {
            let member = self.hosts[host].id;
            if self.hosts[host].forgot {
                let mut members = self.members();
                members.retain(|via| !self.hosts[*via].forgot);
                for via in members {
                    let id = REQUESTS + self.now + (host * HOSTS_MAX + via) as u64;
                    self.step(via, Input::RemoveMember { id, member });
                }
            }
        }
    }

    fn waits_for_one_gone(&self, host: usize) -> bool {
        let host = &self.hosts[host];
        let Some(running) = host.running.as_ref().filter(|_| host.doubtful) else { return false };
        let voters = running.replica.applied().conf.voters;
        self.hosts.iter().any(|other| other.leaving && voters.contains(&other.id.0))
    }

    /// Every member has a host: one that is new in the list starts, with an empty disk.
    pub fn welcome_members(&mut self, host: usize) {
        let Some(running) = &self.hosts[host].running else { return };
        let is_new = |member: &&Member| !self.hosts.iter().any(|host| host.id == member.id);
        let newcomers: Vec<Member> =
            running.tree.members().iter().filter(is_new).cloned().collect();
        for member in newcomers {
            let index = self.hosts.len();
            self.trace.note(self.now, format_args!("h{index} is replica {}", member.id));
            let mut host = Host::new(index, member.id, &mut self.dice);
            host.program = program(self.newest_level());
            self.hosts.push(host);
            self.workload.add_clients(index, self.settings.clients);
            self.counts.joined += 1;
            let delay = self.dice.between(10 * MILLISECOND, SECOND);
            self.at(delay, Event::Start { host: index });
        }
    }

    /// A replica gives up: well, if it was asked to leave, or if the leader knows what it forgot.
    pub fn stopped_itself(&mut self, host: usize, why: &str) {
        self.trace.note(self.now, format_args!("h{host} stops itself: {why}"));
        if self.was_too_old(host, why) {
            return self.crash(host);
        }
        if self.hosts[host].leaving {
            self.hosts[host].left = true;
            self.counts.left += 1;
        } else if self.hosts[host].was_put_back && why.contains("lost what it had acknowledged") {
            let lost = &mut self.hosts[host];
            (lost.forgot, lost.leaving, lost.left, lost.doubtful) = (true, true, true, false);
        } else {
            self.checker.violated(self.now, format!("h{host} stops itself: {why}"));
        }
        self.crash(host);
        if self.calm && self.hosts[host].forgot {
            self.remove_those_who_forgot();
        }
    }

    /// The hosts that are members by the newest tree.
    pub fn members(&self) -> Vec<usize> {
        self.hosts_of(|_| true)
    }

    fn voters(&self) -> Vec<usize> {
        self.hosts_of(|member| !member.learner)
    }

    fn hosts_of(&self, which: impl Fn(&Member) -> bool) -> Vec<usize> {
        let trees = self.hosts.iter().filter_map(|host| Some(&host.running.as_ref()?.tree));
        let newest: Option<&Tree> = trees.max_by_key(|tree| tree.zxid());
        let members = newest.map_or(&[][..], |tree| tree.members());
        let ids: Vec<_> = members.iter().filter(|m| which(m)).map(|member| member.id).collect();
        (0..self.hosts.len()).filter(|host| ids.contains(&self.hosts[*host].id)).collect()
    }
}
