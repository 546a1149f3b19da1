//! The cluster's world: what happens next.

use super::checker::Checker;
use super::dice::Dice;
use super::disk::Snapshot;
use super::host::{HEARTBEAT, Host, SESSION_TIMEOUT, founder};
use super::network::Network;
use super::scene::Request;
use super::trace::Trace;
use super::travellers::Travellers;
use super::workload::Workload;
use super::{Counts, Report, SECOND, Settings};
use crate::replica::{ClientId, Input, PeerMessage};
use crate::tree::{Command, Level, Zxid};
use std::collections::BTreeMap;

/// All that can be on the agenda. `boot` names the start of a host it belongs to.
pub(super) enum Event {
    Tick {
        host: usize,
        boot: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        message: PeerMessage,
    },
    Written {
        host: usize,
        boot: u64,
    },
    SnapshotWritten {
        host: usize,
        boot: u64,
        snapshot: Snapshot,
    },
    /// A snapshot's bytes and message are at their receiver, or will never be.
    SnapshotSent {
        from: usize,
        to: usize,
        message: Vec<u8>,
        snapshot: Option<Snapshot>,
    },
    SnapshotStored {
        host: usize,
        boot: u64,
        from: usize,
        message: Vec<u8>,
        snapshot: Snapshot,
    },
    Shown {
        host: usize,
        boot: u64,
        zxid: Zxid,
    },
    /// A client's turn; an older one of the same client is void.
    Turn {
        client: usize,
        turn: u64,
    },
    Asked {
        host: usize,
        boot: u64,
        id: u64,
        request: Request,
    },
    /// There is no connection to a peer.
    Refused {
        host: usize,
        boot: u64,
        peer: usize,
    },
    /// A travelling client's turn.
    Travel {
        traveller: usize,
    },
    Fault,
    Upgrade {
        host: usize,
        level: Level,
    },
    Start {
        host: usize,
    },
    Resume {
        host: usize,
        boot: u64,
    },
}

pub(super) struct World {
    pub settings: Settings,
    /// Nanoseconds since the world began.
    pub now: u64,
    /// By time, then by the order in which they were put down.
    agenda: BTreeMap<(u64, u64), Event>,
    noted: u64,
    pub dice: Dice,
    pub hosts: Vec<Host>,
    pub network: Network,
    pub workload: Workload,
    pub travellers: Travellers,
    pub checker: Checker,
    pub trace: Trace,
    pub counts: Counts,
    /// Changes that wait for a session, by their question.
    pub awaiting: BTreeMap<u64, Command>,
    /// No more faults, no more new work: the cluster recovers.
    pub calm: bool,
}

/// How long a cluster without faults may take until everything succeeds again: old sessions expire,
/// the last proposals are given up, lagging replicas catch up.
const RECOVERY: u64 = 2 * SESSION_TIMEOUT;
/// How long clients go on after that, and then have to finish.
const LAST_WORK: u64 = 4 * SECOND;

/// Plays one seed to its end.
pub fn run(seed: u64, settings: &Settings) -> Report {
    let mut world = World::new(seed, settings);
    for host in 0..settings.replicas {
        world.at(0, Event::Start { host });
    }
    world.set_out();
    world.at(SECOND, Event::Fault);
    world.play_until(settings.length);
    world.calm_down();
    world.play_until(settings.length + RECOVERY);
    world.checker.must_succeed();
    world.play_until(settings.length + RECOVERY + LAST_WORK);
    world.workload.stop();
    let end = settings.length + RECOVERY + 2 * LAST_WORK;
    world.play_until(end);
    // The last entry may be on its way to a slow disk.
    for more in 1..=20 {
        if !world.is_level() {
            world.play_until(end + more * SECOND / 20);
        }
    }
    world.judge();
    world.judge_travellers();
    Report {
        seed,
        trace: world.trace.hash(),
        violations: world.checker.violations().to_vec(),
        counts: Counts {
            entries: world.checker.entries(),
            raised: world.checker.raised(),
            held: world.workload.held,
            guarded: world.workload.guarded,
            ..world.counts
        },
        lines: world.trace.into_lines(),
    }
}

impl World {
    fn new(seed: u64, settings: &Settings) -> World {
        let mut dice = Dice::new(seed);
        let hosts = (0..settings.replicas)
            .map(|index| Host::new(index, founder(index), &mut dice))
            .collect();
        World {
            now: 0,
            agenda: BTreeMap::new(),
            noted: 0,
            hosts,
            network: Network::calm(),
            travellers: Travellers::default(),
            workload: Workload::new(settings.replicas, settings.clients),
            checker: Checker::new(!settings.faults),
            trace: Trace::new(settings.keep_trace),
            counts: Counts::default(),
            awaiting: BTreeMap::new(),
            calm: false,
            dice,
            settings: settings.clone(),
        }
    }

    /// Puts an event down for `after` nanoseconds from now.
    pub fn at(&mut self, after: u64, event: Event) {
        self.noted += 1;
        self.agenda.insert((self.now + after, self.noted), event);
    }

    fn play_until(&mut self, end: u64) {
        while let Some(next) = self.agenda.first_entry() {
            if next.key().0 > end || self.checker.is_hopeless() {
                break;
            }
            let ((time, _), event) = next.remove_entry();
            self.now = time;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        if let Some(host) = self.place_of(&event)
            && self.hosts[host].paused_until > self.now
        {
            let wait = self.hosts[host].paused_until - self.now;
            return self.at(wait, event);
        }
        match event {
            Event::Tick { host, boot } if self.is_up(host, boot) => {
                self.step(host, Input::Tick);
                self.at(HEARTBEAT / 2, Event::Tick { host, boot });
            }
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Written { host, boot } if self.is_up(host, boot) => self.written(host),
            Event::SnapshotWritten { host, boot, snapshot } if self.is_up(host, boot) => {
                self.snapshot_written(host, snapshot);
            }
            Event::SnapshotSent { from, to, message, snapshot } => {
                self.snapshot_sent(from, to, message, snapshot);
            }
            Event::SnapshotStored { host, boot, from, message, snapshot }
                if self.is_up(host, boot) =>
            {
                self.hosts[host].disk.receive_snapshot(snapshot);
                if self.may_speak(from, host) {
                    let from = self.hosts[from].id;
                    self.step(host, Input::SnapshotArrived { from, message });
                }
            }
            Event::Shown { host, boot, zxid } if self.is_up(host, boot) => {
                self.step(host, Input::Visible { client: ClientId::OWN, zxid });
            }
            Event::Turn { client, turn } => {
                let host = self.workload.host_of(client);
                self.act(host, |workload, scene| workload.turn(client, turn, scene));
            }
            Event::Asked { host, boot, id, request } if self.is_up(host, boot) => {
                self.asked(host, id, request);
            }
            Event::Refused { host, boot, peer } if self.is_up(host, boot) => {
                let peer = self.hosts[peer].id;
                self.step(host, Input::Unreachable { peer });
            }
            Event::Travel { traveller } => {
                let last = self.settings.length + RECOVERY + LAST_WORK;
                self.travel(traveller, last);
            }
            Event::Fault => self.fault(),
            Event::Upgrade { host, level } => self.upgrade(host, level),
            Event::Start { host } => self.start(host),
            Event::Resume { host, boot } if self.is_up(host, boot) => self.resume(host),
            _ => {}
        }
    }

    /// The host an event waits for while that host stands still.
    fn place_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick { host, .. }
            | Event::Written { host, .. }
            | Event::SnapshotWritten { host, .. }
            | Event::SnapshotStored { host, .. }
            | Event::Asked { host, .. }
            | Event::Refused { host, .. }
            | Event::Shown { host, .. } => Some(*host),
            Event::Deliver { to, .. } => Some(*to),
            Event::SnapshotSent { from, .. } => Some(*from),
            Event::Turn { client, .. } => {
                let host = self.workload.host_of(*client);
                (!self.hosts[host].clients_go_on).then_some(host)
            }
            Event::Travel { .. }
            | Event::Fault
            | Event::Upgrade { .. }
            | Event::Start { .. }
            | Event::Resume { .. } => None,
        }
    }

    pub fn is_up(&self, host: usize, boot: u64) -> bool {
        self.hosts[host].running.is_some() && self.hosts[host].boot == boot
    }

    pub fn start(&mut self, host: usize) {
        if self.hosts[host].running.is_some() || self.hosts[host].left {
            return;
        }
        let founders = if host < self.settings.replicas { self.settings.replicas } else { 0 };
        self.choose_program(host);
        let level = self.hosts[host].program.level;
        self.trace.note(self.now, format_args!("h{host} starts, at level {level}"));
        if let Err(why) = self.hosts[host].start(founders, &mut self.dice) {
            if self.was_too_old(host, &why) {
                return;
            }
            return self.checker.violated(self.now, format!("h{host}: {why}"));
        }
        let boot = self.hosts[host].boot;
        self.at(0, Event::Tick { host, boot });
        for (peer, incarnation) in self.hosts[host].met.clone() {
            self.step(host, Input::Met { peer, incarnation });
        }
        self.step(host, Input::Watches { client: ClientId::OWN, watches: true });
    }
}
