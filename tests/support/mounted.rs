//! Nodes and their mounts in this process: a cluster that starts in a second.

use super::eventually;
use keepfs::mount::{Mount, MountConfig, MountHandle};
use keepfs::node::{Node, NodeConfig, Program, Start};
use keepfs::tree::TreeLimits;
use parking_lot::Mutex;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;

/// A file's data, bytes, in these clusters.
pub const FILE_BYTES: u64 = 1 << 20;
pub const OP_TIMEOUT: Duration = Duration::from_secs(2);
/// Beyond this a test hangs, and with it all that wait for its mounts.
const WATCHDOG: Duration = Duration::from_secs(240);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Unmounted and stopped when dropped, mounts first.
pub struct Mounted {
    mounts: Vec<Option<MountHandle>>,
    nodes: Vec<Node>,
    directory: TempDir,
}

impl Mounted {
    /// `count` replicas (at most three), mounted and writable.
    pub fn start(count: usize) -> Mounted {
        // `RUST_LOG=info cargo test -- --nocapture` tells what the nodes say.
        let _ = env_logger::try_init();
        let directory = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
        // Other users are to reach the mounts.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let listeners: Vec<_> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().unwrap().to_string());
        let founders: Vec<(String, String)> =
            NAMES.iter().map(|name| name.to_string()).zip(addresses).collect();
        drop(listeners);
        let nodes: Vec<Node> = (0..count)
            .map(|at| Node::start(config(directory.path(), &founders, at)).unwrap())
            .collect();
        let mount_one = |(at, node): (usize, &Node)| {
            let config = MountConfig::new(directory.path().join(NAMES[at]));
            Some(Mount::start(std::sync::Arc::new(node.clone()), config).unwrap())
        };
        let mounts = nodes.iter().enumerate().map(mount_one).collect();
        let mounted = Mounted { mounts, nodes, directory };
        for at in 0..count {
            eventually("the mount takes a change", Duration::from_secs(30), || {
                fs::write(mounted.root(at).join(format!("ready-{at}")), "").is_ok()
            });
        }
        watch(mounted.directory.path());
        mounted
    }

    /// A file that is on none of the mounts.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Three replicas that the tests running now have in common; each keeps to a directory of its
    /// own, [`Mounted::fresh`].
    pub fn shared() -> Arc<Mounted> {
        static SHARED: Mutex<Weak<Mounted>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(mounted) = shared.upgrade() {
            return mounted;
        }
        let mounted = Arc::new(Mounted::start(3));
        *shared = Arc::downgrade(&mounted);
        mounted
    }

    /// Where replica `at` is mounted.
    pub fn root(&self, at: usize) -> PathBuf {
        self.directory.path().join(NAMES[at])
    }

    /// A new directory, as each mount sees it; everyone may do anything in it.
    pub fn fresh(&self, name: &str) -> Vec<PathBuf> {
        let all: Vec<PathBuf> = (0..self.nodes.len()).map(|at| self.root(at).join(name)).collect();
        fs::create_dir(&all[0]).unwrap();
        fs::set_permissions(&all[0], fs::Permissions::from_mode(0o777)).unwrap();
        all
    }

    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// Takes a mount away; its node goes on.
    pub fn unmount(&mut self, at: usize) {
        drop(self.mounts[at].take());
    }

    /// Mounts what was unmounted.
    pub fn mount(&mut self, at: usize) {
        let config = MountConfig::new(self.root(at));
        self.mounts[at] =
            Some(Mount::start(std::sync::Arc::new(self.nodes[at].clone()), config).unwrap());
    }

    /// Stops a node, with its mount.
    pub fn stop(&mut self, at: usize) {
        drop(self.mounts[at].take());
        self.nodes[at].stop();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.mounts.clear();
        self.nodes.iter().for_each(Node::stop);
    }
}

fn config(directory: &Path, founders: &[(String, String)], at: usize) -> NodeConfig {
    let data = directory.join("data").join(NAMES[at]);
    let key = Some(super::key::give(&data));
    NodeConfig {
        program: Program::this(),
        name: NAMES[at].into(),
        data,
        listen: founders[at].1.clone(),
        start: Start::Bootstrap(founders.to_vec()),
        key,
        op_timeout: OP_TIMEOUT,
        session_timeout: Duration::from_secs(6),
        election_timeout: Duration::from_millis(400),
        heartbeat: Duration::from_millis(50),
        visibility_timeout: Duration::from_millis(2000),
        limits: TreeLimits { file_bytes: FILE_BYTES, tree_bytes: 1 << 30, inodes: 1 << 20 },
    }
}

/// A thread blocked in a system call cannot be failed: after [`WATCHDOG`] the whole program is, its
/// mounts taken away first.
fn watch(directory: &Path) {
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        std::thread::sleep(WATCHDOG);
        if directory.exists() {
            eprintln!("a test hangs: giving up after {WATCHDOG:?}");
            NAMES.iter().for_each(|name| super::detach(&directory.join(name)));
            std::process::abort();
        }
    });
}
