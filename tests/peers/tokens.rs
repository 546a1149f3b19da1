//! Tokens: who may come by one, and who says so.

use super::bulk::Shelf;
use super::strangers::{Hello, Speaker};
use super::*;
use keepfs::peers::bulk::fetch_as_mount;
use keepfs::peers::identity::MountCertificate;
use keepfs::peers::redeem_mount;

#[test]
fn a_token_gives_the_key_to_whom_the_log_lets_come() {
    let (one, _two) = pair(identity(1), identity(2));
    let at = vec![one.peers.address().to_string()];
    let token = |keyring: &Keyring| Token::new(keyring, at.clone(), Role::Replica).unwrap();
    let redeem = |token: &Token, name: &str, joiner| keepfs::peers::redeem(token, name, joiner);
    let own = token(&keyring());
    assert_eq!(redeem(&own, "new", 1).unwrap(), keyring());
    assert_eq!(redeem(&own, "new", 1).unwrap(), keyring(), "the same again");
    let second = redeem(&own, "new", 2).unwrap_err().to_string();
    assert!(second.contains("used up"), "{second}");
    // One of another cluster is not even told to this one; a forged one is not listened to.
    let foreign = Keyring::new(Secret::generate().unwrap(), None);
    let stranger = redeem(&token(&foreign), "new", 3).unwrap_err().to_string();
    assert!(stranger.contains("do both have the same key?"), "{stranger}");
    let forged = Token { fingerprint: own.fingerprint, ..token(&foreign) };
    assert!(redeem(&forged, "new", 3).is_err());
    assert_eq!(one.heard.redeemed.lock().len(), 1);
}

#[test]
fn who_cannot_say_whether_a_token_is_good_is_asked_again_and_outvotes_nobody() {
    let (one, two) = pair(identity(1), identity(2));
    let at = vec![one.peers.address().to_string(), two.peers.address().to_string()];
    let token = Token::new(&keyring(), at, Role::Replica).unwrap();
    one.heard.undecided.store(1, Ordering::Relaxed);
    two.heard.undecided.store(1, Ordering::Relaxed);
    assert_eq!(keepfs::peers::redeem(&token, "new", 1).unwrap(), keyring());
    // The one that knows says no; that the other could not say is no longer of interest.
    two.heard.undecided.store(i64::MAX, Ordering::Relaxed);
    let refused = keepfs::peers::redeem(&token, "new", 2).unwrap_err().to_string();
    assert!(refused.contains("used up"), "{refused}");
}

/// A mount's token at `host`, which is recorded by coming by it.
fn mount_token(host: &Host) -> Token {
    Token::new(&keyring(), vec![host.peers.address().to_string()], Role::Mount).unwrap()
}

fn fetches(at: &Host, mount: &MountCertificate) -> io::Result<Vec<u8>> {
    let at = at.peers.address().to_string();
    let (_, mut data) = fetch_as_mount(&at, mount, "shelf", "some", 0, 5)?;
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes)?;
    Ok(bytes)
}

const PURPOSES: [u32; 3] = [0, 1, 2];
const BULK: u32 = PURPOSES[1];
const BULK_REQUEST: u8 = 16;

#[test]
fn a_mount_fetches_and_has_no_say() {
    let (one, two) = pair(identity(1), identity(2));
    let shelf = Arc::new(Shelf::default());
    two.peers.bulk().serve("shelf", shelf.clone());
    let mount = redeem_mount(&mount_token(&two), "web1").unwrap();
    assert_eq!((mount.subject().role, &*mount.subject().name), (Role::Mount, "web1"));
    assert_eq!(fetches(&two, &mount).unwrap().len(), 5);
    // Another replica may not have heard of it yet.
    let early = fetches(&one, &mount).unwrap_err().to_string();
    assert!(early.contains("does not know"), "{early}");
    let at = two.peers.address();
    for purpose in PURPOSES.into_iter().filter(|purpose| *purpose != BULK) {
        for from in [0, 1, 50] {
            let claim = Hello::from((purpose, Some(7), 0, from, 4242, 2, 0));
            let why = Speaker::connect_as(at, mount.client()).claim(claim).unwrap_err();
            assert!(why.contains("is a mount, which may not"), "{why}");
        }
    }
    let mut pusher = Speaker::connect_as(at, mount.client());
    pusher.claim((BULK, Some(7), 0, 1, 4242, 2, 0)).unwrap();
    let push = bincode::encode_to_vec((0u32, "shelf", "x", 0u64), bincode::config::standard());
    pusher.say(BULK_REQUEST, &push.unwrap()).unwrap();
    assert!(pusher.is_cut(Duration::from_secs(5)));
    assert!(shelf.0.lock().is_empty(), "nothing was pushed");
    assert!(two.heard.messages.lock().iter().all(|(from, _)| *from == ReplicaId(1)));
}

#[test]
fn a_mount_is_gone_when_its_token_is_revoked() {
    let (_one, two) = pair(identity(1), identity(2));
    two.peers.bulk().serve("shelf", Arc::new(Shelf::default()));
    let token = mount_token(&two);
    let mount = redeem_mount(&token, "web1").unwrap();
    let mut idle = Speaker::connect_as(two.peers.address(), mount.client());
    idle.claim((BULK, Some(7), 0, 0, 0, 2, 0)).unwrap();
    let review = || two.peers.review_mounts(|token| two.heard.admits_mounts(token));
    review();
    assert!(fetches(&two, &mount).is_ok() && !idle.is_cut(Duration::from_millis(100)));
    two.heard.revoked.lock().insert(token.sealed.claims.id);
    review();
    assert!(idle.is_cut(Duration::from_secs(5)));
    let refused = fetches(&two, &mount).unwrap_err().to_string();
    assert!(refused.contains("revoked") && refused.contains("keepfs token"), "{refused}");
}

#[test]
fn a_mount_does_not_crowd_out_replicas() {
    let (one, two) = pair(identity(1), identity(2));
    let mount = redeem_mount(&mount_token(&two), "web1").unwrap();
    let connect = || {
        let mut speaker = Speaker::connect_as(two.peers.address(), mount.client());
        speaker.claim((BULK, Some(7), 0, 0, 0, 2, 0)).is_ok().then_some(speaker)
    };
    let open: Vec<Speaker> = (0..70).map_while(|_| connect()).collect();
    assert_eq!(open.len(), 64);
    connected(&one, &two, 2);
    drop(open);
    eventually("there is room again", || connect().is_some());
}

#[test]
fn what_a_token_gives_is_for_its_role_and_its_key() {
    let (one, _two) = pair(identity(1), identity(2));
    let at = vec![one.peers.address().to_string()];
    let replica = Token::new(&keyring(), at, Role::Replica).unwrap();
    let refused = redeem_mount(&replica, "web1").err().unwrap().to_string();
    assert!(refused.contains("--role mount"), "{refused}");
    let mount = mount_token(&one);
    let refused = keepfs::peers::redeem(&mount, "r3", 5).unwrap_err().to_string();
    assert!(refused.contains("--role replica"), "{refused}");
    assert!(redeem_mount(&mount, "no/name").is_err());
    assert!(one.heard.redeemed.lock().is_empty(), "nobody came by any");
    redeem_mount(&mount, "web1").unwrap();
    assert!(redeem_mount(&mount, "web1").is_err(), "another key is another joiner");
}
