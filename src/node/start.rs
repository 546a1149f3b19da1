//! Starting a node: whose data directory this is, what it knows, and the threads.

use super::driver::Driver;
use super::recovery::{self, Reader};
use super::shared::{Parts, Shared};
use super::snapshots::{self, Receiver};
use super::{NodeConfig, address, identify, persist};
use crate::disk::{DataDirectory, Disk, FaultInjector, Identity, RaftLog};
use crate::error::Error;
use crate::peers::{Listener, Peers, PeersConfig};
use crate::random;
use crate::replica::{LogBounds, Replica, ReplicaConfig};
use crate::tree::NameKey;
use log::{info, warn};
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Recovers the data directory and starts the threads. `faults` make the log's disk fail, for
/// tests.
pub fn start(
    config: NodeConfig,
    faults: Option<FaultInjector>,
) -> Result<(Arc<Shared>, Vec<JoinHandle<()>>), Error> {
    let directory = DataDirectory::open(&config.data)?;
    let listener = Listener::bind(&config.listen)?;
    let (identity, keyring) = identify::identify(&config, &directory, &listener)?;
    let disk: Arc<dyn Disk> = Arc::new(RaftLog::open_with_faults(&directory.log(), faults)?);
    let snapshots = directory.snapshots()?;
    let doubtful = identity.cluster.is_some() && directory.is_displaced()?;
    match doubtful {
        true => warn!(
            "{} was moved, or is an older copy: nobody can tell by looking at it. This replica asks \
             the others what it has promised before it votes",
            directory.path().display()
        ),
        false => directory.settle()?,
    }
    let starts = directory.note_start()?;
    let can = config.program.level;
    let (recovered, tree) = recovery::recover(directory.path(), &*disk, &snapshots, can)?;
    let reader = Box::new(Reader(disk.clone()));
    let replica = Replica::new(replica_config(&config, &identity, doubtful)?, recovered, reader)?;
    let peers = Peers::new(
        listener,
        PeersConfig {
            id: identity.id,
            name: identity.name.clone(),
            incarnation: identity.incarnation,
            start: starts.newest(),
            bootstrap: identify::founding_hash(&identity),
            cluster: identity.cluster,
            members: identity.members.clone(),
            keyring,
        },
    )?;
    let status = replica.status();
    let id = identity.id;
    let shared = Arc::new(Shared::new(Parts {
        config,
        id,
        directory,
        disk,
        snapshots,
        peers,
        tree,
        status,
        identity,
        starts,
    }));
    let driver = Driver::new(shared.clone(), replica);
    let threads = vec![
        shared.spawn("driver", move |_| driver.run())?,
        shared.spawn("disk", persist::run)?,
        shared.spawn("snapshot", snapshots::write_frozen)?,
    ];
    let receiver = Receiver { shared: shared.clone(), busy: Mutex::default() };
    shared.peers.bulk().serve(snapshots::BULK_KIND, Arc::new(receiver));
    shared.peers.run(shared.clone())?;
    address::announce_if_changed(&shared)?;
    info!("replica {id} ({}) runs, listening on {}", shared.config.name, shared.peers.address());
    Ok((shared, threads))
}

fn replica_config(
    config: &NodeConfig,
    identity: &Identity,
    doubtful: bool,
) -> Result<ReplicaConfig, Error> {
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    let founding = identity.cluster.is_none();
    let name_key = NameKey::new(random::bytes()?);
    let cluster = u128::from_le_bytes(random::bytes()?);
    Ok(ReplicaConfig {
        id: identity.id,
        incarnation: identity.incarnation,
        program: config.program.clone(),
        name: config.name.clone(),
        heartbeat: nanos(config.heartbeat),
        election_timeout: nanos(config.election_timeout),
        session_timeout: nanos(config.session_timeout),
        op_timeout: nanos(config.op_timeout),
        visibility_timeout: nanos(config.visibility_timeout),
        log: LogBounds::default(),
        seed: u64::from_le_bytes(random::bytes()?),
        with_session: true,
        doubtful,
        found: founding.then(|| (cluster, identity.members.clone(), config.limits, name_key)),
    })
}
