//! Tokens that let somebody join: each is recorded when it is issued, with what it allows, and who
//! came by it. One without a record is none. A mount's right to be here is the record of the token
//! it came by: that is kept until it is revoked.

use super::edit::Edit;
use super::{Refusal, Reply, Stamp, Tree};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Tokens that are known at once: each is forgotten when its time is over and no mount is here by
/// it.
pub const TOKENS_MAX: usize = 1024;
/// Who may come by one token.
pub const TOKEN_USES_MAX: u32 = 64;
/// No token lives longer, nanoseconds.
pub const TOKEN_LIFE_MAX: Stamp = 30 * 24 * 3600 * 1_000_000_000;
/// As long as a certificate can hold.
const NAME_BYTES_MAX: usize = 64;

/// By number.
pub(super) type Tokens = BTreeMap<u64, Token>;

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TokenTerms {
    /// To come as a mount, not as a replica.
    pub mount: bool,
    /// Only one of this name may come by it.
    pub name: Option<String>,
    /// How many may come by it.
    pub uses: u32,
    /// From its issue on, nanoseconds.
    pub life: Stamp,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Token {
    terms: TokenTerms,
    /// Over from here on.
    expires: Stamp,
    revoked: bool,
    joiners: BTreeSet<u64>,
}

/// What readers see of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView<'a> {
    pub id: u64,
    pub terms: &'a TokenTerms,
    /// Over from here on, by the cluster's time.
    pub expires: Stamp,
    pub revoked: bool,
    /// How many may still come by it.
    pub left: u32,
    /// How many mounts are here by it.
    pub admits: u32,
}

impl Token {
    fn view(&self, id: u64) -> TokenView<'_> {
        let left = self.terms.uses.saturating_sub(self.joiners.len() as u32);
        let (expires, revoked, admits) = (self.expires, self.revoked, self.admits());
        TokenView { id, terms: &self.terms, expires, revoked, left, admits }
    }

    /// The mounts that are here by it.
    fn admits(&self) -> u32 {
        if self.terms.mount && !self.revoked { self.joiners.len() as u32 } else { 0 }
    }
}

/// Tokens.
impl Tree {
    /// In the order of their ids. Those that are over are among them until another is issued.
    pub fn tokens(&self) -> impl Iterator<Item = TokenView<'_>> {
        self.tokens.iter().map(|(id, token)| token.view(*id))
    }

    pub fn token(&self, id: u64) -> Option<TokenView<'_>> {
        self.tokens.get(&id).map(|token| token.view(id))
    }

    /// Whether the mounts that came by this token may be here.
    pub fn admits_mounts(&self, token: u64) -> bool {
        self.tokens.get(&token).is_some_and(|token| token.admits() > 0)
    }
}

impl Edit<'_> {
    /// Records a token, and forgets those that are over and admit nobody.
    ///
    /// # Errors
    /// `Invalid`: it would allow too much. `AlreadyExists`. `NoSpace`: too many are known.
    pub fn issue_token(&mut self, token: u64, terms: &TokenTerms) -> Result<Reply, Refusal> {
        self.live_session()?;
        let long_name = terms.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX);
        let uses = (1..=TOKEN_USES_MAX).contains(&terms.uses);
        if long_name || !uses || terms.life > TOKEN_LIFE_MAX {
            return Err(Refusal::Invalid);
        }
        let stamp = self.stamp();
        let tokens = &mut self.tree.tokens;
        tokens.retain(|_, known| known.expires > stamp || known.admits() > 0);
        if tokens.contains_key(&token) {
            return Err(Refusal::AlreadyExists);
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Refusal::NoSpace);
        }
        let expires = stamp.saturating_add(terms.life);
        let joiners = BTreeSet::new();
        tokens.insert(token, Token { terms: terms.clone(), expires, revoked: false, joiners });
        Ok(Reply::Done)
    }

    /// `joiner`, a number of its own, comes by a token. The same joiner may ask again.
    ///
    /// # Errors
    /// `NotFound`: there is no such token. `NotPermitted`: it is over, revoked, used up, or for
    /// another name.
    pub fn redeem_token(&mut self, token: u64, name: &str, joiner: u64) -> Result<Reply, Refusal> {
        self.live_session()?;
        let stamp = self.stamp();
        let known = self.tree.tokens.get_mut(&token).ok_or(Refusal::NotFound)?;
        let other = known.terms.name.as_ref().is_some_and(|only| only != name);
        if known.revoked || stamp >= known.expires || other {
            return Err(Refusal::NotPermitted);
        }
        if !known.joiners.contains(&joiner) {
            if known.joiners.len() >= known.terms.uses as usize {
                return Err(Refusal::NotPermitted);
            }
            known.joiners.insert(joiner);
        }
        Ok(Reply::Done)
    }

    /// Nobody comes by this token any more, and the mounts that did have to go.
    ///
    /// # Errors
    /// `NotFound`: there is no such token.
    pub fn revoke_token(&mut self, token: u64) -> Result<Reply, Refusal> {
        self.live_session()?;
        self.tree.tokens.get_mut(&token).ok_or(Refusal::NotFound)?.revoked = true;
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::TOKENS_MAX;
    use crate::tree::{
        Command, Proposal, Refusal, ReplicaId, Reply, SessionId, Stamp, TokenTerms, Tree,
    };

    const HOUR: Stamp = 3600 * 1_000_000_000;

    struct Log(Tree, u64);

    impl Log {
        fn new() -> Log {
            let mut log = Log(Tree::new(), 0);
            let (host, client, replica) = (b"a"[..].into(), [].into(), ReplicaId(1));
            let open = Command::OpenSession { host, client, replica, nonce: 1, timeout_ms: 1000 };
            log.apply(0, SessionId::NONE, open).unwrap();
            log
        }

        fn apply(
            &mut self,
            stamp: Stamp,
            session: SessionId,
            command: Command,
        ) -> Result<Reply, Refusal> {
            self.1 += 1;
            let sequence = if session == SessionId::NONE { 0 } else { self.1 };
            let proposal = Proposal { session, sequence, acknowledged: 0, command };
            self.0.apply(self.1, stamp, &proposal).reply
        }

        fn issue(&mut self, stamp: Stamp, token: u64, terms: TokenTerms) -> Result<Reply, Refusal> {
            self.apply(stamp, SessionId(1), Command::IssueToken { token, terms })
        }

        fn redeem(&mut self, stamp: Stamp, token: u64, joiner: u64) -> Result<Reply, Refusal> {
            let command = Command::RedeemToken { token, name: "a".into(), joiner };
            self.apply(stamp, SessionId(1), command)
        }

        fn revoke(&mut self, token: u64) -> Result<Reply, Refusal> {
            self.apply(3, SessionId(1), Command::RevokeToken { token })
        }
    }

    fn twice() -> TokenTerms {
        TokenTerms { mount: false, name: None, uses: 2, life: HOUR }
    }

    #[test]
    fn a_token_is_used_as_often_as_it_says_and_by_one_joiner_once() {
        let mut log = Log::new();
        assert_eq!(log.redeem(1, 7, 100), Err(Refusal::NotFound), "it was not issued");
        for token in [7, 8] {
            log.issue(1, token, twice()).unwrap();
        }
        assert_eq!(log.issue(1, 7, twice()), Err(Refusal::AlreadyExists));
        assert!(log.redeem(1, 7, 100).is_ok() && log.redeem(2, 7, 101).is_ok());
        assert!(log.redeem(3, 7, 100).is_ok(), "whose answer was lost asks again");
        assert_eq!(log.redeem(4, 7, 102), Err(Refusal::NotPermitted));
        assert_eq!((log.0.token(7).unwrap().left, log.0.token(8).unwrap().left), (0, 2));
        assert!(log.redeem(5, 8, 102).is_ok(), "another token");
        assert!(log.redeem(HOUR, 8, 103).is_ok());
        assert_eq!(log.redeem(HOUR + 1, 8, 103), Err(Refusal::NotPermitted), "it is over");
    }

    #[test]
    fn a_token_is_for_its_name_and_none_is_for_ever() {
        let mut log = Log::new();
        for (token, only) in [(1, "a"), (2, "b")] {
            log.issue(1, token, TokenTerms { name: Some(only.into()), ..twice() }).unwrap();
        }
        assert!(log.redeem(2, 1, 100).is_ok());
        assert_eq!(log.redeem(2, 2, 100), Err(Refusal::NotPermitted));
        let much = [
            TokenTerms { life: Stamp::MAX, ..twice() },
            TokenTerms { uses: 65, ..twice() },
            TokenTerms { uses: 0, ..twice() },
            TokenTerms { name: Some("x".repeat(65)), ..twice() },
        ];
        for terms in much {
            assert_eq!(log.issue(3, 9, terms), Err(Refusal::Invalid));
        }
    }

    #[test]
    fn tokens_that_are_over_make_room() {
        let mut log = Log::new();
        for token in 0..TOKENS_MAX as u64 {
            log.issue(1, token, twice()).unwrap();
        }
        assert_eq!(log.issue(HOUR, 9999, twice()), Err(Refusal::NoSpace));
        log.issue(HOUR + 1, 9999, twice()).unwrap();
        assert_eq!(log.0.tokens().map(|token| token.id).collect::<Vec<_>>(), [9999]);
    }

    #[test]
    fn a_revoked_token_is_revoked_also_in_a_snapshot() {
        let mut log = Log::new();
        log.issue(1, 7, twice()).unwrap();
        log.redeem(1, 7, 100).unwrap();
        log.revoke(7).unwrap();
        assert!(log.redeem(3, 7, 100).is_err() && log.redeem(3, 7, 101).is_err());
        let mut bytes = Vec::new();
        log.0.write_snapshot(&mut bytes).unwrap();
        log.0 = Tree::read_snapshot(&mut bytes.as_slice(), crate::tree::LEVEL).unwrap();
        assert!(log.0.token(7).unwrap().revoked);
        assert_eq!(log.redeem(4, 7, 101), Err(Refusal::NotPermitted));
        assert_eq!(log.revoke(8), Err(Refusal::NotFound));
        let bare = Command::RevokeToken { token: 7 };
        assert!(log.apply(5, SessionId::NONE, bare).is_err());
    }

    #[test]
    fn the_record_of_a_mounts_token_stays_until_it_is_revoked() {
        let mut log = Log::new();
        for token in [7, 8, 9] {
            log.issue(1, token, TokenTerms { mount: true, ..twice() }).unwrap();
        }
        log.issue(1, 10, twice()).unwrap();
        assert!(!log.0.admits_mounts(7), "nobody came by it");
        for token in [7, 8, 10] {
            log.redeem(2, token, 100).unwrap();
        }
        assert!(log.0.admits_mounts(7) && log.0.admits_mounts(8));
        assert!(!log.0.admits_mounts(10) && !log.0.admits_mounts(11), "no mount's, and none");
        log.revoke(8).unwrap();
        assert!(!log.0.admits_mounts(8));
        log.issue(2 * HOUR, 12, twice()).unwrap();
        assert_eq!(log.0.tokens().map(|token| token.id).collect::<Vec<_>>(), [7, 12]);
        assert_eq!(log.redeem(2 * HOUR, 7, 101), Err(Refusal::NotPermitted), "it is over");
        assert!(log.0.admits_mounts(7));
    }
}
