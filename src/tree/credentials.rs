//! Tokens that let somebody join, as far as the log must know them: who came by one, and which are
//! revoked. What a token allows is in itself, sealed by the cluster's secret.

use super::edit::Edit;
use super::{Refusal, Reply, Stamp};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Tokens that are known at once: each is forgotten when its time is over.
const TOKENS_MAX: usize = 1024;
/// Who may come by one token.
const USES_MAX: u32 = 64;
/// No token lives longer, nanoseconds: a revocation is remembered for this time.
const LIFE_MAX: u64 = 30 * 24 * 3600 * 1_000_000_000;

/// By number.
pub(super) type Tokens = BTreeMap<u64, Token>;

#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub(super) struct Token {
    /// Forgotten after this.
    until: Stamp,
    revoked: bool,
    joiners: BTreeSet<u64>,
}

impl Edit<'_> {
    /// `joiner` comes by a token that says of itself when it ends and how often it may be used. The
    /// same joiner may ask again.
    ///
    /// # Errors
    /// `NotPermitted`: over, revoked, or used up. `NoSpace`: too many are known.
    pub fn redeem_token(
        &mut self,
        token: u64,
        expires: Stamp,
        uses: u32,
        joiner: u64,
    ) -> Result<Reply, Refusal> {
        self.live_session()?;
        let stamp = self.stamp();
        if stamp >= expires || expires - stamp > LIFE_MAX {
            return Err(Refusal::NotPermitted);
        }
        let known = self.token(token, expires)?;
        if known.revoked {
            return Err(Refusal::NotPermitted);
        }
        if !known.joiners.contains(&joiner) {
            if known.joiners.len() >= uses.min(USES_MAX) as usize {
                return Err(Refusal::NotPermitted);
            }
            known.joiners.insert(joiner);
        }
        Ok(Reply::Done)
    }

    /// Nobody comes by this token any more.
    ///
    /// # Errors
    /// `NoSpace`: too many are known.
    pub fn revoke_token(&mut self, token: u64) -> Result<Reply, Refusal> {
        self.live_session()?;
        let until = self.stamp().saturating_add(LIFE_MAX);
        let known = self.token(token, until)?;
        (known.revoked, known.until) = (true, until);
        Ok(Reply::Done)
    }

    fn token(&mut self, token: u64, until: Stamp) -> Result<&mut Token, Refusal> {
        let stamp = self.stamp();
        let tokens = &mut self.tree.tokens;
        tokens.retain(|_, known| known.until > stamp);
        if tokens.len() >= TOKENS_MAX && !tokens.contains_key(&token) {
            return Err(Refusal::NoSpace);
        }
        Ok(tokens.entry(token).or_insert(Token { until, ..Token::default() }))
    }
}

#[cfg(test)]
mod tests {
    use crate::tree::{Command, Proposal, Refusal, ReplicaId, Reply, SessionId, Stamp, Tree};

    const HOUR: Stamp = 3600 * 1_000_000_000;

    struct Log(Tree, u64);

    impl Log {
        fn new() -> Log {
            let mut log = Log(Tree::new(), 0);
            let (host, replica) = (b"a"[..].into(), ReplicaId(1));
            let open = Command::OpenSession { host, replica, nonce: 1, timeout_ms: 1000 };
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

        fn redeem(&mut self, stamp: Stamp, token: u64, joiner: u64) -> bool {
            let command = Command::RedeemToken { token, expires: HOUR, uses: 2, joiner };
            self.apply(stamp, SessionId(1), command).is_ok()
        }
    }

    #[test]
    fn a_token_is_used_as_often_as_it_says_and_by_one_joiner_once() {
        let mut log = Log::new();
        assert!(log.redeem(1, 7, 100) && log.redeem(2, 7, 101));
        assert!(log.redeem(3, 7, 100), "whose answer was lost asks again");
        assert!(!log.redeem(4, 7, 102));
        assert!(log.redeem(5, 8, 102), "another token");
        assert!(!log.redeem(HOUR, 9, 103), "it is over");
        let long = Command::RedeemToken { token: 10, expires: Stamp::MAX, uses: 1, joiner: 1 };
        assert!(log.apply(HOUR, SessionId(1), long).is_err(), "no token is for ever");
    }

    #[test]
    fn a_revoked_token_is_revoked_also_in_a_snapshot() {
        let mut log = Log::new();
        assert!(log.redeem(1, 7, 100));
        log.apply(2, SessionId(1), Command::RevokeToken { token: 7 }).unwrap();
        assert!(!log.redeem(3, 7, 100) && !log.redeem(3, 7, 101));
        let mut bytes = Vec::new();
        log.0.write_snapshot(&mut bytes).unwrap();
        log.0 = Tree::read_snapshot(&mut bytes.as_slice()).unwrap();
        assert!(!log.redeem(4, 7, 101));
        let bare = Command::RevokeToken { token: 8 };
        assert!(log.apply(5, SessionId::NONE, bare).is_err());
    }
}
