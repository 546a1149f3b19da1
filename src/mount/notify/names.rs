//! The second thread of the notifier: it forgets names, and may block in it.

use super::super::kernel::Kernel;
use crate::tree::{Ino, Name};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Who holds a directory's lock without an operation of ours to show for it (a lookup, a listing)
/// lets go of it at once, for requests of that kind are answered at once.
const PATIENCE: Duration = Duration::from_millis(50);

/// A batch's names.
pub type Names = BTreeSet<(Ino, Name)>;

/// Hands names to the thread, which ends when this is dropped.
pub struct NameForgetter {
    work: Sender<Names>,
    done: Receiver<()>,
    /// Batches it has not finished.
    behind: usize,
}

impl NameForgetter {
    pub fn start(kernel: Arc<Kernel>) -> io::Result<NameForgetter> {
        let (work, to_do) = unbounded::<Names>();
        let (tell, done) = unbounded();
        thread::Builder::new().name("mount-names".into()).spawn(move || {
            for names in to_do {
                for (directory, name) in names {
                    if let Err(error) = kernel.forget_name(directory, &name) {
                        log::debug!("forgetting a name in {directory}: {error}");
                    }
                }
                if tell.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(NameForgetter { work, done, behind: 0 })
    }

    /// Gives it one more batch.
    pub fn begin(&mut self, names: Names) {
        if self.work.send(names).is_ok() {
            self.behind += 1;
        }
    }

    /// Whether it is through with everything.
    pub fn is_idle(&mut self) -> bool {
        while self.done.try_recv().is_ok() {
            self.behind -= 1;
        }
        self.behind == 0
    }

    /// Waits until it is through, or until `give_up` fires, or for [`PATIENCE`]. True: it is
    /// through.
    pub fn wait(&mut self, give_up: &Receiver<()>) -> bool {
        while self.behind > 0 {
            crossbeam_channel::select! {
                recv(self.done) -> done => match done {
                    Ok(()) => self.behind -= 1,
                    Err(_) => return true,
                },
                recv(give_up) -> _ => return false,
                default(PATIENCE) => return false,
            }
        }
        true
    }
}
