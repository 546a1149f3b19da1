//! `token.*`: who may still join, and how.

use super::{Asked, value};
use crate::cli::token::TokenRow;
use crate::node::{TOKEN_LIFE_MAX, TokenTerms};
use crate::peers::identity::{Role, is_name};
use serde::Deserialize;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

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
