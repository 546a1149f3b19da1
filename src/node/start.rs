//! Starting a node: whose data directory this is, what it knows, and the threads.

use super::driver::Driver;
use super::recovery::{self, Reader};
use super::shared::{Parts, Shared};
use super::snapshots::{self, Receiver};
use super::{NodeConfig, Start, clock, persist};
use crate::disk::{DataDirectory, Disk, FaultInjector, Identity, RaftLog};
use crate::error::Error;
use crate::limits::REPLICAS_MAX;
use crate::peers::{self, Listener, Peers, PeersConfig};
use crate::replica::{LogBounds, Replica, ReplicaConfig};
use crate::tree::{Member, ReplicaId};
use log::info;
use parking_lot::Mutex;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
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
    let identity = identify(&config, &directory, &listener)?;
    let disk: Arc<dyn Disk> = Arc::new(RaftLog::open_with_faults(&directory.log(), faults)?);
    let snapshots = directory.snapshots()?;
    let (recovered, tree) = recovery::recover(directory.path(), &*disk, &snapshots)?;
    let reader = Box::new(Reader(disk.clone()));
    let replica = Replica::new(replica_config(&config, &identity), recovered, reader)?;
    let peers = Peers::new(
        listener,
        PeersConfig {
            id: identity.id,
            name: identity.name.clone(),
            bootstrap: founding_hash(&identity),
            cluster: identity.cluster,
            members: identity.members.clone(),
        },
    );
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
    }));
    let driver = Driver::new(shared.clone(), replica, identity);
    let threads = vec![
        shared.spawn("driver", move |_| driver.run())?,
        shared.spawn("disk", persist::run)?,
        shared.spawn("snapshot", snapshots::write_frozen)?,
    ];
    let receiver = Receiver { shared: shared.clone(), busy: Mutex::default() };
    shared.peers.bulk().serve(snapshots::BULK_KIND, Arc::new(receiver));
    shared.peers.run(shared.clone())?;
    info!("replica {id} ({}) runs, listening on {}", shared.config.name, shared.peers.address());
    Ok((shared, threads))
}

/// The directory's identity, made now if it has none.
fn identify(
    config: &NodeConfig,
    directory: &DataDirectory,
    listener: &Listener,
) -> Result<Identity, Error> {
    let problem = |problem: String| Error::DataDirectory { path: config.data.clone(), problem };
    if let Some(identity) = directory.identity()? {
        if identity.name != config.name {
            return Err(problem(format!(
                "belongs to replica \"{}\", not \"{}\"; give each replica a directory of its own",
                identity.name, config.name
            )));
        }
        if let Start::Bootstrap(list) = &config.start {
            agree_with(&identity, list).map_err(problem)?;
        }
        return Ok(identity);
    }
    let identity = match &config.start {
        Start::Bootstrap(list) => found(&config.name, list)?,
        Start::Join(addresses) => join(config, addresses, listener)?,
        Start::Existing => {
            return Err(problem(
                "is empty; found a cluster with --bootstrap, or join one with --join".into(),
            ));
        }
    };
    directory.write_identity(&identity)?;
    Ok(identity)
}

/// A founding list that is given again must not contradict the first.
fn agree_with(identity: &Identity, list: &[(String, String)]) -> Result<(), String> {
    let founding = members_of(list);
    if identity.cluster.is_none() && founding != identity.members {
        let names: Vec<&str> = identity.members.iter().map(|m| m.name.as_str()).collect();
        return Err(format!(
            "was started with another --bootstrap list (of {}); start it with that list, or with \
             an empty directory",
            names.join(", ")
        ));
    }
    let known = |member: &Member| {
        identity.members.iter().any(|m| m.id == member.id && m.name != member.name)
    };
    match founding.iter().find(|member| known(member)) {
        Some(member) => Err(format!(
            "belongs to another cluster: its replica {} is not \"{}\"; give a directory of its own \
             to each cluster",
            member.id, member.name
        )),
        None => Ok(()),
    }
}

/// Ids are positions in the list sorted by name: the same on every replica.
fn members_of(list: &[(String, String)]) -> Vec<Member> {
    let mut sorted: Vec<_> = list.to_vec();
    sorted.sort();
    let member = |(position, (name, address)): (usize, (String, String))| Member {
        id: ReplicaId(position as u64 + 1),
        name,
        address,
        learner: false,
    };
    sorted.into_iter().enumerate().map(member).collect()
}

fn found(name: &str, list: &[(String, String)]) -> Result<Identity, Error> {
    let members = members_of(list);
    if members.is_empty() || members.len() > REPLICAS_MAX {
        let text = format!("a cluster has 1 to {REPLICAS_MAX} replicas, not {}", members.len());
        return Err(Error::Configuration(text));
    }
    if let Some(twice) = members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let text = format!("--bootstrap names \"{}\" twice", twice[0].name);
        return Err(Error::Configuration(text));
    }
    let own = members.iter().find(|member| member.name == name).ok_or_else(|| {
        Error::Configuration(format!("--bootstrap does not name this replica, \"{name}\""))
    })?;
    Ok(Identity { id: own.id, name: name.into(), cluster: None, members })
}

fn join(config: &NodeConfig, at: &[String], listener: &Listener) -> Result<Identity, Error> {
    let own = own_address(&config.listen, listener);
    let mut last = Error::Configuration("--join names no address".into());
    for address in at {
        match peers::ask_to_join(address, &config.name, &own) {
            Ok((welcome, members)) => {
                let me = members.iter().find(|member| member.name == config.name);
                let me = me.ok_or_else(|| {
                    Error::Other(format!(
                        "{address} answered without an id for \"{}\"",
                        config.name
                    ))
                })?;
                let cluster = welcome.cluster.ok_or_else(|| {
                    Error::Other(format!("the cluster at {address} is being founded; try again"))
                })?;
                info!("joined cluster by {address} as replica {}", me.id);
                return Ok(Identity {
                    id: me.id,
                    name: config.name.clone(),
                    cluster: Some(cluster),
                    members,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where others reach this replica: what it was told to listen on, with the port it got.
fn own_address(listen: &str, listener: &Listener) -> String {
    match listen.rsplit_once(':') {
        Some((host, "0")) => format!("{host}:{}", listener.address().port()),
        _ => listen.to_string(),
    }
}

fn replica_config(config: &NodeConfig, identity: &Identity) -> ReplicaConfig {
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    let founding = identity.cluster.is_none();
    ReplicaConfig {
        id: identity.id,
        name: config.name.clone(),
        heartbeat: nanos(config.heartbeat),
        election_timeout: nanos(config.election_timeout),
        session_timeout: nanos(config.session_timeout),
        op_timeout: nanos(config.op_timeout),
        visibility_timeout: nanos(config.visibility_timeout),
        log: LogBounds::default(),
        seed: chance(),
        with_session: true,
        found: founding.then(|| {
            let cluster = u128::from(chance()) << 64 | u128::from(chance());
            (cluster, identity.members.clone(), config.limits)
        }),
    }
}

/// Equal for replicas that are founding one cluster; 0 once it is founded.
fn founding_hash(identity: &Identity) -> u64 {
    if identity.cluster.is_some() {
        return 0;
    }
    let text: String =
        identity.members.iter().map(|m| format!("{}={},", m.name, m.address)).collect();
    u64::from(crc32fast::hash(text.as_bytes())) | 1 << 32
}

/// The standard library's per-process keys, stirred with the clock and the process.
fn chance() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(clock::now().monotonic);
    hasher.write_u32(std::process::id());
    hasher.finish()
}
