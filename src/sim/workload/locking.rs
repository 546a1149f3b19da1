//! A client that wants a lock: asks, waits, loses patience, holds, gives back, or is in doubt.
//!
//! An answer that never came leaves the client in doubt whether it waits or holds. It then gives
//! back what it asked for until that is answered: after it, the earlier request can take no effect
//! any more. A request found waiting in the tree nevertheless is cancelled by its number.

use super::super::beliefs::Belief;
use super::super::host::SESSION_TIMEOUT;
use super::super::scene::Scene;
use super::super::{MILLISECOND, SECOND};
use super::{Ask, Client, Doing, Workload, layout};
use crate::replica::{Answer, Failure};
use crate::tree::locks::Span;
use crate::tree::{
    Command, Ino, Lock, LockMode, LockOwner, LockView, Refusal, Reply, SessionId, Tree, Zxid,
};

/// What a client wants to hold.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    door: Door,
    /// The file, or the `lock` directory.
    ino: Ino,
    span: Span,
    mode: LockMode,
}

#[derive(Clone, Debug)]
enum Door {
    /// `fcntl`, by its owner.
    Range(LockOwner),
    /// A file of this name.
    Ticket(Vec<u8>),
}

/// All of a file.
const WHOLE: Span = Span { start: 0, end: i64::MAX as u64 };

impl Wish {
    fn asking(&self, client: usize) -> Command {
        match &self.door {
            Door::Ticket(name) => layout::ticket(self.ino, name, client),
            Door::Range(owner) => Command::Lock(Lock {
                ino: self.ino,
                owner: *owner,
                start: self.span.start,
                end: self.span.end,
                mode: self.mode,
                wait: true,
                who: layout::who(client),
            }),
        }
    }

    fn giving_back(&self) -> Command {
        match &self.door {
            Door::Ticket(name) => {
                Command::Unlink { parent: self.ino, name: name.as_slice().into() }
            }
            Door::Range(owner) => {
                let Span { start, end } = WHOLE;
                Command::Unlock { ino: self.ino, owner: *owner, start, end }
            }
        }
    }

    fn cancelling(&self, waiter: Zxid) -> Command {
        match &self.door {
            Door::Ticket(_) => self.giving_back(),
            Door::Range(_) => Command::CancelWait { ino: self.ino, waiter },
        }
    }

    /// What its holder believes in.
    pub(super) fn belief(&self, client: usize, token: Zxid, scene: &Scene<'_>) -> Belief {
        let Wish { ino, span, mode, .. } = *self;
        Belief { host: scene.host, client, ino, span, mode, token }
    }

    /// The file it is the sole right to write to, if it is one.
    pub(super) fn guards(&self) -> Option<Ino> {
        match self.door {
            Door::Range(_) if self.mode == LockMode::Exclusive => Some(self.ino),
            _ => None,
        }
    }

    /// How this wish stands in the tree.
    fn view(&self, tree: &Tree, session: SessionId) -> Option<LockView> {
        tree.locks_of(self.ino).into_iter().find(|view| {
            view.session == session
                && match &self.door {
                    Door::Range(owner) => view.ticket.is_none() && view.owner == *owner,
                    Door::Ticket(name) => {
                        view.ticket.as_ref().is_some_and(|(other, _)| **other == **name)
                    }
                }
        })
    }
}

impl Workload {
    pub(super) fn wish(&mut self, client: usize, scene: &mut Scene<'_>) -> Option<Wish> {
        self.serial += 1;
        let name = format!("client{client}.{}", self.serial).into_bytes();
        if scene.dice.chance(300) {
            let ino = scene.tree.lookup(Ino::LOCK, layout::QUEUE.as_bytes()).ok()?;
            let (span, mode) = (WHOLE, LockMode::Exclusive);
            return Some(Wish { door: Door::Ticket(name), ino, span, mode });
        }
        let file = layout::lock_file(scene.dice.roll(layout::LOCK_FILES));
        let ino = layout::find(scene.tree, &file)?;
        let start = scene.dice.between(0, 5);
        let part = Span { start, end: start + 5 };
        let span = if scene.dice.chance(600) { WHOLE } else { part };
        let shared = scene.dice.chance(300);
        let mode = if shared { LockMode::Shared } else { LockMode::Exclusive };
        Some(Wish { door: Door::Range(client as LockOwner + 1), ino, span, mode })
    }

    pub(super) fn ask_for(&mut self, client: usize, wish: Wish, scene: &mut Scene<'_>) {
        let command = wish.asking(client);
        self.ask(client, Ask::Lock(wish), command, scene);
    }

    pub(super) fn give_back(&mut self, client: usize, wish: Wish, scene: &mut Scene<'_>) {
        scene.checker.beliefs.end(client);
        let command = wish.giving_back();
        self.ask(client, Ask::GiveBack(wish), command, scene);
    }

    pub(super) fn cancel(
        &mut self,
        client: usize,
        wish: Wish,
        waiter: Zxid,
        scene: &mut Scene<'_>,
    ) {
        let command = wish.cancelling(waiter);
        self.ask(client, Ask::GiveBack(wish), command, scene);
    }

    /// The answer to [`Workload::ask_for`].
    pub(super) fn lock_answered(
        &mut self,
        client: usize,
        wish: Wish,
        answer: Answer,
        scene: &mut Scene<'_>,
    ) {
        match answer {
            Ok(Reply::Granted { token, .. }) => self.hold(client, wish, token, scene),
            Ok(Reply::Queued { waiter, .. }) => {
                let granted = scene.session.and_then(|session| wish.view(scene.tree, session));
                self.clients[client].doing = Doing::Waiting { wish: wish.clone(), waiter };
                match granted.and_then(|view| view.token.filter(|_| view.waiter == waiter)) {
                    Some(token) => self.hold(client, wish, token, scene),
                    None => {
                        let patience = scene.dice.between(10 * MILLISECOND, 4 * SECOND);
                        self.wake(client, patience, scene);
                    }
                }
            }
            Err(Failure::Refused(_)) => self.rest(client, scene),
            answer => self.doubt(client, wish, &answer, scene),
        }
    }

    fn hold(&mut self, client: usize, wish: Wish, token: Zxid, scene: &mut Scene<'_>) {
        let belief = wish.belief(client, token, scene);
        if let Some(wrong) = scene.checker.beliefs.begin(belief) {
            scene.checker.violated(scene.now, wrong);
        }
        self.held += 1;
        self.clients[client].doing = Doing::Holding { wish, token };
        // Some hold so long that a host cut off meanwhile has to stop believing.
        let long = !self.calm && scene.dice.chance(40);
        let most = if long { 3 * SESSION_TIMEOUT } else { 100 * MILLISECOND };
        let length = scene.dice.between(MILLISECOND, most);
        self.wake(client, length, scene);
    }

    /// The answer to giving back or cancelling.
    pub(super) fn give_back_answered(
        &mut self,
        client: usize,
        wish: Wish,
        answer: Answer,
        scene: &mut Scene<'_>,
    ) {
        let gone =
            matches!(answer, Ok(_) | Err(Failure::Refused(Refusal::NotFound | Refusal::Stale)));
        if !gone {
            return self.doubt(client, wish, &answer, scene);
        }
        let left = scene.session.and_then(|session| wish.view(scene.tree, session));
        match left {
            Some(view) if view.token.is_none() => {
                self.cancel(client, wish, view.waiter, scene);
            }
            // It waited while it was given back, and was granted since.
            Some(_) => self.give_back(client, wish, scene),
            None => self.rest(client, scene),
        }
    }

    /// Nobody knows what became of the request.
    fn doubt(&mut self, client: usize, wish: Wish, answer: &Answer, scene: &mut Scene<'_>) {
        if matches!(answer, Err(Failure::SessionLost)) {
            return self.rest(client, scene);
        }
        scene.failed(format!("client {client} {wish:?}: {answer:?}"));
        self.clients[client].doing = Doing::Doubting { wish };
        self.wake(client, 50 * MILLISECOND, scene);
    }

    /// A grant came out of the log for a waiter of this host's session.
    pub(super) fn granted(&mut self, waiter: Zxid, token: Zxid, scene: &mut Scene<'_>) {
        let waits = |client: &Client| match &client.doing {
            Doing::Waiting { waiter: w, wish } if client.host == scene.host && *w == waiter => {
                Some(wish.clone())
            }
            _ => None,
        };
        let found = self.clients.iter().enumerate().find_map(|(at, it)| Some((at, waits(it)?)));
        if let Some((client, wish)) = found {
            self.hold(client, wish, token, scene);
        }
    }

    /// The tree jumped: grants may have been jumped over.
    pub(super) fn look_for_grants(&mut self, scene: &mut Scene<'_>) {
        let Some(session) = scene.session else { return };
        for client in 0..self.clients.len() {
            if self.clients[client].host == scene.host
                && let Doing::Waiting { wish, .. } = self.clients[client].doing.clone()
            {
                match wish.view(scene.tree, session) {
                    Some(LockView { token: Some(token), .. }) => {
                        self.hold(client, wish, token, scene);
                    }
                    Some(_) => {}
                    None => self.rest(client, scene),
                }
            }
        }
    }
}
