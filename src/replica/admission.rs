//! What another replica may say here. Who it is, the transport knows by its certificate; what it
//! is to this replica, the address book and the session table say.

use super::{PeerMessage, Replica};
use crate::limits::PROPOSALS_IN_FLIGHT_MAX;
use crate::tree::{Command, Level, Proposal, ReplicaId, SessionId, Zxid};

/// The longest a session may be silent, milliseconds: the upper end of `session_timeout`.
const SESSION_TIMEOUT_MAX_MS: u32 = 3_600_000;

/// What the sender of a message is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sender {
    /// In the configuration, with a vote or without.
    pub member: bool,
    /// Known to lead.
    pub leads: bool,
}

/// # Errors
/// Why the message counts for nothing.
pub(super) fn judge(message: &PeerMessage, sender: Sender) -> Result<(), &'static str> {
    match message {
        // The log itself, judged by `guard.rs`; an answer is looked up by its question; a question
        // whether it may stop is one of those who are no members any more, and who does not know
        // what it promised need not know that.
        PeerMessage::Raft(_)
        | PeerMessage::Snapshot { .. }
        | PeerMessage::MemberAnswer { .. }
        | PeerMessage::MayStop { .. }
        | PeerMessage::AskLog { .. } => Ok(()),
        PeerMessage::KeepAliveAck { .. } if !sender.leads => {
            Err("it acknowledges a session, but does not lead")
        }
        _ if !sender.member => Err("it is no member"),
        _ => Ok(()),
    }
}

/// What the leader makes of a forwarded proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Propose,
    /// The entry that opened its session is not applied here yet: whose it is, is not known.
    Later,
    /// Of a session that is over: its asker knows by itself.
    Drop,
    Refuse(&'static str),
}

/// Where a proposal comes from, and how much of the log is known here.
pub(super) struct Origin<'a> {
    pub from: ReplicaId,
    /// As the address book has it.
    pub name: Option<&'a str>,
    /// Where the session of the proposal is, if it is open.
    pub session_of: Option<ReplicaId>,
    pub applied: Zxid,
    pub last: Zxid,
    /// The cluster's.
    pub level: Level,
}

/// A replica proposes in sessions that are its own, and opens them in its own name. All else that
/// is proposed without a session comes from the leader itself.
pub(super) fn judge_proposal(proposal: &Proposal, origin: &Origin<'_>) -> Verdict {
    if proposal.command.level() > origin.level {
        // The entry that raises the level may be one that is not applied here yet.
        return match origin.applied < origin.last {
            true => Verdict::Later,
            false => Verdict::Refuse("its command is newer than the cluster's level"),
        };
    }
    if proposal.session == SessionId::NONE {
        return match &proposal.command {
            Command::MoveSession { replica, .. } if *replica == origin.from => Verdict::Propose,
            Command::MoveSession { .. } => Verdict::Refuse("it moves a session to another replica"),
            Command::OpenSession { host, replica, timeout_ms, .. } => {
                let named = origin.name.is_some_and(|name| name.as_bytes() == &**host);
                match named && *replica == origin.from && *timeout_ms <= SESSION_TIMEOUT_MAX_MS {
                    true => Verdict::Propose,
                    false => Verdict::Refuse("it opens a session that is not its own"),
                }
            }
            Command::DeclareProgram { replica, .. } if *replica == origin.from => Verdict::Propose,
            _ => Verdict::Refuse("it proposes what only a leader may"),
        };
    }
    if matches!(
        proposal.command,
        Command::OpenSession { .. }
            | Command::MoveSession { .. }
            | Command::ExpireSessions { .. }
            | Command::Found { .. }
            | Command::SetMembers { .. }
            | Command::Work
            | Command::DeclareProgram { .. }
            | Command::RaiseLevel { .. }
    ) {
        return Verdict::Refuse("it proposes in a session what belongs to none");
    }
    match origin.session_of {
        Some(replica) if replica == origin.from => Verdict::Propose,
        Some(_) => Verdict::Refuse("it proposes in another replica's session"),
        // A session's id is the index of the entry that opened it.
        None if proposal.session.0 <= origin.applied => Verdict::Drop,
        None if proposal.session.0 <= origin.last => Verdict::Later,
        None => Verdict::Refuse("it proposes in a session that is not"),
    }
}

impl Replica {
    /// Whether what `from` says counts.
    pub(super) fn may_say(&mut self, from: ReplicaId, message: &PeerMessage) -> bool {
        let sender = Sender {
            member: self.raw.raft.prs().get(from.0).is_some(),
            leads: self.leadership.leader == Some(from),
        };
        let verdict = judge(message, sender);
        if let Err(why) = verdict {
            let text = format!("a message is ignored: {why}");
            self.complaints.about(from, &text, self.now.monotonic);
        }
        verdict.is_ok()
    }

    /// On the leader: what was forwarded and may be proposed now.
    pub(super) fn admit_forwarded(&mut self) -> Vec<Proposal> {
        let log = &self.raw.raft.raft_log;
        let (applied, last) = (log.applied, log.last_index());
        let mut admitted = Vec::new();
        for (from, proposal) in std::mem::take(&mut self.forwarded) {
            let origin = Origin {
                from,
                name: self.membership.name(from),
                session_of: self.sessions.replica(proposal.session),
                applied,
                last,
                level: self.levels.cluster,
            };
            match judge_proposal(&proposal, &origin) {
                Verdict::Propose if !self.may_move(&proposal.command) => {}
                Verdict::Propose => admitted.push(proposal),
                Verdict::Later if self.forwarded.len() < PROPOSALS_IN_FLIGHT_MAX => {
                    self.forwarded.push((from, proposal));
                }
                // The sender hands it over again.
                Verdict::Later | Verdict::Drop => {}
                Verdict::Refuse(why) => {
                    let text = format!("a proposal is refused: {why}");
                    self.complaints.about(from, &text, self.now.monotonic);
                }
            }
        }
        admitted
    }

    /// On the leader: its own commands.
    pub(super) fn admit_own(&mut self) -> Vec<Proposal> {
        let mut own = self.own_proposals();
        own.retain(|proposal| self.may_move(&proposal.command));
        own
    }

    /// A session that moves is heard by that, so that the leader does not end it behind the move:
    /// its holder counts from when it asked. One that is about to end does not move.
    fn may_move(&mut self, command: &Command) -> bool {
        match command {
            Command::MoveSession { session, .. } => {
                self.sessions.heard(*session, self.now.monotonic)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Program;

    const ORIGIN: Origin<'static> = Origin {
        from: ReplicaId(2),
        name: Some("b"),
        session_of: None,
        applied: 100,
        last: 110,
        level: 2,
    };

    fn proposal(session: u64, command: Command) -> Proposal {
        Proposal { session: SessionId(session), sequence: 1, acknowledged: 0, command }
    }

    fn open(host: &str, replica: u64, timeout_ms: u32) -> Command {
        let (host, client, replica) = (host.as_bytes().into(), [].into(), ReplicaId(replica));
        Command::OpenSession { host, client, replica, nonce: 7, timeout_ms }
    }

    fn is_refused(proposal: &Proposal, origin: &Origin<'_>) -> bool {
        matches!(judge_proposal(proposal, origin), Verdict::Refuse(_))
    }

    #[test]
    fn a_session_is_opened_in_its_own_name_only() {
        let own = proposal(0, open("b", 2, 10_000));
        assert_eq!(judge_proposal(&own, &ORIGIN), Verdict::Propose);
        for other in [open("a", 2, 10_000), open("b", 1, 10_000), open("b", 2, u32::MAX)] {
            assert!(is_refused(&proposal(0, other.clone()), &ORIGIN), "{other:?}");
        }
        assert!(is_refused(&own, &Origin { name: None, ..ORIGIN }), "no member");
    }

    #[test]
    fn what_belongs_to_the_leader_is_not_taken_from_others() {
        let members = Vec::new();
        let sessions = vec![SessionId(7)];
        let commands = [
            Command::SetMembers { members },
            Command::ExpireSessions { sessions },
            Command::Work,
            Command::RaiseLevel { to: 2 },
            Command::DeclareProgram { replica: ReplicaId(3), program: Program::default() },
        ];
        for command in commands {
            for session in [0, 50] {
                let own = Origin { session_of: Some(ReplicaId(2)), ..ORIGIN };
                assert!(is_refused(&proposal(session, command.clone()), &own), "{command:?}");
            }
        }
        assert!(is_refused(&proposal(0, Command::CloseSession), &ORIGIN));
    }

    #[test]
    fn a_member_declares_what_it_runs_itself_and_nothing_is_newer_than_the_level() {
        let (replica, program) = (ReplicaId(2), Program::default());
        let own = proposal(0, Command::DeclareProgram { replica, program });
        assert_eq!(judge_proposal(&own, &ORIGIN), Verdict::Propose);
        let of = Origin { session_of: Some(ReplicaId(2)), ..ORIGIN };
        let probe = |level| proposal(50, Command::Probe { level });
        assert_eq!(judge_proposal(&probe(2), &of), Verdict::Propose);
        assert_eq!(judge_proposal(&probe(3), &of), Verdict::Later, "the level may be rising");
        assert!(is_refused(&probe(3), &Origin { applied: 110, ..of }));
    }

    #[test]
    fn proposals_are_taken_in_the_senders_sessions_only() {
        let close = |session| proposal(session, Command::CloseSession);
        let of = |replica| Origin { session_of: Some(ReplicaId(replica)), ..ORIGIN };
        assert_eq!(judge_proposal(&close(50), &of(2)), Verdict::Propose);
        assert!(is_refused(&close(50), &of(3)));
        assert_eq!(judge_proposal(&close(50), &ORIGIN), Verdict::Drop, "it is over");
        assert_eq!(judge_proposal(&close(105), &ORIGIN), Verdict::Later, "it is being opened");
        assert!(is_refused(&close(200), &ORIGIN), "it is nobody's");
    }

    #[test]
    fn only_members_are_heard_and_only_the_leader_acknowledges() {
        let (member, leader) =
            (Sender { member: true, leads: false }, Sender { member: true, leads: true });
        let ack = PeerMessage::KeepAliveAck { sessions: vec![SessionId(7)], sent: 1 };
        assert!(judge(&ack, member).is_err() && judge(&ack, leader).is_ok());
        let orders = [
            PeerMessage::Removed,
            PeerMessage::Forward(Vec::new()),
            PeerMessage::Digest { zxid: 1, digest: 1 },
            PeerMessage::Visible { zxid: 1 },
            PeerMessage::Leave { id: 1, member: ReplicaId(1) },
        ];
        for order in orders {
            assert!(judge(&order, member).is_ok(), "{order:?}");
            assert!(judge(&order, Sender::default()).is_err(), "{order:?}");
        }
        assert!(judge(&PeerMessage::MayStop { applied: 1 }, Sender::default()).is_ok());
    }
}
