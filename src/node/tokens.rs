//! Tokens: issued, revoked and redeemed through the log.

use super::Cluster;
use super::Node;
use super::shared::{Job, Shared};
use crate::peers::Denial;
use crate::peers::identity::{Role, Token};
use crate::replica::{Answer, Failure};
use crate::tree::{Command, Refusal, TOKENS_MAX, TokenTerms, Tree};

impl Node {
    /// A new token of the cluster, which is recorded when this returns.
    ///
    /// # Errors
    /// A sentence: no quorum, or too many tokens.
    pub fn issue_token(&self, terms: TokenTerms) -> Result<Token, String> {
        let addresses = self.members().into_iter().map(|member| member.address).collect();
        let role = if terms.mount { Role::Mount } else { Role::Replica };
        let token = Token::new(&self.shared().peers.keyring(), addresses, role)
            .map_err(|error| error.to_string())?;
        let command = Command::IssueToken { token: token.sealed.claims.id, terms };
        match commit(self.shared(), command) {
            Ok(_) => Ok(token),
            Err(Failure::Refused(Refusal::NoSpace)) => Err(format!(
                "there are {TOKENS_MAX} tokens; one can be issued when the time of another is over, \
                 or when one by which mounts are here is revoked"
            )),
            Err(Failure::Refused(Refusal::Invalid)) => Err("it would allow too much".into()),
            Err(failure) => Err(later(failure)),
        }
    }

    /// Nobody comes by this token any more, on any replica. Waits for the commit.
    ///
    /// # Errors
    /// A sentence: no such token, or no quorum.
    pub fn revoke_token(&self, token: u64) -> Result<(), String> {
        match commit(self.shared(), Command::RevokeToken { token }) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(_)) => Err(why_not(&self.tree(), token, None)),
            Err(failure) => Err(later(failure)),
        }
    }
}

/// Whether one may come by a token: the log says so.
pub(super) fn redeem(shared: &Shared, token: u64, name: &str, joiner: u64) -> Result<(), Denial> {
    match commit(shared, Command::RedeemToken { token, name: name.into(), joiner }) {
        Ok(_) => Ok(()),
        Err(Failure::Refused(_)) => {
            Err(Denial::Refused(why_not(&shared.tree.read(), token, Some(name))))
        }
        Err(failure) => Err(Denial::Later(later(failure))),
    }
}

/// Waits for a session if there is none just now: this replica may have been started a moment ago.
fn commit(shared: &Shared, command: Command) -> Answer {
    let session = shared.wait_for_session(&shared.seat)?;
    let (tell, told) = crossbeam_channel::bounded(1);
    let done = Box::new(move |answer| drop(tell.send(answer)));
    shared.tell(Job::Submit { session, command, done });
    told.recv().unwrap_or(Err(Failure::Stopping))
}

fn later(failure: Failure) -> String {
    match failure {
        Failure::NoQuorum => {
            "the cluster has no quorum; `keepfs status` says who is missing".into()
        }
        _ => format!("the cluster cannot say now; try again ({failure:?})"),
    }
}

fn why_not(tree: &Tree, token: u64, name: Option<&str>) -> String {
    let Some(known) = tree.token(token) else {
        return format!("the cluster knows no token {token:016x}; is its time over?");
    };
    let other = known.terms.name.as_deref().filter(|only| name.is_some_and(|name| name != *only));
    match other {
        Some(only) => format!("this token is for {only} only"),
        None if known.revoked => "this token is revoked".into(),
        None if known.left == 0 => "this token is used up".into(),
        None => "the time of this token is over".into(),
    }
}
