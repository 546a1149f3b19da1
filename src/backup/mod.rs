//! Backup: what is written at `/backup/node/NAME/backup` becomes a snapshot on every replica,
//! beside the log, which holds only the manifests.
//!
//! - `engine.rs` is what is needed of a repository format, `rustic/` is restic's, `contained.rs`
//!   turns its panics into errors;
//! - `store.rs` has a repository's files on this replica's disk, `repository.rs` also what peers
//!   have of them;
//! - `stream.rs` is the life of a stream that is written, with `intake.rs` before the engine and
//!   `replicate.rs` behind it; `source.rs` is one that is read;
//! - `keeper.rs` catches up, `serve.rs` answers peers;
//! - `catalogue.rs` is what the tree knows, `peers.rs` who is asked.
//!
//! Two hosts may write streams for one NAME at the same time: both only add files under names of
//! their own content, so the repository is sound, but neither finds the other's blobs while they
//! run. On one host, the second gets EBUSY.

pub mod catalogue;
mod contained;
pub mod credentials;
pub mod engine;
pub mod files;
mod intake;
mod keeper;
pub mod manifest;
mod metrics;
pub mod peers;
mod replicate;
pub mod repository;
mod rustic;
mod serve;
mod source;
pub mod store;
mod stream;

use crate::cluster::streams::{StreamSink, StreamSource, StreamStore};
use crate::error::Error;
use catalogue::Catalogue;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use engine::Engine;
use manifest::Manifest;
use metrics::Metrics;
use parking_lot::Mutex;
use peers::{Peers, Replicas};
use repository::Repositories;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use rustic::RusticEngine;

/// How long a stop waits for streams that are being written to notice.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct BackupConfig {
    /// How often recorded snapshots are looked for that are not whole here.
    pub catch_up: Duration,
    /// How long, at least, a close waits for the last peers once a majority has everything; if the
    /// stream took longer than that, as long as the stream took.
    pub straggler: Duration,
}

impl Default for BackupConfig {
    fn default() -> BackupConfig {
        BackupConfig { catch_up: Duration::from_secs(5), straggler: Duration::from_secs(30) }
    }
}

/// What all parts of backup share.
pub(crate) struct Context {
    catalogue: Arc<dyn Catalogue>,
    peers: Arc<dyn Peers>,
    engine: Arc<dyn Engine>,
    repositories: Arc<Repositories>,
    metrics: Arc<Metrics>,
    config: BackupConfig,
    /// The hosts a stream is being written for.
    active: Mutex<BTreeSet<String>>,
    /// Disconnected once backup stops.
    stopping: Receiver<()>,
}

impl Context {
    fn is_stopping(&self) -> bool {
        self.stopping.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// The backup of one replica.
pub struct Backup {
    context: Arc<Context>,
    /// Dropped to stop.
    running: Mutex<Option<Sender<()>>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Backup {
    /// Serves the repositories under `DATA/backup`, of a replica with this data directory, to the
    /// mount and to peers.
    pub fn start(
        replicas: Replicas,
        data: &Path,
        config: BackupConfig,
    ) -> Result<Arc<Backup>, Error> {
        let catalogue = Arc::new(catalogue::InTree(replicas.cluster.clone()));
        let (peers, root) = (Arc::new(replicas), data.join("backup"));
        Backup::start_with(&root, catalogue, peers, Arc::new(RusticEngine), config)
    }

    /// [`Backup::start`] with other parts: a tree, a network, an engine.
    pub fn start_with(
        root: &Path,
        catalogue: Arc<dyn Catalogue>,
        peers: Arc<dyn Peers>,
        engine: Arc<dyn Engine>,
        config: BackupConfig,
    ) -> Result<Arc<Backup>, Error> {
        let metrics = Arc::new(Metrics::default());
        let repositories = Arc::new(Repositories::open(root, peers.clone(), metrics.clone())?);
        let service =
            serve::Service { stores: repositories.stores.clone(), metrics: metrics.clone() };
        peers.serve(Arc::new(service));
        let (running, stopping) = bounded(0);
        let active = Mutex::default();
        let context = Arc::new(Context {
            catalogue,
            peers,
            engine: Arc::new(contained::Contained(engine)),
            repositories,
            metrics,
            config,
            active,
            stopping,
        });
        let keeper = keeper::Keeper::new(context.clone());
        let keeper = spawn("backup keeper", move || keeper.run())?;
        let (running, keeper) = (Mutex::new(Some(running)), Mutex::new(Some(keeper)));
        Ok(Arc::new(Backup { context, running, keeper }))
    }

    /// Breaks off the streams being written, which leave no snapshot, and stops.
    pub fn stop(&self) {
        drop(self.running.lock().take());
        if let Some(keeper) = self.keeper.lock().take()
            && keeper.join().is_err()
        {
            log::error!("backup: the keeper died");
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while !self.context.active.lock().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn newest(&self, host: &str) -> Result<Manifest, Error> {
        let catalogue = &self.context.catalogue;
        let Some(latest) = catalogue.latest(host)? else {
            let source = io::Error::from_raw_os_error(libc::ENODATA);
            return Err(Error::file("read a snapshot of", host)(source));
        };
        Manifest::from_json(&catalogue.manifest(host, &latest)?)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.stop();
    }
}

impl StreamStore for Backup {
    fn begin(&self, name: &str) -> io::Result<Box<dyn StreamSink>> {
        let context = self.context.clone();
        if context.is_stopping() {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        if !context.catalogue.is_registered(name) {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        if !context.active.lock().insert(name.to_owned()) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let (steps, taken) = unbounded();
        let started = jiff::Timestamp::now();
        let stream = stream::Stream {
            context: context.clone(),
            host: name.to_owned(),
            steps: taken,
            started,
        };
        if let Err(error) = spawn("backup stream", move || stream.run()) {
            context.active.lock().remove(name);
            return Err(io::Error::from_raw_os_error(error.errno()));
        }
        Ok(Box::new(intake::Sink { steps }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StreamSource>> {
        let opened = self.newest(name).and_then(|manifest| {
            let Manifest { snapshot, bytes, .. } = manifest;
            source::Source::open(self.context.clone(), name.to_owned(), snapshot, bytes)
        });
        match opened {
            Ok(source) => Ok(Box::new(source)),
            Err(error) => Err(io::Error::from_raw_os_error(error.errno())),
        }
    }

    fn metrics(&self) -> String {
        self.context.metrics.render(self.context.active.lock().len())
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::Backup(format!("cannot start a thread: {error}")))
}
