//! `sessions` and `locks`: for people the text of the control files, for machines rows. Both are
//! made from a frozen tree.

use super::{Asked, value};
use crate::cluster::Cluster;
use crate::mount::control::{ControlFile, Listings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

#[derive(Deserialize)]
struct Arguments {
    /// Rows, not a text.
    json: bool,
}

#[derive(Serialize)]
struct SessionRow {
    session: String,
    host: String,
    /// Which of its clients; empty for its own mount.
    client: String,
    replica: u64,
    /// Nanoseconds since the epoch.
    opened: u64,
    timeout_ms: u32,
    ephemerals: usize,
    locks: usize,
    own: bool,
}

#[derive(Serialize)]
struct LockRow {
    path: String,
    /// In a `lock` directory.
    ticket: Option<String>,
    holds: bool,
    position: usize,
    /// `shared` or `exclusive`.
    mode: String,
    start: u64,
    end: u64,
    host: String,
    session: String,
    pid: u32,
    /// To root, and to the user whose process it is: it may hold secrets.
    command: Option<String>,
    /// Nanoseconds since the epoch.
    since: u64,
    token: Option<u64>,
}

pub fn sessions(asked: &Asked<'_>) -> Result<Value, String> {
    if !asked.arguments::<Arguments>()?.json {
        return text(asked, ControlFile::Sessions);
    }
    let (tree, own) = (asked.node.frozen(), asked.node.session());
    let rows = tree.sessions().into_iter().map(|view| SessionRow {
        session: view.session.to_string(),
        host: lossy(&view.host),
        client: lossy(&view.client),
        replica: view.replica.0,
        opened: view.opened,
        timeout_ms: view.timeout_ms,
        ephemerals: view.ephemerals,
        locks: view.locks,
        own: own == Some(view.session),
    });
    value(rows.collect::<Vec<_>>())
}

pub fn locks(asked: &Asked<'_>) -> Result<Value, String> {
    if !asked.arguments::<Arguments>()?.json {
        return text(asked, ControlFile::Locks);
    }
    let tree = asked.node.frozen();
    let rows = tree.locks().into_iter().map(|view| LockRow {
        path: lossy(&tree.path(view.ino).unwrap_or_default()),
        ticket: view.ticket.as_ref().map(|(name, _)| lossy(name)),
        holds: view.token.is_some(),
        position: view.position,
        mode: format!("{:?}", view.mode).to_lowercase(),
        start: view.start,
        end: view.end,
        host: tree.host_of(view.session).map(|host| lossy(host)).unwrap_or_default(),
        session: view.session.to_string(),
        pid: view.pid,
        command: (asked.uid == 0 || asked.uid == view.uid).then(|| lossy(&view.command)),
        since: view.since,
        token: view.token,
    });
    value(rows.collect::<Vec<_>>())
}

fn text(asked: &Asked<'_>, file: ControlFile) -> Result<Value, String> {
    let listings =
        Listings::start(Arc::new(asked.node.clone())).map_err(|error| error.to_string())?;
    let (tell, told) = crossbeam_channel::bounded(1);
    listings.ask(file, asked.uid, Box::new(move |text| drop(tell.send(text))));
    match told.recv() {
        Ok(Some(text)) => Ok(Value::from(lossy(&text))),
        _ => Err("this replica is stopping".into()),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
