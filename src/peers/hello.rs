//! The handshake: TLS says who the other end is; then a replica of another cluster, one dialled by
//! mistake, or one that is no member, is turned away with a reason.

use super::Shared;
use super::connection::{Frames, kind};
use super::identity::{Credentials, Role, Subject};
use super::socket;
use super::wire::Wire;
use crate::error::Error;
use crate::replica::{Meeting, PeerMessage};
use crate::tree::{Level, Member, ReplicaId, Zxid};
use bincode::{Decode, Encode};
use rustls::ClientConfig;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// For a connection until both ends know each other, all in all.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A join waits for a leader, and for the commit of a membership change.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Purpose {
    Messages,
    Bulk,
    Join,
}

/// The dialler's first frame.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Hello {
    pub purpose: Purpose,
    pub cluster: Option<u128>,
    /// Of the founding member list; 0: this replica joined, or is about to.
    pub bootstrap: u64,
    /// 0 for one that has yet to join.
    pub from: ReplicaId,
    /// Another one for each process of a replica.
    pub start: u64,
    /// Whom the dialler expects here; 0: anyone.
    pub to: ReplicaId,
    /// The newest start of that one that the dialler has heard of; 0: none.
    pub remembered: u64,
}

/// The answer of the dialled.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Welcome {
    pub id: ReplicaId,
    pub cluster: Option<u128>,
    /// The newest start of the dialler that was heard of here before; 0: none.
    pub remembered: u64,
}

/// Why a dialler may not talk to a replica.
#[derive(Clone, Debug, Encode, Decode)]
pub struct TurnedAway {
    pub reason: Reason,
    /// A sentence, for both logs.
    pub text: String,
    /// The start of the process that speaks in the dialler's place; 0: none does.
    pub speaker: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// The address book, of one cluster for both, has another data directory for the dialler.
    Forgotten,
    Cluster,
    Other,
}

impl std::fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TurnedAway {}

impl From<String> for TurnedAway {
    fn from(text: String) -> TurnedAway {
        TurnedAway { reason: Reason::Other, text, speaker: 0 }
    }
}

/// What one that has proved who it is may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the address book; also one that joins, which asks for no more than that.
    Member,
    /// Not in the address book, but may have come into it later than this replica has heard: it may
    /// even lead. It brings the log, not orders.
    Unheard,
    /// Was a member. It may ask whether it still is.
    Former,
    /// Came by a token that is not revoked. It reads; it has no say in the cluster's affairs.
    Mount,
}

impl Standing {
    pub fn may_say(self, message: &PeerMessage) -> bool {
        match self {
            Standing::Member => true,
            Standing::Unheard => !matches!(message, PeerMessage::Removed),
            Standing::Former => {
                matches!(
                    message,
                    PeerMessage::MayStop { .. } | PeerMessage::AskLog { .. } | PeerMessage::Raft(_)
                )
            }
            Standing::Mount => false,
        }
    }

    /// Whether it may bring files, and not only fetch them.
    pub fn may_push(self) -> bool {
        self != Standing::Mount
    }
}

impl Shared {
    pub(super) fn hello(&self, to: ReplicaId, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            cluster: *self.cluster.lock(),
            bootstrap: self.bootstrap,
            from: self.id,
            start: self.start,
            to,
            remembered: self.remembered(to),
        }
    }

    /// Dials a member and shakes hands.
    pub(super) fn connect(&self, to: ReplicaId, purpose: Purpose) -> io::Result<Frames> {
        let Some(member) = self.member(to) else {
            return Err(io::Error::new(ErrorKind::NotFound, format!("no member {to}")));
        };
        self.dial(&member, purpose)
    }

    /// The same for one who need not be a member any more.
    pub(super) fn dial(&self, member: &Member, purpose: Purpose) -> io::Result<Frames> {
        let stream = socket::dial(&member.address)?;
        let wire = Wire::dial(stream, self.credentials().client(), HELLO_TIMEOUT)?;
        let subject = wire.subject()?;
        if subject.role != Role::Replica || subject.name != member.name {
            let text = format!("{} answers there, not {}", subject.name, member.name);
            return Err(denied(text.into()));
        }
        let mut frames = Frames::new(wire);
        frames.send(kind::HELLO, &self.hello(member.id, purpose))?;
        let answer: Result<Welcome, TurnedAway> = frames.expect(kind::WELCOME)?;
        let welcome = match answer {
            Ok(welcome) => welcome,
            Err(why) => {
                // Only the older of two processes on copies of a directory does not know the other.
                self.have_lived_through(why.speaker, &subject.name).map_err(denied)?;
                return Err(denied(why));
            }
        };
        // Whoever comes as one that is no member any more may be told so.
        let is_member = self.member(member.id).is_some();
        if welcome.id != member.id || (is_member && !is_known(member, &subject)) {
            return Err(denied(self.stranger(member)));
        }
        self.have_lived_through(welcome.remembered, &subject.name).map_err(denied)?;
        Ok(frames)
    }

    fn stranger(&self, member: &Member) -> TurnedAway {
        let name = &member.name;
        let remedy = match self.cluster.lock().is_some() {
            true => format!(
                "`keepfs member replace {name}` on any host makes room for it; then start it again"
            ),
            false => "the cluster is not founded yet: put the other one back, or start every \
                      founder with an empty one"
                .to_owned(),
        };
        let text = format!(
            "{name} is another data directory than replica {} of this cluster: it was wiped, or it \
             is not the one; {remedy}",
            member.id
        );
        let founded = self.cluster.lock().is_some();
        TurnedAway {
            reason: if founded { Reason::Forgotten } else { Reason::Other },
            text,
            speaker: 0,
        }
    }

    /// Someone remembers a start of this replica: was it one of this data directory?
    fn have_lived_through(&self, start: u64, theirs: &str) -> Result<(), TurnedAway> {
        let handler = self.handler().ok_or_else(|| format!("{} is stopping", self.name))?;
        if start == 0 || handler.has_lived_through(start) {
            return Ok(());
        }
        let name = &self.name;
        let text = format!(
            "{theirs} has heard of a start of {name} that its data directory does not know: it was \
             wiped, or is an old copy, and has forgotten what {name} promised since; `keepfs \
             member replace {name}` on another host makes room for it, then start it with an empty \
             directory"
        );
        handler.is_copy(&text);
        Err(text.into())
    }

    /// Whether the one the certificate is for may do what it says it is here for, and what it may
    /// say then; otherwise why not, for both logs. `applied`: how far this replica knows the log.
    pub(super) fn judge(
        &self,
        subject: &Subject,
        hello: &Hello,
        applied: Zxid,
    ) -> Result<(Welcome, Standing), TurnedAway> {
        let me = format!("replica {} ({})", self.id, self.name);
        let name = &subject.name;
        let own = *self.cluster.lock();
        for theirs in [subject.cluster, hello.cluster].into_iter().flatten() {
            if let Some(own) = own.filter(|own| *own != theirs) {
                let text = format!("{me} belongs to cluster {own:032x}, {name} to {theirs:032x}");
                return Err(TurnedAway { reason: Reason::Cluster, text, speaker: 0 });
            }
        }
        if subject.role == Role::Mount {
            self.judge_mount(subject, hello)?;
            let welcome = Welcome { id: self.id, cluster: own, remembered: 0 };
            return Ok((welcome, Standing::Mount));
        }
        let undecided = own.is_none() || hello.cluster.is_none();
        let both = self.bootstrap != 0 && hello.bootstrap != 0;
        if undecided && both && self.bootstrap != hello.bootstrap {
            return Err(format!(
                "{me} and {name} were started with different --bootstrap lists; a new cluster's \
                 replicas must all be given the same one"
            )
            .into());
        }
        let remembered = self.remembered(hello.from);
        let welcome = Welcome { id: self.id, cluster: own, remembered };
        if hello.purpose == Purpose::Join {
            return Ok((welcome, Standing::Member));
        }
        if hello.to != self.id {
            return Err(format!("this is {me}, not replica {}", hello.to).into());
        }
        if hello.from == self.id {
            return Err(format!("{me} is here already").into());
        }
        let standing = self.standing(subject, hello, applied)?;
        self.have_lived_through(hello.remembered, name)?;
        Ok((welcome, standing))
    }

    /// A mount is here by a token, for as long as that is not revoked; and it is here to fetch.
    fn judge_mount(&self, subject: &Subject, hello: &Hello) -> Result<(), TurnedAway> {
        let (name, token) = (&subject.name, subject.incarnation);
        let handler = self.handler().ok_or_else(|| format!("{} is stopping", self.name))?;
        if !handler.admits_mounts(token) {
            let text = format!(
                "the mount {name} came by token {token:016x}, which {} does not know for a mount, \
                 or knows to be revoked: `keepfs token --role mount` on a member makes another",
                self.name
            );
            return Err(text.into());
        }
        match hello.purpose {
            Purpose::Bulk => Ok(()),
            Purpose::Messages | Purpose::Join => {
                Err(format!("{name} is a mount, which may not do this here").into())
            }
        }
    }

    fn standing(
        &self,
        subject: &Subject,
        hello: &Hello,
        applied: Zxid,
    ) -> Result<Standing, TurnedAway> {
        let (from, name) = (hello.from, &subject.name);
        match self.member(from) {
            Some(member) if member.name != *name => {
                Err(format!("replica {from} of this cluster is {}, not {name}", member.name).into())
            }
            Some(member) if !is_known(&member, subject) => Err(self.stranger(&member)),
            Some(_) => Ok(Standing::Member),
            // A replica's id is the index of the entry that made it a member.
            None if from.0 > applied => Ok(Standing::Unheard),
            None => self.standing_of_one_gone(subject, hello),
        }
    }

    /// Whoever was a member may still be needed for its vote, until it is told that it is not. That
    /// is the data directory that was one: another one, or a founder that has heard of no founding,
    /// has promised this cluster nothing.
    fn standing_of_one_gone(
        &self,
        subject: &Subject,
        hello: &Hello,
    ) -> Result<Standing, TurnedAway> {
        let (from, name) = (hello.from, &subject.name);
        let was = self.former.meeting(from, subject);
        if was == Some(Meeting::Known) && hello.purpose == Purpose::Messages {
            return Ok(Standing::Former);
        }
        let promised_nothing = match was {
            Some(Meeting::Known) => false,
            Some(Meeting::Stranger) => true,
            Some(Meeting::First) | None => hello.cluster.is_none(),
        };
        let founded = self.cluster.lock().is_some();
        let reason = match promised_nothing && founded {
            true => Reason::Forgotten,
            false => Reason::Other,
        };
        let text = format!(
            "replica {from} ({name}) is no member of this cluster; if it was removed or replaced, \
             start it with an empty data directory and --join"
        );
        Err(TurnedAway { reason, text, speaker: 0 })
    }

    /// The address book may have come to name another data directory since the handshake.
    pub(super) fn is_still(&self, from: ReplicaId, subject: &Subject) -> bool {
        self.member(from).is_none_or(|member| is_known(&member, subject))
    }
}

fn is_known(member: &Member, subject: &Subject) -> bool {
    Meeting::of(member.incarnation, subject.incarnation) != Meeting::Stranger
}

fn denied(why: TurnedAway) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

/// Greets whoever listens at `address` as one that is no member; nothing is asked for yet.
pub fn greet(
    address: &str,
    client: Arc<ClientConfig>,
    purpose: Purpose,
) -> io::Result<(Frames, Welcome)> {
    let wire = Wire::dial(socket::dial(address)?, client, HELLO_TIMEOUT)?;
    if wire.subject()?.role != Role::Replica {
        return Err(denied(format!("{address} is no replica").into()));
    }
    let mut frames = Frames::new(wire);
    let hello = Hello {
        purpose,
        cluster: None,
        bootstrap: 0,
        from: ReplicaId(0),
        start: 0,
        to: ReplicaId(0),
        remembered: 0,
    };
    frames.send(kind::HELLO, &hello)?;
    let welcome: Result<Welcome, TurnedAway> = frames.expect(kind::WELCOME)?;
    Ok((frames, welcome.map_err(io::Error::other)?))
}

/// See [`super::ask_to_join`].
pub fn join(
    address: &str,
    credentials: &Credentials,
    own: &str,
    level: Level,
) -> Result<(Welcome, Vec<Member>), Error> {
    let Subject { name, incarnation, .. } = credentials.subject();
    let attempt = || -> io::Result<(Welcome, Vec<Member>)> {
        let (mut frames, welcome) = greet(address, credentials.client(), Purpose::Join)?;
        if welcome.cluster.is_none() {
            return Err(io::Error::other("its cluster is being founded; try again"));
        }
        frames.set_timeout(Some(JOIN_TIMEOUT))?;
        let (name, address) = (name.clone(), own.to_string());
        let incarnation = *incarnation;
        let ask = PeerMessage::Join { id: 0, name, address, incarnation, level };
        frames.send(kind::MESSAGE, &ask)?;
        match frames.expect(kind::MESSAGE)? {
            PeerMessage::MemberAnswer { result, .. } => {
                Ok((welcome, result.map_err(io::Error::other)?))
            }
            _ => Err(io::Error::other("an answer that is none")),
        }
    };
    attempt().map_err(|source| Error::Network {
        attempt: "join the cluster at",
        address: address.to_string(),
        source,
    })
}
