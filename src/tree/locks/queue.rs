//! The queue of one file's byte ranges.
//!
//! A request is granted when it conflicts with no range another owner holds and with no request
//! that came before it; except that nobody waits behind a request which itself waits for them,
//! directly or through others: an owner that holds a range may change it under the eyes of those
//! who want it. A grant stands in the way of nobody new, for whoever conflicts with it waited for
//! its owner before.

use super::super::{LockMode, Zxid};
use super::Dying;
use super::ranges::{Held, Owner, Request, Span};
use crate::cow::CowMap;
use crate::limits::{LOCK_QUEUE_MAX, RANGES_MAX, WORK_IN_ONE_ENTRY_MAX};
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::collections::BTreeSet;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RangeQueue {
    /// By owner and first byte: ranges of one owner never overlap.
    held: CowMap<(Owner, u64), Held, 32>,
    /// By the zxid that asked, so in the order of asking.
    waiting: CowMap<Zxid, Request, 32>,
    /// The waiters of each owner. This and what is below follows from the two above.
    waiters: CowMap<(Owner, Zxid), (), 64>,
    /// How many of the held are exclusive.
    exclusive: usize,
    /// How many hold or want less than the whole file, and how many are not the only one of their
    /// owner. None: then the modes alone decide, and nothing is looked at one by one.
    odd: usize,
}

/// Looking.
impl RangeQueue {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holders and waiters.
    pub fn len(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    /// By owner and place.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().map(|(_, held)| held)
    }

    /// In the order of asking.
    pub fn waiting(&self) -> impl Iterator<Item = &Request> {
        self.waiting.iter().map(|(_, request)| request)
    }

    /// What `owner` waits for here.
    pub fn waits_of(&self, owner: Owner) -> impl Iterator<Item = &Request> {
        let of = self.waiters.from((owner, 0)).take_while(move |((by, _), ())| *by == owner);
        of.filter_map(|((_, waiter), ())| self.waiting.get(waiter))
    }

    /// What `owner` holds here, by place.
    pub fn held_by(&self, owner: Owner) -> impl Iterator<Item = &Held> {
        let of = self.held.from((owner, 0)).take_while(move |((by, _), _)| *by == owner);
        of.map(|(_, held)| held)
    }

    /// The owner who asked at `waiter`, for what it waits for or holds now.
    pub fn asked_at(&self, waiter: Zxid) -> Option<Owner> {
        let held = || self.held().map(|held| &held.request).find(|held| held.waiter == waiter);
        self.waiting.get(waiter).or_else(held).map(|request| request.by)
    }

    /// What became of the request made at `waiter`: its token, or `None` while it waits.
    pub fn outcome(&self, waiter: Zxid) -> Option<Option<Zxid>> {
        if self.waiting.contains(waiter) {
            return Some(None);
        }
        let held = self.held().find(|held| held.request.waiter == waiter);
        held.map(|held| Some(held.token))
    }

    /// Every waiter, with how many it waits for: the number of its [`RangeQueue::blockers`]. They
    /// are looked at one by one only where ranges or owners decide; in a queue of `flock`s nobody
    /// is.
    pub fn positions(&self) -> impl Iterator<Item = (&Request, usize)> {
        let (mut all, mut exclusive) = (self.held.len(), self.exclusive);
        self.waiting().map(move |request| {
            let position = match request.mode {
                _ if self.odd > 0 => self.blockers(request).len(),
                LockMode::Exclusive => all,
                LockMode::Shared => exclusive,
            };
            all += 1;
            exclusive += usize::from(request.mode == LockMode::Exclusive);
            (request, position)
        })
    }

    /// Whether `owner` holds or waits for anything here.
    pub fn knows(&self, owner: Owner) -> bool {
        self.held_by(owner).next().is_some() || self.waits_of(owner).next().is_some()
    }

    /// Whether there is room for what a request adds. Queues in which the modes alone decide may be
    /// long; in others each change may look at every pair.
    pub fn has_room(&self, request: &Request, blocked: bool) -> bool {
        let other = if blocked {
            self.knows(request.by)
        } else {
            self.waits_of(request.by).next().is_some()
        };
        let odd = self.odd > 0 || !request.span.is_whole() || other;
        self.len() < if odd { RANGES_MAX } else { LOCK_QUEUE_MAX }
    }

    /// Whether there is room for what is left when `owner` gives back `span` of a longer range.
    pub fn has_room_without(&self, owner: Owner, span: Span) -> bool {
        self.len() < RANGES_MAX || {
            let cut = self.held_by(owner).filter(|held| held.request.span.overlaps(span));
            let left = |held: &Held| held.request.span.without(span).count();
            let (before, after) = cut.fold((0, 0), |(n, sum), held| (n + 1, sum + left(held)));
            after == 0 || after <= before && self.odd > 0
        }
    }

    /// How many chunks this queue does not share with an earlier or later self.
    #[cfg(test)]
    pub fn unshared(&self, other: &RangeQueue) -> usize {
        self.held.unshared(&other.held)
            + self.waiting.unshared(&other.waiting)
            + self.waiters.unshared(&other.waiters)
    }

    /// About how many pairs a look at [`RangeQueue::blockers`] compares.
    pub fn effort(&self) -> usize {
        if self.odd > 0 { self.len() * self.len() } else { self.len() }
    }

    /// The token, if exactly this is held already: the newest of the owner's ranges, if they cover
    /// the span in exactly this mode.
    pub fn already(&self, request: &Request) -> Option<Zxid> {
        let (mut next, mut token) = (request.span.start, 0);
        let same = |held: &&Held| {
            held.request.mode == request.mode && held.request.span.overlaps(request.span)
        };
        for held in self.held_by(request.by).filter(same) {
            if held.request.span.start > next {
                return None;
            }
            token = held.token.max(token);
            if held.request.span.end >= request.span.end {
                return Some(token);
            }
            next = held.request.span.end + 1;
        }
        None
    }

    /// The held range that a request would meet first.
    pub fn obstacle(&self, owner: Owner, span: Span, mode: LockMode) -> Option<&Held> {
        self.held().find(|held| {
            held.request.by != owner
                && held.request.span.overlaps(span)
                && (mode == LockMode::Exclusive || held.request.mode == LockMode::Exclusive)
        })
    }

    /// Everyone `request` has to wait for: holders, and waiters that came before it.
    pub fn blockers(&self, request: &Request) -> Vec<Owner> {
        let behind = self.waiting_for(request);
        let holders = self.held().map(|held| &held.request);
        let earlier = self.before(request).filter(|other| !behind.contains(&other.waiter));
        holders
            .chain(earlier)
            .filter(|other| other.conflicts(request))
            .map(|other| other.by)
            .collect()
    }

    /// Whether `request` has to wait: [`RangeQueue::blockers`] is not empty.
    pub fn is_blocked(&self, request: &Request) -> bool {
        let may_share = request.mode == LockMode::Shared && self.exclusive == 0;
        if !may_share && self.held().any(|held| held.request.conflicts(request)) {
            return true;
        }
        let mut in_the_way = self.before(request).filter(|other| other.conflicts(request));
        let Some(first) = in_the_way.next() else { return false };
        let behind = self.waiting_for(request);
        !behind.contains(&first.waiter) || in_the_way.any(|other| !behind.contains(&other.waiter))
    }

    /// The waiters that came before `request`.
    fn before(&self, request: &Request) -> impl Iterator<Item = &Request> {
        let waiter = request.waiter;
        self.waiting().take_while(move |earlier| earlier.waiter < waiter)
    }

    /// The waiters before `request` that wait for its owner: for what that one holds or asked for
    /// before them, directly or behind one that does.
    fn waiting_for(&self, request: &Request) -> BTreeSet<Zxid> {
        let mut behind = BTreeSet::new();
        if !self.knows(request.by) {
            return behind;
        }
        let mut obstacles: Vec<&Request> =
            self.held_by(request.by).map(|held| &held.request).collect();
        for earlier in self.before(request) {
            if earlier.by == request.by {
                obstacles.push(earlier);
            } else if obstacles.iter().any(|obstacle| obstacle.conflicts(earlier)) {
                behind.insert(earlier.waiter);
                obstacles.push(earlier);
            }
        }
        behind
    }
}

/// Changing.
impl RangeQueue {
    pub fn enqueue(&mut self, request: Request) {
        self.count_in(&request);
        self.waiters.insert((request.by, request.waiter), ());
        self.waiting.insert(request.waiter, request);
    }

    /// Hands `request` its range, converting what its owner held there; returns what that frees for
    /// others (an exclusive range that became shared).
    pub fn grant(&mut self, request: Request, token: Zxid) -> Vec<Span> {
        let converted = self.release(request.by, request.span);
        self.hold(Held { request, token });
        converted
    }

    /// Gives back what `owner` holds of `span`; returns the spans that are free now.
    pub fn release(&mut self, owner: Owner, span: Span) -> Vec<Span> {
        let held = self.held_by(owner).map(|held| held.request.span);
        let touched: Vec<Span> = held.filter(|held| held.overlaps(span)).collect();
        let cut = |whole: Span| {
            let piece = self.let_go((owner, whole.start))?;
            for rest in whole.without(span) {
                let request = Request { span: rest, ..piece.request.clone() };
                self.hold(Held { request, ..piece });
            }
            Some(Span { start: whole.start.max(span.start), end: whole.end.min(span.end) })
        };
        touched.into_iter().filter_map(cut).collect()
    }

    /// Takes one request back, waiting or granted; returns the spans that are free now.
    pub fn withdraw(&mut self, owner: Owner, waiter: Zxid) -> Vec<Span> {
        if self.waiters.contains((owner, waiter)) {
            return self.dequeue(waiter).map(|request| request.span).into_iter().collect();
        }
        let asked_so = self.held_by(owner).map(|held| &held.request);
        let asked_so = asked_so.filter(|held| held.waiter == waiter).map(|held| held.span);
        self.let_go_all(owner, asked_so.collect())
    }

    /// Takes back everything of `owner`; returns the spans that are free now.
    pub fn withdraw_all(&mut self, owner: Owner) -> Vec<Span> {
        let held = self.held_by(owner).map(|held| held.request.span).collect();
        let mut freed = self.let_go_all(owner, held);
        let waits: Vec<Zxid> = self.waits_of(owner).map(|request| request.waiter).collect();
        freed.extend(
            waits.into_iter().filter_map(|waiter| self.dequeue(waiter)).map(|wait| wait.span),
        );
        freed
    }

    fn let_go_all(&mut self, owner: Owner, spans: Vec<Span>) -> Vec<Span> {
        spans.iter().for_each(|span| drop(self.let_go((owner, span.start))));
        spans
    }

    /// Grants what can be granted now that `freed` is free, in the order of asking. Only requests
    /// that overlap it can have become grantable. Stops at what one entry may do; `dying` get
    /// nothing.
    pub fn settle(&mut self, mut freed: Vec<Span>, token: Zxid, dying: &Dying) -> Vec<Request> {
        let mut granted = Vec::new();
        let mut from = 0;
        while granted.len() < WORK_IN_ONE_ENTRY_MAX
            && let Some(waiter) = self.next_to_grant(from, &freed, dying)
        {
            let Some(request) = self.dequeue(waiter) else { break };
            granted.push(request.clone());
            let others = self.waits_of(request.by).next().is_some();
            let converted = self.grant(request, token);
            // Nobody who came earlier can have it for that, unless a range was converted, or its
            // owner waits for more.
            from = if converted.is_empty() && !others { waiter + 1 } else { 0 };
            freed.extend(converted);
        }
        granted
    }

    /// The first waiter from `from` on that can have now what it waits for.
    fn next_to_grant(&self, from: Zxid, freed: &[Span], dying: &Dying) -> Option<Zxid> {
        if freed.is_empty() {
            return None;
        }
        if self.odd == 0 {
            let (waiter, first) = self.waiting.first()?;
            if dying.contains(first.by.session) {
                return None;
            }
            let free = match first.mode {
                LockMode::Exclusive => self.held.is_empty(),
                LockMode::Shared => self.exclusive == 0,
            };
            return free.then_some(waiter);
        }
        let may_have = |request: &Request| {
            freed.iter().any(|span| span.overlaps(request.span))
                && !dying.contains(request.by.session)
        };
        let mut later = self.waiting.from(from);
        later
            .find(|(_, request)| may_have(request) && !self.is_blocked(request))
            .map(|(waiter, _)| waiter)
    }

    fn hold(&mut self, held: Held) {
        self.count_in(&held.request);
        self.exclusive += usize::from(held.request.mode == LockMode::Exclusive);
        self.held.insert((held.request.by, held.request.span.start), held);
    }

    fn let_go(&mut self, place: (Owner, u64)) -> Option<Held> {
        let held = self.held.remove(place)?;
        self.exclusive -= usize::from(held.request.mode == LockMode::Exclusive);
        self.count_out(&held.request);
        Some(held)
    }

    fn dequeue(&mut self, waiter: Zxid) -> Option<Request> {
        let request = self.waiting.remove(waiter)?;
        self.waiters.remove((request.by, waiter));
        self.count_out(&request);
        Some(request)
    }

    /// To be called before it is there.
    fn count_in(&mut self, request: &Request) {
        self.odd += self.oddness(request);
    }

    /// To be called when it is there no more.
    fn count_out(&mut self, request: &Request) {
        self.odd -= self.oddness(request);
    }

    fn oddness(&self, request: &Request) -> usize {
        usize::from(!request.span.is_whole()) + usize::from(self.knows(request.by))
    }
}

/// Only holders and waiters: the rest follows from them.
impl Encode for RangeQueue {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.held.encode(encoder)?;
        self.waiting.encode(encoder)
    }
}

impl<Context> Decode<Context> for RangeQueue {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let held: CowMap<(Owner, u64), Held, 32> = Decode::decode(decoder)?;
        let waiting: CowMap<Zxid, Request, 32> = Decode::decode(decoder)?;
        let mut queue = RangeQueue::default();
        held.iter().for_each(|(_, held)| queue.hold(held.clone()));
        waiting.iter().for_each(|(_, request)| queue.enqueue(request.clone()));
        Ok(queue)
    }
}

bincode::impl_borrow_decode!(RangeQueue);
