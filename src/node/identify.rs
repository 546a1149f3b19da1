//! Whose data directory this is: read from it, or made when it is new.

use super::{KEY_FILE, NodeConfig, Start, address};
use crate::disk::{DataDirectory, Disk, Identity, LogState, RaftLog, private};
use crate::error::Error;
use crate::limits::REPLICAS_MAX;
use crate::peers::identity::{Keyring, Token};
use crate::peers::{self, Listener};
use crate::tree::{Incarnation, Member, ReplicaId};
use log::{info, warn};
use std::collections::BTreeMap;

/// The id of a replica that has yet to join.
const NOBODY: ReplicaId = ReplicaId(0);

/// The directory's identity, made now if it has none; and the cluster's key.
pub fn identify(
    config: &NodeConfig,
    directory: &DataDirectory,
    listener: &Listener,
) -> Result<(Identity, Keyring), Error> {
    let problem = |problem: String| Error::DataDirectory { path: config.data.clone(), problem };
    let keyring = || read_key(config);
    let mut known = None;
    if let Some(identity) = directory.identity()? {
        if identity.name != config.name {
            return Err(problem(format!(
                "belongs to replica \"{}\", not \"{}\"; give each replica a directory of its own",
                identity.name, config.name
            )));
        }
        if let Start::Bootstrap(list) = &config.start
            && identity.id != NOBODY
        {
            agree_with(&identity, list).map_err(problem)?;
        }
        if identity.id != NOBODY
            && identity.cluster.is_none()
            && let Some(joined) = join_instead(config, &identity, listener, &keyring()?)
        {
            forget_founding(directory, &identity).map_err(problem)?;
            directory.write_identity(&joined)?;
            return Ok((joined, keyring()?));
        }
        if identity.id != NOBODY {
            let keyring = keyring()?;
            is_of_that_cluster(config, &identity, &keyring).map_err(problem)?;
            return Ok((identity, keyring));
        }
        known = Some(identity.incarnation);
    }
    if let Start::Existing = &config.start {
        return Err(problem(
            "is empty; found a cluster with --bootstrap, or join one with --join".into(),
        ));
    }
    let incarnation = known.map_or_else(DataDirectory::new_incarnation, Ok)?;
    let keyring = match &config.start {
        Start::JoinByToken(token) => come_by(token, config, directory, incarnation)?,
        _ => keyring()?,
    };
    let identity = match &config.start {
        Start::Bootstrap(list) => found(&config.name, list, incarnation)?,
        Start::Join(addresses) | Start::JoinByToken(Token { addresses, .. }) => {
            // It is known by this already if it crashes before it hears that it has joined.
            directory.write_identity(&nobody(&config.name, incarnation))?;
            join(config, addresses, listener, incarnation, &keyring)?
        }
        Start::Existing => unreachable!("refused above"),
    };
    directory.write_identity(&identity)?;
    Ok((identity, keyring))
}

/// The key that a token gives. It is asked for once, and kept in the data directory.
fn come_by(
    token: &Token,
    config: &NodeConfig,
    directory: &DataDirectory,
    incarnation: Incarnation,
) -> Result<Keyring, Error> {
    let kept = config.data.join(KEY_FILE);
    if kept.exists() {
        return Keyring::read(&kept);
    }
    // Should the answer be lost, it asks again as the same.
    directory.write_identity(&nobody(&config.name, incarnation))?;
    let keyring = peers::redeem(token, &config.name, incarnation)?;
    private::replace_file(&kept, keyring.to_text().as_bytes())
        .map_err(Error::file("write", &kept))?;
    Ok(keyring)
}

/// What makes this process a part of its cluster.
fn read_key(config: &NodeConfig) -> Result<Keyring, Error> {
    match &config.key {
        Some(path) => Keyring::read(path),
        None => match config.data.join(KEY_FILE) {
            kept if kept.exists() => Keyring::read(&kept),
            _ => Err(Error::Configuration(
                "no key: give --key FILE, the same file on every host; `keepfs key > FILE` makes \
                 one, once for a cluster"
                    .into(),
            )),
        },
    }
}

fn nobody(name: &str, incarnation: Incarnation) -> Identity {
    Identity {
        id: NOBODY,
        name: name.into(),
        incarnation,
        cluster: None,
        members: Vec::new(),
        heard: BTreeMap::new(),
    }
}

/// A founding list that is given again must not contradict the first.
fn agree_with(identity: &Identity, list: &[(String, String)]) -> Result<(), String> {
    let founding = members_of(list);
    let listed = |members: &[Member]| -> Vec<_> {
        members.iter().map(|m| (m.id, m.name.clone(), m.address.clone())).collect()
    };
    if identity.cluster.is_none() && listed(&founding) != listed(&identity.members) {
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

/// Whoever is told to join others than it knows may have been given the directory of another
/// cluster: they are asked. If nobody can tell, it goes on as what it is.
fn is_of_that_cluster(
    config: &NodeConfig,
    identity: &Identity,
    keyring: &Keyring,
) -> Result<(), String> {
    let Some(cluster) = identity.cluster else { return Ok(()) };
    let mut given: Vec<&String> = match &config.start {
        Start::Bootstrap(list) => {
            let others = list.iter().filter(|(name, _)| *name != identity.name);
            others.map(|(_, address)| address).collect()
        }
        Start::Join(addresses) | Start::JoinByToken(Token { addresses, .. }) => {
            addresses.iter().collect()
        }
        Start::Existing => return Ok(()),
    };
    given.retain(|address| **address != config.listen);
    let is_known = |address: &&String| identity.members.iter().any(|m| m.address == **address);
    if given.is_empty() || given.iter().any(is_known) {
        return Ok(());
    }
    for address in &given {
        match peers::cluster_at(address, &config.name, identity.incarnation, keyring.clone()) {
            Ok(Some(theirs)) if theirs == cluster => return Ok(()),
            Ok(Some(theirs)) => {
                return Err(format!(
                    "belongs to cluster {cluster:032x}, and {address} to {theirs:032x}; give a \
                     directory of its own to each cluster"
                ));
            }
            Ok(None) => warn!("the cluster at {address} is being founded"),
            Err(error) => warn!("{error}"),
        }
    }
    warn!(
        "none of the addresses that --join or --bootstrap gives is a known one of cluster \
         {cluster:032x}, which the data directory belongs to; this replica goes on in that cluster"
    );
    Ok(())
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
        incarnation: 0,
    };
    sorted.into_iter().enumerate().map(member).collect()
}

fn found(
    name: &str,
    list: &[(String, String)],
    incarnation: Incarnation,
) -> Result<Identity, Error> {
    let mut members = members_of(list);
    if members.is_empty() || members.len() > REPLICAS_MAX {
        let text = format!("a cluster has 1 to {REPLICAS_MAX} replicas, not {}", members.len());
        return Err(Error::Configuration(text));
    }
    if let Some(twice) = members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let text = format!("--bootstrap names \"{}\" twice", twice[0].name);
        return Err(Error::Configuration(text));
    }
    let own = members.iter_mut().find(|member| member.name == name).ok_or_else(|| {
        Error::Configuration(format!("--bootstrap does not name this replica, \"{name}\""))
    })?;
    own.incarnation = incarnation;
    Ok(Identity { id: own.id, members, ..nobody(name, incarnation) })
}

/// A founder of a cluster that the others have founded without it, and that was taken out of the
/// list since (`keepfs member replace`), joins it under its name. `None`: it goes on as a founder,
/// and is told by the others if it cannot.
fn join_instead(
    config: &NodeConfig,
    identity: &Identity,
    listener: &Listener,
    keyring: &Keyring,
) -> Option<Identity> {
    let others = identity.members.iter().filter(|member| member.id != identity.id);
    let at: Vec<String> = others.map(|member| member.address.clone()).collect();
    let joined = join(config, &at, listener, identity.incarnation, keyring);
    let joined = joined.inspect_err(|error| info!("goes on as a founder: {error}")).ok()?;
    (joined.id != identity.id).then_some(joined)
}

/// Drops a log that holds nothing but the founding, which this replica has no part in.
fn forget_founding(directory: &DataDirectory, identity: &Identity) -> Result<(), String> {
    let log = RaftLog::open(&directory.log()).map_err(|error| error.to_string())?;
    let LogState { hard_state, base, span } = log.state();
    let last = span.map_or(base, |(_, last)| last);
    if hard_state.vote != 0 || last > identity.members.len() as u64 {
        return Err(
            "holds entries of another founding; move it away, and start with an empty one \
                    to join the others"
                .into(),
        );
    }
    drop(log);
    directory.clear_log().map_err(|error| error.to_string())
}

fn join(
    config: &NodeConfig,
    at: &[String],
    listener: &Listener,
    incarnation: Incarnation,
    keyring: &Keyring,
) -> Result<Identity, Error> {
    let own = address::own(&config.listen, listener.address());
    address::check_own(&own).map_err(Error::Configuration)?;
    let mut last = Error::Configuration("--join names no address".into());
    let (name, level) = (&config.name, config.program.level);
    for address in at {
        match peers::ask_to_join(address, name, incarnation, keyring.clone(), &own, level) {
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
                    cluster: Some(cluster),
                    members,
                    ..nobody(&config.name, incarnation)
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Equal for replicas that are founding one cluster; 0 once it is founded.
pub fn founding_hash(identity: &Identity) -> u64 {
    if identity.cluster.is_some() {
        return 0;
    }
    let text: String =
        identity.members.iter().map(|m| format!("{}={},", m.name, m.address)).collect();
    u64::from(crc32fast::hash(text.as_bytes())) | 1 << 32
}
