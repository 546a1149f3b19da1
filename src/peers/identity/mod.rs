//! Who speaks: one secret makes a cluster's certificate authority, and a certificate says which
//! process this is. What a frame says about its sender counts for nothing.

mod authority;
mod joiner;
mod secret;
mod tls;
pub mod token;

pub use joiner::{JoinerKey, KeyRequest};
pub use secret::{Keyring, Secret};
pub use tls::{Credentials, MountCertificate, MountGrant, subject_of, token_client};
pub use token::Token;

use std::fmt;
use std::str::FromStr;

/// What a process may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Votes, stores, and may lead.
    Replica,
    /// Reads, and proposes in its own sessions.
    Mount,
}

/// Whom a certificate is for. In it, as a URI:
///
/// ```text
/// keepfs:ROLE/NAME/INCARNATION/CLUSTER
/// ```
///
/// ROLE is `replica` or `mount`; INCARNATION 16 hexadecimal digits; CLUSTER 32, or `-` before the
/// cluster is founded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub role: Role,
    pub name: String,
    /// Of a replica's data directory: another one under the same name is another replica. Of a
    /// mount, the id of the token that it came by.
    pub incarnation: u64,
    /// `None` while the cluster is being founded, or joined.
    pub cluster: Option<u128>,
}

const SCHEME: &str = "keepfs:";
const NAME_BYTES_MAX: usize = 64;

/// Whether a name can stand in a certificate: letters, digits, dots, dashes, underscores.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain)
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Replica => "replica",
            Role::Mount => "mount",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        match text {
            "replica" => Ok(Role::Replica),
            "mount" => Ok(Role::Mount),
            _ => Err(format!("{text:?} is no role: replica or mount")),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{:016x}/", self.role, self.name, self.incarnation)?;
        match self.cluster {
            Some(cluster) => write!(f, "{cluster:032x}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Subject, String> {
        let wrong = || format!("{text:?} names no process of a cluster");
        let words: Vec<&str> = text.strip_prefix(SCHEME).ok_or_else(wrong)?.split('/').collect();
        let [role, name, incarnation, cluster] = words[..] else { return Err(wrong()) };
        let subject = Subject {
            role: role.parse()?,
            name: name.to_owned(),
            incarnation: u64::from_str_radix(incarnation, 16).map_err(|_| wrong())?,
            cluster: match cluster {
                "-" => None,
                digits => Some(u128::from_str_radix(digits, 16).map_err(|_| wrong())?),
            },
        };
        // One way to write each.
        if is_name(name) && subject.to_string() == text { Ok(subject) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_back_and_nothing_like_it_is_taken() {
        for (role, cluster) in [(Role::Replica, None), (Role::Mount, Some(7))] {
            let subject = Subject { role, name: "web-1.a_b".into(), incarnation: 0xabc, cluster };
            assert_eq!(subject.to_string().parse::<Subject>(), Ok(subject));
        }
        for wrong in [
            "",
            "keepfs:replica/a/0/-",
            "keepfs:replica/a/0000000000000000/-/x",
            "keepfs:king/a/0000000000000000/-",
            "keepfs:replica//0000000000000000/-",
            "keepfs:replica/a b/0000000000000000/-",
            "keepfs:replica/a/+000000000000000/-",
            "KEEPFS:replica/a/0000000000000000/-",
        ] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
