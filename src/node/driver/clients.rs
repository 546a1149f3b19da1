//! Clients hear of their sessions, come from other nodes, and go there.

use super::{Driver, Seat};
use crate::cluster::Event;
use crate::node::Done;
use crate::node::seat::Departed;
use crate::replica::{ClientId, Moment, SessionEvent};
use std::sync::Arc;

impl Driver {
    pub(super) fn depart(&mut self, now: Moment, id: ClientId) -> Option<Departed> {
        let mut client = self.replica.depart(now, id)?;
        if let Some(seat) = self.seats.remove(&id) {
            seat.belief.end();
        }
        let mut asked = Vec::new();
        client.renumber(|id| {
            let done = self.asked.remove(id).expect("who waits has asked");
            *id = asked.len() as u64;
            asked.push(done);
        });
        Some(Departed { client, asked })
    }

    pub(super) fn arrive(&mut self, now: Moment, seat: Arc<Seat>, departed: Departed) {
        let Departed { mut client, asked } = departed;
        let mut asked: Vec<Option<Done>> = asked.into_iter().map(Some).collect();
        client.renumber(|id| {
            let done = asked[*id as usize].take().expect("each waits once");
            *id = self.remember(done);
        });
        let id = seat.id;
        self.seats.insert(id, seat);
        let shared = Arc::clone(&self.shared);
        self.replica.arrive(now, id, client, &shared.tree.read());
    }

    /// What entries did to sessions. Whoever reads the tree without a session's locks shall not
    /// believe in it any more.
    pub(super) fn announce_session(&mut self) {
        for event in self.replica.take_session_events() {
            self.announce(event);
        }
    }

    pub(super) fn announce(&mut self, event: SessionEvent) {
        let (SessionEvent::Opened(client, _) | SessionEvent::Lost(client, _)) = event;
        let Some(seat) = self.seats.get(&client) else { return };
        match event {
            SessionEvent::Opened(_, session) => {
                seat.belief.begin(session, self.replica.session_deadline(client));
            }
            SessionEvent::Lost(..) => seat.belief.end(),
        }
        let event = match event {
            SessionEvent::Opened(_, session) => Event::SessionOpened(session),
            SessionEvent::Lost(_, session) => Event::SessionLost(session),
        };
        self.notify(client, event);
    }

    /// The leader may have acknowledged keep-alives.
    pub(super) fn extend_belief(&mut self) {
        for client in self.replica.take_extended() {
            if let Some(seat) = self.seats.get(&client) {
                seat.belief.extend(self.replica.session_deadline(client));
            }
        }
    }
}
