//! Lets go of waiters that have a signal to take.
//!
//! The FUSE library answers the kernel's INTERRUPT requests itself, with ENOSYS, so the kernel
//! stops sending them and a blocked thread sees neither Ctrl-C nor kill -9 before it is answered.
//! While replies are owed, a thread therefore looks at the signals of each waiting thread.

use super::processes::{Interruption, interruption, is_alive, is_being_killed};
use super::waiters::{End, Wait, WaiterId, Waiters, Watched};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a signal may wait for its thread: well below what a person notices.
const PAUSE: Duration = Duration::from_millis(25);
/// Looking may take one part in so many of the thread's time, however many wait.
const REST: u32 = 10;

/// Starts the thread; it ends when `waiters` is closed.
pub fn start(waiters: Arc<Waiters>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("keepfs-interrupts".into()).spawn(move || {
        let mut pause = PAUSE;
        let mut suspects = BTreeSet::new();
        while let Some(watched) = waiters.next_look(pause) {
            let began = Instant::now();
            suspects = look(&waiters, &watched, &suspects);
            pause = PAUSE.max(began.elapsed() * REST);
        }
    })
}

/// Ends what is to end, and returns those that perhaps have a signal: seen so twice, they have.
fn look(
    waiters: &Waiters,
    watched: &[Watched],
    suspects: &BTreeSet<WaiterId>,
) -> BTreeSet<WaiterId> {
    let now = Instant::now();
    let mut perhaps = BTreeSet::new();
    for waiter in watched {
        let certain = match state(waiter) {
            Interruption::None => false,
            Interruption::Certain => true,
            Interruption::Perhaps => {
                perhaps.insert(waiter.id);
                suspects.contains(&waiter.id)
            }
        };
        if certain {
            waiters.end_one(waiter.id, End::Interrupted);
        } else if waiter.deadline.is_some_and(|deadline| deadline <= now) {
            waiters.end_one(waiter.id, End::TimedOut);
        }
    }
    perhaps
}

fn state(waiter: &Watched) -> Interruption {
    match waiter.id.0 {
        _ if waiter.thread == 0 => Interruption::None,
        // EINTR for any other signal (a shell gets SIGCHLD all the time) would hide how it ended.
        Wait::Close(_) if is_being_killed(waiter.thread) => Interruption::Certain,
        Wait::Close(_) => Interruption::None,
        // Between two requests of one system call, a signal is the second one's business.
        Wait::Arrival(_) if is_alive(waiter.thread) => Interruption::None,
        _ => interruption(waiter.thread),
    }
}

/// After how long an unanswered request would abort the whole mount, by `fs.fuse.*_request_timeout`
/// (Linux 6.14 and later); `None`: never.
pub fn request_timeout() -> Option<Duration> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/fuse/{name}_request_timeout"));
        text.ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|&secs| secs != 0)
    };
    let (default, max) = (read("default"), read("max"));
    [default, max].into_iter().flatten().min().map(Duration::from_secs)
}

/// How long a reply may be owed: well before the kernel would abort the mount.
pub fn patience() -> Option<Duration> {
    request_timeout().map(|timeout| timeout * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::waiters::Waiter;
    use crate::tree::Ino;
    use crossbeam_channel::{Receiver, unbounded};

    fn enter(waiters: &Waiters, wait: Wait, thread: u32, wait_ms: Option<u64>) -> Receiver<End> {
        let (tell, told) = unbounded();
        let deadline = wait_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let on_end = Box::new(move |end| tell.send(end).unwrap());
        waiters.enter(wait, Waiter { session: None, thread, deadline, on_end });
        told
    }

    #[test]
    fn a_thread_that_is_gone_or_late_no_longer_waits() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let waiters = Arc::new(Waiters::default());
        let thread = start(waiters.clone()).unwrap();
        let gone = enter(&waiters, Wait::Range(Ino(9), 1), child.id(), None);
        let late = enter(&waiters, Wait::Range(Ino(9), 2), std::process::id(), Some(60));
        let stays = enter(&waiters, Wait::Range(Ino(9), 3), std::process::id(), None);
        let outside = enter(&waiters, Wait::Range(Ino(9), 4), 0, None);
        let long = Duration::from_secs(10);
        assert_eq!(gone.recv_timeout(long), Ok(End::Interrupted));
        assert_eq!(late.recv_timeout(long), Ok(End::TimedOut));
        assert!(stays.try_recv().is_err() && outside.try_recv().is_err());
        waiters.close();
        thread.join().unwrap();
    }
}
