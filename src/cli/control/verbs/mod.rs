//! What the daemon can be asked. A verb is a function, named here once.

mod listing;
mod member;
mod status;
pub mod token;

use crate::node::Node;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One request.
pub struct Asked<'a> {
    pub node: &'a Node,
    /// Who asks: root, or the daemon's user.
    pub uid: u32,
    pub arguments: &'a Value,
}

/// Answers, or says in a sentence why not.
type Verb = fn(&Asked<'_>) -> Result<Value, String>;

const VERBS: &[(&str, Verb)] = &[
    ("status", status::status),
    ("sessions", listing::sessions),
    ("locks", listing::locks),
    ("member.list", member::list),
    ("member.add", member::add),
    ("member.remove", member::remove),
    ("member.replace", member::replace),
    ("member.transfer", member::transfer),
    ("token.issue", token::issue),
    ("token.list", token::list),
    ("token.revoke", token::revoke),
];

pub fn carry_out(verb: &str, asked: &Asked<'_>) -> Result<Value, String> {
    match VERBS.iter().find(|(name, _)| *name == verb) {
        Some((_, run)) => run(asked),
        None => Err(format!("this daemon knows no verb \"{verb}\": is it of another version?")),
    }
}

impl Asked<'_> {
    /// The arguments, as the verb has them.
    fn arguments<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(self.arguments.clone())
            .map_err(|error| format!("arguments: {error}"))
    }
}

fn value(of: impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(of).map_err(|error| error.to_string())
}
