//! [`Client`]: one client's session and changes, in one piece that can go to another replica.

use super::life::{Life, Need};
use super::proposals::Proposals;
use super::{Answer, Failure, void_claim};
use crate::tree::{Command, Name, Proposal, Reply, SessionId, Tree, Zxid};

/// A client at one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

impl ClientId {
    /// The replica's own: its host's mount.
    pub const OWN: ClientId = ClientId(0);
}

/// A client of the cluster, at a replica by which it proposes.
#[derive(Debug)]
pub struct Client {
    /// The host that its sessions are opened for.
    host: Name,
    /// Its name among the clients of that host.
    name: Name,
    life: Life,
    proposals: Proposals,
    /// Who waits for the next session, and since when.
    awaiting: Vec<(u64, u64)>,
    /// Who waits for the session to be closed as soon as it is open.
    ending: Option<u64>,
    /// Had before the session was seen to be here: not to be told before.
    unreleased: Vec<Unreleased>,
}

/// The answer to a change that is applied, which is not to be told yet.
#[derive(Clone, Debug)]
pub struct Unreleased {
    pub id: u64,
    /// Of the entry; it is told when every attentive mount shows that. `None`: nothing to show.
    pub shows: Option<Zxid>,
    pub answer: Answer,
}

impl Client {
    /// `timeout` is how long its sessions live in silence, nanoseconds. Of two clients with one
    /// name, or two lives of one, no two have the same `seed`.
    pub fn new(host: Name, name: Name, timeout: u64, seed: u64) -> Client {
        Client {
            host,
            name,
            life: Life::new(timeout, seed),
            proposals: Proposals::default(),
            awaiting: Vec::new(),
            ending: None,
            unreleased: Vec::new(),
        }
    }

    pub fn host(&self) -> &Name {
        &self.host
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn timeout_ms(&self) -> u32 {
        (self.life.timeout() / 1_000_000) as u32
    }

    /// The session, while it may be believed.
    pub fn session(&self) -> Option<SessionId> {
        self.life.believed()
    }

    /// Until when [`Client::session`] may be believed, by this host's clock; 0 if there is none.
    pub fn deadline(&self) -> u64 {
        self.life.deadline()
    }

    /// The sessions whose entries in the log concern it.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let own = self.life.believed().or(self.life.moving());
        own.into_iter().chain(self.proposals.session())
    }

    /// Changes without an answer.
    pub fn waiting(&self) -> usize {
        self.proposals.len()
    }

    /// Whether there is something to hand over, or on its way.
    pub fn is_busy(&self) -> bool {
        !self.proposals.is_empty()
    }

    /// It has left, and nobody waits for it.
    pub fn is_gone(&self) -> bool {
        self.life.is_closed() && !self.is_busy() && self.ending.is_none()
    }

    /// A change in `session`.
    ///
    /// # Errors
    /// The session is not the one that is believed, or on its way here.
    pub fn submit(
        &mut self,
        id: u64,
        session: SessionId,
        command: Command,
        now: u64,
    ) -> Result<(), Failure> {
        if self.life.believed().or(self.life.moving()) != Some(session) {
            return Err(Failure::SessionLost);
        }
        self.proposals.submit(id, session, command, now);
        Ok(())
    }

    /// `id` waits for the next session.
    pub fn await_session(&mut self, id: u64, now: u64) {
        self.awaiting.push((id, now));
    }

    /// The client leaves; `id` is answered when its session is closed. `None`: it will be, in the
    /// log; else it has none.
    pub fn close(&mut self, id: u64, now: u64) -> Option<Answer> {
        self.life.close();
        match self.life.believed().or(self.life.moving()) {
            Some(session) => self.proposals.submit(id, session, Command::CloseSession, now),
            None if self.life.is_asked_for() => self.ending = Some(id),
            None => return Some(Ok(Reply::Done)),
        }
        None
    }

    /// Another one takes its place: it opens no session after this one.
    pub fn resign(&mut self) {
        self.life.close();
    }

    /// See [`Life::lapse`].
    pub fn lapse(&mut self, now: u64) -> Option<SessionId> {
        self.life.lapse(now)
    }

    pub fn is_keep_alive_due(&self, now: u64) -> bool {
        self.life.is_keep_alive_due(now)
    }

    pub fn joins_keep_alive(&mut self, now: u64) -> Option<SessionId> {
        self.life.joins_keep_alive(now)
    }

    pub fn acknowledged(&mut self, session: SessionId, sent: u64, now: u64) {
        self.life.acknowledged(session, sent, now);
    }

    pub fn need(&mut self, now: u64) -> Option<Need> {
        self.life.need(now)
    }

    pub fn leader_changed(&mut self) {
        self.life.leader_changed();
    }

    /// See [`Proposals::hand_over`]. Only what is of the session that is believed.
    pub fn hand_over(&mut self, term: u64, now: u64, leads: bool, give: impl FnMut(&Proposal)) {
        let believed = self.life.believed();
        if let Some(session) = believed {
            self.proposals.sequence(session);
        }
        self.proposals.hand_over(believed, term, now, leads, give);
    }

    pub fn dropped(&mut self, now: u64) {
        self.proposals.dropped(now);
    }

    /// The entry of a proposal of `session` is applied. Who asked for it, if it waits.
    pub fn applied(&mut self, session: SessionId, sequence: u64) -> Option<u64> {
        let is_own = self.proposals.session() == Some(session);
        is_own.then(|| self.proposals.applied(sequence)).flatten()
    }

    /// What is to be told now of an answer in `session`: nothing, while the session is on its way
    /// here. Without its claim, if the session is believed no longer.
    pub fn check(&mut self, session: SessionId, mut unreleased: Unreleased) -> Option<Unreleased> {
        if self.life.moving() == Some(session) {
            self.unreleased.push(unreleased);
            return None;
        }
        if self.life.believed() != Some(session) {
            void_claim(&mut unreleased.answer);
        }
        Some(unreleased)
    }

    /// What the tree remembers of proposals whose entries were not seen to be applied here.
    pub fn look_up(&mut self, tree: &Tree) -> Vec<(u64, Answer)> {
        self.proposals.look_up(tree)
    }

    /// The log opened `session` for `nonce`. True if it is the one asked for.
    pub fn opened(&mut self, session: SessionId, nonce: u64) -> bool {
        self.life.opened(session, nonce)
    }

    /// The session is open. Who waited for it, who asked for what shall not happen any more in an
    /// older one, and who waits to close it.
    pub fn settle(&mut self, session: SessionId, now: u64) -> (Vec<u64>, Vec<u64>) {
        let mut dropped = self.proposals.session_ended();
        dropped.extend(self.proposals.drop_of_older(session));
        if let Some(id) = self.ending.take() {
            self.proposals.submit(id, session, Command::CloseSession, now);
        }
        let awaiting = std::mem::take(&mut self.awaiting);
        (awaiting.into_iter().map(|(id, _)| id).collect(), dropped)
    }

    /// The log has it that the session moved by the move numbered so, to this replica. What may be
    /// told now that it is here: who waited for it, and answers.
    pub fn moved(&mut self, session: SessionId, moves: u64) -> Option<(Vec<u64>, Vec<Unreleased>)> {
        self.life.moved(session, moves).then(|| {
            let awaiting = std::mem::take(&mut self.awaiting);
            let told = std::mem::take(&mut self.unreleased);
            (awaiting.into_iter().map(|(id, _)| id).collect(), told)
        })
    }

    /// Whether the session went elsewhere after it came here.
    pub fn moved_on(&self, session: SessionId, moves: u64) -> bool {
        self.life.moved_on(session, moves)
    }

    /// The session is over, by the log's word. True if it was not given up before.
    pub fn ended(&mut self, session: SessionId) -> bool {
        self.life.ended(session)
    }

    /// The session that proposed is over: what it proposed and was not applied never will be. Those
    /// who asked for it, and what was withheld, without its claims.
    pub fn drop_pending(&mut self, session: SessionId) -> (Vec<u64>, Vec<Unreleased>) {
        let mut withheld = std::mem::take(&mut self.unreleased);
        withheld.iter_mut().for_each(|unreleased| void_claim(&mut unreleased.answer));
        let is_own = self.proposals.session() == Some(session);
        let pending = if is_own { self.proposals.session_ended() } else { Vec::new() };
        (pending, withheld)
    }

    /// Who has waited too long, and how that is called.
    pub fn expire(
        &mut self,
        now: u64,
        limit: u64,
        leader_known: bool,
        hopeless: bool,
    ) -> Vec<(u64, Failure)> {
        let mut failed = self.proposals.expire(now, limit, leader_known, hopeless);
        let late = |&mut (_, since): &mut (u64, u64)| hopeless || now >= since + limit;
        let awaiting = self.awaiting.extract_if(.., late).map(|(id, _)| (id, Failure::NoQuorum));
        failed.extend(awaiting);
        failed
    }

    /// It leaves this replica for another one, with all that waits, and `unreleased` of it.
    pub fn depart(&mut self, unreleased: Vec<Unreleased>) {
        self.life.depart();
        self.unreleased.extend(unreleased);
    }

    /// It has come to a replica by whose clock the time is `now`. A session after this one is
    /// opened for `host`, in whose name that replica may speak.
    pub fn arrive(&mut self, now: u64, host: Name) {
        self.host = host;
        self.proposals.arrive(now);
        self.awaiting.iter_mut().for_each(|(_, since)| *since = now);
    }

    /// Shows `change` the caller of all that waits: it is another one at another replica.
    pub fn renumber(&mut self, mut change: impl FnMut(&mut u64)) {
        self.proposals.renumber(&mut change);
        self.awaiting.iter_mut().for_each(|(id, _)| change(id));
        self.ending.iter_mut().for_each(&mut change);
        self.unreleased.iter_mut().for_each(|unreleased| change(&mut unreleased.id));
    }
}
