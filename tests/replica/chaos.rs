//! Clusters under random faults, and replicas that are told nonsense. Each history comes from a
//! seed, which a failure names.

use crate::world::World;
use keepfs::replica::{ClientId, Input, PeerMessage};
use keepfs::tree::{Command, Create, Ino, NewNode, ReplicaId, SessionId};
use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};
use std::collections::BTreeMap;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn create(name: String) -> Command {
    Command::Create(Create {
        parent: Ino::ROOT,
        name: name.into_bytes().into(),
        node: NewNode::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        ticket: None,
        wait: false,
    })
}

/// One random event.
fn disturb(world: &mut World, dice: &mut Dice) {
    let id = dice.roll(3) + 1;
    let running = world.nodes[&id].replica.is_some();
    let waiting = world.wire.len() as u64;
    match dice.roll(200) {
        0..60 => world.tick(&[1, 2, 3]),
        60..120 => (0..=dice.roll(waiting + 2)).for_each(|_| deliver_any(world, dice)),
        120..150 => world.stabilize(),
        150..170 if running => {
            world.submitted += 1;
            let command = create(format!("f{}", world.submitted));
            world.submit(id, world.submitted, command);
        }
        170..175 => {
            let packet = world.wire.remove(dice.roll(waiting + 1) as usize);
            packet.into_iter().for_each(|packet| world.lose(packet));
        }
        175..178 => world.nodes.get_mut(&id).unwrap().slow = true,
        178..186 => {
            world.nodes.get_mut(&id).unwrap().slow = false;
            world.persist(id);
        }
        186 if running => world.crash(id),
        187..192 if !running => world.start(id),
        192 | 193 if running => world.snapshot(id),
        195 => drop(world.cut.insert((id, dice.roll(3) + 1))),
        196 => (1..=3).for_each(|other| world.cut.extend([(id, other), (other, id)])),
        197 => world.cut.clear(),
        _ => {}
    }
}

/// The next packet between two replicas that are picked.
fn deliver_any(world: &mut World, dice: &mut Dice) {
    let place = dice.roll(world.wire.len().max(1) as u64) as usize;
    let ends = world.wire.get(place).map(|packet| (packet.from, packet.to));
    world.deliver_one(|packet| Some((packet.from, packet.to)) == ends);
}

/// Trees at equal indexes are equal, on every replica, at every moment.
fn compare(world: &World, digests: &mut BTreeMap<u64, u64>, seed: u64) {
    for node in world.nodes.values().filter(|node| node.replica.is_some()) {
        let (zxid, digest) = (node.tree.zxid(), node.tree.digest());
        let known = *digests.entry(zxid).or_insert(digest);
        assert_eq!(known, digest, "seed {seed}: trees differ at {zxid}");
    }
}

/// Nobody believes in a session that the log has ended: its locks may be another's by now.
fn check_beliefs(world: &World, seed: u64) {
    let running = || world.nodes.values().filter(|node| node.replica.is_some());
    for session in running().filter_map(|node| node.replica.as_ref()?.session(ClientId::OWN)) {
        for node in running().filter(|node| node.tree.zxid() >= session.0) {
            let alive = node.tree.session(session).is_some();
            assert!(alive, "seed {seed}: {session} is believed in, and ended in the log");
        }
    }
}

/// The names whose creation was acknowledged.
fn acknowledged(out: &str) -> Vec<String> {
    let created = out.lines().filter(|line| line.contains("Created"));
    let caller = |line: &str| line.split(['#', ' ']).nth(2).unwrap_or_default().to_owned();
    created.map(|line| format!("f{}", caller(line))).collect()
}

fn history(seed: u64, events: u64) -> String {
    let (mut world, mut dice) = (World::new(), Dice(seed));
    (1..=3).for_each(|id| world.add(id, Some(3), true));
    let mut digests = BTreeMap::new();
    for _ in 0..25 {
        world.tick(&[1, 2, 3]);
        world.stabilize();
    }
    for _ in 0..events {
        disturb(&mut world, &mut dice);
        compare(&world, &mut digests, seed);
        check_beliefs(&world, seed);
    }
    world.cut.clear();
    for id in 1..=3 {
        world.nodes.get_mut(&id).unwrap().slow = false;
        if world.nodes[&id].replica.is_none() {
            world.start(id);
        }
        world.persist(id);
    }
    for _ in 0..150 {
        world.tick(&[1, 2, 3]);
        world.stabilize();
        compare(&world, &mut digests, seed);
    }
    let names = acknowledged(&world.out);
    for (id, node) in &world.nodes {
        assert!(node.replica.is_some(), "seed {seed}: replica {id} stopped:\n{}", world.out);
        assert_eq!(node.tree.zxid(), world.nodes[&1].tree.zxid(), "seed {seed}: {id} lags");
        for name in &names {
            let found = node.tree.lookup(Ino::ROOT, name.as_bytes());
            assert!(found.is_ok(), "seed {seed}: {name} was acknowledged, {id} has it not");
        }
    }
    world.out
}

#[test]
fn random_faults_lose_nothing_and_part_no_trees() {
    let first: u64 = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let count: u64 = std::env::var("SEEDS").map_or(25, |count| count.parse().unwrap());
    let acknowledged: usize = (first..first + count)
        .map(|seed| history(seed, 1500))
        .map(|out| acknowledged(&out).len())
        .sum();
    assert!(acknowledged as u64 > count * 10, "the histories do nothing: {acknowledged}");
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(history(7, 800), history(7, 800));
}

const TYPES: [MessageType; 19] = [
    MessageType::MsgHup,
    MessageType::MsgBeat,
    MessageType::MsgPropose,
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgUnreachable,
    MessageType::MsgSnapStatus,
    MessageType::MsgCheckQuorum,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// A message of any type with numbers that mostly make no sense.
fn nonsense(dice: &mut Dice, from: u64, to: u64) -> Message {
    let number = |dice: &mut Dice| match dice.roll(8) {
        0 => u64::MAX - dice.roll(3),
        1 => 0,
        _ => dice.roll(14),
    };
    let mut message = Message::default();
    message.set_msg_type(TYPES[dice.roll(19) as usize]);
    (message.from, message.to) = (from, to);
    message.term = 2 + dice.roll(4) * dice.roll(2);
    (message.log_term, message.index) = (number(dice), number(dice));
    (message.commit, message.commit_term) = (number(dice), number(dice));
    (message.reject_hint, message.request_snapshot) = (number(dice), number(dice));
    message.reject = dice.roll(2) == 0;
    for place in 0..dice.roll(3) {
        let mut entry = Entry::default();
        let follows = dice.roll(4) > 0;
        entry.index = if follows { message.index.wrapping_add(place + 1) } else { number(dice) };
        entry.term = if follows { message.term } else { number(dice) };
        message.mut_entries().push(entry);
    }
    message
}

#[test]
fn nonsense_from_a_peer_panics_nobody() {
    for seed in 0..300 {
        let (mut world, mut dice) = (World::new(), Dice(seed));
        (1..=3).for_each(|id| world.add(id, Some(3), true));
        for _ in 0..25 {
            world.tick(&[1, 2, 3]);
            world.stabilize();
        }
        for _ in 0..60 {
            let (from, to) = (dice.roll(4) + 1, dice.roll(3) + 1);
            let bytes = nonsense(&mut dice, from, to).write_to_bytes().unwrap();
            let message = match dice.roll(12) {
                0 => PeerMessage::Raft(bytes[..bytes.len() / 2].to_vec()),
                1 => PeerMessage::KeepAliveAck { sessions: vec![SessionId(6)], sent: u64::MAX },
                2 => PeerMessage::Visible { zxid: u64::MAX },
                3 => PeerMessage::Leave { id: 1, member: ReplicaId(dice.roll(9)) },
                _ => PeerMessage::Raft(bytes.clone()),
            };
            let from = ReplicaId(from);
            if dice.roll(10) == 0 {
                world.step(to, Input::SnapshotArrived { from, message: bytes });
            } else {
                world.step(to, Input::Received { from, message });
            }
            if dice.roll(4) == 0 {
                world.tick(&[1, 2, 3]);
            }
        }
    }
}

/// Every kind of message, with each number in turn beyond what a cluster can get to.
fn absurd(from: u64, to: u64, mut give: impl FnMut(Message)) {
    let fields: [fn(&mut Message, u64); 6] = [
        |message, number| message.term = number,
        |message, number| message.log_term = number,
        |message, number| message.index = number,
        |message, number| message.commit = number,
        |message, number| message.reject_hint = number,
        |message, number| message.mut_snapshot().mut_metadata().index = number,
    ];
    for kind in TYPES {
        for (power, set) in (41..64).flat_map(|power| fields.map(|set| (power, set))) {
            let mut message = Message::default();
            message.set_msg_type(kind);
            (message.from, message.to) = (from, to);
            (message.term, message.log_term, message.index) = (2, 2, 9);
            let metadata = message.mut_snapshot().mut_metadata();
            (metadata.index, metadata.term) = (9, 2);
            metadata.mut_conf_state().set_voters(vec![1, 2, 3]);
            set(&mut message, 1 << power);
            give(message);
        }
    }
}

#[test]
fn no_message_leads_a_cluster_to_absurd_terms_or_indexes() {
    let mut world = World::new();
    (1..=3).for_each(|id| world.add(id, Some(3), true));
    let run = |world: &mut World| {
        for _ in 0..40 {
            world.tick(&[1, 2, 3]);
            world.stabilize();
        }
    };
    run(&mut world);
    for (from, to) in [(3, 1), (3, 2), (1, 2), (1, 3), (2, 1), (2, 3)] {
        absurd(from, to, |message| {
            let bytes = message.write_to_bytes().unwrap();
            let from = ReplicaId(from);
            let input = match message.get_msg_type() {
                MessageType::MsgSnapshot => Input::SnapshotArrived { from, message: bytes },
                _ => Input::Received { from, message: PeerMessage::Raft(bytes) },
            };
            world.step(to, input);
        });
    }
    run(&mut world);
    world.submit(1, 1, create("f1".to_owned()));
    run(&mut world);
    assert_eq!(acknowledged(&world.out), ["f1"], "{}", world.out);
    for (id, node) in &world.nodes {
        let status = node.replica.as_ref().expect("it runs").status();
        assert!(status.term < 100 && status.log_last < 100, "{id}: {status:?}");
    }
}
