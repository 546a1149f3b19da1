//! Clients of a cluster, each with a session of its own, which goes with them from node to node.

#[path = "support/mod.rs"]
mod support;

use keepfs::cluster::{Answer, Cluster, Failure};
use keepfs::mount::{Mount, MountConfig};
use keepfs::node::{Node, NodeClient, NodeConfig, Program, Start};
use keepfs::tree::{Command, Create, Ino, NewNode, Refusal, Reply, SessionId, TreeLimits};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::can_mount;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Nodes {
    /// Before the directories: dropped in this order.
    nodes: Vec<Node>,
    _directories: Vec<TempDir>,
}

/// So many nodes on loopback.
fn start(count: usize) -> Nodes {
    let _ = env_logger::try_init(); // RUST_LOG=info and --nocapture tell what the nodes say.
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> =
        listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    drop(listeners);
    let names = &["a", "b", "c"][..count];
    let all: Vec<_> = names.iter().map(|name| name.to_string()).zip(addresses).collect();
    let directories: Vec<TempDir> = names.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    let start = |((name, listen), data): (&(String, String), &TempDir)| {
        let config = NodeConfig {
            name: name.clone(),
            data: data.path().to_path_buf(),
            listen: listen.clone(),
            key: Some(support::key::give(data.path())),
            program: Program::this(),
            start: Start::Bootstrap(all.clone()),
            op_timeout: Duration::from_secs(20),
            session_timeout: Duration::from_secs(20),
            election_timeout: Duration::from_millis(400),
            heartbeat: Duration::from_millis(50),
            // However loaded the machine is, mounts are waited for.
            visibility_timeout: Duration::from_secs(10),
            limits: TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 },
        };
        Node::start(config).unwrap()
    };
    Nodes { nodes: all.iter().zip(&directories).map(start).collect(), _directories: directories }
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

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_client_has_a_session_of_its_own() {
    let cluster = start(3);
    let node = &cluster.nodes[0];
    let clients: Vec<NodeClient> =
        (0..10).map(|n| node.attach(format!("client {n}").as_bytes())).collect();
    let sessions: BTreeSet<SessionId> =
        clients.iter().map(|client| client.wait_for_session().unwrap()).collect();
    assert_eq!(sessions.len(), 10);
    assert!(!sessions.contains(&node.wait_for_session().unwrap()));
    let named = node.tree().session(*sessions.first().unwrap()).unwrap();
    assert_eq!(&*named.host, b"a");
    assert!(named.client.starts_with(b"client "));
    // One that comes again under the same name takes the place of the first.
    let first = clients[3].session().unwrap();
    let again = node.attach(b"client 3");
    assert_ne!(again.wait_for_session().unwrap(), first);
    eventually("the first is over", || node.tree().session(first).is_none());
    // One that leaves ends its session, and no other.
    let left = clients[4].session().unwrap();
    drop(clients);
    eventually("those that left are over", || node.tree().session(left).is_none());
    assert!(node.tree().session(again.session().unwrap()).is_some());
}

/// Many changes on their way at each move, and a leader that stops in between.
#[test]
fn a_client_goes_from_node_to_node_and_nothing_is_lost_or_done_twice() {
    const MOVES: usize = 30;
    const CHANGES: usize = 40;
    let cluster = start(3);
    let mut client = Some(cluster.nodes[0].attach(b"traveller"));
    let session = client.as_ref().unwrap().wait_for_session().unwrap();
    let (made, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = |answer: Answer, made: &AtomicUsize, wrong: &AtomicUsize| match answer {
        Ok(Reply::Created { .. }) => drop(made.fetch_add(1, Ordering::Relaxed)),
        other => {
            eprintln!("{other:?}");
            wrong.fetch_add(1, Ordering::Relaxed);
        }
    };
    for at in 0..MOVES {
        let here = client.take().unwrap();
        for change in 0..CHANGES {
            let (made, wrong) = (Arc::clone(&made), Arc::clone(&wrong));
            let command = create(&format!("{at}-{change}"));
            let done = move |answer| count(answer, &made, &wrong);
            here.submit(session, command, Box::new(done));
        }
        if at == MOVES / 2 {
            let leader = cluster.nodes.iter().find(|node| node.status().role == "leader");
            let next = (at + 1) % 3;
            let to = cluster.nodes[next].id();
            if leader.is_some_and(|leader| leader.id() != to) {
                cluster.nodes[next].transfer_leadership(to).unwrap();
            }
        }
        let departed = here.depart().expect("the node runs");
        client = Some(cluster.nodes[(at + 1) % 3].arrive(departed));
    }
    eventually("all is answered", || {
        made.load(Ordering::Relaxed) + wrong.load(Ordering::Relaxed) == MOVES * CHANGES
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    let client = client.unwrap();
    assert_eq!(client.wait_for_session(), Ok(session), "it is the session it began with");
    for (at, change) in [(0, 0), (MOVES / 2, 0), (MOVES - 1, CHANGES - 1)] {
        let again = client.submit_and_wait(session, create(&format!("{at}-{change}")));
        assert_eq!(again, Err(Failure::Refused(Refusal::AlreadyExists)));
    }
}

/// C1: also of two kernels on one replica, each with things in its memory, and with none.
#[test]
fn two_mounts_of_one_node_show_each_change_at_once() {
    if !can_mount() {
        return;
    }
    let cluster = start(1);
    let node = &cluster.nodes[0];
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let second = node.attach(b"second");
    node.wait_for_session().unwrap();
    second.wait_for_session().unwrap();
    let mounts = [
        Mount::start(Arc::new(node.clone()), MountConfig::new(places[0].path())).unwrap(),
        Mount::start(Arc::new(second), MountConfig::new(places[1].path())).unwrap(),
    ];
    let known = |at: usize| places[at].path().join("known");
    fs::write(known(0), "").unwrap();
    for n in 0..200 {
        let (writer, reader) = (n % 2, (n + 1) % 2);
        // The reader's kernel holds the file, its size and its data.
        let text = format!("{n}").repeat(1 + n % 5);
        fs::write(known(writer), &text).unwrap();
        assert_eq!(fs::metadata(known(reader)).unwrap().len(), text.len() as u64, "{n}");
        assert_eq!(fs::read_to_string(known(reader)).unwrap(), text);
        // It holds nothing of this one, but for its absence.
        let name = format!("new {n}");
        assert!(!places[reader].path().join(&name).exists());
        fs::write(places[writer].path().join(&name), "").unwrap();
        assert!(places[reader].path().join(&name).exists(), "{name}");
        fs::remove_file(places[reader].path().join(&name)).unwrap();
        assert!(!places[writer].path().join(&name).exists(), "{name}");
    }
    mounts.into_iter().for_each(|mount| mount.unmount());
}
