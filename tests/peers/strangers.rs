//! Who is no replica of the cluster, and what it may cost those who are.

use super::*;
use keepfs::peers::frame::{self, FrameError};
use keepfs::peers::identity::{Credentials, Role, Subject};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::Write;
use std::net::SocketAddr;

const HELLO: u8 = 1;
const MESSAGE: u8 = 3;
/// What [`PeerMessage::Removed`] is on the wire.
const REMOVED: &[u8] = &[10];

/// A process that says what it likes, with a real certificate.
pub struct Speaker(StreamOwned<ClientConnection, TcpStream>);

/// `Hello`, field by field: purpose, cluster, bootstrap, from, start, to, remembered.
pub type Hello = (u32, Option<u128>, u64, u64, u64, u64, u64);

fn hello(from: u64, to: u64) -> Hello {
    (0, Some(7), 0, from, 4242, to, 0)
}

fn credentials(keyring: Keyring, role: Role, name: &str) -> Credentials {
    // As the address book has it for `r1`.
    let subject = Subject { role, name: name.into(), incarnation: 1, cluster: Some(7) };
    Credentials::new(keyring, subject).unwrap()
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append::<FrameError>(&mut bytes, kind, |to| {
        to.extend_from_slice(payload);
        Ok(())
    })
    .unwrap();
    bytes
}

impl Speaker {
    fn connect(to: SocketAddr, credentials: &Credentials) -> Speaker {
        Speaker::connect_as(to, credentials.client())
    }

    pub fn connect_as(to: SocketAddr, client: Arc<ClientConfig>) -> Speaker {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let name = ServerName::try_from("any").unwrap();
        let tls = ClientConnection::new(client, name).unwrap();
        Speaker(StreamOwned::new(tls, stream))
    }

    pub fn say(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(&framed(kind, payload))?;
        self.0.flush()
    }

    /// Says who it claims to be; whether it is welcome, and if not, why.
    pub fn claim(&mut self, hello: Hello) -> Result<(), String> {
        let hello = bincode::encode_to_vec(hello, bincode::config::standard()).unwrap();
        self.say(HELLO, &hello).map_err(|error| error.to_string())?;
        let mut answer = vec![0; 4096];
        match self.0.read(&mut answer).map_err(|error| error.to_string())? {
            0 => Err("closed".into()),
            length => match answer[frame::HEADER_BYTES] {
                0 => Ok(()),
                _ => Err(String::from_utf8_lossy(&answer[frame::HEADER_BYTES..length]).into()),
            },
        }
    }

    /// Whether the other end has closed the connection, within `patience`.
    pub fn is_cut(&mut self, patience: Duration) -> bool {
        self.0.sock.set_read_timeout(Some(patience)).unwrap();
        match self.0.read(&mut [0; 16]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn replica_1() -> Credentials {
    credentials(keyring(), Role::Replica, "r1")
}

fn resident_megabytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn who_has_no_certificate_of_the_cluster_says_nothing() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    let at = two.peers.address();
    let other = credentials(Keyring::new(Secret::generate().unwrap(), None), Role::Replica, "r1");
    assert!(Speaker::connect(at, &other).claim(hello(1, 2)).is_err());
    // In the clear, as an earlier version spoke.
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(&framed(MESSAGE, REMOVED)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 64, "an alert, at most: {answer:?}");
    assert!(two.heard.messages.lock().iter().all(|(_, said)| *said != PeerMessage::Removed));
}

#[test]
fn a_mount_is_no_replica_whatever_it_says() {
    let (_one, two) = pair(identity(1), identity(2));
    let at = two.peers.address();
    for name in ["r1", "laptop"] {
        let mount = credentials(keyring(), Role::Mount, name);
        for purpose in 0..3 {
            let mut speaker = Speaker::connect(at, &mount);
            let claim = Hello::from((purpose, Some(7), 0, 1, 4242, 2, 0));
            let why = speaker.claim(claim).unwrap_err();
            assert!(why.contains("mount"), "{why}");
            let _ = speaker.say(MESSAGE, REMOVED);
        }
    }
    assert!(two.heard.messages.lock().is_empty());
}

#[test]
fn an_id_is_believed_only_with_the_certificate_of_its_name() {
    let (one, two) = pair(identity(1), identity(2));
    let at = two.peers.address();
    let third = credentials(keyring(), Role::Replica, "r3");
    for (from, why) in [(1, "not r3"), (2, "is here already"), (50, "no member")] {
        let said = Speaker::connect(at, &third).claim(hello(from, 2)).unwrap_err();
        assert!(said.contains(why), "{from}: {said}");
    }
    drop(one);
    eventually("the same with its own certificate", || {
        Speaker::connect(at, &replica_1()).claim(hello(1, 2)).is_ok()
    });
}

/// It may lead already, but it gives no orders.
#[test]
fn a_replica_that_is_not_heard_of_yet_brings_the_log_and_no_orders() {
    let (_one, two) = pair(identity(1), identity(2));
    let mut new =
        Speaker::connect(two.peers.address(), &credentials(keyring(), Role::Replica, "r9"));
    new.claim(hello(APPLIED + 1, 2)).unwrap();
    new.say(MESSAGE, REMOVED).unwrap();
    new.say(MESSAGE, &[0, 1, 77]).unwrap();
    eventually("heard", || !two.heard.messages.lock().is_empty());
    let heard = two.heard.messages.lock().clone();
    assert_eq!(heard, [(ReplicaId(APPLIED + 1), PeerMessage::Raft(vec![77]))]);
}

#[test]
fn one_that_was_removed_is_cut_off_at_once_and_may_only_ask_whether_it_was() {
    let (one, two) = pair(identity(1), identity(2));
    let mut removed = Speaker::connect(two.peers.address(), &replica_1());
    drop(one);
    eventually("welcome", || {
        let mut again = Speaker::connect(two.peers.address(), &replica_1());
        let welcome = again.claim(hello(1, 2)).is_ok();
        removed = again;
        welcome
    });
    two.heard.messages.lock().clear();
    let own = member(2, &two.peers.address().to_string());
    two.peers.set_members(vec![own], two.heard.clone()).unwrap();
    assert!(removed.is_cut(Duration::from_secs(1)));
    let mut removed = Speaker::connect(two.peers.address(), &replica_1());
    removed.claim(hello(1, 2)).unwrap();
    removed.say(MESSAGE, REMOVED).unwrap();
    // A backup push would be another purpose.
    let bulk = Hello::from((1, Some(7), 0, 1, 4242, 2, 0));
    let why = Speaker::connect(two.peers.address(), &replica_1()).claim(bulk).unwrap_err();
    assert!(why.contains("no member"), "{why}");
    removed.say(MESSAGE, &[11, 9]).unwrap();
    eventually("it asks", || !two.heard.messages.lock().is_empty());
    let heard = two.heard.messages.lock().clone();
    assert_eq!(heard, [(ReplicaId(1), PeerMessage::MayStop { applied: 9 })]);
}

/// Neither a new disk under the name of one that was replaced, nor a founder that slept through the
/// founding, is asked to vote on: they hear that they have to join.
#[test]
fn another_data_directory_than_that_of_one_that_was_removed_is_forgotten() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    drop(one);
    let own = member(2, &two.peers.address().to_string());
    two.peers.set_members(vec![own], two.heard.clone()).unwrap();
    let other = |name: &str, incarnation, cluster| {
        let subject = Subject { role: Role::Replica, name: name.into(), incarnation, cluster };
        Credentials::new(keyring(), subject).unwrap()
    };
    let forgotten = |from: u64, name: &str, incarnation, cluster: Option<u128>| {
        let credentials = other(name, incarnation, cluster);
        let claim = Hello::from((0, cluster, 0, from, 4242, 2, 0));
        let mut speaker = Speaker::connect(two.peers.address(), &credentials);
        let hello = bincode::encode_to_vec(claim, bincode::config::standard()).unwrap();
        speaker.say(HELLO, &hello).unwrap();
        let mut answer = [0; 4096];
        let length = speaker.0.read(&mut answer).unwrap();
        let said = String::from_utf8_lossy(&answer[frame::HEADER_BYTES..length]).into_owned();
        // `Err(TurnedAway { reason: Forgotten, .. })`.
        (answer[frame::HEADER_BYTES..][..2] == [1, 0], said)
    };
    for cluster in [None, Some(7)] {
        let (is, said) = forgotten(1, "r1", 77, cluster);
        assert!(is && said.contains("--join"), "{cluster:?}: {said}");
    }
    // Nobody remembers that it was a member: the one it was may be needed yet.
    assert!(forgotten(3, "r3", 3, None).0);
    assert!(!forgotten(3, "r3", 3, Some(7)).0);
    assert!(Speaker::connect(two.peers.address(), &replica_1()).claim(hello(1, 2)).is_ok());
}

/// Frames that are damaged, of a foreign kind or version, or longer than their kind may be.
#[test]
fn a_bad_frame_ends_its_connection_and_nothing_else() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    drop(one);
    let good = framed(MESSAGE, &[5, 1]);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut foreign = good.clone();
    foreign[1] = 1;
    let mut unknown = good.clone();
    unknown[2] = 99;
    let announcing = |kind: u8, length: u32| {
        let mut header = vec![b'k', frame::VERSION, kind, 0];
        header.extend_from_slice(&length.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header
    };
    let trailing = framed(MESSAGE, &[10, 0]);
    let long = announcing(17, 64 << 20);
    for bad in [damaged, foreign, unknown, trailing, long, announcing(MESSAGE, u32::MAX)] {
        let mut speaker = Speaker::connect(two.peers.address(), &replica_1());
        eventually("welcome", || {
            let welcome = speaker.claim(hello(1, 2)).is_ok();
            if !welcome {
                speaker = Speaker::connect(two.peers.address(), &replica_1());
            }
            welcome
        });
        speaker.0.write_all(&bad).unwrap();
        assert!(speaker.is_cut(Duration::from_secs(5)), "{bad:?}");
    }
    // One that announces much and sends little is believed as far as it goes.
    let before = resident_megabytes();
    let mut speakers: Vec<Speaker> = (0..8)
        .map(|_| {
            let mut speaker = Speaker::connect(two.peers.address(), &replica_1());
            speaker.claim(hello(1, 2)).unwrap();
            speaker.0.write_all(&announcing(MESSAGE, 64 << 20)).unwrap();
            speaker
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let now = resident_megabytes();
    assert!(now < before + 50, "{before} MB, then {now} MB");
    speakers.clear();
}

#[test]
fn a_replay_is_noise() {
    let (one, two) = pair(identity(1), identity(2));
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let tap = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, to) = (tap.local_addr().unwrap(), two.peers.address());
    let record = recorded.clone();
    std::thread::spawn(move || {
        let (mut from, _) = tap.accept().unwrap();
        let mut on = TcpStream::connect(to).unwrap();
        let (mut back, mut answers) = (from.try_clone().unwrap(), on.try_clone().unwrap());
        std::thread::spawn(move || io::copy(&mut answers, &mut back));
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            record.lock().extend_from_slice(&bytes[..count]);
            on.write_all(&bytes[..count]).unwrap();
        }
    });
    drop(one);
    let mut speaker = Speaker::connect(at, &replica_1());
    eventually("welcome", || speaker.claim(hello(1, 2)).is_ok());
    speaker.say(MESSAGE, &[5, 66]).unwrap();
    eventually("heard", || two.visible() == [66]);
    let recorded = recorded.lock().clone();
    assert!(recorded.len() > 500);
    drop(speaker);
    let mut replay = TcpStream::connect(to).unwrap();
    let _ = replay.write_all(&recorded);
    replay.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = io::copy(&mut replay, &mut io::sink());
    assert_eq!(two.visible(), [66], "once");
}

/// More connections than may wait, each a byte at a time; then a replica comes.
#[test]
fn those_who_drip_keep_nobody_out_and_have_five_seconds() {
    let (one, two) = pair(identity(1), identity(2));
    let at = two.peers.address();
    let before = resident_megabytes();
    let mut drips: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(at).unwrap()).collect();
    let began = Instant::now();
    let drip = |drips: &mut Vec<TcpStream>| {
        // The beginning of a record of a handshake, and then one that never ends.
        drips.retain_mut(|stream| stream.write_all(&[22]).is_ok());
    };
    drip(&mut drips);
    let mut new = Speaker::connect(at, &replica_1());
    let connecting = Instant::now();
    drop(one);
    eventually("welcome among the dripping", || {
        let welcome = new.claim(hello(1, 2)).is_ok();
        if !welcome {
            new = Speaker::connect(at, &replica_1());
        }
        welcome
    });
    assert!(connecting.elapsed() < Duration::from_secs(4), "{:?}", connecting.elapsed());
    let mut last = TcpStream::connect(at).unwrap();
    last.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let since = Instant::now();
    // A whole record of handshake, drop by drop.
    last.write_all(&[22, 3, 1, 1, 0]).unwrap();
    let cut = loop {
        let _ = last.write_all(&[1]);
        match last.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break since.elapsed(),
        }
        assert!(since.elapsed() < Duration::from_secs(10), "it may drip for ever");
    };
    assert!(cut > Duration::from_secs(3) && cut < Duration::from_secs(7), "{cut:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let now = resident_megabytes();
    assert!(now < before + 64, "{before} MB, then {now} MB");
}

#[test]
fn megabytes_of_a_stranger_are_not_kept() {
    let (_one, two) = pair(identity(1), identity(2));
    let at = two.peers.address();
    let before = resident_megabytes();
    let mut streams: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(at).unwrap()).collect();
    let block = vec![b'A'; 1 << 20];
    for stream in &mut streams {
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let taken = (0..40).take_while(|_| stream.write_all(&block).is_ok()).count();
        assert!(taken < 40, "it is closed before it has said all");
    }
    let now = resident_megabytes();
    assert!(now < before + 50, "{before} MB, then {now} MB");
}
