//! The handshake: both ends learn who the other is before anything else is said, and a replica of
//! another cluster, or one dialled by mistake, is turned away with a reason.

use super::Shared;
use super::connection::{Frames, kind};
use super::socket;
use crate::error::Error;
use crate::replica::{Meeting, PeerMessage};
use crate::tree::{Incarnation, Member, ReplicaId};
use bincode::{Decode, Encode};
use std::io::{self, ErrorKind};
use std::time::Duration;

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
    pub name: String,
    pub incarnation: Incarnation,
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
    pub name: String,
    pub cluster: Option<u128>,
    pub incarnation: Incarnation,
    /// The newest start of the dialler that was heard of here before; 0: none.
    pub remembered: u64,
}

/// Why a dialler may not talk to a replica.
#[derive(Clone, Debug, Encode, Decode)]
pub struct TurnedAway {
    pub reason: Reason,
    /// A sentence, for both logs.
    pub text: String,
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
        TurnedAway { reason: Reason::Other, text }
    }
}

impl Shared {
    pub(super) fn hello(&self, to: ReplicaId, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            cluster: *self.cluster.lock(),
            bootstrap: self.bootstrap,
            from: self.id,
            name: self.name.clone(),
            incarnation: self.incarnation,
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

    /// The same for one who need not be a member.
    pub(super) fn dial(&self, member: &Member, purpose: Purpose) -> io::Result<Frames> {
        let mut frames = Frames::new(socket::dial(&member.address)?);
        frames.set_timeout(Some(HELLO_TIMEOUT))?;
        frames.send(kind::HELLO, &self.hello(member.id, purpose))?;
        let answer: Result<Welcome, TurnedAway> = frames.expect(kind::WELCOME)?;
        let refused = |why: TurnedAway| io::Error::new(ErrorKind::PermissionDenied, why);
        let welcome = answer.map_err(refused)?;
        if welcome.id != member.id
            || Meeting::of(member.incarnation, welcome.incarnation) == Meeting::Stranger
        {
            return Err(refused(self.stranger(member)));
        }
        self.have_lived_through(welcome.remembered, &welcome.name).map_err(refused)?;
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
        TurnedAway { reason: if founded { Reason::Forgotten } else { Reason::Other }, text }
    }

    /// Someone remembers a start of this replica: was it one of this data directory?
    fn have_lived_through(&self, start: u64, theirs: &str) -> Result<(), TurnedAway> {
        let handler = self.handler().ok_or_else(|| format!("{} is stopping", self.name))?;
        if start == 0 || handler.has_lived_through(start) {
            return Ok(());
        }
        let name = &self.name;
        let text = format!(
            "{theirs} has heard of a later start of {name} than its data directory knows: it is an \
             old copy, and has forgotten what {name} promised since; `keepfs member replace \
             {name}` on another host makes room for it, then start it with an empty directory"
        );
        handler.is_copy(&text);
        Err(text.into())
    }

    /// Whether the dialler may talk to this replica; otherwise why not, for both logs.
    pub(super) fn judge(&self, hello: &Hello) -> Result<Welcome, TurnedAway> {
        let me = format!("replica {} ({})", self.id, self.name);
        let own = *self.cluster.lock();
        if let (Some(own), Some(theirs)) = (own, hello.cluster)
            && own != theirs
        {
            let text =
                format!("{me} belongs to cluster {own:032x}, {} to {theirs:032x}", hello.name);
            return Err(TurnedAway { reason: Reason::Cluster, text });
        }
        let undecided = own.is_none() || hello.cluster.is_none();
        let both = self.bootstrap != 0 && hello.bootstrap != 0;
        if undecided && both && self.bootstrap != hello.bootstrap {
            return Err(format!(
                "{me} and {} were started with different --bootstrap lists; a new cluster's \
                 replicas must all be given the same one",
                hello.name
            )
            .into());
        }
        if hello.purpose != Purpose::Join {
            if hello.to != self.id {
                return Err(format!("this is {me}, not replica {}", hello.to).into());
            }
            match self.member(hello.from) {
                Some(member) if member.name != hello.name => {
                    return Err(format!(
                        "replica {} of this cluster is {}, not {}",
                        hello.from, member.name, hello.name
                    )
                    .into());
                }
                _ if hello.from == self.id => return Err(format!("{me} is here already").into()),
                Some(member) if !is_known(&member, hello) => return Err(self.stranger(&member)),
                _ => {}
            }
            self.have_lived_through(hello.remembered, &hello.name)?;
        }
        Ok(Welcome {
            id: self.id,
            name: self.name.clone(),
            cluster: own,
            incarnation: self.incarnation,
            remembered: self.remembered(hello.from),
        })
    }
}

impl Shared {
    /// The address book may have come to name another data directory since the handshake.
    pub(super) fn is_still(&self, hello: &Hello) -> bool {
        self.member(hello.from).is_none_or(|member| is_known(&member, hello))
    }
}

fn is_known(member: &Member, hello: &Hello) -> bool {
    Meeting::of(member.incarnation, hello.incarnation) != Meeting::Stranger
}

/// See [`super::ask_to_join`].
pub fn join(
    address: &str,
    name: &str,
    own: &str,
    incarnation: Incarnation,
) -> Result<(Welcome, Vec<Member>), Error> {
    let attempt = || -> io::Result<(Welcome, Vec<Member>)> {
        let mut frames = Frames::new(socket::dial(address)?);
        frames.set_timeout(Some(JOIN_TIMEOUT))?;
        let hello = Hello {
            purpose: Purpose::Join,
            cluster: None,
            bootstrap: 0,
            from: ReplicaId(0),
            name: name.to_string(),
            incarnation,
            start: 0,
            to: ReplicaId(0),
            remembered: 0,
        };
        frames.send(kind::HELLO, &hello)?;
        let welcome: Result<Welcome, TurnedAway> = frames.expect(kind::WELCOME)?;
        let welcome = welcome.map_err(io::Error::other)?;
        let (name, address) = (name.to_string(), own.to_string());
        let ask = PeerMessage::Join { id: 0, name, address, incarnation };
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
