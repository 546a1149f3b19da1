//! Clients that go from host to host with their sessions.

use crate::session::{Client, ClientId};
use std::collections::BTreeMap;

/// Questions of theirs are numbered from here on.
pub(super) const FIRST_QUESTION: u64 = 1 << 48;
pub(super) const TRAVELLERS: usize = 2;

#[derive(Default)]
pub(super) struct Travellers {
    pub all: Vec<Traveller>,
    pub attached: u64,
    pub asked: u64,
    /// The file that a question asks for.
    pub waiting: BTreeMap<u64, String>,
    pub acknowledged: Vec<String>,
}

pub(super) enum Traveller {
    Nowhere,
    /// Until that host starts anew.
    At {
        host: usize,
        boot: u64,
        client: ClientId,
    },
    Between(Box<Client>),
}
