//! The control socket: how the commands of an operator reach the daemon of a replica, with no
//! mount.
//!
//! A Unix socket, `RUN/NAME.sock`, that `control` in the data directory leads to. Who may speak is
//! decided by the peer's credentials: root, or the user that runs the daemon. One request a
//! connection, one line of JSON each way:
//!
//! ```text
//! {"version":1,"verb":"member.remove","arguments":{"member":"web2"}}
//! {"version":1,"ok":...}    or    {"version":1,"error":"a sentence"}
//! ```
//!
//! A verb is one file of `verbs/`, and a line of the table there. It runs on its connection's
//! thread and only talks to the [`crate::node::Node`]: nothing of the replica waits for it.

mod client;
mod place;
mod server;
mod verbs;

pub use client::Daemon;
pub use server::ControlSocket;
pub use verbs::token::TokenRow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of the protocol, in every line.
const VERSION: u32 = 1;
/// A request is at most this long, bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// An answer: a listing of a hundred thousand locks has room.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// In a data directory: the socket of its daemon, or a link to it.
const LINK: &str = "control";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    verb: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    version: u32,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok(Value),
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_that_says_which_version_it_is() {
        let text = |outcome| serde_json::to_string(&Answer { version: 1, outcome }).unwrap();
        assert_eq!(text(Outcome::Ok(Value::from(3))), r#"{"version":1,"ok":3}"#);
        assert_eq!(text(Outcome::Error("no".into())), r#"{"version":1,"error":"no"}"#);
        let request = r#"{"version":1,"verb":"status"}"#;
        let request: Request = serde_json::from_str(request).unwrap();
        assert_eq!((request.verb.as_str(), request.arguments), ("status", Value::Null));
    }
}
