//! Threads for what a request must look at before it can be answered, and which may take long or
//! wait: other requests are served meanwhile.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Most threads at once. Jobs beyond wait for one.
pub const THREADS_MAX: usize = 64;
/// How long a thread without a job stays.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Cheap to clone; all clones are one. As many threads as jobs that take long, and one more.
#[derive(Clone, Default)]
pub struct Aside(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    /// Bounded by the requests the kernel has under way: each brings one.
    jobs: VecDeque<Job>,
    threads: usize,
    /// Of these, how many wait for a job.
    idle: usize,
}

impl Aside {
    /// Runs `job` soon, on another thread; on this one only if no thread can be started at all.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.jobs.len() <= state.idle || state.threads == THREADS_MAX {
            drop(state);
            self.0.more.notify_one();
            return;
        }
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("keepfs-aside".into());
        match thread.spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                log::error!("cannot start a thread beside the mount's: {error}");
                let job = state.jobs.pop_back();
                drop(state);
                job.into_iter().for_each(|job| job());
            }
            // Those there are will come to it.
            Err(_) => drop(state),
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            let late = self.more.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if late && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn a_job_that_waits_holds_up_no_other() {
        let aside = Aside::default();
        let (go, waits) = bounded::<()>(0);
        let (tell, told) = bounded(100);
        for _ in 0..THREADS_MAX - 1 {
            let (waits, tell) = (waits.clone(), tell.clone());
            aside.run(move || {
                let _ = waits.recv();
                tell.send("late").unwrap();
            });
        }
        let soon = Duration::from_secs(10);
        for _ in 0..3 {
            let tell = tell.clone();
            aside.run(move || tell.send("soon").unwrap());
            assert_eq!(told.recv_timeout(soon), Ok("soon"));
        }
        drop(go);
        for _ in 0..THREADS_MAX - 1 {
            assert_eq!(told.recv_timeout(soon), Ok("late"));
        }
    }
}
