//! The mount as the driver sees it: it hears everything in order, unless it hangs.

use super::{Driver, Event, clock};
use crate::limits::CHANGES_UNHEARD_MAX;
use crate::replica::{Batch, Input, Moment};
use crate::tree::Zxid;
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::sync::Arc;

/// Its queue is bounded: a mount that hangs is told nothing of single changes beyond the bound, but
/// to forget all it knows, once it has heard everything before.
pub(super) struct Subscriber {
    events: Sender<Event>,
    /// What each event weighs that it has not taken yet, in changes, and all of them together.
    unheard: VecDeque<usize>,
    weight: usize,
    /// Batches were left out.
    missed: bool,
}

/// The receiver is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Subscriber {
    pub(super) fn new(events: Sender<Event>) -> Subscriber {
        Subscriber { events, unheard: VecDeque::new(), weight: 0, missed: false }
    }

    /// # Errors
    /// [`Gone`].
    pub(super) fn tell(&mut self, event: Event) -> Result<(), Gone> {
        self.look();
        let weight = match &event {
            Event::Batch(batch) => weight(batch),
            // As few as sessions are.
            _ => return self.send(event, 1),
        };
        // What comes alone is taken, however much it is.
        if self.missed || self.weight > 0 && self.weight + weight > CHANGES_UNHEARD_MAX {
            if !std::mem::replace(&mut self.missed, true) {
                log::warn!("the mount does not hear of changes: it shall forget everything");
            }
            return Ok(());
        }
        self.send(event, weight)
    }

    /// The tree stands at `last`. Tells a subscriber that has missed something, and has heard the
    /// rest, that everything changed.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) fn catch_up(&mut self, last: Zxid) -> Result<(), Gone> {
        self.look();
        if !self.missed || !self.unheard.is_empty() {
            return Ok(());
        }
        self.missed = false;
        let everything = Batch { last, applied: Vec::new(), reset: true };
        self.send(Event::Batch(Arc::new(everything)), 1)
    }

    /// Notices what was taken meanwhile.
    fn look(&mut self) {
        while self.unheard.len() > self.events.len() {
            self.weight -= self.unheard.pop_front().expect("more events than are queued");
        }
    }

    fn send(&mut self, event: Event, weight: usize) -> Result<(), Gone> {
        self.unheard.push_back(weight);
        self.weight += weight;
        self.events.send(event).map_err(|_| Gone)
    }
}

/// In changes; an entry weighs something without any.
fn weight(batch: &Batch) -> usize {
    1 + batch.applied.iter().map(|applied| 1 + applied.changes.len()).sum::<usize>()
}

impl Driver {
    pub(super) fn subscribe(&mut self, now: Moment, events: Sender<Event>, ready: Sender<()>) {
        self.subscriber = Some(Subscriber::new(events));
        if let Some(session) = self.replica.status().session {
            self.notify(|| Event::SessionOpened(session));
        }
        self.replica.step(now, Input::Mounted { mounted: true });
        let _ = ready.send(());
    }

    pub(super) fn notify(&mut self, event: impl FnOnce() -> Event) {
        let Some(subscriber) = &mut self.subscriber else { return };
        if subscriber.tell(event()).is_err() {
            self.unsubscribe();
        }
    }

    fn unsubscribe(&mut self) {
        self.subscriber = None;
        self.replica.step(clock::now(), Input::Mounted { mounted: false });
    }

    /// For a mount that listens again when nothing changes any more.
    pub(super) fn let_catch_up(&mut self) {
        let last = self.replica.applied().index;
        if self.subscriber.as_mut().is_some_and(|mount| mount.catch_up(last).is_err()) {
            self.unsubscribe();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Applied;
    use crate::tree::{Change, SessionId};
    use crossbeam_channel::{Receiver, unbounded};

    fn batch(last: Zxid, changes: usize) -> Event {
        let changes = vec![Change::Members; changes];
        let applied = vec![Applied { zxid: last, stamp: 0, origin: SessionId::NONE, changes }];
        Event::Batch(Arc::new(Batch { last, applied, reset: false }))
    }

    fn heard(events: &Receiver<Event>) -> Vec<(Zxid, bool)> {
        let batch = |event| match event {
            Event::Batch(batch) => Some((batch.last, batch.reset)),
            _ => None,
        };
        events.try_iter().filter_map(batch).collect()
    }

    #[test]
    fn one_that_hangs_is_told_to_forget_everything_once_it_hears_again() {
        let (tell, events) = unbounded();
        let mut subscriber = Subscriber::new(tell);
        let half = CHANGES_UNHEARD_MAX / 2;
        for last in 1..100 {
            subscriber.tell(batch(last, half)).unwrap();
            subscriber.catch_up(last).unwrap();
        }
        assert_eq!(events.len(), 1, "two of them are over the bound");
        subscriber.tell(Event::SessionLost(SessionId(7))).unwrap();
        assert_eq!(heard(&events), [(1, false)]);
        subscriber.tell(batch(100, 1)).unwrap();
        assert!(events.is_empty(), "nothing after a gap");
        subscriber.catch_up(100).unwrap();
        subscriber.tell(batch(101, 1)).unwrap();
        assert_eq!(heard(&events), [(100, true), (101, false)]);
    }

    #[test]
    fn one_that_listens_hears_everything() {
        let (tell, events) = unbounded();
        let mut subscriber = Subscriber::new(tell);
        for last in 1..10 {
            subscriber.tell(batch(last, 2 * CHANGES_UNHEARD_MAX)).unwrap();
            subscriber.catch_up(last).unwrap();
            assert_eq!(heard(&events), [(last, false)]);
        }
        drop(events);
        assert!(subscriber.tell(batch(10, 1)).is_err());
    }
}
