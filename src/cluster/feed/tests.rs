//! Readers of one feed, quick and slow.

use super::*;
use crate::tree::{Applied, Change, SessionId};

const LIMIT: usize = 2 * KEPT;

fn batch(last: Zxid, changes: usize) -> Batch {
    let changes = vec![Change::Members; changes];
    let applied = vec![Applied { zxid: last, stamp: 0, origin: SessionId::NONE, changes }];
    Batch { last, applied, reset: false }
}

/// What a reader has to hear now: batches with whether they are resets, `(session, true)` for
/// one that is lost.
fn heard(reader: &Reader) -> Vec<(Zxid, bool)> {
    let mut heard = Vec::new();
    while let Ok(event) = reader.next(Some(Instant::now())) {
        match event {
            Event::Batch(batch) => heard.push((batch.last, batch.reset)),
            Event::SessionLost(session) => heard.push((session.0, true)),
            _ => {}
        }
    }
    heard
}

#[test]
fn each_reader_hears_everything_at_its_own_pace() {
    let feed = Feed::new(0, LIMIT);
    let quick = feed.read();
    let slow = feed.read();
    for last in 1..=100 {
        feed.publish(batch(last, 1));
        assert_eq!(heard(&quick), [(last, false)]);
    }
    assert_eq!(heard(&slow), (1..=100).map(|last| (last, false)).collect::<Vec<_>>());
}

#[test]
fn one_that_falls_behind_forgets_everything_once_and_goes_on() {
    let feed = Feed::new(0, LIMIT);
    let (slow, quick) = (feed.read(), feed.read());
    for last in 1..=1000 {
        feed.publish(batch(last, 100));
        assert_eq!(heard(&quick), [(last, false)]);
    }
    assert!(feed.0.ring.lock().weight <= LIMIT, "nobody's slowness costs memory");
    assert_eq!(heard(&slow), [(1000, true)]);
    feed.publish(batch(1001, 1));
    assert_eq!(heard(&slow), [(1001, false)]);
}

#[test]
fn what_becomes_of_a_session_is_told_at_its_place_and_never_left_out() {
    let feed = Feed::new(0, LIMIT);
    let (reader, other) = (feed.read(), feed.read());
    feed.publish(batch(1, 1));
    feed.tell(reader.id(), Event::SessionLost(SessionId(77)));
    feed.publish(batch(2, 1));
    assert_eq!(heard(&reader), [(1, false), (77, true), (2, false)]);
    assert_eq!(heard(&other), [(1, false), (2, false)]);
    // Also in what was missed: the tree is forgotten before, and again after it.
    feed.publish(batch(3, LIMIT));
    feed.tell(reader.id(), Event::SessionLost(SessionId(78)));
    feed.publish(batch(4, LIMIT));
    feed.publish(batch(5, 1));
    assert_eq!(heard(&reader), [(78, true), (5, true)]);
}

#[test]
fn a_reader_comes_back_to_where_it_was() {
    let feed = Feed::new(10, LIMIT);
    (11..=2000).for_each(|last| feed.publish(batch(last, 10)));
    let reader = feed.read_after(1990).expect("it is kept");
    assert_eq!(heard(&reader), (1991..=2000).map(|last| (last, false)).collect::<Vec<_>>());
    assert!(feed.read_after(10).is_none(), "that is long gone");
    assert!(feed.read_after(2001).is_none(), "that has not come");
    feed.publish(Batch { last: 3000, applied: Vec::new(), reset: true });
    assert!(feed.read_after(2000).is_none(), "a snapshot took the tree's place");
    assert!(feed.read_after(3000).is_some());
}

#[test]
fn one_that_is_gone_keeps_nothing_and_one_that_is_closed_wakes() {
    let feed = Feed::new(0, LIMIT);
    let (gone, closed) = (feed.read(), feed.read());
    let id = gone.id();
    drop(gone);
    assert!(!feed.has(id) && feed.has(closed.id()));
    let closer = closed.closer();
    let sleeper = std::thread::Builder::new()
        .name("sleeper".into())
        .spawn(move || closed.next(None).map(drop));
    closer.close();
    assert_eq!(sleeper.unwrap().join().unwrap(), Err(Silence::Over));
}

#[test]
fn when_it_is_over_everyone_hears_of_it_after_the_rest() {
    let feed = Feed::new(0, LIMIT);
    let reader = feed.read();
    feed.publish(batch(1, 1));
    drop(feed);
    assert!(matches!(reader.next(None), Ok(Event::Batch(_))));
    assert!(matches!(reader.next(None), Ok(Event::Stopping)));
    assert_eq!(reader.next(None).map(drop), Err(Silence::Over));
}
