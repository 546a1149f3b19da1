//! The handshake: both ends learn who the other is before anything else is said, and a replica of
//! another cluster, or one dialled by mistake, is turned away with a reason.

use super::Shared;
use super::connection::{Frames, kind};
use super::socket;
use crate::error::Error;
use crate::replica::PeerMessage;
use crate::tree::{Member, ReplicaId};
use bincode::{Decode, Encode};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
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
    pub instance: u64,
    /// Whom the dialler expects here; 0: anyone.
    pub to: ReplicaId,
}

/// The answer of the dialled.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Welcome {
    pub id: ReplicaId,
    pub name: String,
    pub cluster: Option<u128>,
}

impl Shared {
    pub(super) fn hello(&self, to: ReplicaId, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            cluster: *self.cluster.lock(),
            bootstrap: self.bootstrap,
            from: self.id,
            name: self.name.clone(),
            instance: self.instance,
            to,
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
        let answer: Result<Welcome, String> = frames.expect(kind::WELCOME)?;
        answer.map_err(|why| io::Error::new(ErrorKind::PermissionDenied, why))?;
        Ok(frames)
    }

    /// Whether the dialler may talk to this replica; otherwise why not, for both logs.
    pub(super) fn judge(&self, hello: &Hello) -> Result<Welcome, String> {
        let me = format!("replica {} ({})", self.id, self.name);
        let own = *self.cluster.lock();
        if let (Some(own), Some(theirs)) = (own, hello.cluster)
            && own != theirs
        {
            return Err(format!(
                "{me} belongs to cluster {own:032x}, {} to {theirs:032x}",
                hello.name
            ));
        }
        let undecided = own.is_none() || hello.cluster.is_none();
        let both = self.bootstrap != 0 && hello.bootstrap != 0;
        if undecided && both && self.bootstrap != hello.bootstrap {
            return Err(format!(
                "{me} and {} were started with different --bootstrap lists; a new cluster's \
                 replicas must all be given the same one",
                hello.name
            ));
        }
        if hello.purpose != Purpose::Join {
            if hello.to != self.id {
                return Err(format!("this is {me}, not replica {}", hello.to));
            }
            match self.member(hello.from) {
                Some(member) if member.name != hello.name => {
                    return Err(format!(
                        "replica {} of this cluster is {}, not {}",
                        hello.from, member.name, hello.name
                    ));
                }
                _ if hello.from == self.id => return Err(format!("{me} is here already")),
                _ => {}
            }
        }
        Ok(Welcome { id: self.id, name: self.name.clone(), cluster: own })
    }
}

/// See [`super::ask_to_join`].
pub fn join(address: &str, name: &str, own: &str) -> Result<(Welcome, Vec<Member>), Error> {
    let attempt = || -> io::Result<(Welcome, Vec<Member>)> {
        let mut frames = Frames::new(socket::dial(address)?);
        frames.set_timeout(Some(JOIN_TIMEOUT))?;
        let hello = Hello {
            purpose: Purpose::Join,
            cluster: None,
            bootstrap: 0,
            from: ReplicaId(0),
            name: name.to_string(),
            instance: instance(),
            to: ReplicaId(0),
        };
        frames.send(kind::HELLO, &hello)?;
        let welcome: Result<Welcome, String> = frames.expect(kind::WELCOME)?;
        let welcome = welcome.map_err(io::Error::other)?;
        let ask = PeerMessage::Join { id: 0, name: name.to_string(), address: own.to_string() };
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

/// A number no other process has, as far as chance goes.
pub fn instance() -> u64 {
    RandomState::new().build_hasher().finish()
}
