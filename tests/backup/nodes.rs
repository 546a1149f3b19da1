//! Backup on real nodes: the tree, the log and the transport between them, without a mount.

use crate::key;
use crate::world::{bytes, eventually, put, wait};
use keepfs::backup::catalogue::Catalogue;
use keepfs::backup::catalogue::InTree;
use keepfs::backup::manifest::Manifest;
use keepfs::backup::peers::{Peer, Replicas};
use keepfs::backup::{Backup, BackupConfig};
use keepfs::cluster::Cluster as _;
use keepfs::cluster::streams::StreamStore;
use keepfs::node::{Node, NodeConfig, Program, Start};
use keepfs::tree::{Command, Create, Ino, NewNode, TreeLimits};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Replica {
    node: Node,
    backup: Arc<Backup>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.backup.stop();
        self.node.stop();
    }
}

/// Addresses nobody listens at.
fn free_addresses() -> Vec<(String, String)> {
    let listeners = ["a", "b", "c"].map(|name| (name, TcpListener::bind("127.0.0.1:0").unwrap()));
    let address = |(name, listener): &(&str, TcpListener)| {
        (name.to_string(), listener.local_addr().unwrap().to_string())
    };
    listeners.iter().map(address).collect()
}

fn start(root: &Path, members: &[(String, String)], number: usize) -> Replica {
    let (name, listen) = members[number].clone();
    let data = root.join(&name);
    std::fs::create_dir_all(&data).unwrap();
    let config = NodeConfig {
        program: Program::this(),
        name,
        data,
        listen,
        start: Start::Bootstrap(members.to_vec()),
        key: Some(key::give(&root.join(&members[number].0))),
        op_timeout: Duration::from_secs(30),
        session_timeout: Duration::from_secs(30),
        election_timeout: Duration::from_millis(600),
        heartbeat: Duration::from_millis(60),
        visibility_timeout: Duration::from_millis(200),
        limits: TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 },
    };
    // An earlier node's directory is free once its last reader's thread has ended.
    let mut started = None;
    eventually("a free data directory", || {
        started = Node::start(config.clone()).ok();
        started.is_some()
    });
    let node = started.unwrap();
    let replicas = Replicas {
        me: Peer { id: node.id(), name: node.name().to_owned() },
        cluster: Arc::new(node.clone()),
        bulk: node.bulk().clone(),
    };
    let backup = Backup::start(
        replicas,
        node.data(),
        BackupConfig { catch_up: Duration::from_millis(100), ..BackupConfig::default() },
    );
    Replica { node, backup: backup.unwrap() }
}

impl Replica {
    fn catalogue(&self) -> InTree {
        InTree(Arc::new(self.node.clone()))
    }
}

fn register(node: &Node, host: &str) {
    let create = Create {
        parent: Ino::BACKUP_NODE,
        name: host.as_bytes().into(),
        node: NewNode::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        ticket: None,
        wait: false,
    };
    let session = node.wait_for_session().unwrap();
    node.submit_and_wait(session, Command::Create(create)).unwrap();
}

fn write(replica: &Replica, content: &[u8]) {
    eventually("the host is known here", || replica.catalogue().is_registered("web1"));
    let mut sink = replica.backup.begin("web1").unwrap();
    put(&mut *sink, 0, content).unwrap();
    wait(|done| sink.finish(done)).unwrap();
}

fn read(replica: &Replica) -> Vec<u8> {
    let source = replica.backup.open("web1").unwrap();
    let mut content = Vec::new();
    while (content.len() as u64) < source.size() {
        content.extend(wait(|done| source.read(content.len() as u64, 1 << 20, done)).unwrap());
    }
    content
}

fn recorded(replica: &Replica) -> usize {
    replica.catalogue().snapshots("web1").map_or(0, |names| names.len())
}

#[test]
fn three_nodes_keep_a_stream_and_one_that_was_away_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let members = free_addresses();
    let mut replicas: Vec<_> = (0..3).map(|n| start(directory.path(), &members, n)).collect();
    register(&replicas[0].node, "web1");

    let content = bytes(30, 20 << 20);
    write(&replicas[0], &content);
    for replica in &replicas {
        eventually("the record", || recorded(replica) == 1);
        assert!(read(replica) == content, "other bytes at {}", replica.node.name());
    }
    let name = &replicas[1].catalogue().snapshots("web1").unwrap()[0];
    let manifest =
        Manifest::from_json(&replicas[1].catalogue().manifest("web1", name).unwrap()).unwrap();
    assert_eq!(manifest.holders.len(), 3);
    assert_eq!(manifest.bytes, content.len() as u64);

    drop(replicas.pop());
    let second = bytes(31, 18 << 20);
    write(&replicas[1], &second);
    replicas.push(start(directory.path(), &members, 2));
    eventually("the second record at c", || recorded(&replicas[2]) == 2);
    let snapshots = directory.path().join("c/backup/node/web1/snapshots");
    eventually("the second snapshot at c", || std::fs::read_dir(&snapshots).unwrap().count() == 2);
    replicas.drain(..2);
    assert!(read(&replicas[0]) == second);
}

#[test]
fn the_log_decides_which_first_writer_makes_the_repository() {
    let directory = tempfile::tempdir().unwrap();
    let members = free_addresses();
    let replicas: Vec<_> = (0..3).map(|n| start(directory.path(), &members, n)).collect();
    register(&replicas[0].node, "web1");
    std::thread::scope(|scope| {
        for replica in &replicas {
            scope.spawn(move || write(replica, replica.node.name().as_bytes()));
        }
    });
    for replica in &replicas {
        eventually("all records", || recorded(replica) == 3);
        let names = replica.catalogue().snapshots("web1").unwrap();
        let manifest = |name: &String| {
            Manifest::from_json(&replica.catalogue().manifest("web1", name).unwrap()).unwrap()
        };
        let mut repositories: Vec<_> = names.iter().map(|n| manifest(n).repository).collect();
        repositories.dedup();
        assert_eq!(repositories.len(), 1);
        let latest = replica.catalogue().latest("web1").unwrap().unwrap();
        assert_eq!(read(replica), manifest(&latest).writer.as_bytes());
    }
    // What the losers wrote aside is gone.
    let mut left = Vec::new();
    let tree = replicas[0].node.tree();
    let host = tree.lookup(Ino::BACKUP_NODE, b"web1").unwrap();
    tree.list(host, 0, &mut |entry| {
        left.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    })
    .unwrap();
    left.sort();
    assert_eq!(left, [".repository", "backup", "snapshots"]);
}
