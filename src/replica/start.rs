//! Starting raft-rs: its settings, what the disk knew, and the first entries of a new cluster.

use super::log::Window;
use super::{LogReader, Recovered, ReplicaConfig};
use crate::error::Error;
use crate::tree::{Member, ReplicaId};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState};
use raft::{RawNode, ReadOnlyOption};
use slog::Drain;

/// Bytes of entries in one append message.
const APPEND_BYTES: u64 = 1 << 20;
/// Append messages on their way to one follower.
const APPENDS_IN_FLIGHT: usize = 256;
/// Bytes of entries applied in one batch: what a reader waits for at most.
pub(super) const APPLY_BYTES: u64 = 1 << 20;
/// Bytes of entries proposed and not yet committed; more are dropped, and proposed again later.
const UNCOMMITTED_BYTES: u64 = 256 << 20;
/// The term of a cluster's first entries, below any election's.
const FOUNDING_TERM: u64 = 1;

/// Ticks of the election timeout's lower end.
pub(super) fn election_base(config: &ReplicaConfig) -> usize {
    (config.election_timeout / config.heartbeat.max(1)) as usize
}

/// raft-rs over the recovered log. A founding replica starts with the founding entries, which are
/// also returned: they must become durable with the first persist job.
pub(super) fn open(
    config: &ReplicaConfig,
    mut recovered: Recovered,
    reader: Box<dyn LogReader>,
) -> Result<(RawNode<Window>, Vec<Entry>), Error> {
    let settings = settings(config, recovered.snapshot.index)?;
    let blank = recovered.hard_state == HardState::default()
        && recovered.snapshot.index == 0
        && recovered.last == 0;
    let founding = match &config.found {
        Some((_, members, ..)) if blank => founding_entries(members),
        _ => Vec::new(),
    };
    if let Some(last) = founding.last() {
        recovered.hard_state.term = last.term;
        recovered.hard_state.commit = last.index;
        (recovered.first, recovered.last, recovered.tail) = (1, last.index, founding.clone());
    }
    let window = Window::recover(config.log, recovered, reader)?;
    let logger = slog::Logger::root(slog_stdlog::StdLog.fuse(), slog::o!());
    let raw = RawNode::new(&settings, window, &logger)
        .map_err(|error| Error::Other(format!("cannot start raft: {error}")))?;
    Ok((raw, founding))
}

fn settings(config: &ReplicaConfig, applied: u64) -> Result<raft::Config, Error> {
    let election_tick = election_base(config);
    if config.heartbeat == 0 || election_tick < 4 {
        let text = "the election timeout must be at least four heartbeats";
        return Err(Error::Configuration(text.to_owned()));
    }
    let settings = raft::Config {
        id: config.id.0,
        election_tick,
        heartbeat_tick: 1,
        applied,
        max_size_per_msg: APPEND_BYTES,
        max_inflight_msgs: APPENDS_IN_FLIGHT,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: election_tick,
        max_election_tick: 2 * election_tick,
        read_only_option: ReadOnlyOption::Safe,
        // A follower's own proposals are answered when it learns of the commit.
        skip_bcast_commit: false,
        batch_append: true,
        priority: 0,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        max_committed_size_per_ready: APPLY_BYTES,
    };
    settings.validate().map_err(|error| Error::Configuration(error.to_string()))?;
    Ok(settings)
}

/// The same on every founding replica: one membership change a member. With the first members in
/// the log itself, a replica that joins later learns the whole history from it, and needs no
/// snapshot of a cluster that never took one.
fn founding_entries(members: &[Member]) -> Vec<Entry> {
    let mut ids: Vec<ReplicaId> = members.iter().map(|member| member.id).collect();
    ids.sort();
    ids.dedup();
    let entry = |(number, id): (usize, &ReplicaId)| {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.term = FOUNDING_TERM;
        entry.index = number as u64 + 1;
        entry.data = change_one(*id, ConfChangeType::AddNode)
            .write_to_bytes()
            .expect("a message encodes into memory")
            .into();
        entry
    };
    ids.iter().enumerate().map(entry).collect()
}

/// A membership change of one replica; it needs no joint configuration.
pub(super) fn change_one(id: ReplicaId, how: ConfChangeType) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(how);
    single.node_id = id.0;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change
}
