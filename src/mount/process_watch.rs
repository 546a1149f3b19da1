//! Tells when processes end: one thread, one epoll, a pidfd for each.

use super::processes;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Runs on the watch's thread when the process has ended; must not block.
pub type OnEnd = Box<dyn FnOnce() + Send>;

/// Taken at once.
const EVENTS: usize = 16;
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
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
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn add(&self, key: u64, fd: &OwnedFd) -> io::Result<()> {
        let data = EventData::new_u64(key);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            // Interrupted, it has none.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), None);
            for event in &events {
                let key = event.data.u64();
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
        let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
        let ended = poll(&mut polled, Some(&Timespec::default())) == Ok(1);
        if ended { watched.remove(&key).map(|(_, on_end)| on_end) } else { None }
    }
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
