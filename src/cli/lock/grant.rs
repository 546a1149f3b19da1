//! A lock with the session it was granted in, and the watch over that session.
//!
//! flock(2) does not say in which session it was granted, and `.keepfs/status` only which one is
//! believed now. But sessions never come back: one that is believed before and after the call is
//! the one of the grant. If another is believed afterwards, the lock is asked for once more,
//! without waiting: that is granted if it is ours or free, and refused if somebody else has it.

use super::{LOOK_EVERY, mounts};
use crate::error::Error;
use crossbeam_channel::{Receiver, unbounded};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock that was held at `seen`.
pub struct Grant {
    pub token: Option<String>,
    session: String,
    seen: Instant,
    /// How long after the session was believed it lives on at least.
    grace: Duration,
}

impl Grant {
    /// Locks the file, which is at `path` in `mount`. `None`: it was granted, and lost at once.
    pub fn take(
        mount: &Path,
        path: &Path,
        file: &File,
        no_wait: bool,
    ) -> Result<Option<Grant>, Error> {
        let (mut before, _) = believed(mount)?;
        let locked = flock(file, no_wait);
        locked.map_err(|error| explain(error, path, mount))?;
        loop {
            let token = mounts::xattr(path, c"user.keepfs.token").ok();
            let seen = Instant::now();
            let (after, grace) = believed(mount)?;
            match after {
                Some(session) if before.as_ref() == Some(&session) => {
                    return Ok(Some(Grant { token, session, seen, grace }));
                }
                _ => before = after,
            }
            if flock(file, true).is_err() {
                return Ok(None);
            }
        }
    }

    /// Looks at the session from now on, on a thread of its own: a mount may take long to answer.
    /// Fails if threads are used up.
    pub fn watch(self, mount: PathBuf) -> io::Result<Watch> {
        let (tell, told) = unbounded();
        let Grant { session, seen, grace, .. } = self;
        let look = move || {
            loop {
                let asked = Instant::now();
                let still = believed(&mount).is_ok_and(|(now, _)| now.as_ref() == Some(&session));
                if tell.send(still.then_some(asked)).is_err() || !still {
                    return;
                }
                std::thread::sleep(LOOK_EVERY.min(grace / 4));
            }
        };
        std::thread::Builder::new().name("session".into()).spawn(look)?;
        Ok(Watch { told, seen, grace })
    }
}

/// Hears whether the session of a grant is still believed.
pub struct Watch {
    /// When it was believed; `None`: it is not any more.
    told: Receiver<Option<Instant>>,
    seen: Instant,
    grace: Duration,
}

impl Watch {
    /// Whether the lock is lost, or may be: a daemon that does not answer says nothing.
    pub fn is_lost(&mut self) -> bool {
        for told in self.told.try_iter() {
            match told {
                Some(seen) => self.seen = seen,
                None => return true,
            }
        }
        self.seen.elapsed() >= self.grace
    }
}

/// The session this host believes in, and how long it lives on at least, whatever comes: a session
/// is believed for two thirds of its timeout, and the cluster waits for all of it.
fn believed(mount: &Path) -> Result<(Option<String>, Duration), Error> {
    let status = mounts::status(mount)?;
    Ok((status.session, Duration::from_millis(status.session_timeout_ms) / 3))
}

fn flock(file: &File, no_wait: bool) -> io::Result<()> {
    let how = match no_wait {
        true => FlockOperation::NonBlockingLockExclusive,
        false => FlockOperation::LockExclusive,
    };
    Ok(rustix::fs::flock(file, how)?)
}

fn explain(error: io::Error, path: &Path, mount: &Path) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock => Error::Other(format!(
            "{} is locked; {}/.keepfs/locks says by whom",
            path.display(),
            mount.display()
        )),
        _ => Error::file("lock", path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_heard_of_in_time_counts_as_lost() {
        let grace = Duration::from_millis(200);
        let (tell, told) = unbounded();
        let mut watch = Watch { told, seen: Instant::now(), grace };
        assert!(!watch.is_lost());
        std::thread::sleep(grace);
        tell.send(Some(Instant::now())).unwrap();
        assert!(!watch.is_lost());
        std::thread::sleep(grace);
        assert!(watch.is_lost());
        tell.send(Some(Instant::now())).unwrap();
        assert!(!watch.is_lost());
        tell.send(None).unwrap();
        assert!(watch.is_lost());
    }
}
