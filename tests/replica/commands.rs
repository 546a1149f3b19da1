//! The words of a script.

use crate::world::{EPOCH, Packet, SECOND, World};
use keepfs::replica::{ClientId, Input};
use keepfs::tree::{
    Command, Create, Ino, LEVEL, Lock, LockMode, NewNode, ReplicaId, SessionId, TicketInfo,
};
use std::fmt::Write as _;

/// Runs one line. Numbers name replicas, unless said otherwise.
pub fn run(world: &mut World, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |place: usize| words[place].parse::<u64>().expect(line);
    match words[0] {
        // cluster COUNT [sessions]: founding replicas, all started.
        "cluster" => {
            for id in 1..=number(1) {
                world.add(id, Some(number(1)), words.contains(&"sessions"));
            }
        }
        // new ID: a replica with an empty disk that knows of no cluster.
        "new" => world.add(number(1), None, false),
        "trace" => world.trace = words[1] == "on",
        // run HEARTBEATS: time passes for all, and every message arrives.
        "run" => {
            for _ in 0..number(1) {
                world.tick(&world.ids());
                world.stabilize();
            }
        }
        // tick ID HEARTBEATS: time passes for one; the others sleep.
        "tick" => (0..number(2)).for_each(|_| world.tick(&[number(1)])),
        // pass HEARTBEATS: time passes, and nobody looks at a clock.
        "pass" => world.now += number(1) * crate::world::HEARTBEAT,
        // clock ID SECONDS: its wall clock is so far ahead.
        "clock" => drop(world.clocks.insert(number(1), number(2))),
        "campaign" => campaign(world, number(1)),
        "stabilize" => world.stabilize(),
        // deliver FROM->TO: what is on its way between the two, and nothing that comes of it.
        "deliver" | "drop" => direction(world, words[0], words[1]),
        // keep FROM->TO: what is on its way is late, until `give`; even their restart comes first.
        "keep" => {
            let ends = ends(words[1]);
            let of_it = |packet: &Packet| (packet.from, packet.to) == ends;
            let wire = std::mem::take(&mut world.wire);
            let (kept, left): (Vec<_>, Vec<_>) = wire.into_iter().partition(of_it);
            world.kept.extend(kept);
            world.wire.extend(left);
        }
        "give" => world.wire.append(&mut world.kept),
        // cut FROM->TO, or ID: from and to all others.
        "cut" | "heal" => cut(world, &words),
        "slow" | "fast" => world.nodes.get_mut(&number(1)).expect(line).slow = words[0] == "slow",
        "persist" => world.persist(number(1)),
        "crash" => world.crash(number(1)),
        "start" => world.start(number(1)),
        "snapshot" => world.snapshot(number(1)),
        "lose" => world.nodes[&number(1)].disk.lock().unwrap().lose(number(2)),
        // wipe ID: an empty disk in its place, and nobody notices.
        "wipe" => *world.nodes[&number(1)].disk.lock().unwrap() = crate::disk::Disk::default(),
        // doubt ID: from its next start on, its disk may be an older copy.
        "doubt" => world.nodes.get_mut(&number(1)).expect(line).config.doubtful = true,
        "damage" => world.nodes[&number(1)].disk.lock().unwrap().damage(number(2)),
        // silence ID: its disk writes and sends, but does not report until `report`.
        "silence" => world.nodes.get_mut(&number(1)).expect(line).silent = true,
        "report" => world.report(number(1)),
        // fill ID COUNT: changes, with their answers left out.
        "fill" => fill(world, number(1), number(2)),
        // stray ID: its tree takes an entry that no log has.
        "stray" => stray(world, number(1)),
        // resign ID: it is about to stop.
        "resign" => world.step(number(1), Input::Resign),
        "mount" | "visible" => watch(world, number(1), &words),
        "attach" | "depart" | "arrive" => travel(world, words[0], number(1), number(2)),
        _ => ask(world, line, &words),
    }
}

/// mount ID on|off, visible ID ZXID: of its own mount.
fn watch(world: &mut World, id: u64, words: &[&str]) {
    let client = ClientId::OWN;
    let input = match words[0] {
        "mount" => Input::Watches { client, watches: words[2] == "on" },
        _ => Input::Visible { client, zxid: words[2].parse().expect("a number") },
    };
    world.step(id, input);
}

/// attach ID CLIENT; depart ID CLIENT: it is nowhere until it arrives; arrive ID CLIENT.
fn travel(world: &mut World, what: &str, id: u64, client: u64) {
    let (at, name) = (ClientId(client), format!("c{client}").into_bytes().into());
    match what {
        "attach" => world.step(id, Input::Attach { client: at, name }),
        "depart" => {
            let departed = world.depart(id, at).expect("it is there");
            world.travelling.insert(at, departed);
        }
        _ => {
            let departed = world.travelling.remove(&at).expect("it has left");
            world.arrive(id, at, departed);
        }
    }
}

/// Commands that a replica answers, under the next number.
fn ask(world: &mut World, line: &str, words: &[&str]) {
    let id: u64 = words[1].parse().expect(line);
    match words[0] {
        "status" => return status(world, id),
        "log" => return log(world, id),
        "digests" => return digests(world),
        "time" => return time(world, id),
        _ => world.submitted += 1,
    }
    let caller = world.submitted;
    let member = || words[2].parse::<u64>().expect(line);
    let command = match words[0] {
        "create" => Some(create(words[2])),
        // lock ID INODE: all of it, for nobody else.
        "lock" => Some(lock(Ino(member()))),
        "remove" => Some(remove(words[2])),
        "release" => Some(Command::Release { inodes: vec![Ino(99)] }),
        _ => None,
    };
    if let Some(command) = command {
        // In the session that is believed, or the next; or `... in SESSION`; or `... by CLIENT`.
        let after = |word| words.iter().position(|other| *other == word).map(|at| words[at + 1]);
        let number = |word: &str| word.parse().expect(line);
        return match (after("in"), after("by")) {
            (Some(session), _) => {
                let session = SessionId(number(session));
                world.step(id, Input::Submit { id: caller, session, command });
            }
            (None, Some(client)) => {
                world.submit_by(id, ClientId(number(client)), caller, command);
            }
            (None, None) => world.submit(id, caller, command),
        };
    }
    let input = match words[0] {
        "close" => Input::EndSession { client: ClientId::OWN, id: caller },
        "barrier" => Input::Barrier { id: caller },
        "join" => Input::AddMember {
            id: caller,
            name: words[2].to_owned(),
            address: format!("{}:1", words[2]),
            incarnation: 1,
            level: LEVEL,
        },
        "leave" => Input::RemoveMember { id: caller, member: ReplicaId(member()) },
        _ => panic!("unknown command: {line}"),
    };
    world.step(id, input);
}

fn create(name: &str) -> Command {
    Command::Create(Create {
        parent: Ino::ROOT,
        name: name.as_bytes().into(),
        node: NewNode::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        ticket: None,
        wait: false,
    })
}

fn lock(ino: Ino) -> Command {
    let who = TicketInfo { pid: 7, uid: 0, command: b"flock"[..].into() };
    let (start, end) = (0, i64::MAX as u64);
    Command::Lock(Lock { ino, owner: 1, start, end, mode: LockMode::Exclusive, wait: true, who })
}

fn remove(name: &str) -> Command {
    Command::Unlink { parent: Ino::ROOT, name: name.as_bytes().into() }
}

/// Time passes for one replica until it asks for votes, or leads.
fn campaign(world: &mut World, id: u64) {
    for _ in 0..25 {
        world.tick(&[id]);
        let role = world.nodes[&id].replica.as_ref().map(|replica| replica.status().role);
        if role.is_some_and(|role| role.ends_with("candidate") || role == "leader") {
            return world.stabilize();
        }
    }
    writeln!(world.out, "{id}: does not campaign").unwrap();
}

fn fill(world: &mut World, id: u64, count: u64) {
    for number in 0..count {
        world.submitted += 1;
        world.unheard.insert(world.submitted);
        let command = create(&format!("fill{number}"));
        world.submit(id, world.submitted, command);
        world.stabilize();
    }
}

fn ends(text: &str) -> (u64, u64) {
    let (from, to) = text.split_once("->").expect(text);
    (from.parse().expect(text), to.parse().expect(text))
}

fn direction(world: &mut World, what: &str, text: &str) {
    let ends = ends(text);
    if what == "drop" {
        return world.wire.retain(|packet| (packet.from, packet.to) != ends);
    }
    let waiting = world.wire.iter().filter(|packet| (packet.from, packet.to) == ends).count();
    for _ in 0..waiting {
        world.deliver_one(|packet| (packet.from, packet.to) == ends);
    }
}

fn cut(world: &mut World, words: &[&str]) {
    let Some(what) = words.get(1) else { return world.cut.clear() };
    let pairs = if what.contains("->") {
        vec![ends(what)]
    } else {
        let id: u64 = what.parse().expect(what);
        world.ids().into_iter().flat_map(|other| [(id, other), (other, id)]).collect()
    };
    for pair in pairs {
        match words[0] {
            "cut" => world.cut.insert(pair),
            _ => world.cut.remove(&pair),
        };
    }
}

fn stray(world: &mut World, id: u64) {
    let node = world.nodes.get_mut(&id).expect("such a replica");
    let mut other = keepfs::tree::Tree::new();
    for zxid in 1..=node.tree.zxid() {
        other.skip(zxid);
    }
    node.tree = other;
}

fn status(world: &mut World, id: u64) {
    let Some(replica) = &world.nodes[&id].replica else {
        return writeln!(world.out, "{id}: down").unwrap();
    };
    let s = replica.status();
    let leader = s.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let numbers = |ids: &[ReplicaId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    writeln!(
        world.out,
        "{id}: {} term {} leader {leader} quorum {} commit {} applied {} log {}..{} snapshot {} attentive {:?}",
        s.role,
        s.term,
        s.quorum,
        s.commit,
        s.applied,
        s.log_first,
        s.log_last,
        s.snapshot,
        numbers(&s.attentive),
    )
    .unwrap();
    if let Some(doubt) = s.doubt {
        writeln!(world.out, "{id}: {doubt}").unwrap();
    }
}

/// The newest stamp in a replica's tree, and which clocks it takes for wrong.
fn time(world: &mut World, id: u64) {
    let node = &world.nodes[&id];
    let ahead = node.tree.stamp() as i64 - (EPOCH + world.now) as i64;
    let clocks = node.replica.as_ref().expect("it runs").status().clocks;
    let off: Vec<_> = clocks.iter().filter(|(_, off)| off.unsigned_abs() > SECOND).collect();
    let off =
        off.iter().map(|(id, off)| format!(", clock of {id} off by {:.0} s", *off as f64 / 1e9));
    let off: String = off.collect();
    writeln!(world.out, "{id}: stamped {:.1} s ahead{off}", ahead as f64 / 1e9).unwrap();
}

fn log(world: &mut World, id: u64) {
    let disk = world.nodes[&id].disk.lock().unwrap();
    let entries: Vec<String> = disk.entries().iter().map(crate::show::entry).collect();
    writeln!(world.out, "{id}: {}", entries.join(" ")).unwrap();
}

/// Whether all trees of running replicas are equal, as the digests have it.
fn digests(world: &mut World) {
    let running = world.nodes.values().filter(|node| node.replica.is_some());
    let mut seen: Vec<(u64, u64)> =
        running.map(|node| (node.tree.zxid(), node.tree.digest())).collect();
    seen.dedup();
    let text = match seen.as_slice() {
        [(zxid, _)] => format!("all trees equal at {zxid}"),
        _ => format!("trees at {:?}", seen.iter().map(|(zxid, _)| zxid).collect::<Vec<_>>()),
    };
    writeln!(world.out, "{text}").unwrap();
}
