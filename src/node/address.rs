//! Where the others reach this replica; and how they learn of it when that has changed.

use super::shared::Shared;
use crate::error::Error;
use crate::peers::identity::Keyring;
use crate::peers::{self, PeerHandler};
use crate::tree::{Incarnation, Level};
use log::{info, warn};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// Before the first request, so that a copy of a data directory hears first that it is one; and
/// between requests.
const PAUSE: Duration = Duration::from_secs(1);

/// What it was told to listen on, with the port it got.
pub fn own(listen: &str, listener: SocketAddr) -> String {
    match listen.rsplit_once(':') {
        Some((host, "0")) => format!("{host}:{}", listener.port()),
        _ => listen.to_string(),
    }
}

/// Whether others can be told this address; if not, a sentence.
pub fn check_own(address: &str) -> Result<(), String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        true => Err(format!(
            "others cannot reach this replica at {address}; give --listen an address of this host"
        )),
        false => Ok(()),
    }
}

/// If the address book has another address for this replica, starts to ask the others for the new
/// one: they cannot reach it, so that it does not hear from them before they have it.
pub fn announce_if_changed(shared: &Arc<Shared>) -> Result<(), Error> {
    let own = own(&shared.config.listen, shared.peers.address());
    if !differs(shared, &own) {
        return Ok(());
    }
    if let Err(text) = check_own(&own) {
        warn!("the address book keeps the old address: {text}");
        return Ok(());
    }
    info!("the others know another address of this replica; asking them for {own}");
    // It may wait for the network for long, and nobody waits for it.
    let shared = Arc::downgrade(shared);
    thread::Builder::new()
        .name("address".into())
        .spawn(move || announce(&shared, &own))
        .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
    Ok(())
}

/// Whether the address book, as far as it is applied here, has another one for this replica.
fn differs(shared: &Shared, own: &str) -> bool {
    let identity = shared.identity.lock();
    let mut members = identity.members.iter();
    identity.cluster.is_some() && members.any(|m| m.id == shared.id && m.address != own)
}

/// What is asked with.
struct Credentials {
    name: String,
    incarnation: Incarnation,
    keyring: Keyring,
    level: Level,
}

fn announce(shared: &Weak<Shared>, own: &str) {
    let mut told = None;
    loop {
        thread::sleep(PAUSE);
        let Some(asked) = shared.upgrade().and_then(|shared| ask(&shared, own)) else { return };
        let (credentials, others) = asked;
        if let Err(error) = ask_others(&credentials, &others, own)
            && told.replace(error.clone()).as_ref() != Some(&error)
        {
            warn!("the others were not told the address {own} so far: {error}");
        }
    }
}

/// Whom to ask, and as whom; `None` once there is nothing to ask for. One that is alone asks
/// itself.
fn ask(shared: &Shared, own: &str) -> Option<(Credentials, Vec<String>)> {
    if shared.peers.is_stopping() || shared.failed().is_some() || !differs(shared, own) {
        return None;
    }
    let identity = shared.identity.lock().clone();
    let others = identity.members.iter().filter(|member| member.id != shared.id);
    let others: Vec<String> = others.map(|member| member.address.clone()).collect();
    let (name, incarnation) = (identity.name, identity.incarnation);
    if others.is_empty() {
        let _ = shared.join(&name, own, incarnation, shared.config.program.level);
    }
    let (keyring, level) = (shared.peers.keyring(), shared.config.program.level);
    Some((Credentials { name, incarnation, keyring, level }, others))
}

/// Until one of them has it done; what the last one said, else.
fn ask_others(by: &Credentials, others: &[String], own: &str) -> Result<(), String> {
    let mut last = Ok(());
    for address in others {
        let keyring = by.keyring.clone();
        match peers::ask_to_join(address, &by.name, by.incarnation, keyring, own, by.level) {
            Ok(_) => return Ok(()),
            Err(error) => last = Err(error.to_string()),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_any_host_is_never_told() {
        let port: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(own("h:0", port), "h:9");
        assert_eq!(own("h:7", port), "h:7");
        for address in ["0.0.0.0:1", "[::]:1"] {
            assert!(check_own(address).unwrap_err().contains(address));
        }
        for address in ["127.0.0.1:1", "[::1]:1", "host:1"] {
            assert_eq!(check_own(address), Ok(()));
        }
    }
}
