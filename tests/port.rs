//! The mount needs nothing of a cluster but the port: here it mounts a tree that no replica keeps,
//! and whose changes nobody replicates.

#[path = "support/mod.rs"]
mod support;

use keepfs::cluster::feed::{Feed, Reader};
use keepfs::cluster::{Audience, Awaited, Cluster, Done, Event, Failure, Status};
use keepfs::mount::{Mount, MountConfig};
use keepfs::tree::{
    Applied, Batch, Command, Ino, Place, Proposal, Reply, SessionId, Tree, TreeLimits, Write, Zxid,
};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tree in memory.
struct Alone {
    tree: RwLock<Tree>,
    feed: Feed,
    /// Its only client's, and how many changes were asked for in it.
    session: SessionId,
    asked: Mutex<u64>,
    /// What somebody else asks for is in another one.
    other: SessionId,
    shown: AtomicU64,
}

impl Alone {
    fn new() -> Alone {
        let alone = Alone {
            tree: RwLock::new(Tree::new()),
            feed: Feed::new(0, 1 << 16),
            session: SessionId(2),
            asked: Mutex::new(0),
            other: SessionId(3),
            shown: AtomicU64::new(0),
        };
        let limits = TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 };
        let name_key = keepfs::tree::NameKey::new([1; 16]);
        let found = Command::Found { cluster: 1, members: Vec::new(), limits, name_key };
        alone.apply(SessionId::NONE, 0, found).unwrap();
        for host in ["here", "elsewhere"] {
            let open = Command::OpenSession {
                host: host.as_bytes().into(),
                client: [].into(),
                replica: keepfs::tree::ReplicaId(1),
                nonce: 1,
                timeout_ms: 10_000,
            };
            alone.apply(SessionId::NONE, 0, open).unwrap();
        }
        alone
    }

    fn apply(
        &self,
        session: SessionId,
        sequence: u64,
        command: Command,
    ) -> Result<Reply, keepfs::tree::Refusal> {
        let mut tree = self.tree.write();
        let (zxid, stamp) = (tree.zxid() + 1, 1_700_000_000_000_000_000);
        let proposal = Proposal { session, sequence, acknowledged: sequence, command };
        let outcome = tree.apply(zxid, stamp, &proposal);
        drop(tree);
        let applied = Applied { zxid, stamp, origin: session, changes: outcome.changes };
        self.feed.publish(Batch { last: zxid, applied: vec![applied], reset: false });
        outcome.reply
    }

    /// Somebody else changes something, and it is shown here.
    fn elsewhere(&self, sequence: u64, command: Command) {
        self.apply(self.other, sequence, command).unwrap();
        let zxid = self.tree().zxid();
        support::eventually("it is shown", std::time::Duration::from_secs(10), || {
            self.shown.load(Ordering::Acquire) >= zxid
        });
    }
}

impl Cluster for Alone {
    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read()
    }

    fn session(&self) -> Option<SessionId> {
        Some(self.session)
    }

    fn await_session(&self, then: Awaited) {
        then(Ok(self.session));
    }

    fn submit(&self, session: SessionId, command: Command, done: Done) {
        let mut asked = self.asked.lock();
        *asked += 1;
        let reply = self.apply(session, *asked, command);
        drop(asked);
        done(reply.map_err(Failure::Refused));
    }

    fn barrier(&self, done: Done) {
        done(Ok(Reply::Done));
    }

    fn subscribe(&self, _: Option<Arc<dyn Audience>>) -> Reader {
        let reader = self.feed.read();
        self.feed.tell(reader.id(), Event::SessionOpened(self.session));
        reader
    }

    fn made_visible(&self, zxid: Zxid) {
        self.shown.fetch_max(zxid, Ordering::AcqRel);
    }

    fn status(&self) -> Status {
        Status {
            name: "alone".into(),
            id: 1,
            pid: std::process::id(),
            data: "/nowhere".into(),
            mounted: true,
            cluster: None,
            level: self.tree().level(),
            role: "alone".into(),
            term: 0,
            leader: None,
            leader_since_secs: 0,
            quorum: true,
            reason: None,
            applied: self.tree().zxid(),
            commit: self.tree().zxid(),
            log_first: 0,
            snapshot: 0,
            digest: String::new(),
            session: Some(self.session.to_string()),
            session_timeout_ms: 10_000,
            members: Vec::new(),
        }
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn set_mounted(&self, _: bool) {}
}

#[test]
fn a_tree_without_replicas_is_mounted_read_changed_and_watched() {
    if !support::can_mount() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let alone = Arc::new(Alone::new());
    let mount = Mount::start(alone.clone(), MountConfig::new(place.path())).unwrap();
    let file = place.path().join("file");
    fs::write(&file, "one").unwrap();
    fs::create_dir(place.path().join("directory")).unwrap();
    fs::rename(&file, place.path().join("directory/file")).unwrap();
    let file = place.path().join("directory/file");
    assert_eq!(fs::read(&file).unwrap(), b"one");
    let locked = fs::File::open(&file).unwrap();
    locked.try_lock().unwrap();
    assert!(fs::File::open(&file).unwrap().try_lock().is_err(), "another holds it");

    // What is changed elsewhere shows, though the kernel had it in memory.
    let reader = fs::File::open(&file).unwrap();
    let mut before = [0; 3];
    reader.read_exact_at(&mut before, 0).unwrap();
    let ino = {
        let tree = alone.tree();
        let directory = tree.lookup(Ino::ROOT, b"directory").unwrap();
        tree.lookup(directory, b"file").unwrap()
    };
    let write =
        Write { ino, place: Place::Replace(0), data: b"two!"[..].into(), clear_set_id: true };
    alone.elsewhere(1, Command::Write(write));
    let mut after = String::new();
    (&reader).read_to_string(&mut after).unwrap();
    assert_eq!((after.as_str(), fs::metadata(&file).unwrap().len()), ("two!", 4));
    let directory = alone.tree().lookup(Ino::ROOT, b"directory").unwrap();
    alone.elsewhere(2, Command::Unlink { parent: directory, name: b"file"[..].into() });
    assert!(!file.exists());
    let text = fs::read_to_string(place.path().join(".keepfs/status")).unwrap();
    assert!(text.contains("alone"), "{text}");
    mount.unmount();
}
