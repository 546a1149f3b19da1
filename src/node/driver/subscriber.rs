//! The mounts as the driver sees them: each reads the feed at its own pace.

use super::{Driver, Seat, clock};
use crate::cluster::Audience;
use crate::cluster::Event;
use crate::cluster::feed::{Reader, ReaderId};
use crate::replica::{ClientId, Input, Moment};
use crate::tree::Batch;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A mount that reads the feed.
pub(super) struct Listener {
    reader: ReaderId,
    audience: Option<Arc<dyn Audience>>,
}

impl Driver {
    pub(super) fn subscribe(
        &mut self,
        now: Moment,
        seat: Arc<Seat>,
        audience: Option<Arc<dyn Audience>>,
        reader: &Sender<Reader>,
    ) {
        let (client, feed) = (seat.id, &self.shared.feed);
        let new = feed.read();
        if let Some(session) = self.replica.session(client) {
            feed.tell(new.id(), Event::SessionOpened(session));
        }
        seat.visible.store(self.replica.applied().index, Ordering::Release);
        self.published = self.replica.applied().index;
        self.listeners.insert(client, Listener { reader: new.id(), audience });
        self.replica.step(now, Input::Watches { client, watches: true });
        let _ = reader.send(new);
    }

    /// Tells a client's mount what became of its session.
    pub(super) fn notify(&self, client: ClientId, event: Event) {
        if let Some(listener) = self.listeners.get(&client) {
            self.shared.feed.tell(listener.reader, event);
        }
    }

    /// Nobody waits for mounts that read no more.
    pub(super) fn review_readers(&mut self) {
        let feed = &self.shared.feed;
        let gone = self.listeners.iter().filter(|(_, listener)| !feed.has(listener.reader));
        for client in gone.map(|(client, _)| *client).collect::<Vec<_>>() {
            self.listeners.remove(&client);
            self.replica.step(clock::now(), Input::Watches { client, watches: false });
        }
    }

    /// How far mounts show the tree, if any of them has said so.
    pub(super) fn pass_on_visible(&mut self, now: Moment) {
        if !self.shared.visible_told.swap(false, Ordering::AcqRel) {
            return;
        }
        for client in self.listeners.keys() {
            if let Some(seat) = self.seats.get(client) {
                let zxid = seat.visible.load(Ordering::Acquire);
                self.replica.step(now, Input::Visible { client: *client, zxid });
            }
        }
    }

    /// A batch that touches nothing that a mount here has shown waits for no thread of the mount's,
    /// if that has shown all before.
    pub(super) fn show_at_once(&mut self, batch: &Batch) {
        for (client, listener) in &self.listeners {
            let Some(seat) = self.seats.get(client) else { continue };
            let is_level = seat.visible.load(Ordering::Acquire) >= self.published;
            let audience = listener.audience.as_ref().filter(|_| is_level);
            if audience.is_some_and(|audience| audience.is_untouched_by(batch)) {
                seat.visible.fetch_max(batch.last, Ordering::AcqRel);
                let input = Input::Visible { client: *client, zxid: batch.last };
                self.replica.step(clock::now(), input);
            }
        }
    }
}
