//! Everything that waits for time: [`super::Input::Tick`].

use super::departure::HEARD_LATELY;
use super::membership::Asker;
use super::wishes::{Decision, Step, Wish};
use super::{Failure, MembersAnswer, PeerMessage, Replica, chance, entry, guard, start};
use crate::session::RETRY_AFTER;
use crate::tree::{Command, Proposal, ReplicaId, SessionId};

/// A learner this close to the log's end gets its vote.
const CAUGHT_UP: u64 = 64;
/// Heartbeats after its election before a leader hands its office over because it leaves: by then
/// it knows who else wants to. Two who leave would else elect each other for ever.
const SETTLED_AFTER: u64 = 3;

impl Replica {
    pub(super) fn tick(&mut self) {
        self.tend_doubt();
        self.tick_raft();
        self.observe_leader();
        self.tend_sessions();
        self.tend_level();
        self.announce_visible();
        self.say_clock();
        self.expire();
        if self.leadership.here {
            self.expire_sessions();
            self.go_on_working();
            self.ask_for_digests();
            self.change_members();
            self.resign();
        } else if let Some(leader) = self.leadership.leader {
            self.forward_wishes(leader);
        }
        self.ask_to_stop();
        self.judge_digests();
    }

    /// One raft tick a heartbeat; after a pause, time that nobody lived through is not made up for.
    fn tick_raft(&mut self) {
        let now = self.now.monotonic;
        if now < self.next_tick || !guard::may_tick(&self.raw) || !self.doubt.is_none() {
            return;
        }
        let late = now - self.next_tick >= self.config.heartbeat;
        self.next_tick = if late { now } else { self.next_tick } + self.config.heartbeat;
        self.flush_commit = true;
        let raft = &mut self.raw.raft;
        let only_voter = raft.promotable() && raft.prs().is_singleton();
        // To campaign, raft reads all that is committed and not applied, at once.
        let caught_up = raft.raft_log.applied >= raft.raft_log.committed;
        if only_voter && caught_up && self.leadership.leader.is_none() {
            // Nobody else can lead: no need to wait for an election timeout.
            if let Err(error) = self.raw.campaign() {
                ::log::debug!("cannot campaign: {error}");
            }
            return;
        }
        let base = start::election_base(&self.config);
        let ticks = chance::election_ticks(self.config.seed, raft.term, base);
        raft.set_randomized_election_timeout(ticks);
        self.raw.tick();
    }

    fn announce_visible(&mut self) {
        self.visibility.drop_laggards(self.now.monotonic);
        let zxid = self.visibility.shown();
        if self.visibility.announces(self.now.monotonic, self.config.heartbeat) {
            for peer in self.peers() {
                self.send(peer, PeerMessage::Visible { zxid });
            }
        }
    }

    fn say_clock(&mut self) {
        if self.clocks.says(self.now.monotonic) {
            let wall = self.now.wall;
            for peer in self.peers() {
                self.send(peer, PeerMessage::Clock { wall });
            }
        }
    }

    /// Answers what has waited too long.
    fn expire(&mut self) {
        let (now, limit) = (self.now.monotonic, self.config.op_timeout);
        let leader_known = self.leadership.leader.is_some();
        let hopeless = self.leadership.missing_for(now, limit);
        for (id, failure) in self.hub.expire(now, limit, leader_known, hopeless) {
            self.answer(id, Err(failure));
        }
        for id in self.reads.expire(now, limit) {
            self.answer(id, Err(Failure::NoQuorum));
        }
        for asker in self.membership.expire(now, 2 * limit) {
            self.answer_members(asker, Err("no leader carried it out in time".to_owned()));
        }
    }

    fn expire_sessions(&mut self) {
        let sessions = self.sessions.silent(self.now.monotonic);
        if !sessions.is_empty() {
            self.own_commands.push(Command::ExpireSessions { sessions });
        }
    }

    fn forward_wishes(&mut self, leader: ReplicaId) {
        for (id, wish) in self.membership.due(self.now.monotonic, RETRY_AFTER) {
            let id = id ^ self.process;
            let message = match wish {
                Wish::Join { name, address, incarnation, level } => {
                    PeerMessage::Join { id, name, address, incarnation, level }
                }
                Wish::Leave { member } => PeerMessage::Leave { id, member },
                Wish::Lead { member } => PeerMessage::Lead { id, member },
            };
            self.send(leader, message);
        }
    }

    fn answer_members(&mut self, asker: Asker, result: MembersAnswer) {
        match asker {
            Asker::Here { id } => self.outbox.members.push((id, result)),
            Asker::Peer { replica, id } => {
                self.send(replica, PeerMessage::MemberAnswer { id, result })
            }
        }
    }

    /// On the leader: one membership change at a time, on top of everything before its term.
    pub(super) fn change_members(&mut self) {
        if !self.leadership.here || !self.founded || !self.raw.raft.apply_to_current_term() {
            return;
        }
        self.release_removed();
        let raft = &self.raw.raft;
        let matched = |id: ReplicaId| raft.prs().get(id.0).map_or(0, |progress| progress.matched);
        // The index of its own entry: never given twice, even if a change is lost.
        let new_id = ReplicaId(raft.raft_log.last_index() + 1);
        let since = self.now.monotonic.saturating_sub(self.config.election_timeout);
        let heard = &self.heard;
        let alive = |id: ReplicaId| heard.get(&id).is_some_and(|at| *at >= since);
        let (answers, next) =
            self.membership.settle(self.config.id, new_id, self.levels.cluster, alive);
        let last = raft.raft_log.last_index();
        // A vote that nobody casts is one more that the others have to make up for.
        let promoted = self.membership.promote(|id| {
            let caught_up = matched(id) > 0 && matched(id) + CAUGHT_UP >= last;
            caught_up && self.heard_within(id, HEARD_LATELY * self.config.heartbeat)
        });
        let busy = raft.has_pending_conf();
        for (asker, answer) in answers {
            self.answer_members(asker, answer);
        }
        let step = promoted.or_else(|| self.membership.record());
        match next.or(step.map(Decision::Propose)) {
            Some(Decision::Propose(step)) if !busy => self.propose_members(step),
            Some(Decision::HandOver(None)) if self.has_settled() => self.hand_office_over(),
            Some(Decision::HandOver(Some(to))) => self.hand_office_to(to),
            _ => {}
        }
    }

    fn has_settled(&self) -> bool {
        self.now.monotonic - self.leadership.since >= SETTLED_AFTER * self.config.heartbeat
    }

    fn propose_members(&mut self, step: Step) {
        let command = Command::SetMembers { members: step.members };
        let proposal = Proposal { session: SessionId::NONE, sequence: 0, acknowledged: 0, command };
        let context = entry::encode(self.next_stamp(), &proposal);
        let change = start::change_one(step.id, step.how);
        if let Err(error) = self.raw.propose_conf_change(context, change) {
            ::log::debug!("raft did not take a membership change: {error}");
        }
    }
}
