//! The feed: what was applied, in one bounded ring, with a cursor for each reader.
//!
//! A batch is there once, however many read it. A reader that falls so far behind that the ring
//! has let go of what it has not heard is told to forget all it knows ([`Batch::reset`]), and goes
//! on from there: it costs nobody memory or time. What became of a reader's own session is told at
//! its place between the batches, and never left out.

use super::Event;
use crate::tree::{Batch, Zxid};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Changes of batches that everyone has heard and that are kept for who comes back.
const KEPT: usize = 4096;

/// Where batches are put in.
pub struct Feed(Arc<Shared>);

struct Shared {
    ring: Mutex<Ring>,
    filled: Condvar,
}

struct Ring {
    /// Oldest first; the place of the first is `first`.
    batches: VecDeque<Arc<Batch>>,
    first: u64,
    /// Of all of them, in changes; and of how many there may be.
    weight: usize,
    limit: usize,
    /// Where the tree stood before the first batch, and stands now.
    since: Zxid,
    last: Zxid,
    readers: BTreeMap<u64, Cursor>,
    registered: u64,
    /// Nothing more comes.
    over: bool,
    /// Readers that sleep.
    asleep: usize,
}

struct Cursor {
    /// The place of the batch it hears next.
    next: u64,
    /// It has not heard what comes before `next`.
    missed: bool,
    /// Nobody will read on.
    closed: bool,
    /// What it alone hears, each before the batch at a place.
    own: VecDeque<(u64, Event)>,
}

/// One that hears everything from when it was made.
pub struct Reader {
    shared: Arc<Shared>,
    id: u64,
}

/// Ends a [`Reader`] from elsewhere.
pub struct Closer {
    shared: Arc<Shared>,
    id: u64,
}

/// Names a reader to the [`Feed`] that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderId(u64);

/// What [`Reader::next`] may say besides an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    TimedOut,
    /// There is nothing more to come.
    Over,
}

impl Feed {
    /// Of a tree that stands at `zxid`. No more than `limit` changes are kept for readers.
    pub fn new(zxid: Zxid, limit: usize) -> Feed {
        let ring = Ring {
            batches: VecDeque::new(),
            first: 0,
            weight: 0,
            limit,
            since: zxid,
            last: zxid,
            readers: BTreeMap::new(),
            registered: 0,
            over: false,
            asleep: 0,
        };
        Feed(Arc::new(Shared { ring: Mutex::new(ring), filled: Condvar::new() }))
    }

    /// A reader of what comes from now on.
    pub fn read(&self) -> Reader {
        let mut ring = self.0.ring.lock();
        let next = ring.end();
        self.register(&mut ring, next)
    }

    /// A reader of all that comes after `zxid`. `None`: that is not known any more.
    pub fn read_after(&self, zxid: Zxid) -> Option<Reader> {
        let mut ring = self.0.ring.lock();
        if zxid < ring.since || zxid > ring.last {
            return None;
        }
        let heard = ring.batches.partition_point(|batch| batch.last <= zxid);
        let next = ring.first + heard as u64;
        Some(self.register(&mut ring, next))
    }

    fn register(&self, ring: &mut Ring, next: u64) -> Reader {
        ring.registered += 1;
        let id = ring.registered;
        ring.readers
            .insert(id, Cursor { next, missed: false, closed: false, own: VecDeque::new() });
        Reader { shared: Arc::clone(&self.0), id }
    }

    /// Everyone hears of it.
    pub fn publish(&self, batch: Batch) {
        let mut ring = self.0.ring.lock();
        if batch.reset {
            // What was applied does not lead to where the tree stands now.
            ring.since = batch.last;
        }
        ring.last = batch.last;
        ring.weight += weight(&batch);
        ring.batches.push_back(Arc::new(batch));
        ring.trim();
        self.wake(&ring);
    }

    /// One reader hears of it, before what is published next.
    pub fn tell(&self, reader: ReaderId, event: Event) {
        let mut ring = self.0.ring.lock();
        let place = ring.end();
        if let Some(cursor) = ring.readers.get_mut(&reader.0) {
            cursor.own.push_back((place, event));
            self.wake(&ring);
        }
    }

    /// Whether the reader is there.
    pub fn has(&self, reader: ReaderId) -> bool {
        self.0.ring.lock().readers.contains_key(&reader.0)
    }

    /// Readers hear that the cluster stops, and then nothing more.
    pub fn end(&self) {
        let mut ring = self.0.ring.lock();
        if std::mem::replace(&mut ring.over, true) {
            return;
        }
        let place = ring.end();
        for cursor in ring.readers.values_mut() {
            cursor.own.push_back((place, Event::Stopping));
        }
        self.wake(&ring);
    }

    fn wake(&self, ring: &Ring) {
        if ring.asleep > 0 {
            self.0.filled.notify_all();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

impl Ring {
    /// The place of the batch that comes next.
    fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    /// Lets go of what everyone has heard, and of what is too much. A batch that comes alone is
    /// kept for those who wait for it, however much it is.
    fn trim(&mut self) {
        let heard = self.readers.values().map(|cursor| cursor.next).min().unwrap_or(u64::MAX);
        while let Some(oldest) = self.batches.front() {
            let is_heard = self.first < heard && self.weight > KEPT;
            let is_too_much = self.weight > self.limit && self.batches.len() > 1;
            if !is_heard && !is_too_much {
                break;
            }
            (self.weight, self.since) = (self.weight - weight(oldest), self.since.max(oldest.last));
            self.batches.pop_front();
            self.first += 1;
        }
        for cursor in self.readers.values_mut().filter(|cursor| cursor.next < self.first) {
            (cursor.next, cursor.missed) = (self.first, true);
        }
    }

    fn is_closed(&self, reader: u64) -> bool {
        self.readers.get(&reader).is_none_or(|cursor| cursor.closed)
    }

    fn take(&mut self, reader: u64) -> Option<Event> {
        let (first, last) = (self.first, self.last);
        let end = self.end();
        let cursor = self.readers.get_mut(&reader)?;
        if let Some((place, _)) = cursor.own.front()
            && *place <= cursor.next
        {
            return cursor.own.pop_front().map(|(_, event)| event);
        }
        if std::mem::take(&mut cursor.missed) {
            // The tree is as new as the newest batch, so those between are news no more; but not
            // beyond what the reader alone has to hear between them.
            let until = cursor.own.front().map_or(end, |(place, _)| (*place).min(end));
            cursor.next = until;
            let at = match until == end {
                true => last,
                false => self.batches.get((until - first) as usize - 1).map_or(last, |b| b.last),
            };
            return Some(Event::Batch(Arc::new(Batch {
                last: at,
                applied: Vec::new(),
                reset: true,
            })));
        }
        let batch = self.batches.get((cursor.next - first) as usize)?;
        cursor.next += 1;
        Some(Event::Batch(Arc::clone(batch)))
    }
}

impl Reader {
    pub fn id(&self) -> ReaderId {
        ReaderId(self.id)
    }

    /// Lets another thread end it.
    pub fn closer(&self) -> Closer {
        Closer { shared: Arc::clone(&self.shared), id: self.id }
    }

    /// The next event; waits for it until `deadline`, or for ever.
    ///
    /// # Errors
    /// See [`Silence`].
    pub fn next(&self, deadline: Option<Instant>) -> Result<Event, Silence> {
        let mut ring = self.shared.ring.lock();
        loop {
            if !ring.is_closed(self.id)
                && let Some(event) = ring.take(self.id)
            {
                return Ok(event);
            }
            if ring.over || ring.is_closed(self.id) {
                return Err(Silence::Over);
            }
            ring.asleep += 1;
            let timed_out = match deadline {
                Some(deadline) => self.shared.filled.wait_until(&mut ring, deadline).timed_out(),
                None => {
                    self.shared.filled.wait(&mut ring);
                    false
                }
            };
            ring.asleep -= 1;
            if timed_out {
                return ring.take(self.id).ok_or(Silence::TimedOut);
            }
        }
    }
}

impl Closer {
    /// The reader hears nothing more, and wakes if it sleeps.
    pub fn close(&self) {
        let mut ring = self.shared.ring.lock();
        if let Some(cursor) = ring.readers.get_mut(&self.id) {
            // It keeps nothing for itself any more.
            (cursor.closed, cursor.next) = (true, u64::MAX);
        }
        ring.trim();
        self.shared.filled.notify_all();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.shared.ring.lock();
        ring.readers.remove(&self.id);
        ring.trim();
    }
}

/// In changes; an entry weighs something without any.
fn weight(batch: &Batch) -> usize {
    1 + batch.applied.iter().map(|applied| 1 + applied.changes.len()).sum::<usize>()
}

#[cfg(test)]
mod tests;
