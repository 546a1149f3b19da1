//! A queue to one thread that takes all that waits at once: what arrives while the thread works
//! becomes one batch, and a batch costs one wake-up.

use parking_lot::{Condvar, Mutex};
use std::time::Instant;

/// Many senders, one receiver.
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    emptied: Condvar,
}

struct State<T> {
    items: Vec<T>,
    closed: bool,
    /// The receiver sleeps: the next sender wakes it.
    asleep: bool,
    /// Senders wait for room.
    crowded: usize,
}

/// Why [`Mailbox::take`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Items,
    TimedOut,
    /// Closed, and everything sent before has been taken.
    Closed,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox {
            state: Mutex::new(State {
                items: Vec::new(),
                closed: false,
                asleep: false,
                crowded: 0,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Gives the item back once the mailbox is closed.
    pub fn send(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push(item);
        self.wake(&mut state);
        Ok(())
    }

    /// Sends a batch, but waits first while `limit` items or more have not been taken.
    pub fn send_all_within(&self, limit: usize, items: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        while state.items.len() >= limit && !state.closed {
            state.crowded += 1;
            self.emptied.wait(&mut state);
            state.crowded -= 1;
        }
        if !state.closed {
            state.items.extend(items);
            self.wake(&mut state);
        }
    }

    fn wake(&self, state: &mut State<T>) {
        if std::mem::take(&mut state.asleep) {
            self.filled.notify_one();
        }
    }

    /// Swaps everything that waits into `into`, which must be empty; waits for the first item until
    /// `deadline`, or for ever.
    pub fn take(&self, into: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        debug_assert!(into.is_empty());
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            state.asleep = true;
            match deadline {
                None => self.filled.wait(&mut state),
                Some(deadline) => {
                    let late = self.filled.wait_until(&mut state, deadline).timed_out();
                    if late && state.items.is_empty() && !state.closed {
                        state.asleep = false;
                        return Taken::TimedOut;
                    }
                }
            }
        }
        std::mem::swap(&mut state.items, into);
        if state.crowded > 0 {
            self.emptied.notify_all();
        }
        Taken::Items
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses what is sent from now on; the receiver takes the rest and then learns of it.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn what_waits_is_one_batch_and_closing_loses_nothing() {
        let mailbox = Mailbox::default();
        (1..=3).for_each(|n| mailbox.send(n).unwrap());
        mailbox.close();
        assert_eq!(mailbox.send(4), Err(4));
        let mut batch = Vec::new();
        assert_eq!(mailbox.take(&mut batch, None), Taken::Items);
        assert_eq!(std::mem::take(&mut batch), [1, 2, 3]);
        assert_eq!(mailbox.take(&mut batch, None), Taken::Closed);
    }

    #[test]
    fn a_crowded_mailbox_holds_its_senders_until_it_is_emptied() {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.send(1).unwrap();
        let sender = std::thread::spawn({
            let mailbox = mailbox.clone();
            move || mailbox.send_all_within(1, [2, 3])
        });
        std::thread::sleep(Duration::from_millis(20));
        let mut batch = Vec::new();
        mailbox.take(&mut batch, None);
        assert_eq!(std::mem::take(&mut batch), [1]);
        sender.join().unwrap();
        mailbox.take(&mut batch, Some(Instant::now() + Duration::from_secs(5)));
        assert_eq!(batch, [2, 3]);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let mailbox = Mailbox::<u8>::default();
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(mailbox.take(&mut Vec::new(), deadline), Taken::TimedOut);
    }
}
