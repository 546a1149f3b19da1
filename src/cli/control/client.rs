//! The operator's end: which daemon is meant, and asking it.

use super::{ANSWER_BYTES_MAX, Answer, LINK, Outcome, Request, VERSION, place};
use crate::cli::mounts;
use crate::config::{Config, Flags};
use crate::error::Error;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A membership change waits for a quorum: longer than the daemon does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon of this host, by its socket.
#[derive(Clone, Debug)]
pub struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// The daemon that `at` names: its name, its data directory, its mount or its socket. With no
    /// name, the only one of this host that this user can find.
    pub fn find(at: Option<&Path>) -> Result<Daemon, Error> {
        match at {
            Some(at) => Daemon::named(at),
            None => Daemon::only(),
        }
    }

    /// All that this user can find, by name.
    pub fn all() -> Vec<Daemon> {
        let mut sockets: Vec<PathBuf> = runs().iter().flat_map(sockets_in).collect();
        for mount in mounts::all() {
            let data = mounts::status(&mount).map(|status| status.data);
            sockets.extend(data.ok().and_then(|data| fs::canonicalize(data.join(LINK)).ok()));
        }
        sockets.sort();
        sockets.dedup();
        sockets.retain(|socket| place::is_alive(socket));
        sockets.into_iter().map(|socket| Daemon { socket }).collect()
    }

    fn named(at: &Path) -> Result<Daemon, Error> {
        let in_data = at.join(LINK);
        let socket = if is_socket(at) {
            at.to_path_buf()
        } else if fs::symlink_metadata(&in_data).is_ok() {
            in_data
        } else if at.is_dir() && fs::metadata(at.join("identity")).is_ok() {
            return Err(Error::Other(format!(
                "no daemon runs on {}; start it, or look at it with `keepfs inspect {}`",
                at.display(),
                at.display()
            )));
        } else if let Some(named) = named_in(&runs(), at) {
            named
        } else {
            mounts::status(&mounts::absolute(at)?)?.data.join(LINK)
        };
        Ok(Daemon { socket })
    }

    fn only() -> Result<Daemon, Error> {
        let mut all = Daemon::all();
        match (all.pop(), all.len()) {
            (Some(one), 0) => Ok(one),
            (None, _) => Err(Error::Other(
                "no keepfs daemon of yours runs on this host; --at names one by its data \
                 directory or mount"
                    .into(),
            )),
            (Some(one), _) => {
                let names = all.iter().chain([&one]).map(|one| one.socket.display().to_string());
                Err(Error::Other(format!(
                    "several daemons run on this host; name one with --at: {}",
                    names.collect::<Vec<_>>().join(", ")
                )))
            }
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask<T: DeserializeOwned>(&self, verb: &str, arguments: Value) -> Result<T, Error> {
        let said = self.converse(verb, arguments).map_err(|error| self.explain(error))?;
        let odd = |error| Error::Other(format!("{}: odd answer: {error}", self.socket.display()));
        let answer: Answer = serde_json::from_slice(&said).map_err(odd)?;
        match answer.outcome {
            Outcome::Ok(value) => serde_json::from_value(value).map_err(odd),
            Outcome::Error(text) => Err(Error::Other(text)),
        }
    }

    fn converse(&self, verb: &str, arguments: Value) -> io::Result<Vec<u8>> {
        let mut stream: UnixStream = place::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = Request { version: VERSION, verb: verb.to_owned(), arguments };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        // Who is refused is told so before it has said anything.
        let asked = stream.write_all(&line);
        let mut said = Vec::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut said)?;
        if said.is_empty() {
            asked?;
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(said)
    }

    fn explain(&self, error: io::Error) -> Error {
        let socket = self.socket.display();
        Error::Other(match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                format!("no daemon listens on {socket}: it has stopped")
            }
            ErrorKind::PermissionDenied => {
                format!("{socket} is not yours: only root and the daemon's user may command it")
            }
            ErrorKind::WouldBlock => format!("the daemon at {socket} does not answer"),
            _ => format!("cannot speak to the daemon at {socket}: {error}"),
        })
    }
}

/// Where daemons may be: what `run` is set to here, then the usual place.
fn runs() -> Vec<PathBuf> {
    let set = Config::of_process(None, Flags::default()).ok().and_then(|config| config.run);
    set.into_iter().chain(place::default_run()).collect()
}

/// The socket of the daemon of this name: one that answers before one that is left over.
fn named_in(runs: &[PathBuf], name: &Path) -> Option<PathBuf> {
    if name.components().count() != 1 {
        return None;
    }
    let named = runs.iter().map(|run| run.join(format!("{}.sock", name.display())));
    let sockets: Vec<PathBuf> = named.filter(|named| is_socket(named)).collect();
    let alive = sockets.iter().find(|socket| place::is_alive(socket));
    alive.or(sockets.first()).cloned()
}

fn sockets_in(run: &PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_where_daemons_are_and_what_is_left_over_comes_last() {
        let dir = tempfile::tempdir().unwrap();
        let runs = ["usual", "set"].map(|name| dir.path().join(name));
        let [usual, set] = runs.each_ref().map(|run| {
            place::make_run(run).unwrap();
            run.join("a.sock")
        });
        drop(place::bind(&usual).unwrap());
        assert_eq!(named_in(&runs, Path::new("a")), Some(usual));
        let _listener = place::bind(&set).unwrap();
        assert_eq!(named_in(&runs, Path::new("a")), Some(set));
        assert_eq!(named_in(&runs, Path::new("b")), None);
    }
}
