//! The transport: who may talk to whom, what arrives, and what becomes of big transfers.

mod bulk;
#[path = "../support/key.rs"]
mod key;
mod links;
mod strangers;
mod tokens;

use keepfs::peers::identity::{Keyring, Role, Secret, Token};
use keepfs::peers::{Denial, Listener, PeerHandler, Peers, PeersConfig, Reason, TurnedAway};
use keepfs::replica::PeerMessage;
use keepfs::tree::{LEVEL, Level, Member, ReplicaId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How far every host here knows the log.
const APPLIED: u64 = 100;

/// Remembers what it is told.
#[derive(Default)]
struct Heard {
    messages: Mutex<Vec<(ReplicaId, PeerMessage)>>,
    unreachable: Mutex<Vec<ReplicaId>>,
    /// Who was heard first: incarnation and start.
    met: Mutex<BTreeMap<ReplicaId, (u64, u64)>>,
    /// The starts of its own data directory.
    lived: Mutex<Vec<u64>>,
    copy: Mutex<Option<String>>,
    turned_away: Mutex<Vec<TurnedAway>>,
    /// Who came by which token.
    redeemed: Mutex<BTreeMap<u64, u64>>,
    /// Tokens that admit no mounts any more.
    revoked: Mutex<BTreeSet<u64>>,
    /// So many times it cannot say whether a token is good.
    undecided: AtomicI64,
}

impl PeerHandler for Heard {
    fn received(&self, from: ReplicaId, messages: Vec<PeerMessage>) {
        self.messages.lock().extend(messages.into_iter().map(|message| (from, message)));
    }

    fn unreachable(&self, peer: ReplicaId) {
        self.unreachable.lock().push(peer);
    }

    fn applied(&self) -> u64 {
        APPLIED
    }

    fn join(&self, name: &str, _: &str, _: u64, _: Level) -> Result<Vec<Member>, String> {
        Err(format!("no room for {name}"))
    }

    fn redeem(&self, token: u64, _: &str, joiner: u64) -> Result<(), Denial> {
        if self.undecided.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(Denial::Later("no quorum yet".into()));
        }
        let mut redeemed = self.redeemed.lock();
        if !redeemed.contains_key(&joiner) && !redeemed.is_empty() {
            return Err(Denial::Refused("used up".into()));
        }
        redeemed.insert(joiner, token);
        Ok(())
    }

    fn admits_mounts(&self, token: u64) -> bool {
        let used = self.redeemed.lock().values().any(|redeemed| *redeemed == token);
        used && !self.revoked.lock().contains(&token)
    }

    fn meet(&self, id: ReplicaId, incarnation: u64, start: u64) -> Result<(), String> {
        let known = self.met.lock().insert(id, (incarnation, start)).is_some();
        let believed = self.messages.lock().iter().any(|(from, _)| *from == id);
        assert!(known || !believed, "believed unmet");
        Ok(())
    }

    fn remembered(&self, id: ReplicaId) -> u64 {
        self.met.lock().get(&id).map_or(0, |(_, start)| *start)
    }

    fn has_lived_through(&self, start: u64) -> bool {
        self.lived.lock().contains(&start)
    }

    fn is_copy(&self, why: &str) {
        *self.copy.lock() = Some(why.to_owned());
    }

    fn turned_away(&self, _: ReplicaId, why: &TurnedAway) {
        self.turned_away.lock().push(why.clone());
    }
}

struct Host {
    peers: Peers,
    heard: Arc<Heard>,
}

impl Host {
    fn visible(&self) -> Vec<u64> {
        let messages = self.heard.messages.lock();
        let zxid = |(_, message): &(ReplicaId, PeerMessage)| match message {
            PeerMessage::Visible { zxid } => Some(*zxid),
            _ => None,
        };
        messages.iter().filter_map(zxid).collect()
    }

    fn say(&self, to: u64, zxid: u64) {
        self.peers.queue(ReplicaId(to), PeerMessage::Visible { zxid });
        self.peers.flush();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.peers.stop();
    }
}

fn member(id: u64, address: &str) -> Member {
    Member {
        id: ReplicaId(id),
        name: format!("r{id}"),
        address: address.into(),
        learner: false,
        incarnation: id,
    }
}

/// What may differ between the two ends.
#[derive(Clone)]
struct Identity {
    id: u64,
    name: String,
    incarnation: u64,
    start: u64,
    cluster: Option<u128>,
    bootstrap: u64,
    keyring: Keyring,
}

fn keyring() -> Keyring {
    Keyring::parse(key::KEY).unwrap()
}

fn identity(id: u64) -> Identity {
    let (name, cluster, keyring) = (format!("r{id}"), Some(7), keyring());
    Identity { id, name, incarnation: id, start: 10 + id, cluster, bootstrap: 0, keyring }
}

fn run(listener: Listener, identity: Identity, members: &[Member]) -> Host {
    run_with(listener, identity, members, |_| {})
}

fn run_with(
    listener: Listener,
    identity: Identity,
    members: &[Member],
    prepare: impl FnOnce(&Heard),
) -> Host {
    let heard = Arc::new(Heard::default());
    heard.lived.lock().push(identity.start);
    prepare(&heard);
    let peers = Peers::new(
        listener,
        PeersConfig {
            id: ReplicaId(identity.id),
            name: identity.name,
            incarnation: identity.incarnation,
            start: identity.start,
            bootstrap: identity.bootstrap,
            cluster: identity.cluster,
            members: members.to_vec(),
            keyring: identity.keyring,
        },
    )
    .unwrap();
    peers.run(heard.clone()).unwrap();
    Host { peers, heard }
}

/// Replicas 1 and 2 of one cluster, as these say they are.
fn pair(one: Identity, two: Identity) -> (Host, Host) {
    let listeners =
        [Listener::bind("127.0.0.1:0").unwrap(), Listener::bind("127.0.0.1:0").unwrap()];
    let members = [
        member(1, &listeners[0].address().to_string()),
        member(2, &listeners[1].address().to_string()),
    ];
    let [first, second] = listeners;
    (run(first, one, &members), run(second, two, &members))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connected(from: &Host, to: &Host, id: u64) {
    eventually("connected", || {
        from.say(id, 0);
        !to.visible().is_empty()
    });
    to.heard.messages.lock().clear();
}

#[test]
fn messages_arrive_in_order_small_and_large() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    for zxid in 1..=500 {
        let large = PeerMessage::Raft(vec![7; 40_000]);
        assert!(one.peers.queue(ReplicaId(2), PeerMessage::Visible { zxid }));
        assert!(one.peers.queue(ReplicaId(2), large));
        one.peers.flush();
    }
    eventually("all are here", || two.heard.messages.lock().len() >= 1000);
    let said: Vec<u64> = two.visible().into_iter().filter(|zxid| *zxid > 0).collect();
    assert_eq!(said, (1..=500).collect::<Vec<_>>());
    let messages = two.heard.messages.lock();
    assert!(messages.iter().all(|(from, _)| *from == ReplicaId(1)));
    assert!(two.peers.heard(ReplicaId(1)).unwrap() < Duration::from_secs(15));
}

/// That replica 1 is turned away by replica 2.
fn turned_away(one: Identity, two: Identity) {
    let (one, two) = pair(one, two);
    for zxid in 0..20 {
        one.say(2, zxid);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(two.visible().is_empty());
    assert!(one.heard.unreachable.lock().contains(&ReplicaId(2)));
    let error = one.peers.bulk().push(ReplicaId(2), "any", "x", 0, &mut io::empty()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn another_cluster_is_turned_away() {
    turned_away(identity(1), Identity { cluster: Some(8), ..identity(2) });
}

#[test]
fn another_founding_list_is_turned_away() {
    let founding = |id, bootstrap| Identity { cluster: None, bootstrap, ..identity(id) };
    turned_away(founding(1, 5), founding(2, 6));
}

#[test]
fn another_name_under_a_known_id_is_turned_away() {
    turned_away(Identity { name: "stranger".into(), ..identity(1) }, identity(2));
}

#[test]
fn another_key_is_turned_away() {
    let other = Keyring::new(Secret::generate().unwrap(), None);
    turned_away(identity(1), Identity { keyring: other, ..identity(2) });
}

#[test]
fn two_keys_at_once_are_believed_by_both() {
    let old = Keyring::parse(key::KEY).unwrap();
    let (new, both) = (Secret::generate().unwrap(), |first: &Secret, other: &Secret| {
        Keyring::new(first.clone(), Some(other.clone()))
    });
    let one = Identity { keyring: both(old.signs(), &new), ..identity(1) };
    let two = Identity { keyring: both(&new, old.signs()), ..identity(2) };
    let (one, two) = pair(one, two);
    connected(&one, &two, 2);
    connected(&two, &one, 1);
}

#[test]
fn a_replica_that_is_not_the_one_dialled_is_noticed() {
    turned_away(identity(1), Identity { id: 3, ..identity(2) });
}

#[test]
fn a_second_process_with_one_id_is_not_heard() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let members =
        [member(1, &listener.address().to_string()), member(2, &two.peers.address().to_string())];
    // Made while the first runs: it knows of that start.
    let copy = Identity { start: 21, ..identity(1) };
    let copy = run_with(listener, copy, &members, |heard| heard.lived.lock().push(11));
    for _ in 0..50 {
        one.say(2, 1);
        copy.say(2, 666);
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = two.visible();
    assert!(said.contains(&1) && !said.contains(&666), "{said:?}");
    drop(one);
    eventually("it may speak when the first has gone", || {
        copy.say(2, 666);
        two.visible().contains(&666)
    });
}

/// A virtual machine that was paused, and a copy of its disk that was started meanwhile.
#[test]
fn of_two_processes_with_one_id_the_one_that_stood_still_stops() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    // It says nothing for longer than one that is alive may.
    std::thread::sleep(Duration::from_millis(2500));
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let members =
        [member(1, &listener.address().to_string()), member(2, &two.peers.address().to_string())];
    let copy = Identity { start: 21, ..identity(1) };
    let copy = run_with(listener, copy, &members, |heard| heard.lived.lock().push(11));
    eventually("the copy speaks", || {
        copy.say(2, 666);
        two.visible().contains(&666)
    });
    eventually("the one that stood still is told", || {
        copy.say(2, 666);
        one.say(2, 1);
        one.heard.copy.lock().as_ref().is_some_and(|why| why.contains("an old copy"))
    });
    assert!(!two.visible().contains(&1), "only one is heard");
    assert_eq!(*copy.heard.copy.lock(), None);
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory_and_no_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let members = [
        member(1, &listener.address().to_string()),
        member(2, &silent.local_addr().unwrap().to_string()),
    ];
    let one = run(listener, identity(1), &members);
    let started = Instant::now();
    let message = || PeerMessage::Raft(vec![0; 1 << 20]);
    let taken = (0..2000).filter(|_| one.peers.queue(ReplicaId(2), message())).count();
    one.peers.flush();
    assert!(taken <= 128, "{taken} MiB were queued");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn noise_on_the_port_hurts_nobody() {
    let (one, two) = pair(identity(1), identity(2));
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[b'k', 1, 1, 0, 255, 255, 255, 255]]
    {
        let mut stream = TcpStream::connect(two.peers.address()).unwrap();
        io::Write::write_all(&mut stream, noise).unwrap();
    }
    connected(&one, &two, 2);
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Listener::bind(&taken.local_addr().unwrap().to_string()).err().unwrap().to_string();
    assert!(error.contains("in use") && error.contains("--listen"), "{error}");
}

#[test]
fn a_join_that_is_refused_says_why() {
    let (one, _two) = pair(identity(1), identity(2));
    let address = one.peers.address().to_string();
    let ask_to_join = keepfs::peers::ask_to_join;
    let error =
        ask_to_join(&address, "new", 5, keyring(), "127.0.0.1:1", LEVEL).unwrap_err().to_string();
    assert!(error.contains("no room for new") && error.contains(&address), "{error}");
}

#[test]
fn another_data_directory_under_a_members_name_is_turned_away_and_told_what_to_do() {
    let (one, two) = pair(identity(1), Identity { incarnation: 99, ..identity(2) });
    eventually("it is told", || !two.heard.turned_away.lock().is_empty());
    let told = two.heard.turned_away.lock()[0].clone();
    assert_eq!(told.reason, Reason::Forgotten);
    assert!(told.text.contains("keepfs member replace r2"), "{told}");
    for zxid in 1..50 {
        two.say(1, zxid);
        one.say(2, zxid);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(one.visible().is_empty() && two.visible().is_empty(), "nothing is said either way");
    assert!(one.heard.met.lock().is_empty());
}

#[test]
fn a_data_directory_that_does_not_know_a_start_somebody_heard_of_is_a_copy() {
    let listeners =
        [Listener::bind("127.0.0.1:0").unwrap(), Listener::bind("127.0.0.1:0").unwrap()];
    let members = [
        member(1, &listeners[0].address().to_string()),
        member(2, &listeners[1].address().to_string()),
    ];
    let [first, second] = listeners;
    let remembers = |heard: &Heard| {
        heard.met.lock().insert(ReplicaId(2), (2, 5));
    };
    let one = run_with(first, identity(1), &members, remembers);
    let two = run_with(second, identity(2), &members, |heard| heard.lived.lock().push(5));
    eventually("one that knows the start is heard", || {
        two.say(1, 7);
        one.visible().contains(&7)
    });
    assert_eq!(one.heard.met.lock()[&ReplicaId(2)], (2, 12), "its newest start");
    drop(two);
    let again = Listener::bind(&members[1].address).unwrap();
    let copy = run(again, Identity { start: 13, ..identity(2) }, &members);
    eventually("one that does not finds out", || copy.heard.copy.lock().is_some());
    let why = copy.heard.copy.lock().clone().unwrap();
    assert!(why.contains("an old copy") && why.contains("keepfs member replace r2"), "{why}");
    for _ in 0..20 {
        copy.say(1, 8);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!one.visible().contains(&8));
    assert_eq!(one.heard.met.lock()[&ReplicaId(2)], (2, 12), "a copy does not count as a start");
}
