//! A daemon without root's rights gives the tree it founds to its user, who could not write to it
//! otherwise.

use crate::cluster::Cluster;
use crate::tree::{Command, Ino, SessionId, SetAttributes, Tree};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often, and how often at most, to look whether the cluster can take the change.
const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 2400;

/// `/lock` and `/backup/lock` are everybody's already.
const DIRECTORIES: [Ino; 6] = [
    Ino::ROOT,
    Ino::BACKUP,
    Ino::BACKUP_NODE,
    Ino::BACKUP_STRATEGY,
    Ino::BACKUP_STRATEGY_FULL,
    Ino::BACKUP_STRATEGY_INCREMENT,
];

/// Does so on a thread of its own, unless somebody has used the tree or given it away already.
/// Fails if threads are used up.
pub fn start(cluster: Arc<dyn Cluster>, uid: u32, gid: u32) -> io::Result<()> {
    let give = move || {
        for _ in 0..ATTEMPTS {
            if let Some(session) = cluster.session() {
                return adopt(&*cluster, session, uid, gid);
            }
            thread::sleep(PAUSE);
        }
    };
    thread::Builder::new().name("mount-adopt".into()).spawn(give).map(drop)
}

fn adopt(cluster: &dyn Cluster, session: SessionId, uid: u32, gid: u32) {
    if !is_untouched(&cluster.tree()) {
        return;
    }
    for ino in DIRECTORIES {
        let set = SetAttributes { uid: Some(uid), gid: Some(gid), ..Default::default() };
        let command = Command::SetAttributes { ino, set };
        if let Err(failure) = cluster.submit_and_wait(session, command) {
            log::warn!("the tree stays root's, user {uid} cannot write to it: {failure:?}");
            return;
        }
    }
}

/// As it is founded: root's, and holding nothing but what is there from the start.
fn is_untouched(tree: &Tree) -> bool {
    let mut only_built_in = true;
    let listed = tree.list(Ino::ROOT, 0, &mut |entry| {
        only_built_in &= entry.ino.is_built_in();
        only_built_in
    });
    let root = tree.attributes(Ino::ROOT);
    listed.is_ok() && only_built_in && root.is_some_and(|root| root.uid == 0 && root.aversion == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Create, NewNode, Proposal};

    fn after(command: Command) -> Tree {
        let mut tree = Tree::new();
        let session = SessionId::NONE;
        let proposal = Proposal { session, sequence: 0, acknowledged: 0, command };
        assert!(tree.apply(1, 1, &proposal).reply.is_ok());
        tree
    }

    #[test]
    fn only_an_untouched_tree_is_given_away() {
        assert!(is_untouched(&Tree::new()));
        let set = SetAttributes { uid: Some(7), ..Default::default() };
        assert!(!is_untouched(&after(Command::SetAttributes { ino: Ino::ROOT, set })));
        let create = Create {
            parent: Ino::ROOT,
            name: b"used"[..].into(),
            node: NewNode::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            ticket: None,
            wait: false,
        };
        assert!(!is_untouched(&after(Command::Create(create))));
    }
}
