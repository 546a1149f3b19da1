//! Nodes in one process, with real disks: what a cluster promises through restarts, lag and growth.

#[path = "support/key.rs"]
mod key;

use keepfs::disk::{FaultInjector, FileOperation};
use keepfs::node::{Answer, Cluster as _, Event, Failure, Node, NodeConfig, Program, Start};
use keepfs::tree::{Command, Create, Ino, NewNode, Place, Refusal, Reply, TreeLimits, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

fn free_ports(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

fn config(name: &str, listen: &str, data: &Path, start: Start) -> NodeConfig {
    NodeConfig {
        program: Program::this(),
        name: name.into(),
        data: data.to_path_buf(),
        listen: listen.into(),
        key: Some(key::give(data)),
        start,
        op_timeout: Duration::from_secs(5),
        session_timeout: Duration::from_secs(5),
        election_timeout: Duration::from_millis(400),
        heartbeat: Duration::from_millis(50),
        visibility_timeout: Duration::from_millis(200),
        limits: TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 },
    }
}

/// A cluster whose nodes can be stopped and started again.
struct Cluster {
    /// Before the directories: dropped in this order.
    nodes: Vec<Option<Node>>,
    names: Vec<String>,
    addresses: Vec<String>,
    directories: Vec<TempDir>,
}

impl Cluster {
    fn start(names: &[&str]) -> Cluster {
        let _ = env_logger::try_init(); // RUST_LOG=info and --nocapture tell what the nodes say.
        let mut cluster = Cluster {
            names: names.iter().map(|name| name.to_string()).collect(),
            addresses: free_ports(names.len()),
            directories: names.iter().map(|_| tempfile::tempdir().unwrap()).collect(),
            nodes: names.iter().map(|_| None).collect(),
        };
        (0..names.len()).for_each(|at| cluster.start_one(at));
        cluster
    }

    fn bootstrap(&self) -> Vec<(String, String)> {
        self.names.iter().cloned().zip(self.addresses.iter().cloned()).collect()
    }

    fn config(&self, at: usize) -> NodeConfig {
        let data = self.directories[at].path();
        config(&self.names[at], &self.addresses[at], data, Start::Bootstrap(self.bootstrap()))
    }

    fn start_one(&mut self, at: usize) {
        self.nodes[at] = Some(Node::start(self.config(at)).unwrap());
    }

    fn stop_one(&mut self, at: usize) {
        self.nodes[at].take().unwrap().stop();
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
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

fn submit(node: &Node, command: Command) -> Answer {
    node.wait_for_session().and_then(|session| node.submit_and_wait(session, command))
}

fn make(node: &Node, name: &str) -> Ino {
    match submit(node, create(name)) {
        Ok(Reply::Created { ino, .. }) => ino,
        other => panic!("create {name}: {other:?}"),
    }
}

fn write(node: &Node, ino: Ino, data: Vec<u8>) {
    let write = Write { ino, place: Place::Replace(0), data: data.into(), clear_set_id: false };
    let reply = submit(node, Command::Write(write));
    assert!(matches!(reply, Ok(Reply::Written { .. })), "{reply:?}");
}

fn has(node: &Node, name: &str) -> bool {
    node.tree().lookup(Ino::ROOT, name.as_bytes()).is_ok()
}

fn ready(node: &Node) {
    eventually("a session opens", || node.session().is_some());
}

#[test]
fn one_node_answers_and_finds_its_data_after_a_restart() {
    let mut cluster = Cluster::start(&["solo"]);
    let node = cluster.node(0);
    ready(node);
    let ino = make(node, "kept");
    write(node, ino, b"content".to_vec());
    assert_eq!(submit(node, create("kept")), Err(Failure::Refused(Refusal::AlreadyExists)));
    let before = node.status();
    assert_eq!((before.role.as_str(), before.quorum), ("leader", true));
    let cluster_id = before.cluster.clone();
    assert!(cluster_id.is_some());
    cluster.stop_one(0);
    cluster.start_one(0);
    let node = cluster.node(0);
    ready(node);
    assert_eq!(node.tree().read(ino, 0, 100).unwrap(), b"content");
    assert_eq!(node.status().cluster, cluster_id);
    make(node, "more");
}

#[test]
fn what_one_node_writes_every_node_shows() {
    let cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    for at in 0..3 {
        make(cluster.node(at), &format!("from-{at}"));
    }
    for at in 0..3 {
        eventually("all see all", || (0..3).all(|by| has(cluster.node(at), &format!("from-{by}"))));
    }
    eventually("equal digests", || {
        let seen: Vec<_> = (0..3)
            .map(|at| {
                let status = cluster.node(at).status();
                (status.applied, status.digest)
            })
            .collect();
        seen.iter().all(|one| *one == seen[0])
    });
    let status = cluster.node(0).status();
    assert_eq!(status.members.len(), 3);
    eventually("a leader is named", || cluster.node(1).status().leader.is_some());
}

#[test]
fn a_listener_hears_every_change_in_order() {
    let cluster = Cluster::start(&["solo"]);
    let node = cluster.node(0);
    ready(node);
    let events = node.subscribe(None);
    assert!(matches!(events.next(None), Ok(Event::SessionOpened(s)) if Some(s) == node.session()));
    let listener = std::thread::spawn({
        let node = node.clone();
        move || {
            let (mut last, mut changes) = (0, 0);
            while let Ok(event) = events.next(None) {
                match event {
                    Event::Batch(batch) => {
                        for applied in &batch.applied {
                            assert!(applied.zxid > last, "{} after {last}", applied.zxid);
                            last = applied.zxid;
                            changes += applied.changes.len();
                        }
                        node.made_visible(batch.last);
                    }
                    Event::Stopping => break,
                    _ => {}
                }
            }
            changes
        }
    });
    for n in 0..20 {
        make(node, &format!("n{n}"));
    }
    node.stop();
    assert!(listener.join().unwrap() >= 20);
}

#[test]
fn writes_go_on_without_one_of_three_and_it_catches_up() {
    let mut cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    make(cluster.node(0), "before");
    cluster.stop_one(2);
    (0..2).for_each(|at| {
        eventually("changes commit with two", || {
            let name = format!("during-{at}");
            submit(cluster.node(at), create(&name)).is_ok()
        });
    });
    cluster.start_one(2);
    eventually("the third has caught up", || {
        ["before", "during-0", "during-1"].iter().all(|name| has(cluster.node(2), name))
    });
}

#[test]
fn without_a_quorum_changes_fail_and_reads_go_on() {
    let mut cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    make(cluster.node(0), "kept");
    eventually("replicated", || has(cluster.node(0), "kept"));
    cluster.stop_one(1);
    cluster.stop_one(2);
    let started = Instant::now();
    let answer = submit(cluster.node(0), create("lost"));
    assert!(
        matches!(answer, Err(Failure::NoQuorum | Failure::Unknown | Failure::SessionLost)),
        "{answer:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(has(cluster.node(0), "kept"));
    eventually("the status says why", || {
        let status = cluster.node(0).status();
        !status.quorum && status.reason.is_some_and(|why| why.contains('b') && why.contains('c'))
    });
    cluster.start_one(1);
    ready(cluster.node(0));
    eventually("changes commit again", || {
        submit(cluster.node(0), create(&format!("t{:?}", Instant::now()))).is_ok()
    });
}

#[test]
fn all_at_once_stopped_and_started_lose_nothing() {
    let mut cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    for round in 0..3 {
        for at in 0..3 {
            eventually("made", || {
                let name = format!("r{round}-{at}");
                let answer = submit(cluster.node(at), create(&name));
                matches!(answer, Ok(_) | Err(Failure::Refused(Refusal::AlreadyExists)))
            });
        }
        (0..3).for_each(|at| cluster.stop_one(at));
        (0..3).for_each(|at| cluster.start_one(at));
        (0..3).for_each(|at| ready(cluster.node(at)));
    }
    eventually("everything is there", || {
        (0..9).all(|n| has(cluster.node(n % 3), &format!("r{}-{}", n / 3, n % 3)))
    });
}

/// Overwrites one file until the log has been compacted by a snapshot.
fn write_until_compacted(node: &Node, ino: Ino) {
    let end = Instant::now() + PATIENCE;
    while node.status().snapshot == 0 {
        assert!(Instant::now() < end, "no snapshot in time");
        for fill in 0..8 {
            write(node, ino, vec![fill; 1 << 20]);
        }
    }
}

#[test]
fn a_follower_behind_the_log_gets_a_snapshot_and_a_fourth_replica_joins() {
    let mut cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    let ino = make(cluster.node(0), "big");
    cluster.stop_one(2);
    eventually("two agree", || submit(cluster.node(0), create("start")).is_ok());
    write_until_compacted(cluster.node(0), ino);
    make(cluster.node(0), "after");
    cluster.start_one(2);
    eventually("the lagging one has it", || has(cluster.node(2), "after"));
    assert_eq!(cluster.node(2).tree().read(ino, 0, 2 << 20).unwrap().len(), 1 << 20);
    let restored = cluster.node(2).metrics();
    assert!(restored.contains("snapshots_restored_total 1"), "{restored}");

    let directory = tempfile::tempdir().unwrap();
    let listen = free_ports(1).remove(0);
    let join = Start::Join(vec![cluster.addresses[1].clone()]);
    let fourth = Node::start(config("d", &listen, directory.path(), join)).unwrap();
    assert!(fourth.id().0 > 3, "ids are never given twice");
    ready(&fourth);
    assert!(has(&fourth, "after"));
    make(&fourth, "from-the-fourth");
    eventually("the others see it", || (0..3).all(|at| has(cluster.node(at), "from-the-fourth")));
    eventually("it votes", || cluster.node(0).members().iter().all(|member| !member.learner));
    fourth.stop();
    drop(fourth);
    let again = Node::start(config("d", &listen, directory.path(), Start::Existing)).unwrap();
    ready(&again);
    assert!(has(&again, "from-the-fourth"));
}

#[test]
fn of_two_replicas_the_leader_can_be_removed_and_the_other_goes_on() {
    let cluster = Cluster::start(&["a", "b"]);
    (0..2).for_each(|at| ready(cluster.node(at)));
    let leader = cluster.node(0).status().leader.expect("a leader");
    let (removed, stays) = if leader == "a" { (0, 1) } else { (1, 0) };
    let members = cluster.node(stays).remove_member(cluster.node(removed).id()).unwrap();
    assert_eq!(members.len(), 1);
    eventually("the removed one is told and stops", || {
        cluster.node(removed).failed().is_some_and(|why| why.contains("was removed"))
    });
    make(cluster.node(stays), "after");
}

#[test]
fn a_replica_that_was_away_when_it_was_removed_stops_when_it_comes_back() {
    let mut cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    let id = cluster.node(2).id();
    cluster.stop_one(2);
    cluster.node(0).remove_member(id).unwrap();
    cluster.start_one(2);
    eventually("it is told and stops", || {
        cluster.node(2).failed().is_some_and(|why| why.contains("was removed"))
    });
}

#[test]
fn a_snapshot_and_the_log_after_it_make_the_same_tree_again() {
    let mut cluster = Cluster::start(&["solo"]);
    ready(cluster.node(0));
    let ino = make(cluster.node(0), "big");
    write_until_compacted(cluster.node(0), ino);
    write(cluster.node(0), ino, b"last words".to_vec());
    cluster.stop_one(0);
    cluster.start_one(0);
    ready(cluster.node(0));
    assert_eq!(cluster.node(0).tree().read(ino, 0, 100).unwrap(), b"last words");
}

#[test]
fn a_full_disk_stops_the_replica_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(&["solo"]);
    ready(cluster.node(0));
    cluster.stop_one(0);
    let full = Arc::new(AtomicBool::new(false));
    let faults: FaultInjector = Arc::new({
        let full = full.clone();
        move |operation, _| match operation {
            FileOperation::Write if full.load(Ordering::Relaxed) => {
                Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
            }
            _ => Ok(()),
        }
    });
    let node = Node::start_with_faults(cluster.config(0), Some(faults)).unwrap();
    ready(&node);
    make(&node, "kept");
    full.store(true, Ordering::Relaxed);
    assert_eq!(submit(&node, create("lost")), Err(Failure::Stopping));
    let why = node.failed().unwrap();
    assert!(why.contains("No space left") && why.contains(".raftlog"), "{why}");
    assert_eq!(node.status().reason, Some(why));
    assert!(has(&node, "kept"), "reads go on");
    node.stop();
    drop(node);
    cluster.start_one(0);
    ready(cluster.node(0));
    assert!(has(cluster.node(0), "kept"));
}

fn refusal(config: NodeConfig) -> String {
    Node::start(config).err().expect("must be refused").to_string()
}

#[test]
fn what_does_not_fit_is_refused_with_advice() {
    let mut cluster = Cluster::start(&["a"]);
    ready(cluster.node(0));
    let other = free_ports(1).remove(0);
    let data = cluster.directories[0].path().to_path_buf();
    let fresh = tempfile::tempdir().unwrap();
    let list = cluster.bootstrap();
    let own = || Start::Bootstrap(list.clone());
    let text = refusal(config("a", &other, &data, own()));
    assert!(text.contains("in use by process"), "{text}");
    let text = refusal(config("a", &cluster.addresses[0], fresh.path(), own()));
    assert!(text.contains("port is in use") && text.contains("--listen"), "{text}");
    let text = refusal(config("a", &other, fresh.path(), Start::Existing));
    assert!(text.contains("--bootstrap") && text.contains("--join"), "{text}");
    let text = refusal(config("b", &other, fresh.path(), own()));
    assert!(text.contains("does not name this replica"), "{text}");
    cluster.stop_one(0);
    let text = refusal(config("b", &other, &data, own()));
    assert!(text.contains("belongs to replica \"a\", not \"b\""), "{text}");
}

#[test]
fn a_foreign_cluster_s_replica_is_turned_away() {
    let theirs = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(theirs.node(at)));
    let mut ours = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(ours.node(at)));
    make(theirs.node(0), "theirs");
    // One of ours comes up where the others of ours expect it, with a directory of theirs.
    ours.stop_one(2);
    let mut theirs = theirs;
    theirs.stop_one(2);
    ours.directories.swap(2, 1);
    let stolen = theirs.directories.remove(2);
    let (data, start) = (stolen.path().to_path_buf(), Start::Existing);
    let stray = Node::start(NodeConfig { data, start, ..ours.config(2) }).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    make(ours.node(0), "ours");
    assert!(!has(&stray, "ours") && !has(ours.node(0), "theirs"));
    let seen = ours.node(0).status().members[2].heard_secs_ago;
    assert!(seen.is_none_or(|secs| secs > 1.0), "heard {seen:?} s ago");
}

#[test]
fn a_barrier_answers_when_everything_before_it_is_here() {
    let cluster = Cluster::start(&["a", "b", "c"]);
    (0..3).for_each(|at| ready(cluster.node(at)));
    for n in 0..20 {
        let name = format!("n{n}");
        make(cluster.node(n % 3), &name);
        let reader = cluster.node((n + 1) % 3);
        let (tell, told) = crossbeam_channel::bounded(1);
        reader.barrier(Box::new(move |answer| drop(tell.send(answer))));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(Reply::Done));
        assert!(has(reader, &name), "{name}");
    }
}
