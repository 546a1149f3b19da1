//! The key of a mount that comes by a token: it never leaves the mount, and the cluster certifies
//! it.

use super::token::Sealed;
use crate::error::Error;
use bincode::{Decode, Encode};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What is signed begins with this, so that no other signature of the key is one of these.
const CONTEXT: &[u8] = b"keepfs mount's key 1";

/// A new key of this process.
pub struct JoinerKey(KeyPair);

/// A public key that wants to be certified for a token, and its owner's signature over both.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyRequest {
    public: [u8; 32],
    signature: [u8; 64],
}

impl JoinerKey {
    pub fn generate() -> Result<JoinerKey, Error> {
        KeyPair::generate_for(&rcgen::PKCS_ED25519).map(JoinerKey).map_err(failed)
    }

    /// Asks that this key be certified for whoever comes by the token.
    pub fn request(&self, sealed: &Sealed, name: &str) -> Result<KeyRequest, Error> {
        let public = self.0.public_key_raw().try_into().map_err(failed)?;
        let signature = self.0.sign(&signed(&public, sealed, name)).map_err(failed)?;
        Ok(KeyRequest { public, signature: signature.as_slice().try_into().map_err(failed)? })
    }

    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

impl KeyRequest {
    /// Whether the owner of the key asks for exactly this.
    pub fn is_for(&self, sealed: &Sealed, name: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(&signed(&self.public, sealed, name), &self.signature).is_ok()
    }

    /// The number under which the log counts it: one for each key.
    pub fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest(&SHA256, &self.public).as_ref()[..8]);
        u64::from_le_bytes(bytes)
    }
}

impl PublicKeyData for KeyRequest {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

fn signed(public: &[u8; 32], sealed: &Sealed, name: &str) -> Vec<u8> {
    let layout = bincode::config::standard();
    bincode::encode_to_vec((CONTEXT, public, sealed, name), layout).expect("memory takes all bytes")
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Other(format!("cannot make a key: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::identity::{Keyring, Role, Secret, Token};

    #[test]
    fn a_request_is_for_one_key_one_token_and_one_name() {
        let keyring = Keyring::new(Secret::generate().unwrap(), None);
        let token = || Token::new(&keyring, Vec::new(), Role::Mount).unwrap().sealed;
        let (one, other) = (token(), token());
        let request = JoinerKey::generate().unwrap().request(&one, "web1").unwrap();
        assert!(request.is_for(&one, "web1"));
        assert!(!request.is_for(&other, "web1") && !request.is_for(&one, "web2"));
        let thief = JoinerKey::generate().unwrap().request(&one, "web1").unwrap();
        let stolen = KeyRequest { public: request.public, ..thief.clone() };
        assert!(!stolen.is_for(&one, "web1"));
        assert_ne!(request.number(), thief.number());
    }
}
