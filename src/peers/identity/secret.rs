//! The secret that makes a cluster: 32 random bytes. Whoever has it can be any replica of it, so it
//! is never shown: not in logs, not by `Debug`, and it leaves memory when it is dropped.

use crate::error::Error;
use crate::random;
use ring::hkdf::{self, KeyType};
use rustix::process::geteuid;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

const SECRET_BYTES: usize = 32;
/// A key file is a line or two.
const FILE_BYTES_MAX: u64 = 4096;
/// During a rotation there are the old one and the new one.
const SECRETS_MAX: usize = 2;

/// One secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

/// The secrets of a cluster: the first makes certificates, certificates of all are believed.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring(Vec<Secret>);

impl Secret {
    /// A new one, from the kernel.
    pub fn generate() -> Result<Secret, Error> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        random::fill(&mut *bytes)?;
        Ok(Secret(bytes))
    }

    /// 32 bytes for one purpose, from which neither the secret nor those of another purpose follow.
    pub(super) fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; SECRET_BYTES]> {
        struct Length;
        impl KeyType for Length {
            fn len(&self) -> usize {
                SECRET_BYTES
            }
        }
        let mut derived = Zeroizing::new([0; SECRET_BYTES]);
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"keepfs").extract(&*self.0);
        key.expand(&[purpose], Length)
            .and_then(|okm| okm.fill(&mut *derived))
            .expect("HKDF gives up to 8160 bytes");
        derived
    }

    /// As a key file holds it: 64 hexadecimal digits, without the end of the line.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    fn parse(line: &str) -> Option<Secret> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        unhex(line, &mut *bytes)?;
        Some(Secret(bytes))
    }
}

impl Keyring {
    /// `also`: the other secret of a rotation.
    pub fn new(signs: Secret, also: Option<Secret>) -> Keyring {
        Keyring(std::iter::once(signs).chain(also).collect())
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// If it is missing, may be read by others than its owner, or holds no secret; with what to do.
    pub fn read(path: &Path) -> Result<Keyring, Error> {
        // A FIFO would be waited for.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let mut file = opened.map_err(Error::file("read the key", path))?;
        let metadata = file.metadata().map_err(Error::file("look at", path))?;
        check_key_file(&metadata).map_err(|problem| {
            Error::Configuration(problem.replace("FILE", &path.display().to_string()))
        })?;
        let mut text = Zeroizing::new(String::new());
        file.by_ref()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(Error::file("read the key", path))?;
        Keyring::parse(&text).map_err(|problem| {
            Error::Configuration(format!("the key {} {problem}", path.display()))
        })
    }

    /// What a key file holds.
    ///
    /// # Errors
    /// What is wrong with it, to follow its name.
    pub fn parse(text: &str) -> Result<Keyring, String> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let secrets: Option<Vec<Secret>> = lines.map(Secret::parse).collect();
        match secrets {
            Some(secrets) if (1..=SECRETS_MAX).contains(&secrets.len()) => Ok(Keyring(secrets)),
            _ => Err("is no key: it must hold the line that `keepfs key` printed, or during a \
                      rotation two of them"
                .into()),
        }
    }

    /// As a key file holds it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for secret in &self.0 {
            text.push_str(&secret.to_text());
            text.push('\n');
        }
        text
    }

    /// The first step of a rotation: a new secret is believed beside the old one.
    ///
    /// # Errors
    /// If another rotation is under way.
    pub fn begin(mut self) -> Result<Keyring, Error> {
        if self.0.len() != 1 {
            let text = "holds two secrets: a rotation is under way; go on with it";
            return Err(Error::Configuration(text.into()));
        }
        self.0.push(Secret::generate()?);
        Ok(self)
    }

    /// The second: the other secret makes certificates. Twice is a step back.
    ///
    /// # Errors
    /// If no rotation is under way.
    pub fn switch(mut self) -> Result<Keyring, Error> {
        self.must_rotate()?;
        self.0.swap(0, 1);
        Ok(self)
    }

    /// The last: only the secret that makes certificates is believed.
    ///
    /// # Errors
    /// If no rotation is under way.
    pub fn finish(mut self) -> Result<Keyring, Error> {
        self.must_rotate()?;
        self.0.truncate(1);
        Ok(self)
    }

    fn must_rotate(&self) -> Result<(), Error> {
        match self.0.len() {
            2 => Ok(()),
            _ => Err(Error::Configuration("holds one secret: begin the rotation first".into())),
        }
    }

    /// The one that makes certificates.
    pub fn signs(&self) -> &Secret {
        &self.0[0]
    }

    /// All whose certificates are believed.
    pub fn trusted(&self) -> &[Secret] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring of {}", self.0.len())
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Exactly as many digits as fill `bytes`; otherwise `None`.
pub fn unhex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(())
}

/// What is wrong with it as the keeper of a secret, of FILE.
fn check_key_file(metadata: &Metadata) -> Result<(), String> {
    let own = geteuid().as_raw();
    if !metadata.is_file() {
        return Err("the key FILE is no regular file; `keepfs key > FILE` makes one".into());
    }
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(format!(
            "the key FILE belongs to user {}, who may read and write it: chown {own} FILE; if that \
             user may have read it, make a new one",
            metadata.uid()
        ));
    }
    match metadata.mode() & 0o077 {
        0 => Ok(()),
        _ => Err("other users may read or write the key FILE: chmod 600 FILE; if they may have \
                  read it, make a new one"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_read_back_and_never_shown() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one, two);
        let keyring = Keyring::new(one.clone(), Some(two));
        assert_eq!(Keyring::parse(&keyring.to_text()).unwrap(), keyring);
        assert_eq!(Keyring::parse(&format!("# ours\n\n{}\n", &*one.to_text())).unwrap().0, [one]);
        let shown = format!("{keyring:?} {:?}", keyring.signs());
        assert!(!shown.contains(&keyring.signs().to_text()[..8]), "{shown}");
        for wrong in ["", "# nothing\n", "abc\n", &"0".repeat(63), &"g".repeat(64)] {
            assert!(Keyring::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rotation_ends_with_the_new_secret_alone() {
        let old = Keyring::new(Secret::generate().unwrap(), None);
        assert!(old.clone().switch().is_err() && old.clone().finish().is_err());
        let begun = old.clone().begin().unwrap();
        assert_eq!(begun.signs(), old.signs());
        assert!(begun.clone().begin().is_err());
        assert_eq!(begun.clone().finish().unwrap(), old, "given up");
        let switched = begun.clone().switch().unwrap();
        assert_eq!(switched.trusted().len(), 2);
        assert_eq!(switched.signs(), &begun.trusted()[1]);
        assert_eq!(switched.finish().unwrap().trusted(), &begun.trusted()[1..]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, &*Secret::generate().unwrap().to_text()).unwrap();
        for wide in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(wide)).unwrap();
            let error = Keyring::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Keyring::read(&path).unwrap();
    }

    #[test]
    fn what_is_derived_differs_by_purpose_and_by_secret() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_eq!(one.derive(b"a"), one.clone().derive(b"a"));
        assert_ne!(one.derive(b"a"), one.derive(b"b"));
        assert_ne!(one.derive(b"a"), two.derive(b"a"));
    }
}
