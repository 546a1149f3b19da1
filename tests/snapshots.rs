//! What a replica makes of snapshots that it is sent.

#[path = "support/key.rs"]
mod key;

use keepfs::cluster::Cluster as _;
use keepfs::disk::DataDirectory;
use keepfs::node::{Node, NodeConfig, Program, Start};
use keepfs::replica::SnapshotMark;
use keepfs::tree::{Command, Create, Ino, NameKey, NewNode, Proposal, SessionId, Tree, TreeLimits};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMITS: TreeLimits = TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 };
const FAR: u64 = 5000;

fn start(name: &str, data: &Path, founders: &[(String, String)]) -> Node {
    let own = founders.iter().find(|founder| founder.0 == name).unwrap();
    let config = NodeConfig {
        program: Program::this(),
        name: name.into(),
        data: data.to_path_buf(),
        listen: own.1.clone(),
        start: Start::Bootstrap(founders.to_vec()),
        key: Some(key::give(data)),
        op_timeout: Duration::from_secs(5),
        session_timeout: Duration::from_secs(5),
        election_timeout: Duration::from_millis(400),
        heartbeat: Duration::from_millis(50),
        visibility_timeout: Duration::from_millis(200),
        limits: LIMITS,
    };
    Node::start(config).unwrap()
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn make(node: &Node, name: &str) {
    let create = Create {
        parent: Ino::ROOT,
        name: name.as_bytes().into(),
        node: NewNode::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        ticket: None,
        wait: false,
    };
    let session = node.wait_for_session().unwrap();
    node.submit_and_wait(session, Command::Create(create)).unwrap();
}

/// A sound snapshot of an empty tree of `cluster`, as it would be at the entry [`FAR`].
fn far_snapshot(cluster: u128) -> Vec<u8> {
    let mut tree = Tree::new();
    (1..FAR).for_each(|zxid| tree.skip(zxid));
    let command = Command::Found {
        cluster,
        members: Vec::new(),
        limits: LIMITS,
        name_key: NameKey::default(),
    };
    let (session, sequence, acknowledged) = (SessionId::NONE, 0, 0);
    let found = Proposal { session, sequence, acknowledged, command };
    tree.apply(FAR, 1, &found).reply.unwrap();
    let aside = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(aside.path()).unwrap();
    let mark = SnapshotMark { index: FAR, term: 9, ..SnapshotMark::default() };
    let file = directory.snapshots().unwrap().write(&mark, |to| tree.write_snapshot(to)).unwrap();
    std::fs::read(file.path).unwrap()
}

fn push(from: &Node, to: &Node, bytes: &[u8]) -> std::io::Result<()> {
    let name = format!("{FAR}-9");
    from.bulk().push(to.id(), "snapshot", &name, bytes.len() as u64, &mut &*bytes).map(drop)
}

#[test]
fn a_snapshot_comes_from_the_leader_and_counts_when_raft_takes_it() {
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let founders = [("a".to_owned(), port()), ("b".to_owned(), port())];
    let data = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let nodes = [0, 1].map(|at: usize| start(&founders[at].0, data[at].path(), &founders));
    eventually("sessions", || nodes.iter().all(|node| node.session().is_some()));
    make(&nodes[0], "kept");
    let leader = nodes[0].status().leader.unwrap();
    let (leads, follows) = if leader == "a" { (0, 1) } else { (1, 0) };
    let cluster = nodes[0].status().cluster.unwrap();
    let bytes = far_snapshot(u128::from_str_radix(&cluster, 16).unwrap());

    let refused = push(&nodes[follows], &nodes[leads], &bytes).unwrap_err();
    assert!(refused.to_string().contains("only the leader"), "{refused}");
    let strange = push(&nodes[leads], &nodes[follows], &far_snapshot(7)).unwrap_err();
    assert!(strange.to_string().contains("another cluster"), "{strange}");
    push(&nodes[leads], &nodes[follows], &bytes).expect("it is sound, and the leader sends it");

    // Raft was not told of it, so it is not the state of this replica, now or after a restart.
    make(&nodes[leads], "later");
    let [first, second] = nodes;
    let (_stays, stops) = if follows == 1 { (first, second) } else { (second, first) };
    stops.stop();
    drop(stops);
    let again = start(&founders[follows].0, data[follows].path(), &founders);
    assert!(again.status().applied < FAR && again.status().snapshot < FAR);
    eventually("it goes on", || again.session().is_some());
    make(&again, "last");
    for name in ["kept", "later", "last"] {
        again.tree().lookup(Ino::ROOT, name.as_bytes()).expect(name);
    }
}
