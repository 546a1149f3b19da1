//! Transport between replicas: who may talk to whom, and how bytes get there.
//!
//! Messages may be lost, but not reordered within a connection, damaged, or delivered to the wrong
//! replica. Each replica dials every other one for what *it* has to say ([`link`]) and listens for
//! what they say ([`listener`]). Every connection is mutual TLS ([`wire`], [`identity`]): who has
//! not shown a certificate of the cluster waits at the [`gate`], and one that has is judged by the
//! address book ([`hello`]). Big things travel on connections of their own ([`bulk`]).

pub mod bulk;
pub mod connection;
mod former;
pub mod frame;
mod gate;
#[cfg(test)]
mod golden;
mod hello;
pub mod identity;
mod link;
mod listener;
mod quiet;
mod redemption;
mod socket;
mod wire;

pub use hello::{Reason, TurnedAway, Welcome};
pub use listener::Listener;
pub use redemption::{Denial, redeem, redeem_mount};

use crate::error::Error;
use crate::replica::PeerMessage;
use crate::tree::{Incarnation, Level, Member, ReplicaId, Zxid};
use bulk::Bulk;
use former::Former;
use hello::Purpose;
use identity::{Credentials, Keyring, Role, Subject};
use link::Link;
use listener::Party;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Who this replica is to others.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    pub id: ReplicaId,
    pub name: String,
    pub incarnation: Incarnation,
    /// Another number for each process of this replica.
    pub start: u64,
    /// Of the founding member list; 0 if this replica joined.
    pub bootstrap: u64,
    pub cluster: Option<u128>,
    pub members: Vec<Member>,
    pub keyring: Keyring,
}

/// What arrives from other replicas. Called on the transport's threads.
pub trait PeerHandler: Send + Sync {
    /// May block: then the sender is not read from.
    fn received(&self, from: ReplicaId, messages: Vec<PeerMessage>);
    /// What was sent to this peer is (or will be) lost.
    fn unreachable(&self, peer: ReplicaId);
    /// How far this replica knows the log.
    fn applied(&self) -> Zxid;
    /// A new replica, whose program can do `level`, asks to be added: the members with it, or why
    /// not.
    fn join(
        &self,
        name: &str,
        address: &str,
        incarnation: Incarnation,
        level: Level,
    ) -> Result<Vec<Member>, String>;
    /// Somebody shows a token of this cluster: the log says whether it may come by it.
    fn redeem(&self, token: u64, name: &str, joiner: u64) -> Result<(), Denial>;
    /// Whether the mounts that came by this token may be here, as far as this replica knows.
    fn admits_mounts(&self, token: u64) -> bool;
    /// The member that `id` is was heard, in this start of it: to be made durable before anything
    /// it says is believed. Why it must not be, else.
    fn meet(&self, id: ReplicaId, incarnation: Incarnation, start: u64) -> Result<(), String>;
    /// The newest start of a member that is known here; 0 if none is.
    fn remembered(&self, id: ReplicaId) -> u64;
    /// Whether a start of this replica is one of this data directory.
    fn has_lived_through(&self, start: u64) -> bool;
    /// Another member knows that this data directory is an old copy.
    fn is_copy(&self, why: &str);
    /// A member refuses to be talked to.
    fn turned_away(&self, by: ReplicaId, why: &TurnedAway);
}

/// The connections of one replica. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    bulk: Bulk,
}

struct Shared {
    id: ReplicaId,
    name: String,
    bootstrap: u64,
    /// Also in the certificate.
    incarnation: Incarnation,
    start: u64,
    /// Whoever handles what arrives owns this.
    handler: OnceLock<Weak<dyn PeerHandler>>,
    cluster: Mutex<Option<u128>>,
    credentials: RwLock<Arc<Credentials>>,
    members: RwLock<Vec<Member>>,
    former: Former,
    heard: Mutex<BTreeMap<ReplicaId, Instant>>,
    links: Mutex<BTreeMap<ReplicaId, Arc<Link>>>,
    listener: Listener,
    stopping: AtomicBool,
}

impl Shared {
    /// `None` once it is gone.
    fn handler(&self) -> Option<Arc<dyn PeerHandler>> {
        self.handler.get()?.upgrade()
    }

    fn remembered(&self, id: ReplicaId) -> u64 {
        self.handler().map_or(0, |handler| handler.remembered(id))
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// For the next connection.
    fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    fn member(&self, id: ReplicaId) -> Option<Member> {
        self.members.read().iter().find(|member| member.id == id).cloned()
    }

    fn heard(&self, id: ReplicaId) {
        self.heard.lock().insert(id, Instant::now());
    }
}

impl Peers {
    /// Nothing is heard or said before [`Peers::run`].
    pub fn new(listener: Listener, config: PeersConfig) -> Result<Peers, Error> {
        let subject = replica(&config.name, config.incarnation, config.cluster);
        let credentials = Credentials::new(config.keyring, subject)?;
        let shared = Arc::new(Shared {
            id: config.id,
            name: config.name,
            bootstrap: config.bootstrap,
            incarnation: config.incarnation,
            start: config.start,
            handler: OnceLock::new(),
            cluster: Mutex::new(config.cluster),
            credentials: RwLock::new(Arc::new(credentials)),
            members: RwLock::new(config.members),
            former: Former::default(),
            heard: Mutex::default(),
            links: Mutex::default(),
            listener,
            stopping: AtomicBool::new(false),
        });
        let bulk = Bulk::new(shared.clone());
        Ok(Peers { shared, bulk })
    }

    /// Starts to accept connections and to dial.
    pub fn run(&self, handler: Arc<dyn PeerHandler>) -> Result<(), Error> {
        let _ = self.shared.handler.set(Arc::downgrade(&handler));
        self.shared.listener.run(self.shared.clone(), self.bulk.clone(), handler.clone())?;
        let members = self.shared.members.read().clone();
        self.reconcile(&members, handler)
    }

    /// The address book changed: new members get a link, those gone lose it, but can be told so,
    /// and those that have moved are dialled anew.
    pub fn set_members(
        &self,
        members: Vec<Member>,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<(), Error> {
        let old = std::mem::replace(&mut *self.shared.members.write(), members.clone());
        self.shared.former.note(&old, &members);
        let gone = |id| old.iter().any(|old| old.id == id) && self.shared.member(id).is_none();
        self.shared.listener.cut(|party| !matches!(party, Party::Replica(id) if gone(*id)));
        self.reconcile(&members, handler)?;
        let links = self.shared.links.lock();
        for before in &old {
            let moved = |now: &Member| now.id == before.id && now.address != before.address;
            if members.iter().any(moved)
                && let Some(link) = links.get(&before.id)
            {
                link.dial_anew("its address has changed");
            }
        }
        Ok(())
    }

    /// A founder that the address book does not tell of was heard.
    pub fn keep_met(&self, id: ReplicaId, incarnation: Incarnation) {
        let mut members = self.shared.members.write();
        members
            .iter_mut()
            .filter(|member| member.id == id && member.incarnation == 0)
            .for_each(|member| member.incarnation = incarnation);
    }

    fn reconcile(&self, members: &[Member], handler: Arc<dyn PeerHandler>) -> Result<(), Error> {
        let mut links = self.shared.links.lock();
        links.retain(|id, link| {
            let stays = members.iter().any(|member| member.id == *id);
            if !stays {
                link.close();
            }
            stays
        });
        for member in members.iter().filter(|member| member.id != self.shared.id) {
            if let Entry::Vacant(place) = links.entry(member.id) {
                place.insert(Link::start(member.id, self.shared.clone(), handler.clone())?);
            }
        }
        Ok(())
    }

    /// Queues a message for the next [`Peers::flush`]; false, and it is dropped, if the queue is
    /// full. A former member can only be told that it is none.
    pub fn queue(&self, to: ReplicaId, message: PeerMessage) -> bool {
        let links = self.shared.links.lock();
        match links.get(&to) {
            Some(link) => link.queue(message),
            None if message == PeerMessage::Removed => former::tell(&self.shared, to, message),
            None => false,
        }
    }

    /// Sends what is queued, one write for each peer. Never waits for the network.
    pub fn flush(&self) {
        self.shared.links.lock().values().for_each(|link| link.flush());
    }

    /// The cluster has a name now: from here on only its replicas are talked to.
    /// The certificate says so too.
    pub fn set_cluster(&self, cluster: u128) -> Result<(), Error> {
        *self.shared.cluster.lock() = Some(cluster);
        let mut credentials = self.shared.credentials.write();
        let subject = replica(&self.shared.name, self.shared.incarnation, Some(cluster));
        if *credentials.subject() != subject {
            let keyring = credentials.keyring().clone();
            *credentials = Arc::new(Credentials::new(keyring, subject)?);
        }
        Ok(())
    }

    /// The key file has changed: from here on certificates are made and believed by this keyring. A
    /// secret that is in it no more is not believed on connections that are there, either: they are
    /// dialled anew.
    pub fn set_keyring(&self, keyring: Keyring) -> Result<(), Error> {
        let mut credentials = self.shared.credentials.write();
        let stays = |secret| keyring.trusted().contains(secret);
        let all_stay = credentials.keyring().trusted().iter().all(stays);
        let subject = credentials.subject().clone();
        *credentials = Arc::new(Credentials::new(keyring, subject)?);
        drop(credentials);
        if !all_stay {
            self.shared.listener.cut(|party| *party == Party::Newcomer);
            self.shared.links.lock().values().for_each(|link| {
                link.dial_anew("the cluster's key has changed");
            });
        }
        Ok(())
    }

    /// Closes the connections of mounts that may not be here any more.
    pub fn review_mounts(&self, admits: impl Fn(u64) -> bool) {
        self.shared.listener.cut(|party| !matches!(party, Party::Mount(token) if !admits(*token)));
    }

    /// By which certificates are made and believed now.
    pub fn keyring(&self) -> Keyring {
        self.shared.credentials().keyring().clone()
    }

    /// When anything was last heard from a peer.
    pub fn heard(&self, peer: ReplicaId) -> Option<Duration> {
        self.shared.heard.lock().get(&peer).map(Instant::elapsed)
    }

    pub fn bulk(&self) -> &Bulk {
        &self.bulk
    }

    /// Messages that wait to be sent, over all links.
    pub fn queued(&self) -> usize {
        self.shared.links.lock().values().map(|link| link.queued()).sum()
    }

    /// Where this replica listens (the real port, when the configured one was 0).
    pub fn address(&self) -> std::net::SocketAddr {
        self.shared.listener.address()
    }

    pub fn is_stopping(&self) -> bool {
        self.shared.stopping()
    }

    /// Closes every connection and joins the threads.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let links = std::mem::take(&mut *self.shared.links.lock());
        links.values().for_each(|link| link.close());
        self.shared.listener.stop();
        links.values().for_each(|link| link.join());
        self.bulk.close();
    }
}

fn replica(name: &str, incarnation: Incarnation, cluster: Option<u128>) -> Subject {
    Subject { role: Role::Replica, name: name.into(), incarnation, cluster }
}

/// Asks the cluster at `address` to add this replica, whose program can do `level`, or to note that
/// it is at `own_address` now if it is a member; what it says about itself, and its members with
/// this one among them.
pub fn ask_to_join(
    address: &str,
    name: &str,
    incarnation: Incarnation,
    keyring: Keyring,
    own_address: &str,
    level: Level,
) -> Result<(Welcome, Vec<Member>), Error> {
    let subject = replica(name, incarnation, None);
    hello::join(address, &Credentials::new(keyring, subject)?, own_address, level)
}

/// The cluster of whoever listens at `address`; `None`: it is being founded.
///
/// # Errors
/// Nobody answers there who has the cluster's key.
pub fn cluster_at(
    address: &str,
    name: &str,
    incarnation: Incarnation,
    keyring: Keyring,
) -> Result<Option<u128>, Error> {
    let credentials = Credentials::new(keyring, replica(name, incarnation, None))?;
    let (_, welcome) =
        hello::greet(address, credentials.client(), Purpose::Join).map_err(|source| {
            Error::Network {
                attempt: "ask which cluster is at",
                address: address.to_string(),
                source,
            }
        })?;
    Ok(welcome.cluster)
}
