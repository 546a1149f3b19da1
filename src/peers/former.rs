//! Those who were members while this process ran. They have no link any more, but they can be told
//! that they are none: what they say still comes in, and asks for an answer.

use super::Shared;
use super::connection::kind;
use super::hello::Purpose;
use super::identity::Subject;
use crate::replica::{Meeting, PeerMessage};
use crate::tree::{Member, ReplicaId};
use log::info;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// More than a cluster has members; the oldest is forgotten.
const FORMER_MAX: usize = 32;

#[derive(Default)]
pub struct Former(Mutex<Vec<One>>);

struct One {
    member: Member,
    /// A thread is telling it something.
    told_now: bool,
}

impl Former {
    /// The address book changes from `old` to `new`.
    pub fn note(&self, old: &[Member], new: &[Member]) {
        let mut former = self.0.lock();
        for member in old.iter().filter(|old| new.iter().all(|new| new.id != old.id)) {
            former.push(One { member: member.clone(), told_now: false });
        }
        let excess = former.len().saturating_sub(FORMER_MAX);
        former.drain(..excess);
    }

    /// What this data directory is to the one that was the member, if that is known.
    pub fn meeting(&self, id: ReplicaId, subject: &Subject) -> Option<Meeting> {
        let former = self.0.lock();
        let was = |one: &&One| one.member.id == id && one.member.name == subject.name;
        let one = former.iter().rfind(was)?;
        Some(Meeting::of(one.member.incarnation, subject.incarnation))
    }

    /// Takes the right to talk to a former member, if nobody has it.
    fn begin(&self, id: ReplicaId) -> Option<Member> {
        let mut former = self.0.lock();
        let one = former.iter_mut().find(|one| one.member.id == id && !one.told_now)?;
        one.told_now = true;
        Some(one.member.clone())
    }

    fn end(&self, id: ReplicaId) {
        self.0.lock().iter_mut().filter(|one| one.member.id == id).for_each(|one| {
            one.told_now = false;
        });
    }
}

/// Dials a former member to tell it one thing, on a thread of its own. False if that cannot be.
pub(super) fn tell(shared: &Arc<Shared>, to: ReplicaId, message: PeerMessage) -> bool {
    let Some(member) = shared.former.begin(to) else { return false };
    let telling = shared.clone();
    let thread = std::thread::Builder::new().name(format!("to-former-{to}")).spawn(move || {
        if let Err(error) = say(&telling, &member, &message) {
            info!("cannot tell {}, a former replica: {error}", member.name);
        }
        telling.former.end(to);
    });
    if thread.is_err() {
        shared.former.end(to);
    }
    thread.is_ok()
}

fn say(shared: &Shared, member: &Member, message: &PeerMessage) -> io::Result<()> {
    let mut frames = shared.dial(member, Purpose::Messages)?;
    frames.send(kind::MESSAGE, message)
}
