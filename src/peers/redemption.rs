//! Coming by a token: who has no certificate yet shows a token, and is given what makes one, or, as
//! a mount, one for its own key.

use super::connection::{Frames, invalid, kind};
use super::hello::HELLO_TIMEOUT;
use super::identity::token::Sealed;
use super::identity::{
    JoinerKey, KeyRequest, Keyring, MountCertificate, MountGrant, Role, Token, is_name,
    token_client,
};
use super::socket;
use super::wire::Wire;
use super::{PeerHandler, Shared};
use crate::error::Error;
use bincode::{Decode, Encode};
use std::io;
use std::time::{Duration, Instant};

/// The redemption is an entry of the log.
const GRANT_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two rounds of its addresses.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The first frame of one that comes by a token.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Redeem {
    pub sealed: Sealed,
    pub name: String,
    pub joiner: Joiner,
}

/// What one comes as.
#[derive(Clone, Debug, Encode, Decode)]
pub enum Joiner {
    /// By a number of its own: the same one may ask again.
    Replica(u64),
    /// With a key, to be certified.
    Mount(KeyRequest),
}

/// What one comes by.
#[derive(Clone, Debug, Encode, Decode)]
pub(super) enum Granted {
    /// The key file's text: a replica makes its certificates itself.
    Key(String),
    Certificate(MountGrant),
}

pub(super) type Grant = Result<Granted, Denial>;

/// Why one does not come by a token.
#[derive(Clone, Debug, Encode, Decode)]
pub enum Denial {
    /// The cluster says no.
    Refused(String),
    /// This replica cannot say now; another one may, or the same one later.
    Later(String),
}

/// Redeems a replica's token: the cluster's keyring.
pub fn redeem(token: &Token, name: &str, joiner: u64) -> Result<Keyring, Error> {
    match ask(token, name, Joiner::Replica(joiner))? {
        (_, Granted::Key(key)) => Keyring::parse(&key).map_err(Error::Configuration),
        (address, Granted::Certificate(_)) => Err(unasked(address)),
    }
}

/// Redeems a mount's token, with a new key that stays here.
pub fn redeem_mount(token: &Token, name: &str) -> Result<MountCertificate, Error> {
    let key = JoinerKey::generate()?;
    match ask(token, name, Joiner::Mount(key.request(&token.sealed, name)?))? {
        (_, Granted::Certificate(grant)) => MountCertificate::new(&key, grant),
        (address, Granted::Key(_)) => Err(unasked(address)),
    }
}

fn unasked(address: &str) -> Error {
    Error::network("come by the token to", address)(invalid("it grants what was not asked for"))
}

/// Shows a token at its addresses until one grants what it allows. While a replica is there that
/// cannot say, it is asked again.
fn ask<'a>(token: &'a Token, name: &str, joiner: Joiner) -> Result<(&'a str, Granted), Error> {
    let config = token_client(token.fingerprint)?;
    let redeem = Redeem { sealed: token.sealed.clone(), name: name.to_owned(), joiner };
    let show = |address: &str| -> io::Result<Grant> {
        let wire = Wire::dial(socket::dial(address)?, config.clone(), HELLO_TIMEOUT)?;
        if wire.subject()?.role != Role::Replica {
            return Err(invalid("it is no replica"));
        }
        let mut frames = Frames::new(wire);
        frames.set_timeout(Some(GRANT_TIMEOUT))?;
        frames.send(kind::REDEEM, &redeem)?;
        frames.expect(kind::GRANT)
    };
    let end = Instant::now() + GRANT_TIMEOUT;
    let mut last = Error::Configuration("the token names no address".into());
    loop {
        let mut undecided = false;
        for address in &token.addresses {
            let failed = Error::network("come by the token to", address);
            last = match show(address) {
                Ok(Ok(granted)) => return Ok((address, granted)),
                Ok(Err(Denial::Refused(why))) => return Err(failed(io::Error::other(why))),
                Ok(Err(Denial::Later(why))) => {
                    undecided = true;
                    failed(io::Error::other(why))
                }
                Err(error) => failed(error),
            };
        }
        if !undecided || Instant::now() >= end {
            return Err(last);
        }
        std::thread::sleep(AGAIN_AFTER);
    }
}

/// Whether what it shows is a token of this cluster at all: before it gets a thread.
pub(super) fn is_token(shared: &Shared, redeem: &Redeem) -> bool {
    redeem.sealed.is_of(shared.credentials().keyring())
}

/// Grants what a token allows, if the log lets it.
pub(super) fn answer(
    shared: &Shared,
    handler: &dyn PeerHandler,
    mut frames: Frames,
    redeem: &Redeem,
) -> io::Result<()> {
    let grant = grant(shared, handler, redeem);
    let (name, token) = (&redeem.name, redeem.sealed.claims.id);
    match &grant {
        Ok(_) => log::info!("{name} has come by token {token:016x}"),
        Err(Denial::Refused(why) | Denial::Later(why)) => {
            log::warn!("{name} does not come by token {token:016x}: {why}");
        }
    }
    frames.send(kind::GRANT, &grant)
}

fn grant(shared: &Shared, handler: &dyn PeerHandler, redeem: &Redeem) -> Grant {
    let Redeem { sealed, name, joiner } = redeem;
    let token = sealed.claims.id;
    let comes_as = match joiner {
        Joiner::Replica(_) => Role::Replica,
        Joiner::Mount(_) => Role::Mount,
    };
    let role = &sealed.claims.role;
    if *role != comes_as.to_string() {
        return Err(Denial::Refused(format!(
            "a token for a {role} is not for a {comes_as}: `keepfs token --role {comes_as}` on a \
             member makes one that is"
        )));
    }
    if !is_name(name) {
        return Err(Denial::Refused(format!("{name:?} can be nobody's name")));
    }
    match joiner {
        Joiner::Replica(number) => {
            handler.redeem(token, name, *number)?;
            Ok(Granted::Key(shared.credentials().keyring().to_text().to_string()))
        }
        Joiner::Mount(key) => {
            if !key.is_for(sealed, name) {
                return Err(Denial::Refused("it does not own the key that it shows".into()));
            }
            handler.redeem(token, name, key.number())?;
            let grant = shared.credentials().certify_mount(token, name, key);
            grant.map(Granted::Certificate).map_err(|error| Denial::Later(error.to_string()))
        }
    }
}
