//! The texts of the control files: for people first, and simple to take apart. A list is a table
//! with a heading, its columns apart by two spaces or more; the rest is `name: value`.

use crate::cluster::{MemberStatus, Status};
use crate::limits;
use crate::tree::{FIRST_LEVEL, LockMode, LockView, Name, SessionId, SessionView, Stamp, Usage};
use std::fmt::Write;
use std::sync::Arc;

/// A holder or waiter, with what the tree alone does not say of it.
pub struct Lock {
    pub view: LockView,
    /// Of the locked file or the `lock` directory; empty if it has no name any more.
    pub path: Arc<[u8]>,
    /// Of its session.
    pub host: Name,
}

/// A clock further off is told, seconds.
const CLOCK_OFF_SECS: f64 = 1.0;

pub fn status(status: &Status) -> String {
    let leader = match &status.leader {
        Some(leader) => format!("{leader} (for {})", age(status.leader_since_secs)),
        None => format!("none (for {})", age(status.leader_since_secs)),
    };
    let quorum = match (&status.reason, status.quorum) {
        (_, true) => "yes".to_string(),
        (Some(reason), false) => format!("no: {reason}"),
        (None, false) => "no".to_string(),
    };
    let none = || "none".to_string();
    let mut text = pairs(&[
        ("name", status.name.clone()),
        ("id", status.id.to_string()),
        ("cluster", status.cluster.clone().unwrap_or_else(none)),
        ("level", level(status)),
        ("role", status.role.clone()),
        ("term", status.term.to_string()),
        ("leader", leader),
        ("quorum", quorum),
        ("session", status.session.clone().unwrap_or_else(none)),
        ("applied", status.applied.to_string()),
        ("commit", status.commit.to_string()),
        ("log first", status.log_first.to_string()),
        ("snapshot", status.snapshot.to_string()),
        ("digest", status.digest.clone()),
        ("mount", if status.mounted { "mounted" } else { "not mounted" }.to_string()),
        ("pid", status.pid.to_string()),
        ("data", escaped(status.data.as_os_str().as_encoded_bytes())),
    ]);
    for (name, off) in wrong_clocks(&status.members) {
        text += &format!("clock of {name} is {off}\n");
    }
    text.push('\n');
    text + &members(&status.members)
}

/// The cluster's level, and who keeps it from rising.
fn level(status: &Status) -> String {
    let can = |member: &MemberStatus| member.level.unwrap_or(FIRST_LEVEL);
    let most = status.members.iter().map(can).max().unwrap_or(status.level);
    let behind = status.members.iter().filter(|member| can(member) < most);
    let behind: Vec<String> = behind.map(|member| escaped(member.name.as_bytes())).collect();
    match behind.is_empty() || most <= status.level {
        true => status.level.to_string(),
        false => format!("{} ({most} when {} can)", status.level, behind.join(", ")),
    }
}

/// Whose clock is off, and by how much, in words.
fn wrong_clocks(members: &[MemberStatus]) -> Vec<(String, String)> {
    let wrong = |member: &MemberStatus| {
        let off = member.clock_off_secs.filter(|secs| secs.abs() > CLOCK_OFF_SECS)?;
        let way = if off > 0.0 { "ahead" } else { "behind" };
        Some((escaped(member.name.as_bytes()), format!("{:.1} s {way}", off.abs())))
    };
    members.iter().filter_map(wrong).collect()
}

pub fn status_json(status: &Status) -> String {
    // A status is numbers, strings and lists of them: it always has a JSON form.
    serde_json::to_string_pretty(status).unwrap_or_default() + "\n"
}

/// The name alone, for `$(cat .keepfs/leader)`; nothing if there is none.
pub fn leader(status: &Status) -> String {
    status.leader.as_ref().map(|leader| format!("{leader}\n")).unwrap_or_default()
}

pub fn members(members: &[MemberStatus]) -> String {
    let row = |member: &MemberStatus| {
        let seen = match (member.is_self, member.heard_secs_ago) {
            (true, _) => "here".to_string(),
            (false, Some(secs)) => format!("{} ago", age(secs as u64)),
            (false, None) => "never".to_string(),
        };
        vec![
            member.id.to_string(),
            escaped(member.name.as_bytes()),
            escaped(member.address.as_bytes()),
            if member.learner { "learner" } else { "voter" }.to_string(),
            if member.is_self || member.reachable { "yes" } else { "no" }.to_string(),
            seen,
            member.behind.map_or("-".to_string(), |entries| entries.to_string()),
            member.version.as_ref().map_or("-".to_string(), |version| escaped(version.as_bytes())),
            member.level.map_or("-".to_string(), |level| level.to_string()),
        ]
    };
    let heading =
        ["ID", "NAME", "ADDRESS", "KIND", "REACHABLE", "HEARD", "BEHIND", "VERSION", "LEVEL"];
    table(&heading, members, row)
}

pub fn sessions(sessions: &[SessionView], own: Option<SessionId>, now: Stamp) -> String {
    let row = |view: &SessionView| {
        vec![
            view.session.to_string(),
            client(view),
            view.replica.to_string(),
            age_of(view.opened, now),
            format!("{}ms", view.timeout_ms),
            view.ephemerals.to_string(),
            view.locks.to_string(),
            if own == Some(view.session) { "yes" } else { "no" }.to_string(),
        ]
    };
    let heading = ["SESSION", "HOST", "REPLICA", "AGE", "TIMEOUT", "EPHEMERALS", "LOCKS", "OWN"];
    table(&heading, sessions, row)
}

/// The host, and which of its clients it is, if that is not its own mount.
fn client(view: &SessionView) -> String {
    match view.client.is_empty() {
        true => escaped(&view.host),
        false => format!("{}:{}", escaped(&view.host), escaped(&view.client)),
    }
}

/// For the user `reader`: command lines, which may hold secrets, are shown to root and to the user
/// whose process it is.
pub fn locks(locks: &[Lock], now: Stamp, reader: u32) -> String {
    let row = |lock: &Lock| {
        let view = &lock.view;
        let mut path = lock.path.to_vec();
        if let Some((name, _)) = &view.ticket {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        let position = match (view.token, view.position) {
            (Some(_), _) => "holder".to_string(),
            (None, position) => position.to_string(),
        };
        let mode = match view.mode {
            LockMode::Shared => "shared",
            LockMode::Exclusive => "exclusive",
        };
        vec![
            if path.is_empty() { format!("(unlinked {})", view.ino) } else { escaped(&path) },
            position,
            mode.to_string(),
            bytes(view.start, view.end),
            escaped(&lock.host),
            view.pid.to_string(),
            age_of(view.since, now),
            view.token.map_or("-".to_string(), |token| token.to_string()),
            if view.ticket.is_some() { view.sequence.to_string() } else { "-".to_string() },
            match reader == 0 || reader == view.uid {
                true => escaped_but_spaces(&view.command),
                false => "-".to_string(),
            },
        ]
    };
    let heading =
        ["PATH", "POSITION", "MODE", "BYTES", "HOST", "PID", "AGE", "TOKEN", "SEQUENCE", "COMMAND"];
    table(&heading, locks, row)
}

pub fn version() -> String {
    format!("{} {}\n", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

pub fn limits(usage: &Usage) -> String {
    let of = |used: u64, limit: u64| format!("{limit} (used {used})");
    pairs(&[
        ("file bytes", usage.limits.file_bytes.to_string()),
        ("tree bytes", of(usage.bytes, usage.limits.tree_bytes)),
        ("inodes", of(usage.inodes, usage.limits.inodes)),
        ("name bytes", limits::NAME_BYTES_MAX.to_string()),
        ("symlink bytes", limits::SYMLINK_BYTES_MAX.to_string()),
        ("links of an inode", limits::LINKS_MAX.to_string()),
        ("xattr value bytes", limits::XATTR_VALUE_BYTES_MAX.to_string()),
        ("xattrs of an inode, bytes", limits::XATTRS_BYTES_MAX.to_string()),
        ("lock queue", limits::LOCK_QUEUE_MAX.to_string()),
        ("replicas", limits::REPLICAS_MAX.to_string()),
    ])
}

/// A locked range: `all` for `flock` and whole-file locks.
fn bytes(start: u64, end: u64) -> String {
    match (start, end) {
        (0, end) if end >= i64::MAX as u64 => "all".to_string(),
        (start, end) if end >= i64::MAX as u64 => format!("{start}-"),
        (start, end) => format!("{start}-{end}"),
    }
}

fn age_of(then: Stamp, now: Stamp) -> String {
    age(now.saturating_sub(then) / 1_000_000_000)
}

/// Seconds in the two largest units.
fn age(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs / 3600 % 24),
    }
}

/// `name: value` lines, the values below each other.
fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let name = format!("{name}:");
        let _ = writeln!(text, "{name:width$} {value}");
        text
    })
}

/// Left-aligned columns; the last may hold spaces. Each row is made twice, to be measured and to be
/// written: there may be very many.
pub fn table<T>(heading: &[&str], items: &[T], row: impl Fn(&T) -> Vec<String>) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|name| name.len()).collect();
    for item in items {
        for (width, cell) in widths.iter_mut().zip(row(item)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: Vec<String>| {
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    };
    line(heading.iter().map(|name| name.to_string()).collect());
    items.iter().for_each(|item| line(row(item)));
    text
}

/// One word of printable text: blanks, control characters, backslashes and what is no UTF-8 in
/// octal, as in `/proc/mounts`.
fn escaped(bytes: &[u8]) -> String {
    escape(bytes, |c| c == ' ')
}

fn escaped_but_spaces(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

fn escape(bytes: &[u8], also: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let octal = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "\\{byte:03o}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() || also(c) {
                octal(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        octal(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Ino;

    fn waiting(name: &[u8], sequence: u64, token: Option<u64>) -> Lock {
        let view = LockView {
            ino: Ino(20),
            ticket: Some((name.into(), Ino(20 + sequence))),
            session: SessionId(3),
            owner: 0,
            start: 0,
            end: i64::MAX as u64,
            mode: LockMode::Exclusive,
            pid: 4711,
            uid: 1000,
            command: (*b"sh -c w").into(),
            since: 1_000_000_000,
            waiter: 40 + sequence,
            token,
            position: sequence as usize - 1,
            sequence,
        };
        Lock { view, path: b"/lock/x"[..].into(), host: (*b"web1").into() }
    }

    #[test]
    fn locks_are_a_table_in_queue_order() {
        let queue = [waiting(b"one", 1, Some(41)), waiting(b"t wo\n", 2, None)];
        let expected = "\
PATH                 POSITION  MODE       BYTES  HOST  PID   AGE    TOKEN  SEQUENCE  COMMAND
/lock/x/one          holder    exclusive  all    web1  4711  1m02s  41     1         sh -c w
/lock/x/t\\040wo\\012  1         exclusive  all    web1  4711  1m02s  -      2         sh -c w
";
        assert_eq!(locks(&queue, 63_000_000_000, 1000), expected);
    }

    #[test]
    fn a_command_line_is_shown_to_root_and_its_own_user() {
        let queue = [waiting(b"one", 1, Some(41))];
        let last = |reader| {
            let text = locks(&queue, 63_000_000_000, reader);
            text.lines().last().unwrap_or_default().to_string()
        };
        assert!(last(0).ends_with("sh -c w") && last(1000).ends_with("sh -c w"));
        assert!(last(65534).ends_with("41     1         -"), "{}", last(65534));
    }

    #[test]
    fn pairs_stand_below_each_other() {
        let text = pairs(&[("id", "1".into()), ("leader", "a".into())]);
        assert_eq!(text, "id:     1\nleader: a\n");
    }

    #[test]
    fn ages_and_ranges_are_short() {
        assert_eq!([0, 59, 61, 7265, 90_000].map(age), ["0s", "59s", "1m01s", "2h01m", "1d01h"]);
        assert_eq!(bytes(0, i64::MAX as u64), "all");
        assert_eq!(bytes(100, u64::MAX), "100-");
        assert_eq!(bytes(0, 9), "0-9");
    }

    #[test]
    fn one_word_stays_one_word() {
        assert_eq!(escaped(b"a b\\\n\xff\xc3\xa9"), "a\\040b\\134\\012\\377\u{e9}");
    }
}
