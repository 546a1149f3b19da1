//! `token.*`: which tokens count no more.

use super::{Asked, value};
use crate::tree::Command;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct One {
    /// The token's id.
    token: u64,
}

/// Answers when it is committed.
pub fn revoke(asked: &Asked<'_>) -> Result<Value, String> {
    let One { token } = asked.arguments()?;
    let session = asked.node.session().ok_or("this replica has no session; ask another")?;
    let answer = asked.node.submit_and_wait(session, Command::RevokeToken { token });
    answer.map_err(|failure| format!("not revoked: {failure:?}"))?;
    value(())
}
