//! What makes a repository one repository on every replica: its config, its key, its password.
//!
//! They are made once per registered host by whoever writes its first stream, and kept in the tree
//! in `/backup/node/NAME/.repository` (mode 0600, root's): the log decides which of two first
//! writers made it. Every replica writes `config` and `keys/*` from it.
//!
//! Encryption is not optional in the restic format. Whoever can read the tree as root can read the
//! backups; the files alone, on a peer's disk or a copy of it, are of no use without the tree.

use super::files::FileId;
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Read by every replica: fields are added, never changed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Of this layout; 1.
    pub version: u32,
    /// The repository's id, which is also in its config.
    pub repository: FileId,
    /// For people: `restic -r DIRECTORY` asks for it.
    pub password: String,
    /// What the password protects, so that keepfs need not run scrypt (134 MB) at every open.
    /// Encryption key (32 bytes), then the MAC's `k` and `r` (16 each).
    #[serde(with = "hexadecimal")]
    pub master_key: Vec<u8>,
    /// The file `config`, encrypted.
    #[serde(with = "hexadecimal")]
    pub config: Vec<u8>,
    /// The file `keys/KEY_ID`: the master key under the password.
    pub key_id: FileId,
    #[serde(with = "hexadecimal")]
    pub key: Vec<u8>,
}

impl Credentials {
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("credentials are plain data");
        json.push(b'\n');
        json
    }

    pub fn from_json(json: &[u8]) -> Result<Credentials, Error> {
        let credentials: Credentials = serde_json::from_slice(json)
            .map_err(|error| Error::Backup(format!("`.repository` is not as written: {error}")))?;
        match credentials.version {
            1 if credentials.master_key.len() == 64 => Ok(credentials),
            1 => Err(Error::Backup("`.repository` holds a master key of a wrong length".into())),
            newer => Err(Error::Backup(format!(
                "`.repository` is of version {newer}, this keepfs knows 1: upgrade it"
            ))),
        }
    }
}

mod hexadecimal {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(from)?.into_bytes();
        let wrong = || serde::de::Error::custom("not pairs of hexadecimal digits");
        if digits.len() % 2 != 0 {
            return Err(wrong());
        }
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            u8::from_str_radix(pair, 16).map_err(|_| wrong())
        };
        digits.chunks_exact(2).map(byte).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn credentials_are_read_back_and_a_newer_version_is_refused() {
        let credentials = Credentials {
            version: 1,
            repository: FileId::of(b"repository"),
            password: "secret".into(),
            master_key: random::bytes::<64>().unwrap().to_vec(),
            config: vec![0, 255, 16],
            key_id: FileId::of(b"key"),
            key: b"{}".to_vec(),
        };
        let json = credentials.to_json();
        let back = Credentials::from_json(&json).unwrap();
        assert_eq!(back.to_json(), json);
        assert_eq!(back.config, [0, 255, 16]);
        let newer = String::from_utf8(json).unwrap().replace("\"version\": 1", "\"version\": 2");
        assert!(Credentials::from_json(newer.as_bytes()).is_err());
    }
}
