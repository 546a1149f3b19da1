//! Replicas of backup in one process: a real store and engine each, one shared catalogue in place
//! of the tree, calls in place of connections, any of which can be cut.

use keepfs::backup::catalogue::{Catalogue, NotRecorded, Recorded};
use keepfs::backup::engine::Engine;
use keepfs::backup::manifest::Manifest;
use keepfs::backup::peers::{Name, Peer, Peers};
use keepfs::backup::{Backup, BackupConfig, RusticEngine};
use keepfs::cluster::streams::{StreamSink, StreamStore};
use keepfs::error::Error;
use keepfs::peers::bulk::BulkHandler;
use keepfs::tree::ReplicaId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What a fuse write carries at most.
const WRITE_BYTES: usize = 128 << 10;

pub struct World {
    pub replicas: Vec<Replica>,
    pub catalogue: Arc<Shelf>,
    pub network: Arc<Network>,
    engine: Arc<dyn Engine>,
    directory: tempfile::TempDir,
}

pub struct Replica {
    pub name: &'static str,
    pub backup: Arc<Backup>,
}

impl World {
    /// Three replicas `a`, `b`, `c` and a registered host `web1`.
    pub fn new() -> World {
        World::with(Arc::new(RusticEngine))
    }

    pub fn with(engine: Arc<dyn Engine>) -> World {
        let _ = env_logger::builder().is_test(true).try_init();
        let mut world = World {
            replicas: Vec::new(),
            catalogue: Arc::default(),
            network: Arc::default(),
            engine,
            directory: tempfile::tempdir().unwrap(),
        };
        world.catalogue.hosts.lock().unwrap().insert("web1".into(), Host::default());
        for name in ["a", "b", "c"] {
            world.network.names.lock().unwrap().push(name);
            let backup = world.start(world.replicas.len());
            world.replicas.push(Replica { name, backup });
        }
        world
    }

    fn start(&self, number: usize) -> Arc<Backup> {
        let me = self.network.peer(number);
        let wire = Wire { me: me.clone(), network: self.network.clone() };
        let config =
            BackupConfig { catch_up: Duration::from_millis(50), straggler: Duration::from_secs(4) };
        let root = self.directory.path().join(&me.name).join("backup");
        let engine = self.engine.clone();
        Backup::start_with(&root, self.catalogue.clone(), Arc::new(wire), engine, config).unwrap()
    }

    /// Stops a replica's backup and starts it anew on the same files.
    pub fn restart(&mut self, number: usize) {
        self.replicas[number].backup.stop();
        self.replicas[number].backup = self.start(number);
    }

    /// `DATA/backup/node/web1`, as an operator would name it.
    pub fn repository(&self, number: usize) -> PathBuf {
        self.directory.path().join(self.replicas[number].name).join("backup/node/web1")
    }

    /// The names in one of the repository's directories; packs by `data`.
    pub fn files(&self, number: usize, directory: &str) -> Vec<PathBuf> {
        let root = self.repository(number).join(directory);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root).into_iter().flatten().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                found.extend(std::fs::read_dir(entry.path()).unwrap().map(|e| e.unwrap().path()));
            } else {
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    /// Writes a stream the way the mount does, waiting for each answer.
    pub fn write(&self, number: usize, content: &[u8]) -> io::Result<()> {
        let mut sink = self.replicas[number].backup.begin("web1")?;
        put(&mut *sink, 0, content)?;
        wait(|done| sink.finish(done))
    }

    /// Reads `backup` to its end.
    pub fn read(&self, number: usize) -> io::Result<Vec<u8>> {
        let source = self.replicas[number].backup.open("web1")?;
        let mut content = Vec::new();
        loop {
            let bytes = wait(|done| source.read(content.len() as u64, WRITE_BYTES as u32, done))?;
            if bytes.is_empty() {
                assert_eq!(content.len() as u64, source.size());
                return Ok(content);
            }
            content.extend(bytes);
        }
    }

    pub fn manifests(&self) -> Vec<Manifest> {
        let names = self.catalogue.snapshots("web1").unwrap();
        let manifest = |name: &String| self.catalogue.manifest("web1", name).unwrap();
        names.iter().map(|name| Manifest::from_json(&manifest(name)).unwrap()).collect()
    }

    pub fn password(&self) -> String {
        let json = self.catalogue.credentials("web1").unwrap().unwrap();
        keepfs::backup::credentials::Credentials::from_json(&json).unwrap().password
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.replicas.iter().for_each(|replica| replica.backup.stop());
    }
}

/// Writes `content` at `offset` and onwards.
pub fn put(sink: &mut dyn StreamSink, offset: u64, content: &[u8]) -> io::Result<()> {
    let mut at = offset;
    for piece in content.chunks(WRITE_BYTES) {
        let taken = wait(|done| sink.write(at, piece.to_vec(), done))?;
        assert_eq!(taken as usize, piece.len());
        at += piece.len() as u64;
    }
    Ok(())
}

/// Calls `begin` with a callback and waits for it.
pub fn wait<T: Send + 'static>(
    begin: impl FnOnce(Box<dyn FnOnce(io::Result<T>) + Send>),
) -> io::Result<T> {
    let (tell, told) = mpsc::channel();
    begin(Box::new(move |result| tell.send(result).unwrap()));
    told.recv_timeout(Duration::from_secs(120)).expect("an answer within two minutes")
}

/// Until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come about within 30 seconds");
}

/// Bytes that compress a little and never repeat; equal seeds give equal bytes.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&(state & 0x3f3f_3f3f_3f3f_3f3f).to_le_bytes());
    }
    content.truncate(length);
    content
}

/// The replicated part, always in agreement.
#[derive(Default)]
pub struct Shelf {
    pub hosts: Mutex<BTreeMap<String, Host>>,
    /// What the next record is answered instead of being done.
    pub refuse: Mutex<Option<NotRecorded>>,
}

#[derive(Default)]
pub struct Host {
    credentials: Option<Vec<u8>>,
    snapshots: Vec<(String, Vec<u8>)>,
}

impl Shelf {
    fn host<T>(&self, name: &str, look: impl FnOnce(&mut Host) -> T) -> Result<T, Error> {
        let mut hosts = self.hosts.lock().unwrap();
        let missing = || Error::file("find", name)(io::Error::from_raw_os_error(libc::ENOENT));
        hosts.get_mut(name).map(look).ok_or_else(missing)
    }
}

impl Shelf {
    /// Somebody writes into the newest manifest.
    pub fn spoil(&self, name: &str) {
        let spoil = |host: &mut Host| host.snapshots.last_mut().unwrap().1 = b"spoilt".to_vec();
        self.host(name, spoil).unwrap();
    }
}

impl Catalogue for Shelf {
    fn hosts(&self) -> Result<Vec<String>, Error> {
        Ok(self.hosts.lock().unwrap().keys().cloned().collect())
    }

    fn is_registered(&self, host: &str) -> bool {
        self.hosts.lock().unwrap().contains_key(host)
    }

    fn credentials(&self, host: &str) -> Result<Option<Vec<u8>>, Error> {
        self.host(host, |host| host.credentials.clone())
    }

    fn found(&self, host: &str, credentials: &[u8]) -> Result<Vec<u8>, Error> {
        self.host(host, |host| host.credentials.get_or_insert_with(|| credentials.to_vec()).clone())
    }

    fn snapshots(&self, host: &str) -> Result<Vec<String>, Error> {
        self.host(host, |host| host.snapshots.iter().map(|(name, _)| name.clone()).collect())
    }

    fn latest(&self, host: &str) -> Result<Option<String>, Error> {
        self.host(host, |host| host.snapshots.last().map(|(name, _)| name.clone()))
    }

    fn manifest(&self, host: &str, snapshot: &str) -> Result<Vec<u8>, Error> {
        self.host(host, |host| {
            let found = host.snapshots.iter().find(|(name, _)| name == snapshot);
            found.expect("a snapshot that was listed").1.clone()
        })
    }

    fn record(&self, host: &str, snapshot: Recorded) -> Result<(), NotRecorded> {
        if let Some(refusal) = self.refuse.lock().unwrap().take() {
            return Err(refusal);
        }
        self.host(host, |host| host.snapshots.push((snapshot.name, snapshot.manifest)))
            .map_err(NotRecorded::Never)
    }
}

/// Who can be reached.
#[derive(Default)]
pub struct Network {
    names: Mutex<Vec<&'static str>>,
    handlers: Mutex<BTreeMap<u64, Arc<dyn BulkHandler>>>,
    pub down: Mutex<BTreeSet<&'static str>>,
    /// Those that take a file and never answer, as long as they are in here.
    pub hung: Mutex<BTreeSet<&'static str>>,
}

impl Network {
    fn peer(&self, number: usize) -> Peer {
        let name = self.names.lock().unwrap()[number].to_owned();
        Peer { id: ReplicaId(number as u64 + 1), name }
    }

    /// The peer's handler, if both ends are up.
    fn call(&self, me: &Peer, to: ReplicaId) -> io::Result<Arc<dyn BulkHandler>> {
        let down = self.down.lock().unwrap();
        let other = self.peer(to.0 as usize - 1);
        if down.contains(&*me.name) || down.contains(&*other.name) {
            return Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH));
        }
        Ok(self.handlers.lock().unwrap()[&to.0].clone())
    }
}

struct Wire {
    me: Peer,
    network: Arc<Network>,
}

impl Peers for Wire {
    fn me(&self) -> Peer {
        self.me.clone()
    }

    fn others(&self) -> Vec<Peer> {
        let count = self.network.names.lock().unwrap().len();
        (0..count).map(|number| self.network.peer(number)).filter(|p| *p != self.me).collect()
    }

    fn majority(&self) -> usize {
        2
    }

    fn push(
        &self,
        to: ReplicaId,
        name: &Name,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        let other = self.network.peer(to.0 as usize - 1);
        while self.network.hung.lock().unwrap().contains(&*other.name) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.network.call(&self.me, to)?.receive(self.me.id, &name.to_string(), length, data)
    }

    fn fetch(&self, from: ReplicaId, name: &Name) -> io::Result<(u64, Box<dyn Read + Send>)> {
        self.network.call(&self.me, from)?.fetch(self.me.id, &name.to_string(), 0, u64::MAX)
    }

    fn serve(&self, handler: Arc<dyn BulkHandler>) {
        self.network.handlers.lock().unwrap().insert(self.me.id.0, handler);
    }
}
