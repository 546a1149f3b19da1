//! Kept frames of every kind, as this version and those before it write them: they are read, and
//! written again as they were. `KEEPFS_MAKE_GOLDEN=1 cargo test --lib golden` makes those of a new
//! level, beside the older ones; they are never made anew once they were released.

use super::bulk::{RemoteError, Request};
use super::connection::{append, decode, kind};
use super::frame;
use super::hello::{Hello, Purpose, Reason, TurnedAway, Welcome};
use super::identity::{Credentials, JoinerKey, Keyring, Role, Secret, Token};
use super::redemption::{Denial, Grant, Granted, Joiner, Redeem};
use super::replica;
use crate::replica::PeerMessage;
use crate::tree::{Command, LEVEL, Level, Member, Proposal, ReplicaId, SessionId};
use bincode::error::{AllowedEnumVariants, DecodeError};
use bincode::{Decode, Encode};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

fn place(level: Level) -> PathBuf {
    PathBuf::from(format!("{}/tests/golden/level{level}", env!("CARGO_MANIFEST_DIR")))
}

/// A frame, and what it says.
type Framed = (Vec<u8>, String);

fn framed<T: Encode + Debug>(kind: u8, value: &T) -> Framed {
    let mut bytes = Vec::new();
    append(&mut bytes, kind, value).unwrap();
    (bytes, format!("{kind}: {value:?}\n"))
}

fn again<T: Encode + Decode<()> + Debug>(kind: u8, payload: &[u8]) -> Framed {
    framed(kind, &decode::<T>(payload).expect("a kept frame is read"))
}

fn read(kind: u8, payload: &[u8]) -> Framed {
    match kind {
        kind::HELLO => again::<Hello>(kind, payload),
        kind::WELCOME => again::<Result<Welcome, TurnedAway>>(kind, payload),
        kind::MESSAGE => again::<PeerMessage>(kind, payload),
        kind::REDEEM => again::<Redeem>(kind, payload),
        kind::GRANT => again::<Grant>(kind, payload),
        kind::BULK_REQUEST => again::<Request>(kind, payload),
        kind::BULK_DATA | kind::BULK_RECEIPT => again::<Vec<u8>>(kind, payload),
        kind::BULK_READY => again::<u64>(kind, payload),
        kind::BULK_ERROR => again::<RemoteError>(kind, payload),
        other => panic!("a frame of kind {other}"),
    }
}

/// How many variants an enum has, by what its decoder says of a number that none has.
fn variants<T: Decode<()>>() -> u64 {
    let none = bincode::encode_to_vec(u32::MAX, bincode::config::standard()).unwrap();
    match bincode::decode_from_slice::<T, _>(&none, bincode::config::standard()) {
        Err(DecodeError::UnexpectedVariant {
            allowed: AllowedEnumVariants::Range { max, .. },
            ..
        }) => u64::from(*max) + 1,
        _ => panic!("no enum"),
    }
}

fn messages() -> Vec<PeerMessage> {
    let (member, session, id) = (ReplicaId(3), SessionId(9), 77);
    let named = |learner| Member {
        id: member,
        name: "c".into(),
        address: "c:7411".into(),
        learner,
        incarnation: u64::MAX,
    };
    let command = Command::CloseSession;
    let close = Proposal { session, sequence: 300, acknowledged: 2, command };
    let (name, address, incarnation) = ("d".to_owned(), "d:7411".to_owned(), 5);
    vec![
        PeerMessage::Raft(vec![8, 5, 16, 2]),
        PeerMessage::Snapshot { index: 1 << 40, term: 3, message: vec![8, 7] },
        PeerMessage::Forward(vec![close.clone(), close]),
        PeerMessage::KeepAlive { sessions: vec![session], sent: u64::MAX },
        PeerMessage::KeepAliveAck { sessions: vec![session], sent: 70_000 },
        PeerMessage::Visible { zxid: 251 },
        PeerMessage::Digest { zxid: 5, digest: u64::MAX },
        PeerMessage::Join { id, name, address, incarnation, level: 1 },
        PeerMessage::Leave { id, member },
        PeerMessage::MemberAnswer { id, result: Ok(vec![named(false), named(true)]) },
        PeerMessage::MemberAnswer { id, result: Err("no".into()) },
        PeerMessage::Removed,
        PeerMessage::MayStop { applied: 12 },
        PeerMessage::Clock { wall: 1_700_000_000_000_000_000 },
        PeerMessage::Lead { id, member },
        PeerMessage::AskLog { process: 1 << 63 },
        PeerMessage::Log { process: 1 << 63, term: 2, log_term: 1, index: 9 },
    ]
}

fn greetings() -> Vec<Framed> {
    let hello = |purpose| Hello {
        purpose,
        cluster: Some(7),
        bootstrap: 1 << 32,
        from: ReplicaId(1),
        start: u64::MAX,
        to: ReplicaId(2),
        remembered: 0,
    };
    let welcome = Welcome { id: ReplicaId(2), cluster: None, remembered: 5 };
    let away = |reason| TurnedAway { reason, text: "it is another".into(), speaker: 1 };
    let answers = [
        Ok(welcome),
        Err(away(Reason::Forgotten)),
        Err(away(Reason::Cluster)),
        Err(away(Reason::Other)),
    ];
    let purposes = [Purpose::Messages, Purpose::Bulk, Purpose::Join];
    let hellos = purposes.map(|purpose| framed(kind::HELLO, &hello(purpose)));
    hellos.into_iter().chain(answers.map(|answer| framed(kind::WELCOME, &answer))).collect()
}

fn tokens() -> Vec<Framed> {
    let keyring = Keyring::new(Secret::generate().unwrap(), None);
    let token = Token::new(&keyring, vec!["a:7411".into()], Role::Mount).unwrap();
    let key = JoinerKey::generate().unwrap().request(&token.sealed, "m").unwrap();
    let credentials = Credentials::new(keyring, replica("a", 1, Some(7))).unwrap();
    let certificate = credentials.certify_mount(9, "m", &key).unwrap();
    let redeem = |joiner| {
        let (sealed, name) = (token.sealed.clone(), "m".to_owned());
        framed(kind::REDEEM, &Redeem { sealed, name, joiner })
    };
    let grants: [Grant; 4] = [
        Ok(Granted::Key("0123\n".into())),
        Ok(Granted::Certificate(certificate)),
        Err(Denial::Refused("it is used up".into())),
        Err(Denial::Later("no leader".into())),
    ];
    let redeems = [redeem(Joiner::Replica(5)), redeem(Joiner::Mount(key))];
    redeems.into_iter().chain(grants.map(|grant| framed(kind::GRANT, &grant))).collect()
}

fn bulk() -> Vec<Framed> {
    let (of, name) = ("snapshot".to_owned(), "5-2".to_owned());
    let fetch = Request::Fetch { kind: of.clone(), name: name.clone(), offset: 4, length: 9 };
    let error = RemoteError { errno: Some(28), not_found: false, text: "full".into() };
    vec![
        framed(kind::BULK_REQUEST, &Request::Push { kind: of, name, length: 1 << 33 }),
        framed(kind::BULK_REQUEST, &fetch),
        framed(kind::BULK_DATA, &vec![1_u8, 2, 255]),
        framed(kind::BULK_READY, &(1_u64 << 33)),
        framed(kind::BULK_RECEIPT, &b"receipt".to_vec()),
        framed(kind::BULK_ERROR, &error),
    ]
}

fn make(level: Level) {
    let messages = messages();
    let said = messages.iter().map(|message| framed(kind::MESSAGE, message));
    let all: Vec<Framed> =
        greetings().into_iter().chain(said).chain(tokens()).chain(bulk()).collect();
    let bytes: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let text: String = all.into_iter().map(|(_, text)| text).collect();
    fs::create_dir_all(place(level)).unwrap();
    fs::write(place(level).join("frames"), bytes).unwrap();
    fs::write(place(level).join("frames.txt"), text).unwrap();
}

/// U4: what other versions say is understood, also while they run side by side.
#[test]
fn kept_frames_are_read_and_written_as_ever() {
    if std::env::var_os("KEEPFS_MAKE_GOLDEN").is_some() {
        make(LEVEL);
    }
    let (mut kinds, mut said) = (BTreeSet::new(), BTreeSet::new());
    for level in 1..=LEVEL {
        let kept = fs::read(place(level).join("frames")).unwrap();
        let text = fs::read_to_string(place(level).join("frames.txt")).unwrap();
        let (mut rest, mut lines) = (&kept[..], text.lines());
        while let Some(frame) = frame::parse(rest).unwrap() {
            let whole = &rest[..frame.encoded_bytes()];
            let (written, says) = read(frame.kind, frame.payload);
            assert_eq!(Some(says.trim_end()), lines.next(), "level {level}");
            assert_eq!(written, whole, "level {level}: {says}");
            kinds.insert(frame.kind);
            if frame.kind == kind::MESSAGE {
                said.insert(u64::from(frame.payload[0]));
            }
            rest = &rest[whole.len()..];
        }
        assert_eq!((rest.len(), lines.next()), (0, None), "level {level}");
    }
    let all = (0..=u8::MAX).filter(|kind| kind::bytes_max(*kind) > 0);
    assert_eq!(kinds, all.collect(), "a kind of frame has no kept one");
    assert_eq!(said, (0..variants::<PeerMessage>()).collect(), "a message has no kept frame");
}
