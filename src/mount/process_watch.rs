//! Tells when processes end: one thread, one epoll, a pidfd for each.

use super::processes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Runs on the watch's thread when the process has ended; must not block.
pub type OnEnd = Box<dyn FnOnce() + Send>;

/// The key of the descriptor that ends the thread.
const STOP: u64 = u64::MAX;

/// Watches processes, each under a key of the caller's (below `u64::MAX`).
pub struct ProcessWatch {
    shared: Arc<Shared>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    /// Closing a pidfd takes it out of the epoll.
    watched: Mutex<HashMap<u64, (OwnedFd, OnEnd)>>,
}

impl ProcessWatch {
    /// Starts the thread. Fails if descriptors or threads are used up.
    pub fn start() -> io::Result<ProcessWatch> {
        // SAFETY: both calls take integers and return a new descriptor or -1.
        let (epoll, stop) = unsafe {
            (
                owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?,
                owned(libc::eventfd(0, libc::EFD_CLOEXEC))?,
            )
        };
        let shared = Arc::new(Shared { epoll, watched: Mutex::default() });
        shared.add(STOP, &stop)?;
        let thread = std::thread::Builder::new().name("keepfs-processes".into()).spawn({
            let shared = shared.clone();
            move || shared.run()
        })?;
        Ok(ProcessWatch { shared, stop, thread: Some(thread) })
    }

    /// Calls `on_end` once `process` has ended, instead of what was watched under this key before.
    /// Fails (`ESRCH`) if it has ended already.
    pub fn watch(&self, key: u64, process: u32, on_end: OnEnd) -> io::Result<()> {
        let pidfd = processes::pidfd(process)?;
        let mut watched = self.shared.watched.lock();
        watched.remove(&key);
        self.shared.add(key, &pidfd)?;
        watched.insert(key, (pidfd, on_end));
        Ok(())
    }

    /// Forgets what is watched under this key, if anything is.
    pub fn forget(&self, key: u64) {
        self.shared.watched.lock().remove(&key);
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes of a live array to a live descriptor.
        unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn add(&self, key: u64, fd: &OwnedFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: both descriptors are live, and the event outlives the call.
        let result = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn run(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        loop {
            let room = events.len() as i32;
            // SAFETY: the array has room for that many events.
            let count =
                unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), room, -1) };
            for event in events.iter().take(count.max(0) as usize) {
                let key = event.u64;
                if key == STOP {
                    return;
                }
                if let Some(on_end) = self.take_ended(key) {
                    on_end();
                }
            }
        }
    }

    /// The key may have been given to another process since the event was reported.
    fn take_ended(&self, key: u64) -> Option<OnEnd> {
        let mut watched = self.watched.lock();
        let (pidfd, _) = watched.get(&key)?;
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd, and no waiting.
        let ended = unsafe { libc::poll(&mut poll, 1, 0) } == 1;
        if ended { watched.remove(&key).map(|(_, on_end)| on_end) } else { None }
    }
}

/// # Safety
/// `fd` is a descriptor nobody owns, or negative.
unsafe fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;
    use std::process::{Child, Command};
    use std::time::Duration;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().expect("sleep starts")
    }

    fn end(mut child: Child) {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    #[test]
    fn the_end_of_a_process_is_told_once_and_only_of_those_watched() {
        let watch = ProcessWatch::start().unwrap();
        let (tell, told) = unbounded();
        let [kept, forgotten, replaced] = [sleeper(), sleeper(), sleeper()];
        for (key, child) in [(1, &replaced), (2, &forgotten), (1, &kept)] {
            let (tell, pid) = (tell.clone(), child.id());
            watch.watch(key, pid, Box::new(move || tell.send(pid).unwrap())).unwrap();
        }
        watch.forget(2);
        let pid = kept.id();
        [forgotten, replaced, kept].into_iter().for_each(end);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(pid));
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        assert!(watch.watch(3, pid, Box::new(|| ())).is_err());
    }
}
