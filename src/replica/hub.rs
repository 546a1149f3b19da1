//! The clients of this replica, each with its session: in one place, so that a thousand of them
//! cost little more than one. Only those that have something to say are looked at with each Ready,
//! and what they say to stay alive goes in one message.

use super::visibility::Held;
use super::{Answer, Failure, Moment, PeerMessage, Replica, SessionEvent};
use crate::mix::mix;
use crate::session::{Client, ClientId, Need, Unreleased, void_claim};
use crate::tree::{Command, Proposal, ReplicaId, Reply, SessionId, Tree, Zxid};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Hub {
    clients: BTreeMap<ClientId, Client>,
    of_session: BTreeMap<SessionId, ClientId>,
    /// Those with changes on their way.
    busy: BTreeSet<ClientId>,
    /// No session's deadline is earlier.
    lapse_at: u64,
    /// Those whose deadline is another one than when it was last asked for.
    extended: Vec<ClientId>,
}

impl Hub {
    pub(super) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id)
    }

    fn insert(&mut self, id: ClientId, client: Client) {
        for session in client.sessions() {
            self.of_session.insert(session, id);
        }
        self.clients.insert(id, client);
        self.busy.insert(id);
    }

    fn remove(&mut self, id: ClientId) -> Option<Client> {
        self.of_session.retain(|_, of| *of != id);
        self.busy.remove(&id);
        self.clients.remove(&id)
    }

    /// The client that proposes, or has proposed, in a session.
    fn of(&mut self, session: SessionId) -> Option<(ClientId, &mut Client)> {
        let id = *self.of_session.get(&session)?;
        self.clients.get_mut(&id).map(|client| (id, client))
    }

    /// A session whose deadline has passed, and its client.
    fn lapse(&mut self, now: u64) -> Option<(ClientId, SessionId)> {
        if now < self.lapse_at {
            return None;
        }
        let lapsed =
            self.clients.iter_mut().find_map(|(id, client)| Some((*id, client.lapse(now)?)));
        if lapsed.is_none() {
            let deadlines = self.clients.values().map(Client::deadline).filter(|at| *at > 0);
            self.lapse_at = deadlines.min().unwrap_or(u64::MAX);
        }
        lapsed
    }

    pub(super) fn take_extended(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.extended)
    }

    /// Changes without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.busy.iter().filter_map(|id| self.clients.get(id)).map(Client::waiting).sum()
    }

    /// Shows `give` every proposal that is due to be handed to the leader of `term`.
    pub(super) fn hand_over(
        &mut self,
        term: u64,
        now: u64,
        leads: bool,
        mut give: impl FnMut(&Proposal),
    ) {
        let clients = &mut self.clients;
        self.busy.retain(|id| {
            let Some(client) = clients.get_mut(id) else { return false };
            client.hand_over(term, now, leads, &mut give);
            client.is_busy()
        });
    }

    /// raft did not take what was handed to it.
    pub(super) fn dropped(&mut self, now: u64) {
        self.clients.values_mut().for_each(|client| client.dropped(now));
    }

    pub(super) fn leader_changed(&mut self) {
        self.clients.values_mut().for_each(Client::leader_changed);
    }

    /// The sessions that shall be kept alive now, in one message.
    fn keep_alive(&mut self, now: u64) -> Vec<SessionId> {
        if !self.clients.values().any(|client| client.is_keep_alive_due(now)) {
            return Vec::new();
        }
        self.clients.values_mut().filter_map(|client| client.joins_keep_alive(now)).collect()
    }

    pub(super) fn acknowledged(&mut self, sessions: &[SessionId], sent: u64, now: u64) {
        for session in sessions {
            if let Some((id, client)) = self.of(*session) {
                client.acknowledged(*session, sent, now);
                self.extended.push(id);
            }
        }
    }

    pub(super) fn expire(
        &mut self,
        now: u64,
        limit: u64,
        leader_known: bool,
        hopeless: bool,
    ) -> Vec<(u64, Failure)> {
        let gone: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| client.is_gone()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| drop(self.remove(id)));
        let clients = self.clients.values_mut();
        clients.flat_map(|client| client.expire(now, limit, leader_known, hopeless)).collect()
    }
}

impl Replica {
    /// A client is here from now on, and wants a session. One of its name has had its last: two
    /// that live would take each other's sessions for ever.
    pub(super) fn attach(&mut self, id: ClientId, name: &[u8]) {
        let older = self.hub.clients.values_mut().filter(|client| **client.name() == *name);
        older.for_each(Client::resign);
        let host = self.config.name.as_bytes().into();
        let seed = mix(self.process, id.0);
        let client = Client::new(host, name.into(), self.config.session_timeout, seed);
        self.hub.insert(id, client);
    }

    /// A client that was at another replica until now. `tree` is where this one stands.
    pub fn arrive(&mut self, now: Moment, id: ClientId, mut client: Client, tree: &Tree) {
        self.at(now);
        client.arrive(self.now.monotonic, self.config.name.as_bytes().into());
        self.hub.insert(id, client);
        let sessions: Vec<SessionId> =
            self.hub.client(id).into_iter().flat_map(Client::sessions).collect();
        self.look_up(id, tree);
        for session in sessions {
            if tree.session(session).is_none() && session.0 <= tree.zxid() {
                self.session_ended(session);
            }
        }
    }

    /// A client leaves for another replica, with all that it waits for; it can come to that one
    /// when it has left this one. `None`: it is not here.
    pub fn depart(&mut self, now: Moment, id: ClientId) -> Option<Client> {
        self.at(now);
        let mut client = self.hub.remove(id)?;
        let session = client.session();
        let held = self.visibility.take_of(session.unwrap_or(SessionId::NONE));
        let mut unreleased: Vec<Unreleased> = held.into_iter().map(Held::unreleased).collect();
        for (of, id, answer) in std::mem::take(&mut self.answering) {
            match Some(of) == session {
                true => unreleased.push(Unreleased { id, shows: None, answer }),
                false => self.answering.push((of, id, answer)),
            }
        }
        client.depart(unreleased);
        Some(client)
    }

    pub(super) fn submit(&mut self, id: u64, session: SessionId, command: Command) {
        let now = self.now.monotonic;
        let undecided = self.dispute.is_some() || self.outvoted.is_some();
        let hopeless = undecided || self.leadership.missing_for(now, self.config.op_timeout);
        let admitted = self.admits_level(&command);
        let submitted = match self.hub.of(session) {
            Some(_) if hopeless => Err(Failure::NoQuorum),
            Some(_) if admitted.is_err() => admitted.map(|()| ClientId::OWN),
            Some((client, of)) => of.submit(id, session, command, now).map(|()| client),
            None => Err(Failure::SessionLost),
        };
        match submitted {
            Ok(client) => drop(self.hub.busy.insert(client)),
            Err(failure) => self.answer(id, Err(failure)),
        }
    }

    pub(super) fn await_session(&mut self, client: ClientId, id: u64) {
        let now = self.now.monotonic;
        let hopeless = self.leadership.missing_for(now, self.config.op_timeout);
        let answer = match self.hub.clients.get_mut(&client) {
            None => Err(Failure::SessionLost),
            Some(client) => match client.session() {
                Some(session) => Ok(Reply::Session { session }),
                None if hopeless => Err(Failure::NoQuorum),
                None => return client.await_session(id, now),
            },
        };
        self.answer(id, answer);
    }

    pub(super) fn end_session(&mut self, client: ClientId, id: u64) {
        let now = self.now.monotonic;
        let answer = match self.hub.clients.get_mut(&client) {
            None => Some(Ok(Reply::Done)),
            Some(of) => of.close(id, now),
        };
        match answer {
            Some(answer) => self.answer(id, answer),
            None => drop(self.hub.busy.insert(client)),
        }
    }

    /// Opens, moves and keeps alive what needs it.
    pub(super) fn tend_sessions(&mut self) {
        let now = self.now.monotonic;
        let Some(leader) = self.leadership.leader else { return };
        for client in self.hub.clients.values_mut() {
            let replica = self.config.id;
            let command = match client.need(now) {
                None => continue,
                Some(Need::Open { nonce }) => Command::OpenSession {
                    host: client.host().clone(),
                    client: client.name().clone(),
                    replica,
                    nonce,
                    timeout_ms: client.timeout_ms(),
                },
                Some(Need::Move { session, nonce, moves }) => {
                    Command::MoveSession { session, nonce, moves, replica }
                }
            };
            self.own_commands.push(command);
        }
        let sessions = self.hub.keep_alive(now);
        if sessions.is_empty() {
            return;
        }
        match leader == self.config.id {
            true => self.keep_alive(leader, sessions, now),
            false => self.send(leader, PeerMessage::KeepAlive { sessions, sent: now }),
        }
    }

    /// Whatever comes next happens after the deadlines that have passed.
    pub(super) fn lapse_sessions(&mut self) {
        while let Some((client, session)) = self.hub.lapse(self.now.monotonic) {
            self.lose(client, session);
        }
    }

    /// The session is believed no longer, and no lock or place in a queue that was had in it: not
    /// even those that nobody has been told of.
    fn lose(&mut self, client: ClientId, session: SessionId) {
        self.outbox.events.push(SessionEvent::Lost(client, session));
        self.visibility.void_claims(session);
        let of_it = self.answering.iter_mut().filter(|(of, ..)| *of == session);
        of_it.for_each(|(_, _, answer)| void_claim(answer));
    }

    /// An entry is applied: whether it was proposed by a client here. Its asker is answered when
    /// the change shows everywhere, if it shows anything.
    pub(super) fn answer_applied(
        &mut self,
        zxid: Zxid,
        proposal: &Proposal,
        answer: impl FnOnce() -> Answer,
        shows: bool,
    ) -> bool {
        let session = proposal.session;
        let Some((of, client)) = self.hub.of(session) else { return false };
        let Some(id) = client.applied(session, proposal.sequence) else { return false };
        let answer = answer();
        let shows = (answer.is_ok() && shows).then_some(zxid);
        let told = client.check(session, Unreleased { id, shows, answer });
        told.into_iter().for_each(|told| self.release((of, session), told));
        true
    }

    fn release(&mut self, asker: (ClientId, SessionId), told: Unreleased) {
        match told.shows {
            Some(index) => self.visibility.hold(asker, index, told, self.now.monotonic),
            None => self.answering.push((asker.1, told.id, told.answer)),
        }
    }

    /// The tree has jumped over entries, or another replica's client has come.
    pub(super) fn look_up(&mut self, of: ClientId, tree: &Tree) {
        let Some(client) = self.hub.clients.get_mut(&of) else { return };
        let Some(session) = client.sessions().last() else { return };
        let mut told = Vec::new();
        for (id, answer) in client.look_up(tree) {
            let shows = answer.is_ok().then_some(tree.zxid());
            told.extend(client.check(session, Unreleased { id, shows, answer }));
        }
        told.into_iter().for_each(|told| self.release((of, session), told));
    }

    /// The tree is another one.
    pub(super) fn sessions_restored(&mut self, tree: &Tree) {
        let clients: Vec<ClientId> = self.hub.clients.keys().copied().collect();
        clients.into_iter().for_each(|id| self.look_up(id, tree));
        let known: Vec<SessionId> = self.hub.of_session.keys().copied().collect();
        for session in known.into_iter().filter(|session| tree.session(*session).is_none()) {
            self.session_ended(session);
        }
    }

    /// A session is over, by the log's word.
    pub(super) fn session_ended(&mut self, session: SessionId) {
        let Some((id, client)) = self.hub.of(session) else { return };
        let was_believed = client.ended(session);
        let (dropped, withheld) = client.drop_pending(session);
        self.hub.of_session.remove(&session);
        if was_believed {
            self.lose(id, session);
        }
        withheld.into_iter().for_each(|told| self.release((id, session), told));
        self.fail_all(dropped);
    }

    fn fail_all(&mut self, dropped: Vec<u64>) {
        dropped.into_iter().for_each(|id| self.answer(id, Err(Failure::SessionLost)));
    }

    /// The session a client here asked for is open; one before it is over. Or one has moved, here
    /// or away from here.
    pub(super) fn notice_session(
        &mut self,
        command: &Command,
        reply: &Result<Reply, crate::tree::Refusal>,
    ) {
        let Ok(Reply::Session { session }) = *reply else { return };
        match *command {
            Command::OpenSession { replica, nonce, .. } if replica == self.config.id => {
                self.notice_opened(session, nonce);
            }
            Command::MoveSession { replica, moves, .. } => {
                self.notice_moved(session, moves, replica);
            }
            _ => {}
        }
    }

    fn notice_opened(&mut self, session: SessionId, nonce: u64) {
        let now = self.now.monotonic;
        let mut clients = self.hub.clients.iter_mut();
        let opened = clients.find_map(|(id, client)| {
            client.opened(session, nonce).then(|| (*id, client.settle(session, now)))
        });
        let Some((id, (awaiting, dropped))) = opened else { return };
        self.hub.of_session.insert(session, id);
        self.hub.busy.insert(id);
        self.fail_all(dropped);
        self.take_up(id, session, awaiting);
    }

    fn take_up(&mut self, id: ClientId, session: SessionId, awaiting: Vec<u64>) {
        let deadline = self.hub.client(id).map_or(0, Client::deadline);
        self.hub.lapse_at = self.hub.lapse_at.min(deadline);
        self.outbox.events.push(SessionEvent::Opened(id, session));
        awaiting.into_iter().for_each(|id| self.answer(id, Ok(Reply::Session { session })));
    }

    fn notice_moved(&mut self, session: SessionId, moves: u64, to: ReplicaId) {
        let Some((id, client)) = self.hub.of(session) else { return };
        if to == self.config.id {
            if let Some((awaiting, told)) = client.moved(session, moves) {
                self.hub.busy.insert(id);
                self.take_up(id, session, awaiting);
                told.into_iter().for_each(|told| self.release((id, session), told));
            }
        } else if client.moved_on(session, moves) {
            // It is somewhere else without having left: what is here of it is a remnant.
            let (dropped, withheld) = client.drop_pending(session);
            self.lose(id, session);
            withheld.into_iter().for_each(|told| self.release((id, session), told));
            self.fail_all(dropped);
            self.hub.remove(id);
        }
    }
}
