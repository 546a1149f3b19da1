//! Tokens: one line that lets a host join, and nobody else. Its id and role are sealed by the
//! cluster's secret; what it allows, how often it was used, and whether it is revoked, is in the
//! log.

use super::authority::{Authority, fingerprint};
use super::secret::{Secret, hex, unhex};
use super::{Keyring, Role};
use crate::error::Error;
use crate::random;
use bincode::{Decode, Encode};
use ring::hmac;
use std::fmt;
use std::str::FromStr;

/// What a token begins with.
pub const PREFIX: &str = "keepfs-token-";
/// More than any token has.
const TEXT_BYTES_MAX: usize = 4096;

/// Which token it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claims {
    /// Of its record in the tree.
    pub id: u64,
    /// As [`Role`] writes itself.
    pub role: String,
}

/// Claims that can be checked by whoever has the secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    pub claims: Claims,
    seal: [u8; 32],
}

/// Everything one needs to join.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Token {
    /// `HOST:PORT` of replicas.
    pub addresses: Vec<String>,
    /// Of the cluster's authority: whom to tell the rest.
    pub fingerprint: [u8; 32],
    pub sealed: Sealed,
}

impl Token {
    /// A new one, for the log to record.
    pub fn new(keyring: &Keyring, addresses: Vec<String>, role: Role) -> Result<Token, Error> {
        let id = u64::from_le_bytes(random::bytes()?);
        let claims = Claims { id, role: role.to_string() };
        let tag = hmac::sign(&key(keyring.signs()), &encode(&claims));
        let mut seal = [0; 32];
        seal.copy_from_slice(tag.as_ref());
        let authority = Authority::of(keyring.signs())?;
        let fingerprint = fingerprint(authority.certificate());
        Ok(Token { addresses, fingerprint, sealed: Sealed { claims, seal } })
    }
}

impl Sealed {
    /// Whether one of these secrets made it.
    pub fn is_of(&self, keyring: &Keyring) -> bool {
        let claims = encode(&self.claims);
        let made = |secret| hmac::verify(&key(secret), &claims, &self.seal).is_ok();
        keyring.trusted().iter().any(made)
    }
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*secret.derive(b"tokens 1"))
}

fn encode(value: &impl Encode) -> Vec<u8> {
    bincode::encode_to_vec(value, bincode::config::standard()).expect("memory takes all bytes")
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex(&encode(self)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {:016x}", self.sealed.claims.id)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({:016x})", self.claims.id)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Token, Error> {
        let wrong = || Error::Configuration("this is no whole token of `keepfs token`".into());
        let digits = text.trim().strip_prefix(PREFIX).ok_or_else(wrong)?;
        if digits.len() > TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let mut bytes = vec![0; digits.len() / 2];
        unhex(digits, &mut bytes).ok_or_else(wrong)?;
        let layout = bincode::config::standard().with_limit::<TEXT_BYTES_MAX>();
        match bincode::decode_from_slice(&bytes, layout) {
            Ok((token, used)) if used == bytes.len() => Ok(token),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_and_what_it_allows_cannot_be_changed() {
        let keyring = Keyring::new(Secret::generate().unwrap(), None);
        let addresses = vec!["10.0.0.1:7411".to_owned()];
        let token = Token::new(&keyring, addresses, Role::Replica).unwrap();
        let text = token.to_string();
        assert!(!text.contains(char::is_whitespace));
        let read: Token = text.parse().unwrap();
        assert_eq!(read, token);
        assert!(read.sealed.is_of(&keyring));
        assert!(!read.sealed.is_of(&Keyring::new(Secret::generate().unwrap(), None)));
        let mut more = read.clone();
        more.sealed.claims.id += 1;
        assert!(!more.sealed.is_of(&keyring));
        for wrong in ["", PREFIX, &text[..text.len() - 2], &format!("{text}00"), "10.0.0.1:7411"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(&hex(&token.sealed.seal)));
    }
}
