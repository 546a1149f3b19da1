//! What travelling clients do: they go from host to host, and make one file after another. Every
//! one that is acknowledged is there in the end, and none is asked for twice.

use super::MILLISECOND;
use super::cluster::{Event, World};
use super::travellers::{FIRST_QUESTION, TRAVELLERS, Traveller};
use crate::replica::{Answer, ClientId, Failure, Input};
use crate::session::Client;
use crate::tree::{Command, Create, Ino, NewNode, Refusal, SessionId};

impl World {
    pub fn set_out(&mut self) {
        for traveller in 0..TRAVELLERS {
            self.travellers.all.push(Traveller::Nowhere);
            self.at(MILLISECOND, Event::Travel { traveller });
        }
    }

    /// One takes its turn, and another one later.
    pub fn travel(&mut self, traveller: usize, last: u64) {
        // Whoever is between two hosts when all others rest has to get to one.
        let rests = self.now >= last;
        if rests && !matches!(self.travellers.all[traveller], Traveller::Between(_)) {
            return;
        }
        let next = self.dice.between(5 * MILLISECOND, 300 * MILLISECOND);
        self.at(next, Event::Travel { traveller });
        match std::mem::replace(&mut self.travellers.all[traveller], Traveller::Nowhere) {
            Traveller::Nowhere => self.attach(traveller),
            Traveller::Between(client) => self.arrive(traveller, client),
            // What it waited for is lost with the host.
            Traveller::At { host, boot, .. } if !self.is_up(host, boot) => {}
            at @ Traveller::At { host, .. } if self.hosts[host].paused_until > self.now => {
                self.travellers.all[traveller] = at;
            }
            Traveller::At { host, boot, client } if self.dice.roll(3) > 0 => {
                self.make_file(host, client);
                self.travellers.all[traveller] = Traveller::At { host, boot, client };
            }
            Traveller::At { host, client, .. } => self.depart(traveller, host, client),
        }
    }

    /// A host that runs and does not stand still.
    fn some_host(&mut self) -> Option<usize> {
        let host = self.dice.roll(self.hosts.len());
        let is_there = self.hosts[host].running.is_some() && !self.hosts[host].leaving;
        (is_there && self.hosts[host].paused_until <= self.now).then_some(host)
    }

    fn attach(&mut self, traveller: usize) {
        let Some(host) = self.some_host() else { return };
        let client = self.next_client();
        let name = format!("traveller {traveller}").into_bytes().into();
        self.step(host, Input::Attach { client, name });
        let boot = self.hosts[host].boot;
        self.travellers.all[traveller] = Traveller::At { host, boot, client };
    }

    fn next_client(&mut self) -> ClientId {
        self.travellers.attached += 1;
        ClientId(self.travellers.attached)
    }

    fn depart(&mut self, traveller: usize, host: usize, client: ClientId) {
        let moment = self.hosts[host].read_clock(self.now);
        let Some(running) = &mut self.hosts[host].running else { return };
        if let Some(client) = running.replica.depart(moment, client) {
            self.trace.note(self.now, format_args!("traveller {traveller} leaves h{host}"));
            self.travellers.all[traveller] = Traveller::Between(Box::new(client));
        }
        self.step(host, Input::Tick);
    }

    fn arrive(&mut self, traveller: usize, client: Box<Client>) {
        let Some(host) = self.some_host() else {
            self.travellers.all[traveller] = Traveller::Between(client);
            return;
        };
        let id = self.next_client();
        let moment = self.hosts[host].read_clock(self.now);
        if let Some(running) = &mut self.hosts[host].running {
            running.replica.arrive(moment, id, *client, &running.tree);
        }
        self.trace.note(self.now, format_args!("traveller {traveller} comes to h{host}"));
        self.step(host, Input::Tick);
        let boot = self.hosts[host].boot;
        self.travellers.all[traveller] = Traveller::At { host, boot, client: id };
    }

    fn make_file(&mut self, host: usize, client: ClientId) {
        let Some(running) = &self.hosts[host].running else { return };
        let Some(session) = running.replica.session(client) else { return };
        self.travellers.asked += 1;
        let id = FIRST_QUESTION + self.travellers.asked;
        let name = format!("travelled {}", self.travellers.asked);
        let command = create(&name);
        self.travellers.waiting.insert(id, name);
        self.ask_for(host, id, session, command);
    }

    fn ask_for(&mut self, host: usize, id: u64, session: SessionId, command: Command) {
        self.step(host, Input::Submit { id, session, command });
    }

    pub fn travellers_answered(&mut self, id: u64, answer: &Answer) {
        let Some(name) = self.travellers.waiting.remove(&id) else {
            return self.checker.violated(self.now, format!("question {id} is answered twice"));
        };
        match answer {
            Ok(_) => self.travellers.acknowledged.push(name),
            Err(Failure::Refused(Refusal::AlreadyExists)) => {
                self.checker.violated(self.now, format!("{name} was made twice"));
            }
            Err(_) => {}
        }
    }

    /// In the end, all that was acknowledged is there.
    pub fn judge_travellers(&mut self) {
        let members = self.members();
        let mut running = members.iter().filter_map(|host| self.hosts[*host].running.as_ref());
        let Some(running) = running.next() else { return };
        let is_lost = |name: &&String| running.tree.lookup(Ino::ROOT, name.as_bytes()).is_err();
        let lost: Vec<String> =
            self.travellers.acknowledged.iter().filter(is_lost).cloned().collect();
        self.counts.travelled += self.travellers.acknowledged.len() as u64;
        for name in lost {
            self.checker.violated(self.now, format!("{name} was acknowledged, and is lost"));
        }
    }
}

fn create(name: &str) -> Command {
    Command::Create(Create {
        parent: Ino::ROOT,
        name: name.as_bytes().into(),
        node: NewNode::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        ticket: None,
        wait: false,
    })
}
