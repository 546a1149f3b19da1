//! `token.*`: who may still join, and how.

use super::{Asked, value};
use crate::cluster::Cluster;
use crate::node::{TOKEN_LIFE_MAX, TokenTerms, TokenView};
use crate::peers::identity::{Role, is_name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Deserialize)]
struct New {
    /// `replica` or `mount`.
    role: String,
    /// Only for one of this name.
    name: Option<String>,
    /// How many may come by it.
    uses: u32,
    /// Nanoseconds.
    life: u64,
}

#[derive(Deserialize)]
struct One {
    /// The token's id.
    token: u64,
}

/// A token, as the control socket tells of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// Sixteen hexadecimal digits.
    id: String,
    role: String,
    /// Only for one of this name.
    name: Option<String>,
    /// By the cluster's time, nanoseconds since the epoch.
    expires: u64,
    /// How many may come by it, in all.
    uses: u32,
    left: u32,
    /// How many mounts are here by it.
    mounts: u32,
    /// `valid`, `expired`, `revoked` or `used`: whether one may still come by it.
    state: String,
    /// Until it expires, seconds.
    seconds_left: u64,
}

impl TokenRow {
    /// `now`: the cluster's time, as `expires` is.
    fn of(token: &TokenView<'_>, now: u64) -> TokenRow {
        let state = match () {
            () if token.revoked => "revoked",
            () if token.expires <= now => "expired",
            () if token.left == 0 => "used",
            () => "valid",
        };
        let role = if token.terms.mount { Role::Mount } else { Role::Replica };
        TokenRow {
            id: format!("{:016x}", token.id),
            role: role.to_string(),
            name: token.terms.name.clone(),
            expires: token.expires,
            uses: token.terms.uses,
            left: token.left,
            mounts: token.admits,
            state: state.into(),
            seconds_left: Duration::from_nanos(token.expires.saturating_sub(now)).as_secs(),
        }
    }

    /// What `keepfs token list` shows of it.
    pub fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.role.clone(),
            self.name.clone().unwrap_or_else(|| "-".into()),
            format!("{} of {}", self.left, self.uses),
            self.mounts.to_string(),
            format!("{}s", self.seconds_left),
            self.state.clone(),
        ]
    }
}

/// The token's text, when its record is committed.
pub fn issue(asked: &Asked<'_>) -> Result<Value, String> {
    let New { role, name, uses, life } = asked.arguments()?;
    let mount = role.parse::<Role>()? == Role::Mount;
    if life > TOKEN_LIFE_MAX {
        return Err("a token lasts 30 days at most".into());
    }
    if let Some(name) = name.iter().find(|name| !is_name(name)) {
        return Err(format!("{name:?} can be nobody's name"));
    }
    let token = asked.node.issue_token(TokenTerms { mount, name, uses, life })?;
    log::info!("{token:?} was issued to uid {}", asked.uid);
    value(token.to_string())
}

pub fn list(asked: &Asked<'_>) -> Result<Value, String> {
    let tree = asked.node.tree();
    // The tree's time stands still while nothing is committed.
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let now = tree.stamp().max(here);
    value(tree.tokens().map(|token| TokenRow::of(&token, now)).collect::<Vec<_>>())
}

/// Answers when it is committed.
pub fn revoke(asked: &Asked<'_>) -> Result<Value, String> {
    let One { token } = asked.arguments()?;
    value(asked.node.revoke_token(token)?)
}
