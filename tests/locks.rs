//! The lock table against a model that is slow and obvious: who holds which byte, who waits since
//! when. Each failure names its seed.

use keepfs::tree::locks::{EndedLocks, Grant, LockGrant, LockTable, Owner, Span};
use keepfs::tree::{Ino, Lock, LockMode, LockView, Refusal, SessionId, TicketInfo, Zxid};
use std::collections::{BTreeMap, BTreeSet};

const BYTES: u64 = 8;
const FILES: u64 = 2;
const STEPS: Zxid = 400;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn owner(&mut self) -> Owner {
        Owner { session: SessionId(1 + self.roll(3)), owner: self.roll(2) }
    }

    fn span(&mut self) -> Span {
        if self.roll(3) == 0 {
            return Span { start: 0, end: BYTES - 1 };
        }
        let start = self.roll(BYTES);
        Span { start, end: start + self.roll(BYTES - start) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    ino: Ino,
    by: Owner,
    span: Span,
    mode: LockMode,
}

#[derive(Clone, Default)]
struct Model {
    held: BTreeMap<(Ino, u64, Owner), LockMode>,
    waits: BTreeMap<Zxid, Wait>,
}

impl Model {
    fn clash(mode: LockMode, other: LockMode) -> bool {
        mode == LockMode::Exclusive || other == LockMode::Exclusive
    }

    fn holders_against(&self, wait: &Wait) -> BTreeSet<Owner> {
        let bytes = self.held.iter().filter(|((ino, byte, by), mode)| {
            *ino == wait.ino
                && *by != wait.by
                && (wait.span.start..=wait.span.end).contains(byte)
                && Model::clash(**mode, wait.mode)
        });
        bytes.map(|((_, _, by), _)| *by).collect()
    }

    /// The waiters of one file that wait for `owner`, by the fixed point of "directly or behind
    /// one".
    fn behind(&self, ino: Ino, owner: Owner) -> BTreeSet<Zxid> {
        let mut behind = BTreeSet::new();
        loop {
            let more: Vec<Zxid> = self
                .waits
                .iter()
                .filter(|(at, wait)| {
                    wait.ino == ino
                        && wait.by != owner
                        && !behind.contains(*at)
                        && (self.holders_against(wait).contains(&owner)
                            || self.waits.iter().any(|(ahead, wait)| {
                                (wait.by == owner || behind.contains(ahead))
                                    && self.is_before(*ahead, **at)
                            }))
                })
                .map(|(at, _)| *at)
                .collect();
            if more.is_empty() {
                return behind;
            }
            behind.extend(more);
        }
    }

    fn is_before(&self, ahead: Zxid, at: Zxid) -> bool {
        let (a, b) = (&self.waits[&ahead], &self.waits[&at]);
        ahead < at
            && a.ino == b.ino
            && a.by != b.by
            && a.span.overlaps(b.span)
            && Model::clash(a.mode, b.mode)
    }

    /// Whom the waiter `at` has to wait for.
    fn blockers(&self, at: Zxid) -> BTreeSet<Owner> {
        let wait = &self.waits[&at];
        let behind = self.behind(wait.ino, wait.by);
        let earlier = self.waits.keys().filter(|ahead| !behind.contains(*ahead));
        let earlier = earlier.filter(|ahead| self.is_before(**ahead, at));
        let mut owners = self.holders_against(wait);
        owners.extend(earlier.map(|ahead| self.waits[ahead].by));
        owners
    }

    fn hold(&mut self, wait: &Wait) {
        for byte in wait.span.start..=wait.span.end {
            self.held.insert((wait.ino, byte, wait.by), wait.mode);
        }
    }

    fn release(&mut self, ino: Ino, by: Owner, span: Span) {
        self.held.retain(|(i, byte, owner), _| {
            !(*i == ino && *owner == by && (span.start..=span.end).contains(byte))
        });
    }

    /// Each grant is due when it comes: not blocked, given those before it.
    fn grant(&mut self, grants: &[Grant], now: Zxid) {
        for grant in grants {
            assert_eq!(grant.token, now);
            assert_eq!(self.blockers(grant.waiter), BTreeSet::new(), "{grant:?} jumps the queue");
            let wait = self.waits.remove(&grant.waiter).expect("a grant to one who waits");
            assert_eq!((grant.ino, grant.session), (wait.ino, wait.by.session));
            self.hold(&wait);
        }
    }

    /// Whether someone whom `at` waits for waits, directly or not, for the owner of `at`.
    fn closes_cycle(&self, at: Zxid) -> bool {
        let mut ahead = Vec::from_iter(self.blockers(at));
        let mut seen = BTreeSet::new();
        while let Some(owner) = ahead.pop() {
            for (at, _) in self.waits.iter().filter(|(_, wait)| wait.by == owner) {
                ahead.extend(self.blockers(*at).into_iter().filter(|next| seen.insert(*next)));
            }
        }
        seen.contains(&self.waits[&at].by)
    }
}

struct World {
    table: LockTable,
    model: Model,
    dice: Dice,
}

impl World {
    fn lock(&mut self, now: Zxid) {
        let (by, span) = (self.dice.owner(), self.dice.span());
        let ino = Ino(100 + self.dice.roll(FILES));
        let mode = [LockMode::Shared, LockMode::Exclusive][self.dice.roll(2) as usize];
        let wait = self.dice.roll(4) > 0;
        let who = TicketInfo { pid: 1, uid: 0, command: Box::default() };
        let (start, end) = (span.start, span.end);
        let lock = Lock { ino, owner: by.owner, start, end, mode, wait, who };
        let asked = Wait { ino, by, span, mode };
        let mut with = self.model.clone();
        with.waits.insert(now, asked);
        let blocked = !with.blockers(now).is_empty();
        let bytes = |mode| move |byte| ((ino, byte, by), mode);
        let same = (span.start..=span.end)
            .map(bytes(mode))
            .all(|(key, mode)| self.model.held.get(&key) == Some(&mode));
        match self.table.lock(by.session, now, now, &lock) {
            Ok((LockGrant::Held { token }, grants)) => {
                assert!(same || !blocked, "granted against a conflict");
                assert_eq!(token == now, !same, "a lock held already keeps its token");
                self.model.hold(&asked);
                self.model.grant(&grants, now);
            }
            Ok((LockGrant::Queued { waiter }, grants)) => {
                assert!(blocked && wait && waiter == now && grants.is_empty());
                assert!(!with.closes_cycle(now), "a wait that closes a cycle");
                self.model = with;
            }
            Err(Refusal::WouldBlock) => assert!(blocked && !wait),
            Err(Refusal::Deadlock) => assert!(blocked && wait && with.closes_cycle(now)),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn unlock(&mut self, now: Zxid) {
        let (by, span) = (self.dice.owner(), self.dice.span());
        let ino = Ino(100 + self.dice.roll(FILES));
        let grants = self.table.unlock(ino, by, span, now).unwrap();
        self.model.release(ino, by, span);
        self.model.grant(&grants, now);
    }

    fn cancel(&mut self, now: Zxid) {
        let count = self.model.waits.len() as u64;
        if count == 0 {
            return;
        }
        let (at, wait) = self.model.waits.iter().nth(self.dice.roll(count) as usize).unwrap();
        let (at, wait) = (*at, *wait);
        let stranger = SessionId(wait.by.session.0 + 1);
        assert_eq!(self.table.cancel(wait.ino, stranger, at, now), [], "only one's own");
        let grants = self.table.cancel(wait.ino, wait.by.session, at, now);
        self.model.waits.remove(&at);
        self.model.grant(&grants, now);
    }

    fn end_session(&mut self, now: Zxid) {
        let session = self.dice.owner().session;
        let ended = end_session(&mut self.table, session, now, usize::MAX);
        self.model.held.retain(|(_, _, by), _| by.session != session);
        self.model.waits.retain(|_, wait| wait.by.session != session);
        self.model.grant(&ended.grants, now);
        assert_eq!(self.table.count_of(session), 0);
    }

    /// How many ranges and waiters are in the way of one who waits, looking at each.
    fn position(&self, of: &LockView, held: &[LockView], waits: &[LockView]) -> usize {
        let by = |view: &LockView| Owner { session: view.session, owner: view.owner };
        let span = |view: &LockView| Span { start: view.start, end: view.end };
        let behind = self.model.behind(of.ino, by(of));
        let ahead = |wait: &&LockView| wait.waiter < of.waiter && !behind.contains(&wait.waiter);
        let in_the_way = |other: &&LockView| {
            other.ino == of.ino
                && by(other) != by(of)
                && span(other).overlaps(span(of))
                && Model::clash(other.mode, of.mode)
        };
        held.iter().chain(waits.iter().filter(ahead)).filter(in_the_way).count()
    }

    /// What is there is what the model says, nobody waits for nothing, and a snapshot keeps it all.
    fn check(&self) {
        let (held, waits): (Vec<LockView>, Vec<LockView>) =
            self.table.all().into_iter().partition(|view| view.token.is_some());
        let mut bytes = BTreeMap::new();
        for view in &held {
            let by = Owner { session: view.session, owner: view.owner };
            for byte in view.start..=view.end {
                let before = bytes.insert((view.ino, byte, by), view.mode);
                assert_eq!(before, None, "one owner's ranges overlap");
            }
        }
        assert_eq!(bytes, self.model.held);
        for ((ino, byte, by), mode) in &bytes {
            let span = Span { start: *byte, end: *byte };
            let wait = Wait { ino: *ino, by: *by, span, mode: *mode };
            assert!(self.model.holders_against(&wait).is_empty(), "two hold byte {byte} of {ino}");
        }
        let waiting: Vec<Zxid> = waits.iter().map(|view| view.waiter).collect();
        assert_eq!(BTreeSet::from_iter(waiting), self.model.waits.keys().copied().collect());
        for view in &waits {
            assert!(!self.model.blockers(view.waiter).is_empty(), "{} is stuck", view.waiter);
            assert_eq!(view.position, self.position(view, &held, &waits), "{view:?}");
        }
        for view in held.iter().chain(&waits) {
            let (token, waiter) = (view.token, view.waiter);
            let outcome =
                token.map_or(LockGrant::Queued { waiter }, |token| LockGrant::Held { token });
            assert_eq!(self.table.outcome(view.ino, waiter), Some(outcome));
        }
        assert_eq!(self.table.len(), held.len() + waits.len());
        let bytes = bincode::encode_to_vec(&self.table, bincode::config::standard()).unwrap();
        let (restored, _): (LockTable, usize) =
            bincode::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
        assert_eq!(restored, self.table);
    }
}

#[test]
fn ranges_agree_with_the_model() {
    for seed in 0..25 {
        println!("seed {seed}");
        let mut world =
            World { table: LockTable::default(), model: Model::default(), dice: Dice(seed) };
        for zxid in 1..=STEPS {
            match world.dice.roll(10) {
                0..=4 => world.lock(zxid),
                5..=7 => world.unlock(zxid),
                8 => world.cancel(zxid),
                _ if world.dice.roll(4) == 0 => world.end_session(zxid),
                _ => {}
            }
            world.check();
        }
    }
}

/// Ends a session in steps of so much work.
fn end_session(table: &mut LockTable, session: SessionId, now: Zxid, step: usize) -> EndedLocks {
    let mut all = EndedLocks::default();
    table.end_session(session);
    while table.has_work() {
        let mut work = step;
        let ended = table.take_back(now, &mut work);
        assert!(work < step, "a step that does nothing");
        all.grants.extend(ended.grants);
        all.tickets.extend(ended.tickets);
    }
    all
}

fn whole(ino: u64, owner: u64, mode: LockMode) -> Lock {
    let who = TicketInfo { pid: 1, uid: 0, command: Box::default() };
    Lock { ino: Ino(ino), owner, start: 0, end: i64::MAX as u64, mode, wait: true, who }
}

#[test]
fn two_upgraders_are_a_cycle_and_one_upgrader_is_not() {
    let (mut table, session) = (LockTable::default(), SessionId(1));
    let mut ask = |now, owner, mode| table.lock(session, now, now, &whole(100, owner, mode));
    ask(1, 1, LockMode::Shared).unwrap();
    ask(2, 2, LockMode::Shared).unwrap();
    assert_eq!(ask(3, 3, LockMode::Exclusive).unwrap().0, LockGrant::Queued { waiter: 3 });
    assert_eq!(ask(4, 1, LockMode::Exclusive).unwrap().0, LockGrant::Queued { waiter: 4 });
    assert_eq!(ask(5, 2, LockMode::Exclusive), Err(Refusal::Deadlock));
    let all = Span { start: 0, end: u64::MAX };
    let released = table.unlock(Ino(100), Owner { session, owner: 2 }, all, 6).unwrap();
    let upgraded = Grant { session, ino: Ino(100), waiter: 4, token: 6 };
    assert_eq!(released, [upgraded], "before the one who waits for the upgrader");
}

#[test]
fn a_cycle_over_two_files_is_refused() {
    let (mut table, session) = (LockTable::default(), SessionId(1));
    let mut ask =
        |now, ino, owner| table.lock(session, now, now, &whole(ino, owner, LockMode::Exclusive));
    ask(1, 100, 1).unwrap();
    ask(2, 101, 2).unwrap();
    assert_eq!(ask(3, 101, 1).unwrap().0, LockGrant::Queued { waiter: 3 });
    assert_eq!(ask(4, 100, 2), Err(Refusal::Deadlock));
    assert_eq!(ask(5, 100, 3).unwrap().0, LockGrant::Queued { waiter: 5 });
}

#[test]
fn tickets_hold_in_the_order_of_their_sequences() {
    let mut table = LockTable::default();
    let who = TicketInfo { pid: 7, uid: 0, command: Box::default() };
    let directory = Ino(50);
    let add = |table: &mut LockTable, ticket, session, now, wait| {
        let name = Box::from(format!("t{ticket}").as_bytes());
        let session = SessionId(session);
        table.enqueue_ticket(directory, Ino(ticket), name, session, now, now, &who, wait)
    };
    assert_eq!(add(&mut table, 101, 1, 1, false), Ok(LockGrant::Held { token: 1 }));
    assert_eq!(add(&mut table, 102, 2, 2, true), Ok(LockGrant::Queued { waiter: 2 }));
    assert_eq!(add(&mut table, 103, 1, 3, true), Ok(LockGrant::Queued { waiter: 3 }));
    assert_eq!(add(&mut table, 104, 3, 4, true), Ok(LockGrant::Queued { waiter: 4 }));
    assert_eq!(add(&mut table, 105, 3, 5, false), Err(Refusal::WouldBlock));
    assert_eq!(table.ticket(Ino(104)).map(|view| (view.position, view.sequence)), Some((3, 4)));

    assert_eq!(table.remove_ticket(Ino(102), 6), None, "a waiter that goes grants nothing");
    let ended = end_session(&mut table, SessionId(1), 7, usize::MAX);
    let tickets: Vec<(Ino, u64)> =
        ended.tickets.iter().map(|ended| (ended.ticket, ended.sequence)).collect();
    assert_eq!(tickets, [(Ino(101), 1), (Ino(103), 3)]);
    let granted = Grant { session: SessionId(3), ino: Ino(104), waiter: 4, token: 7 };
    assert_eq!(ended.grants, [granted], "never to a ticket that ends with its session");

    assert_eq!(table.remove_ticket(Ino(104), 8), None);
    assert_eq!(add(&mut table, 106, 1, 9, false), Ok(LockGrant::Held { token: 9 }));
    let sequences: Vec<u64> = table.tickets_after(directory, 0).map(|(at, ..)| at).collect();
    assert_eq!(sequences, [5], "a sequence is not given twice");
    table.forget(directory);
    assert_eq!(table, LockTable::default());
}
