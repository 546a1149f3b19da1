//! Commands that give something back, and so must get through: the caller is not told that they
//! failed, they are proposed again until they are answered or the session ends.
//!
//! They are kept by what they give back (a lock owner's ranges, a ticket). Whoever wants to take
//! the same thing again waits for them, and each is proposed in the session in which the thing was
//! had, so that a late release never frees a newer lock.

use crate::cluster::{Answer, Done, Failure};
use crate::tree::{Command, Ino, LockOwner, Refusal, SessionId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts, while there is no quorum.
const PAUSE: Duration = Duration::from_secs(1);

/// The thing given back: an owner's ranges of a file; or a ticket, with owner 0.
pub type Key = (Ino, LockOwner);

/// Proposes a command: [`Cluster::submit`](crate::cluster::Cluster::submit).
pub type Submit = Box<dyn Fn(SessionId, Command, Done) + Send + Sync>;

/// Runs when the thing is given back, or with why it is not yet.
pub type Then = Box<dyn FnOnce(Result<(), Failure>) + Send>;
/// Runs once a release has got through; never, if the session ends before.
pub type Through = Box<dyn FnOnce() + Send>;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Releases(Arc<Shared>);

struct Shared {
    submit: Submit,
    owed: Mutex<Owed>,
}

#[derive(Default)]
struct Owed {
    keys: BTreeMap<Key, Release>,
    /// A thread proposes again, every second, what is here.
    retrying: bool,
    last_number: u64,
}

struct Owing {
    /// Tells answers apart.
    number: u64,
    session: SessionId,
    command: Command,
    through: Option<Through>,
}

#[derive(Default)]
struct Release {
    /// In order; the first is under way if `busy`.
    commands: VecDeque<Owing>,
    busy: bool,
    /// Told at the next answer.
    then: Vec<Then>,
}

impl Releases {
    pub fn new(submit: Submit) -> Releases {
        Releases(Arc::new(Shared { submit, owed: Mutex::default() }))
    }

    /// Proposes `command` in `session` until it is answered. `first_attempt` runs after the first
    /// answer or failure, of which it need not know.
    pub fn release(
        &self,
        session: SessionId,
        key: Key,
        command: Command,
        first_attempt: Box<dyn FnOnce() + Send>,
    ) {
        self.add(session, key, command, None, Some(Box::new(move |_| first_attempt())));
    }

    /// [`Releases::release`] for those who are told if the tree refuses it for want of room.
    pub fn give_back(&self, session: SessionId, key: Key, command: Command, then: Then) {
        self.add(session, key, command, None, Some(then));
    }

    /// [`Releases::release`] for those who have something to do afterwards, however late.
    pub fn release_then(&self, session: SessionId, key: Key, command: Command, through: Through) {
        self.add(session, key, command, Some(through), None);
    }

    fn add(
        &self,
        session: SessionId,
        key: Key,
        command: Command,
        through: Option<Through>,
        then: Option<Then>,
    ) {
        let mut owed = self.0.owed.lock();
        owed.last_number += 1;
        let number = owed.last_number;
        let release = owed.keys.entry(key).or_default();
        release.commands.push_back(Owing { number, session, command, through });
        release.then.extend(then);
        drop(owed);
        self.go_on(key);
    }

    /// Runs `then` once nothing is being given back under this key: at once, as a rule. With the
    /// failure, if what is to be given back still cannot be.
    pub fn after(&self, key: Key, then: Then) {
        let mut owed = self.0.owed.lock();
        match owed.keys.get_mut(&key) {
            None => {
                drop(owed);
                then(Ok(()));
            }
            Some(release) => {
                release.then.push(then);
                drop(owed);
                self.go_on(key);
            }
        }
    }

    /// This session and those before it ended, and everything they held: nothing of it is left to
    /// give back.
    pub fn session_lost(&self, lost: SessionId) {
        let mut told = Vec::new();
        let mut next = Vec::new();
        let mut owed = self.0.owed.lock();
        owed.keys.retain(|&key, release| {
            let first = release.commands.front().map(|owing| owing.number);
            release.commands.retain(|owing| owing.session > lost);
            if release.commands.is_empty() {
                told.append(&mut release.then);
            } else if release.commands.front().map(|owing| owing.number) != first {
                release.busy = false;
                next.push(key);
            }
            !release.commands.is_empty()
        });
        drop(owed);
        told.into_iter().for_each(|then| then(Err(Failure::SessionLost)));
        next.into_iter().for_each(|key| self.go_on(key));
    }

    /// Proposes the first command of this key, unless it is under way.
    fn go_on(&self, key: Key) {
        let first = {
            let mut owed = self.0.owed.lock();
            let Some(release) = owed.keys.get_mut(&key) else { return };
            if std::mem::replace(&mut release.busy, true) {
                return;
            }
            let owing = release.commands.front();
            owing.map(|owing| (owing.number, owing.session, owing.command.clone()))
        };
        let Some((number, session, command)) = first else { return };
        let releases = self.clone();
        let done = Box::new(move |answer| releases.answered(key, number, answer));
        (self.0.submit)(session, command, done);
    }

    fn answered(&self, key: Key, number: u64, answer: Answer) {
        let mut owed = self.0.owed.lock();
        let Some(release) = owed.keys.get_mut(&key) else { return };
        if release.commands.front().is_none_or(|owing| owing.number != number) {
            return;
        }
        release.busy = false;
        let full = Failure::Refused(Refusal::NoLocks);
        let refused = (answer == Err(full)).then_some(full);
        let lost =
            matches!(answer, Err(Failure::SessionLost | Failure::Refused(Refusal::SessionExpired)));
        let result = match answer {
            Err(failure @ (Failure::NoQuorum | Failure::Unknown)) => Err(failure),
            _ => Ok(()),
        };
        let through = match result {
            Ok(()) => release.commands.pop_front().and_then(|owing| owing.through),
            Err(_) => None,
        };
        let more = result.is_ok() && !release.commands.is_empty();
        let then = if more { Vec::new() } else { std::mem::take(&mut release.then) };
        match result {
            Ok(()) if !more => drop(owed.keys.remove(&key)),
            Ok(()) => (),
            Err(_) => self.retry(&mut owed),
        }
        drop(owed);
        if let Some(through) = through.filter(|_| !lost) {
            through();
        }
        let told = refused.map_or(result, Err);
        then.into_iter().for_each(|then| then(told));
        if more {
            self.go_on(key);
        }
    }

    /// Failures are rare: a thread while they last is simpler than one for ever.
    fn retry(&self, owed: &mut Owed) {
        if owed.retrying {
            return;
        }
        let releases = self.clone();
        let thread = std::thread::Builder::new().name("keepfs-releases".into());
        match thread.spawn(move || while releases.try_all_again() {}) {
            Ok(_) => owed.retrying = true,
            Err(error) => log::warn!("cannot retry releases of locks: {error}"),
        }
    }

    /// False once nothing is left.
    fn try_all_again(&self) -> bool {
        std::thread::sleep(PAUSE);
        let keys: Vec<Key> = {
            let mut owed = self.0.owed.lock();
            owed.retrying = !owed.keys.is_empty();
            owed.keys.keys().copied().collect()
        };
        keys.iter().for_each(|&key| self.go_on(key));
        !keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Reply;
    use crossbeam_channel::{Receiver, unbounded};

    const KEY: Key = (Ino(9), 5);

    fn unlock(start: u64) -> Command {
        Command::Unlock { ino: KEY.0, owner: KEY.1, start, end: start }
    }

    const SESSION: SessionId = SessionId(3);

    fn releases() -> (Releases, Receiver<(SessionId, Command, Done)>) {
        let (tell, told) = unbounded();
        let submit = move |session, command, done| drop(tell.send((session, command, done)));
        (Releases::new(Box::new(submit)), told)
    }

    #[test]
    fn a_release_that_fails_is_proposed_again_and_a_new_lock_waits_for_it() {
        let (releases, proposed) = releases();
        let (tell, told) = unbounded();
        releases.after(KEY, Box::new(|result| assert_eq!(result, Ok(()))));
        let tell_first = tell.clone();
        let first = Box::new(move || tell_first.send("closed").unwrap());
        releases.release(SESSION, KEY, unlock(0), first);
        let tell_through = tell.clone();
        releases.release_then(
            SESSION,
            KEY,
            unlock(1),
            Box::new(move || tell_through.send("through").unwrap()),
        );
        let (session, command, done) = proposed.try_recv().unwrap();
        assert_eq!((session, command), (SESSION, unlock(0)));
        assert!(proposed.try_recv().is_err(), "one at a time");
        done(Err(Failure::NoQuorum));
        assert_eq!(told.try_recv(), Ok("closed"));
        let after = Box::new(move |result: Result<(), Failure>| {
            tell.send(if result.is_ok() { "lock" } else { "fail" }).unwrap();
        });
        releases.after(KEY, after);
        for start in [0, 1] {
            let (_, command, done) = proposed.try_recv().unwrap();
            assert_eq!(command, unlock(start));
            assert!(told.try_recv().is_err());
            done(Ok(Reply::Done));
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["through", "lock"]);
        assert!(proposed.recv_timeout(PAUSE * 2).is_err(), "nothing is left to retry");
    }

    #[test]
    fn a_release_that_is_refused_is_told_and_over() {
        let (releases, proposed) = releases();
        let (tell, told) = unbounded();
        releases.give_back(
            SESSION,
            KEY,
            unlock(0),
            Box::new(move |result| tell.send(result).unwrap()),
        );
        let full = Failure::Refused(Refusal::NoLocks);
        let (_, _, done) = proposed.try_recv().unwrap();
        done(Err(full));
        assert_eq!(told.try_recv(), Ok(Err(full)));
        assert!(proposed.recv_timeout(PAUSE * 2).is_err(), "it is not tried again");
    }

    #[test]
    fn without_help_it_is_tried_every_second_until_the_session_ends() {
        let (releases, proposed) = releases();
        releases.release(SESSION, KEY, unlock(0), Box::new(|| ()));
        for _ in 0..2 {
            let (_, _, done) = proposed.recv_timeout(PAUSE * 5).unwrap();
            done(Err(Failure::Unknown));
        }
        releases.session_lost(SESSION);
        assert!(proposed.recv_timeout(PAUSE * 2).is_err());
    }

    #[test]
    fn the_end_of_a_session_leaves_what_the_next_one_gives_back() {
        let (releases, proposed) = releases();
        let next = SessionId(9);
        releases.release(SESSION, KEY, unlock(0), Box::new(|| ()));
        releases.release(next, KEY, unlock(1), Box::new(|| ()));
        let (_, _, late) = proposed.try_recv().unwrap();
        releases.session_lost(SESSION);
        let (session, command, done) = proposed.try_recv().unwrap();
        assert_eq!((session, command), (next, unlock(1)));
        late(Err(Failure::SessionLost));
        let (tell, told) = unbounded();
        releases.after(KEY, Box::new(move |result| tell.send(result).unwrap()));
        assert!(told.try_recv().is_err(), "the late answer was the other one's");
        done(Ok(Reply::Done));
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }
}
