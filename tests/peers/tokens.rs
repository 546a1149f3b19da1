//! Tokens: who may come by one, and who says so.

use super::*;

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
