//! The queue of one file's byte ranges.
//!
//! A request is granted when it conflicts with no range another owner holds and with no request
//! that came before it; except that nobody waits behind a request which itself waits for them,
//! directly or through others: an owner that holds a range may change it under the eyes of those
//! who want it. A grant stands in the way of nobody new, for whoever conflicts with it waited for
//! its owner before.

use super::super::{LockMode, Zxid};
use super::ranges::{Held, Owner, Request, Span, carve, covered};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub(super) struct RangeQueue {
    held: Vec<Held>,
    /// By the zxid that asked, so in the order of asking.
    waiting: BTreeMap<Zxid, Request>,
}

impl RangeQueue {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }

    /// Holders and waiters.
    pub fn len(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    pub fn waiting(&self) -> impl Iterator<Item = &Request> {
        self.waiting.values()
    }

    /// What became of the request made at `waiter`: its token, or `None` while it waits.
    pub fn outcome(&self, waiter: Zxid) -> Option<Option<Zxid>> {
        let held = self.held.iter().find(|held| held.request.waiter == waiter);
        let waits = || self.waiting.contains_key(&waiter).then_some(None);
        held.map(|held| Some(held.token)).or_else(waits)
    }

    /// Every waiter, with how many it waits for: the number of its [`RangeQueue::blockers`]. They
    /// are looked at one by one only where ranges differ; in a queue of `flock`s nobody is.
    pub fn positions(&self) -> impl Iterator<Item = (&Request, usize)> {
        let mut before = Before::default();
        self.held.iter().for_each(|held| before.add(&held.request));
        self.waiting.values().map(move |request| {
            let position = before.count(request);
            before.add(request);
            (request, position.unwrap_or_else(|| self.blockers(request).len()))
        })
    }

    /// Whether `owner` holds or waits for anything here.
    pub fn knows(&self, owner: Owner) -> bool {
        self.held.iter().any(|held| held.request.by == owner)
            || self.waiting.values().any(|request| request.by == owner)
    }

    /// The token, if exactly this is held already.
    pub fn already(&self, request: &Request) -> Option<Zxid> {
        covered(&self.held, request.by, request.span, request.mode)
    }

    /// The held range that a request would meet first.
    pub fn obstacle(&self, owner: Owner, span: Span, mode: LockMode) -> Option<&Held> {
        self.held.iter().find(|held| {
            held.request.by != owner
                && held.request.span.overlaps(span)
                && (mode == LockMode::Exclusive || held.request.mode == LockMode::Exclusive)
        })
    }

    /// Everyone `request` has to wait for: holders, and waiters that came before it.
    pub fn blockers(&self, request: &Request) -> Vec<Owner> {
        let behind = self.waiting_for(request);
        let holders = self.held.iter().map(|held| &held.request);
        let earlier = self.waiting.range(..request.waiter);
        let earlier = earlier.filter(|(waiter, _)| !behind.contains(waiter));
        holders
            .chain(earlier.map(|(_, request)| request))
            .filter(|other| other.conflicts(request))
            .map(|other| other.by)
            .collect()
    }

    /// Whether `request` has to wait: [`RangeQueue::blockers`] is not empty.
    pub fn is_blocked(&self, request: &Request) -> bool {
        self.held.iter().any(|held| held.request.conflicts(request)) || {
            let earlier = self.waiting.range(..request.waiter);
            let mut in_the_way = earlier.filter(|(_, other)| other.conflicts(request)).peekable();
            in_the_way.peek().is_some() && {
                let behind = self.waiting_for(request);
                in_the_way.any(|(waiter, _)| !behind.contains(waiter))
            }
        }
    }

    /// The waiters before `request` that wait for its owner: for what that one holds or asked for
    /// before them, directly or behind one that does.
    fn waiting_for(&self, request: &Request) -> BTreeSet<Zxid> {
        let held = self.held.iter().map(|held| &held.request);
        let mut obstacles: Vec<&Request> = held.filter(|held| held.by == request.by).collect();
        let mut behind = BTreeSet::new();
        for (waiter, earlier) in self.waiting.range(..request.waiter) {
            if earlier.by == request.by {
                obstacles.push(earlier);
            } else if obstacles.iter().any(|obstacle| obstacle.conflicts(earlier)) {
                behind.insert(*waiter);
                obstacles.push(earlier);
            }
        }
        behind
    }

    pub fn enqueue(&mut self, request: Request) {
        self.waiting.insert(request.waiter, request);
    }

    /// Hands `request` its range, converting what its owner held there; returns what that frees for
    /// others (an exclusive range that became shared).
    pub fn grant(&mut self, request: Request, token: Zxid) -> Vec<Span> {
        let converted = carve(&mut self.held, request.by, request.span);
        self.held.push(Held { request, token });
        converted.into_iter().map(|piece| piece.request.span).collect()
    }

    /// Gives back what `owner` holds of `span`; returns the spans that are free now.
    pub fn release(&mut self, owner: Owner, span: Span) -> Vec<Span> {
        carve(&mut self.held, owner, span).into_iter().map(|piece| piece.request.span).collect()
    }

    /// Takes one request back, waiting or granted; returns the spans that are free now.
    pub fn withdraw(&mut self, owner: Owner, waiter: Zxid) -> Vec<Span> {
        if self.waiting.get(&waiter).is_some_and(|request| request.by == owner) {
            return self.waiting.remove(&waiter).map(|request| request.span).into_iter().collect();
        }
        self.drop_held(|held| held.by == owner && held.waiter == waiter)
    }

    /// Takes back everything of `owner`; returns the spans that are free now.
    pub fn withdraw_all(&mut self, owner: Owner) -> Vec<Span> {
        let mut freed = self.drop_held(|held| held.by == owner);
        self.waiting.retain(|_, request| {
            if request.by == owner {
                freed.push(request.span);
            }
            request.by != owner
        });
        freed
    }

    fn drop_held(&mut self, which: impl Fn(&Request) -> bool) -> Vec<Span> {
        let mut freed = Vec::new();
        self.held.retain(|held| {
            if which(&held.request) {
                freed.push(held.request.span);
            }
            !which(&held.request)
        });
        freed
    }

    /// Grants what can be granted now that `freed` is free, in the order of asking. Only requests
    /// that overlap it can have become grantable.
    pub fn settle(&mut self, mut freed: Vec<Span>, token: Zxid) -> Vec<Request> {
        let mut granted = Vec::new();
        while !freed.is_empty() {
            let next = self.waiting.values().find(|request| {
                freed.iter().any(|span| span.overlaps(request.span)) && !self.is_blocked(request)
            });
            let Some(waiter) = next.map(|request| request.waiter) else { break };
            if let Some(request) = self.waiting.remove(&waiter) {
                granted.push(request.clone());
                freed.extend(self.grant(request, token));
            }
        }
        granted
    }
}

/// What a request finds before it, summed up.
#[derive(Default)]
struct Before {
    owners: BTreeSet<Owner>,
    /// From the first byte of them all to the last.
    hull: Option<Span>,
    all: usize,
    exclusive: usize,
}

impl Before {
    fn add(&mut self, request: &Request) {
        self.owners.insert(request.by);
        self.hull = Some(self.hull.map_or(request.span, |hull| hull.with(request.span)));
        self.all += 1;
        self.exclusive += usize::from(request.mode == LockMode::Exclusive);
    }

    /// How many of them a request conflicts with, if only modes decide that: it overlaps every
    /// one, and none is its owner's.
    fn count(&self, request: &Request) -> Option<usize> {
        let overlaps_all = self.hull.is_none_or(|hull| request.span.covers(hull));
        (overlaps_all && !self.owners.contains(&request.by)).then_some(match request.mode {
            LockMode::Exclusive => self.all,
            LockMode::Shared => self.exclusive,
        })
    }
}
