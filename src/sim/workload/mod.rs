//! Generated clients: on every host some processes that write, append, create, move and lock, one
//! operation at a time each, and tell the checker what they were answered.

mod guarded;
mod locking;

use super::history::Operation;
use super::scene::{Action, Request, Scene};
use super::{MICROSECOND, MILLISECOND, layout};
use crate::replica::{Answer, Batch, Failure};
use crate::tree::{
    Change, Command, Ino, Level, NewNode, Place, RenameHow, Reply, SessionId, Write, Zxid,
};
use locking::Wish;
use std::collections::BTreeMap;

pub(super) struct Workload {
    clients: Vec<Client>,
    /// Questions that have no answer yet.
    pending: BTreeMap<u64, Pending>,
    /// Makes every question, name and value different.
    serial: u64,
    prepared: bool,
    /// Nobody holds a lock for long any more.
    calm: bool,
    stopped: bool,
    /// Locks and tickets held so far.
    pub held: u64,
    /// Writes under a lock that were answered well.
    pub guarded: u64,
}

struct Client {
    host: usize,
    doing: Doing,
    /// Turns of a lower number are void.
    turn: u64,
}

#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    /// Waits for an answer.
    Asking,
    /// Queued for a lock.
    Waiting {
        wish: Wish,
        waiter: Zxid,
    },
    Holding {
        wish: Wish,
        token: Zxid,
    },
    /// Was not answered, and may hold or wait for a lock.
    Doubting {
        wish: Wish,
    },
}

struct Pending {
    client: usize,
    ask: Ask,
    invoked: u64,
    /// The session in which it was asked.
    session: Option<SessionId>,
}

#[derive(Clone, Debug)]
enum Ask {
    Prepare,
    WriteRegister {
        register: usize,
        value: Vec<u8>,
    },
    ReadRegister {
        register: usize,
    },
    Append {
        line: Vec<u8>,
    },
    Number,
    Probe {
        level: Level,
    },
    /// Its reply says nothing the end would not show.
    Other,
    Lock(Wish),
    GiveBack(Wish),
    /// What a lock's holder writes.
    Guarded {
        wish: Wish,
        token: Zxid,
    },
}

impl Workload {
    pub fn new(hosts: usize, clients_per_host: usize) -> Workload {
        let client = |index| Client { host: index % hosts, doing: Doing::Nothing, turn: 0 };
        Workload {
            clients: (0..hosts * clients_per_host).map(client).collect(),
            pending: BTreeMap::new(),
            serial: 0,
            prepared: false,
            calm: false,
            stopped: false,
            held: 0,
            guarded: 0,
        }
    }

    /// Clients on a host that joined; their turns come with its session.
    pub fn add_clients(&mut self, host: usize, count: usize) {
        let client = || Client { host, doing: Doing::Nothing, turn: 0 };
        self.clients.extend(std::iter::repeat_with(client).take(count));
    }

    pub fn host_of(&self, client: usize) -> usize {
        self.clients[client].host
    }

    /// Whether the tree clients work on has been made.
    pub fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// What begins from now on is over soon.
    pub fn calm_down(&mut self) {
        self.calm = true;
    }

    /// No client begins anything new.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Questions still open that were asked before this moment, for the last judgement.
    pub fn unanswered(&self, before: u64) -> Vec<(u64, String)> {
        let open = self.pending.iter().filter(|(_, pending)| pending.invoked < before);
        open.map(|(id, pending)| (*id, format!("{:?}", pending.ask))).collect()
    }

    pub fn session_opened(&mut self, scene: &mut Scene<'_>) {
        for client in self.clients_of(scene.host) {
            if !matches!(self.clients[client].doing, Doing::Asking) {
                self.rest(client, scene);
            }
        }
    }

    /// Whatever its clients held or waited for is gone.
    pub fn session_lost(&mut self, scene: &mut Scene<'_>) {
        for client in self.clients_of(scene.host) {
            if !matches!(self.clients[client].doing, Doing::Asking) {
                self.rest(client, scene);
            }
        }
    }

    /// The host is no more, and its processes with it.
    pub fn crashed(&mut self, host: usize) {
        self.pending.retain(|_, pending| self.clients[pending.client].host != host);
        for client in self.clients_of(host) {
            self.clients[client].doing = Doing::Nothing;
            self.clients[client].turn += 1;
        }
    }

    fn clients_of(&self, host: usize) -> Vec<usize> {
        (0..self.clients.len()).filter(|client| self.clients[*client].host == host).collect()
    }

    pub fn applied(&mut self, batch: &Batch, scene: &mut Scene<'_>) {
        for applied in &batch.applied {
            for change in &applied.changes {
                if let Change::Granted { session, waiter, token, .. } = change
                    && Some(*session) == scene.session
                {
                    self.granted(*waiter, *token, scene);
                }
            }
        }
    }

    /// The tree was replaced by a snapshot.
    pub fn restored(&mut self, scene: &mut Scene<'_>) {
        self.look_for_grants(scene);
    }

    /// Gives a client its turn.
    pub fn turn(&mut self, client: usize, turn: u64, scene: &mut Scene<'_>) {
        if turn != self.clients[client].turn {
            return;
        }
        match self.clients[client].doing.clone() {
            Doing::Asking => {}
            Doing::Nothing => self.begin(client, scene),
            Doing::Waiting { wish, waiter } => self.cancel(client, wish, waiter, scene),
            Doing::Holding { wish, token } => self.hold_on(client, wish, token, scene),
            Doing::Doubting { wish } => self.give_back(client, wish, scene),
        }
    }

    fn wake(&mut self, client: usize, after: u64, scene: &mut Scene<'_>) {
        self.clients[client].turn += 1;
        scene.actions.push(Action::Wake { client, turn: self.clients[client].turn, after });
    }

    /// Done with one thing; the next comes after a while.
    fn rest(&mut self, client: usize, scene: &mut Scene<'_>) {
        self.clients[client].doing = Doing::Nothing;
        let think = scene.dice.between(MICROSECOND, 40 * MILLISECOND);
        self.wake(client, think, scene);
    }

    fn ask(&mut self, client: usize, ask: Ask, command: Command, scene: &mut Scene<'_>) {
        self.ask_any(client, ask, Request::Change(scene.session, command), scene);
    }

    fn ask_any(&mut self, client: usize, ask: Ask, request: Request, scene: &mut Scene<'_>) {
        self.serial += 1;
        self.clients[client].doing = Doing::Asking;
        let (invoked, session) = (scene.now, scene.session);
        self.pending.insert(self.serial, Pending { client, ask, invoked, session });
        scene.actions.push(Action::Ask { id: self.serial, request });
    }

    /// Begins something new, if it is time for it.
    fn begin(&mut self, client: usize, scene: &mut Scene<'_>) {
        let foolish = scene.session.is_none() && !scene.dice.chance(100);
        if self.stopped || foolish {
            return self.wake(client, 100 * MILLISECOND, scene);
        }
        if !layout::is_ready(scene.tree) {
            return match layout::next_step(scene.tree).filter(|_| client == 0) {
                Some(step) => self.ask(client, Ask::Prepare, step, scene),
                None => self.wake(client, 50 * MILLISECOND, scene),
            };
        }
        self.prepared = true;
        if self.choose(client, scene).is_none() {
            self.rest(client, scene);
        }
    }

    /// `None` if what was chosen cannot be asked for right now.
    fn choose(&mut self, client: usize, scene: &mut Scene<'_>) -> Option<()> {
        let register = scene.dice.roll(layout::REGISTERS);
        self.serial += 1;
        let name = format!("client{client}.{}", self.serial).into_bytes();
        match scene.dice.roll(21) {
            0..=5 => {
                let ino = layout::find(scene.tree, &layout::register(register))?;
                let command = write(ino, Place::Replace(0), &name);
                self.ask(client, Ask::WriteRegister { register, value: name }, command, scene);
            }
            6..=9 => {
                self.ask_any(client, Ask::ReadRegister { register }, Request::Barrier, scene);
            }
            10 | 11 => {
                let line = [&name[..], b"\n"].concat();
                let command = write(layout::find(scene.tree, layout::LOG)?, Place::End, &line);
                self.ask(client, Ask::Append { line }, command, scene);
            }
            12 => {
                let parent = layout::find(scene.tree, layout::SEQUENTIAL)?;
                let command = layout::make(parent, b"number-", NewNode::File);
                self.ask(client, Ask::Number, command, scene);
            }
            13 => {
                let parent = layout::find(scene.tree, layout::EPHEMERAL)?;
                let command = layout::make(parent, &name, NewNode::File);
                self.ask(client, Ask::Other, command, scene);
            }
            14 => {
                let level = 1 + scene.dice.roll(5) as Level;
                self.ask(client, Ask::Probe { level }, Command::Probe { level }, scene);
            }
            15 | 16 => {
                let command = some_move(name, scene)?;
                self.ask(client, Ask::Other, command, scene);
            }
            _ => {
                let wish = self.wish(client, scene)?;
                self.ask_for(client, wish, scene);
            }
        }
        Some(())
    }

    /// An answer to question `id` has come.
    pub fn answered(&mut self, id: u64, answer: Answer, scene: &mut Scene<'_>) {
        let Some(pending) = self.pending.remove(&id) else {
            return scene.checker.violated(scene.now, format!("{id} is answered twice"));
        };
        let Pending { client, ask, invoked, session } = pending;
        match ask {
            Ask::Lock(_) | Ask::GiveBack(_) | Ask::Guarded { .. } if session != scene.session => {
                return self.rest(client, scene);
            }
            Ask::Lock(wish) => return self.lock_answered(client, wish, answer, scene),
            Ask::GiveBack(wish) => return self.give_back_answered(client, wish, answer, scene),
            Ask::Guarded { wish, token } => {
                return self.guarded_answered(client, wish, token, answer, scene);
            }
            ask => self.file_answered(ask, invoked, answer, client, scene),
        }
        self.rest(client, scene);
    }

    fn file_answered(
        &mut self,
        ask: Ask,
        invoked: u64,
        answer: Answer,
        client: usize,
        scene: &mut Scene<'_>,
    ) {
        let seen = scene.tree.zxid();
        let reply = match answer {
            Ok(reply) => reply,
            Err(Failure::Refused(_)) => return,
            Err(failure) => {
                return scene.failed(format!("client {client} {ask:?}: {failure:?}"));
            }
        };
        match ask {
            Ask::WriteRegister { register, value } => {
                if let Some(at) = scene.checker.acknowledged(scene.now, &value, seen) {
                    let answered = scene.now;
                    let operation = Operation { invoked, answered, at, write: true };
                    scene.checker.register(register, operation);
                }
            }
            Ask::ReadRegister { register } => read_register(register, invoked, scene),
            Ask::Append { line } => {
                scene.checker.acknowledged(scene.now, &line, seen);
                scene.checker.appended(line);
            }
            Ask::Number => match reply {
                Reply::Created { name: Some(name), .. } => {
                    scene.checker.numbered(scene.now, name.into_vec());
                }
                other => {
                    let what = format!("a sequential directory answers {other:?}");
                    scene.checker.violated(scene.now, what);
                }
            },
            Ask::Probe { level } if level > scene.tree.level() => {
                let what = format!("a command of level {level} takes effect below it");
                scene.checker.violated(scene.now, what);
            }
            _ => {}
        }
    }
}

fn write(ino: Ino, place: Place, data: &[u8]) -> Command {
    Command::Write(Write { ino, place, data: data.into(), clear_set_id: true })
}

/// Reads here what the barrier before it has made fresh.
fn read_register(register: usize, invoked: u64, scene: &mut Scene<'_>) {
    let name = layout::register(register);
    let bytes = layout::file(scene.tree, &name);
    let found = layout::find(scene.tree, &name).and_then(|ino| scene.tree.attributes(ino));
    let Some(at) = found.map(|found| found.mzxid).filter(|_| !bytes.is_empty()) else { return };
    if !scene.checker.is_value_of(&bytes, at) {
        let value = String::from_utf8_lossy(&bytes).into_owned();
        scene
            .checker
            .violated(scene.now, format!("{name} holds {value}, which {at} did not write"));
    }
    let operation = Operation { invoked, answered: scene.now, at, write: false };
    scene.checker.register(register, operation);
}

/// Moves some file to the other directory, under a new name or in exchange for one there.
fn some_move(new_name: Vec<u8>, scene: &mut Scene<'_>) -> Option<Command> {
    let from = scene.dice.roll(2);
    let name = scene.dice.pick(&layout::names(scene.tree, layout::MOVE[from]))?.clone();
    let there = layout::names(scene.tree, layout::MOVE[1 - from]);
    let other = scene.dice.pick(&there).filter(|_| new_name.len().is_multiple_of(2));
    let how = if other.is_some() { RenameHow::Exchange } else { RenameHow::NoReplace };
    Some(Command::Rename {
        from: layout::find(scene.tree, layout::MOVE[from])?,
        name: name.into(),
        to: layout::find(scene.tree, layout::MOVE[1 - from])?,
        new_name: other.cloned().unwrap_or(new_name).into(),
        how,
    })
}
