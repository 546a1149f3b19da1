//! Coming by a token: who has no certificate yet shows a token, and is given what makes one.

use super::connection::{Frames, invalid, kind};
use super::hello::HELLO_TIMEOUT;
use super::identity::token::Sealed;
use super::identity::{Keyring, Role, Token, token_client};
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
    /// A number of its own: the same one may ask again.
    pub joiner: u64,
}

/// The key file's text, or why not.
type Grant = Result<String, Denial>;

/// Why one does not come by a token.
#[derive(Clone, Debug, Encode, Decode)]
pub enum Denial {
    /// The cluster says no.
    Refused(String),
    /// This replica cannot say now; another one may, or the same one later.
    Later(String),
}

/// Redeems a token at any of its addresses: the cluster's keyring. While a replica is there that
/// cannot say, it is asked again.
pub fn redeem(token: &Token, name: &str, joiner: u64) -> Result<Keyring, Error> {
    let config = token_client(token.fingerprint)?;
    let ask = |address: &str| -> io::Result<Grant> {
        let wire = Wire::dial(socket::dial(address)?, config.clone(), HELLO_TIMEOUT)?;
        if wire.subject()?.role != Role::Replica {
            return Err(invalid("it is no replica"));
        }
        let mut frames = Frames::new(wire);
        let redeem = Redeem { sealed: token.sealed.clone(), name: name.to_owned(), joiner };
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
            last = match ask(address) {
                Ok(Ok(key)) => return Keyring::parse(&key).map_err(|why| failed(invalid(why))),
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
    let claims = &redeem.sealed.claims;
    let grant: Grant = if claims.role != Role::Replica.to_string() {
        Err(Denial::Refused(format!("a token for a {} is not for a replica", claims.role)))
    } else {
        handler
            .redeem(claims.id, &redeem.name, redeem.joiner)
            .map(|()| shared.credentials().keyring().to_text().to_string())
    };
    match &grant {
        Ok(_) => log::info!("{} has come by token {:016x}", redeem.name, claims.id),
        Err(Denial::Refused(why) | Denial::Later(why)) => {
            log::warn!("{} does not come by token {:016x}: {why}", redeem.name, claims.id);
        }
    }
    frames.send(kind::GRANT, &grant)
}
