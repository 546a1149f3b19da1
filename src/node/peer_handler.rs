//! What peers tell and ask this replica, handed on to those who know.

use super::shared::{Job, Shared};
use super::{acquaintance, tokens};
use crate::peers::{Denial, PeerHandler, TurnedAway};
use crate::replica::{Input, PeerMessage};
use crate::tree::{Incarnation, Level, Member, ReplicaId, Zxid};

/// Messages of peers that wait for the driver before their connections are no longer read.
const INBOX_CROWDED: usize = 4096;

impl PeerHandler for Shared {
    fn received(&self, from: ReplicaId, messages: Vec<PeerMessage>) {
        self.inbox.send_all_within(INBOX_CROWDED, [Job::Received { from, messages }]);
    }

    fn unreachable(&self, peer: ReplicaId) {
        let _ = self.inbox.send(Job::Input(Input::Unreachable { peer }));
    }

    fn applied(&self) -> Zxid {
        self.tree.read().zxid()
    }

    fn join(
        &self,
        name: &str,
        address: &str,
        incarnation: Incarnation,
        level: Level,
    ) -> Result<Vec<Member>, String> {
        let (name, address) = (name.to_string(), address.to_string());
        let job = |answer| Job::AddMember { name, address, incarnation, level, answer };
        self.change_members(job)
    }

    fn redeem(&self, token: u64, name: &str, joiner: u64) -> Result<(), Denial> {
        tokens::redeem(self, token, name, joiner)
    }

    fn admits_mounts(&self, token: u64) -> bool {
        self.tree.read().admits_mounts(token)
    }

    fn meet(&self, id: ReplicaId, incarnation: Incarnation, start: u64) -> Result<(), String> {
        acquaintance::meet(self, id, incarnation, start)
    }

    fn remembered(&self, id: ReplicaId) -> u64 {
        self.identity.lock().heard.get(&id).copied().unwrap_or_default()
    }

    fn has_lived_through(&self, start: u64) -> bool {
        self.starts.contains(start)
    }

    fn is_copy(&self, why: &str) {
        self.refused(why.to_string());
    }

    fn turned_away(&self, by: ReplicaId, why: &TurnedAway) {
        acquaintance::turned_away(self, by, why);
    }
}
