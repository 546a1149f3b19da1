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
use std::time::Duration;

/// The redemption is an entry of the log.
const GRANT_TIMEOUT: Duration = Duration::from_secs(30);

/// The first frame of one that comes by a token.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Redeem {
    pub sealed: Sealed,
    pub name: String,
    /// A number of its own: the same one may ask again.
    pub joiner: u64,
}

/// The key file's text, or why not.
type Grant = Result<String, String>;

/// Redeems a token at any of its addresses: the cluster's keyring.
pub fn redeem(token: &Token, name: &str, joiner: u64) -> Result<Keyring, Error> {
    let config = token_client(token.fingerprint)?;
    let attempt = |address: &str| -> io::Result<Keyring> {
        let wire = Wire::dial(socket::dial(address)?, config.clone(), HELLO_TIMEOUT)?;
        if wire.subject()?.role != Role::Replica {
            return Err(invalid("it is no replica"));
        }
        let mut frames = Frames::new(wire);
        let redeem = Redeem { sealed: token.sealed.clone(), name: name.to_owned(), joiner };
        frames.set_timeout(Some(GRANT_TIMEOUT))?;
        frames.send(kind::REDEEM, &redeem)?;
        let grant: Grant = frames.expect(kind::GRANT)?;
        Keyring::parse(&grant.map_err(io::Error::other)?).map_err(invalid)
    };
    let mut last = Error::Configuration("the token names no address".into());
    for address in &token.addresses {
        match attempt(address) {
            Ok(keyring) => return Ok(keyring),
            Err(error) => last = Error::network("come by the token to", address)(error),
        }
    }
    Err(last)
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
        Err(format!("a token for a {} is not for a replica", claims.role))
    } else {
        handler
            .redeem(claims.id, &redeem.name, redeem.joiner)
            .map(|()| shared.credentials().keyring().to_text().to_string())
    };
    match &grant {
        Ok(_) => log::info!("{} has come by token {:016x}", redeem.name, claims.id),
        Err(why) => {
            log::warn!("{} does not come by token {:016x}: {why}", redeem.name, claims.id);
        }
    }
    frames.send(kind::GRANT, &grant)
}
