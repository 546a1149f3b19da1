//! What goes wrong, and when: crashes, partitions, pauses, clocks set, networks grown bad.

use super::cluster::{Event, World};
use super::host::{SESSION_TIMEOUT, bytes_of};
use super::network::Network;
use super::{MILLISECOND, SECOND};
use crate::replica::Input;

impl World {
    /// One fault, and the next on the agenda. The world is built before anything breaks.
    pub fn fault(&mut self) {
        if self.calm || !self.settings.faults {
            return;
        }
        let next = self.dice.between(50 * MILLISECOND, 2 * SECOND);
        self.at(next, Event::Fault);
        if !self.workload.is_prepared() {
            return;
        }
        let any = self.dice.roll(self.hosts.len());
        if self.settings.sleepers {
            return self.put_a_holder_to_sleep();
        }
        match self.dice.roll(17) {
            0 | 1 => self.crash_for_a_while(any),
            2 => self.crash_for_a_while(self.leader().unwrap_or(any)),
            3 if self.dice.chance(300) => {
                (0..self.hosts.len()).for_each(|host| self.crash_for_a_while(host));
            }
            3 => self.isolate(self.leader().unwrap_or(any)),
            4 if self.dice.chance(500) => self.isolate(any),
            4 => self.part(),
            5 | 6 => self.network.heal(),
            7 if self.dice.chance(400) => self.pause(self.leader().unwrap_or(any)),
            7 => self.pause(any),
            8 => {
                self.trace.note(self.now, format_args!("h{any} has its clock set"));
                self.hosts[any].clock.jump(&mut self.dice);
            }
            9 => self.change_network(),
            10 => self.lose_a_disk(any),
            11..=13 => self.put_a_disk_back(any),
            14 => self.upgrade_everyone(),
            _ => self.change_members(),
        }
    }

    fn isolate(&mut self, host: usize) {
        self.trace.note(self.now, format_args!("h{host} is cut off"));
        self.network.isolate(host, self.hosts.len());
        self.counts.partitions += 1;
    }

    fn part(&mut self) {
        self.network.part(&mut self.dice, self.hosts.len());
        self.counts.partitions += 1;
        self.trace.note(self.now, format_args!("{:?}", self.network));
    }

    fn change_network(&mut self) {
        let other =
            if self.dice.chance(400) { Network::calm() } else { Network::bad(&mut self.dice) };
        self.network.become_like(other);
        self.trace.note(self.now, format_args!("{:?}", self.network));
    }

    fn leader(&self) -> Option<usize> {
        let leads = |host: &super::host::Host| {
            host.running.as_ref().is_some_and(|running| running.replica.status().role == "leader")
        };
        self.hosts.iter().position(leads)
    }

    fn crash_for_a_while(&mut self, host: usize) {
        if self.hosts[host].running.is_some() {
            self.crash(host);
            let short = self.dice.chance(500);
            let most = if short { 500 * MILLISECOND } else { 2 * SESSION_TIMEOUT };
            let away = self.dice.between(10 * MILLISECOND, most);
            self.at(away, Event::Start { host });
        }
    }

    pub fn crash(&mut self, host: usize) {
        self.trace.note(self.now, format_args!("h{host} crashes"));
        self.counts.crashes += 1;
        self.hosts[host].crash(&mut self.dice);
        self.checker.beliefs.end_all(host);
        self.workload.crashed(host);
    }

    /// A process that stands still does nothing, believes nothing and notices nothing. What the
    /// clients of its host ask meanwhile, if they do not stand still themselves, it hears when it
    /// wakes.
    fn pause(&mut self, host: usize) {
        let most = if self.dice.chance(500) { SECOND } else { 2 * SESSION_TIMEOUT };
        let length = self.dice.between(100 * MILLISECOND, most);
        let clients_go_on = self.dice.chance(500);
        self.pause_for(host, length, clients_go_on);
    }

    /// Somebody on this host holds a lock when its replica stands still, until about when or well
    /// after its session is another's to end.
    fn put_a_holder_to_sleep(&mut self) {
        let sleeps = |host: &super::host::Host| host.paused_until > self.now;
        if self.hosts.iter().any(sleeps) {
            return;
        }
        if let Some(host) = self.dice.pick(&self.workload.guarding_hosts()).copied() {
            let length = self.dice.between(SESSION_TIMEOUT / 2, 2 * SESSION_TIMEOUT);
            self.pause_for(host, length, true);
        }
    }

    fn pause_for(&mut self, host: usize, length: u64, clients_go_on: bool) {
        if self.hosts[host].running.is_none() || self.hosts[host].paused_until > self.now {
            return;
        }
        let length = length.min(self.settings.length - self.now);
        self.trace.note(self.now, format_args!("h{host} stands still for {length}ns"));
        self.hosts[host].paused_until = self.now + length;
        self.hosts[host].clients_go_on = clients_go_on;
        self.checker.beliefs.suspend(host);
        let boot = self.hosts[host].boot;
        self.at(length, Event::Resume { host, boot });
    }

    /// The first thing a process does is to look at its clock.
    pub fn resume(&mut self, host: usize) {
        self.hosts[host].paused_until = 0;
        self.step(host, Input::Tick);
        if let Some(wrong) = self.checker.beliefs.resume(host) {
            self.checker.violated(self.now, wrong);
        }
    }

    /// No more faults; everyone is there and can talk.
    pub fn calm_down(&mut self) {
        self.trace.note(self.now, format_args!("calm"));
        self.calm = true;
        self.workload.calm_down();
        self.network = Network::calm();
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        self.remove_those_who_forgot();
    }

    /// Whether all members that run have applied the same.
    pub fn is_level(&self) -> bool {
        let running = |host: &usize| self.hosts[*host].running.as_ref();
        let members = self.members();
        let mut applied = members.iter().filter_map(running).map(|running| running.tree.zxid());
        let first = applied.next();
        applied.all(|zxid| Some(zxid) == first)
    }

    /// The last judgement: everyone agrees, and what was promised is there.
    pub fn judge(&mut self) {
        // A reply may wait for mounts that lag; a lock that was granted late is given back late.
        for (id, ask) in self.workload.unanswered(self.now.saturating_sub(SECOND)) {
            self.checker.violated(self.now, format!("{id} was never answered: {ask}"));
        }
        let mut first: Option<Vec<u8>> = None;
        for host in self.members() {
            let Some(running) = &self.hosts[host].running else {
                self.checker.violated(self.now, format!("h{host} is down at the end"));
                continue;
            };
            if running.session.is_none() {
                self.checker.violated(self.now, format!("h{host} has no session at the end"));
            }
            let bytes = bytes_of(&running.tree);
            match &first {
                None => first = Some(bytes),
                Some(first) if *first == bytes => {}
                Some(_) => {
                    let zxid = running.tree.zxid();
                    let what = format!("h{host} has another tree in the end, at {zxid}");
                    self.checker.violated(self.now, what);
                }
            }
        }
        self.judge_levels();
        let first = self.members().first().and_then(|host| self.hosts[*host].running.as_ref());
        match first {
            Some(running) => self.checker.judge(self.now, &running.tree),
            None => self.checker.violated(self.now, "nobody is left".to_string()),
        }
    }
}
