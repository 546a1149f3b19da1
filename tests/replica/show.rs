//! Messages, jobs and answers in a few words, for scripts.

use keepfs::replica::{
    Answer, ClientId, Failure, MembersAnswer, PeerMessage, Persist, SessionEvent,
};
use keepfs::tree::{Command, LEVEL, Proposal, SessionId};
use protobuf::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

pub fn answer(answer: &Answer) -> String {
    match answer {
        Ok(reply) => format!("{reply:?}"),
        Err(Failure::Refused(refusal)) => format!("refused: {refusal:?}"),
        Err(failure) => format!("fails: {failure:?}"),
    }
}

pub fn members(answer: &MembersAnswer) -> String {
    match answer {
        Err(why) => format!("refused: {why}"),
        Ok(members) => {
            let one = |m: &keepfs::tree::Member| {
                format!("{}={}{}", m.name, m.id, if m.learner { " (learner)" } else { "" })
            };
            format!("members: {}", members.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

fn proposal(proposal: &Proposal) -> String {
    let name = match &proposal.command {
        Command::Create(create) => format!("create {}", String::from_utf8_lossy(&create.name)),
        command => {
            let text = format!("{command:?}");
            text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
        }
    };
    match proposal.sequence {
        0 => name,
        sequence => format!("{name} #{sequence}"),
    }
}

pub fn entry(entry: &Entry) -> String {
    let what = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => "empty".to_owned(),
        EntryType::EntryNormal => match keepfs::replica::entry::decode(&entry.data, LEVEL) {
            Ok((_, decoded)) => proposal(&decoded),
            Err(error) => error.to_string(),
        },
        _ => "members".to_owned(),
    };
    format!("[{}/{} {what}]", entry.index, entry.term)
}

fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

pub fn job(job: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(state) = &job.hard_state {
        parts.push(format!("term {} vote {} commit {}", state.term, state.vote, state.commit));
    }
    if let Some(mark) = &job.snapshot {
        parts.push(format!("snapshot {}", mark.index));
    }
    if !job.entries.is_empty() {
        parts.push(entries(&job.entries));
    }
    if let Some(index) = job.compact_to {
        parts.push(format!("compact to {index}"));
    }
    for (to, message) in &job.after {
        parts.push(format!("then ->{to} {}", self::message(message)));
    }
    parts.join(", ")
}

pub fn message(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Raft(bytes) => raft_message(&Message::parse_from_bytes(bytes).unwrap()),
        PeerMessage::Snapshot { index, term, .. } => format!("Snapshot {index}/{term}"),
        PeerMessage::Forward(proposals) => {
            let all: Vec<String> = proposals.iter().map(proposal).collect();
            format!("Forward {}", all.join(", "))
        }
        PeerMessage::AskLog { .. } => "AskLog".to_owned(),
        PeerMessage::Log { term, log_term, index, .. } => {
            format!("Log term {term} to {index}/{log_term}")
        }
        PeerMessage::Digest { zxid, .. } => format!("Digest {zxid}"),
        PeerMessage::KeepAlive { sessions, .. } => format!("KeepAlive {}", list(sessions)),
        PeerMessage::KeepAliveAck { sessions, .. } => format!("KeepAliveAck {}", list(sessions)),
        other => format!("{other:?}"),
    }
}

fn raft_message(m: &Message) -> String {
    let name = format!("{:?}", m.get_msg_type());
    let mut text = format!("{} term {}", name.trim_start_matches("Msg"), m.term);
    match m.get_msg_type() {
        MessageType::MsgAppend => {
            text += &format!(" after {}/{} commit {}", m.index, m.log_term, m.commit);
            if !m.entries.is_empty() {
                text += &format!(" {}", entries(m.get_entries()));
            }
        }
        MessageType::MsgAppendResponse if m.reject => {
            text += &format!(" rejects {} hint {}", m.index, m.reject_hint)
        }
        MessageType::MsgAppendResponse => text += &format!(" up to {}", m.index),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            text += &format!(" log {}/{}", m.index, m.log_term)
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            text += if m.reject { " no" } else { " yes" }
        }
        MessageType::MsgHeartbeat => text += &format!(" commit {}", m.commit),
        _ => {}
    }
    text
}

fn list(sessions: &[SessionId]) -> String {
    sessions.iter().map(|session| session.to_string()).collect::<Vec<_>>().join(" ")
}

/// What became of a client's session.
pub fn session(event: SessionEvent) -> String {
    let (what, client, session) = match event {
        SessionEvent::Opened(client, session) => ("Opened", client, session),
        SessionEvent::Lost(client, session) => ("Lost", client, session),
    };
    match client {
        ClientId::OWN => format!("session {what}({session:?})"),
        ClientId(client) => format!("session of client {client} {what}({session:?})"),
    }
}
