//! A loopback address for a replica nobody gave one: chosen once, remembered in its directory, for
//! a replica's address is part of its cluster's membership.

use crate::disk::private;
use crate::error::Error;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::path::Path;

/// Below Linux's range for outgoing connections (from 32768), so that none of them holds the port
/// at the next start.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The address remembered in `file`, or a free one, remembered there from now on.
pub fn remembered(file: &Path) -> Result<String, Error> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(format!("127.0.0.1:{}", text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let port = free_port()?;
            private::write(file, format!("{port}\n").as_bytes())
                .map_err(Error::file("write", file))?;
            Ok(format!("127.0.0.1:{port}"))
        }
        Err(error) => Err(Error::file("read", file)(error)),
    }
}

/// A port of [`PORTS`] nobody listens on, from a random one on, so that two playgrounds that start
/// at the same moment seldom choose the same.
fn free_port() -> Result<u16, Error> {
    let count = PORTS.end - PORTS.start;
    let first = (RandomState::new().hash_one(std::process::id()) % u64::from(count)) as u16;
    (0..count)
        .map(|step| PORTS.start + (first + step) % count)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| Error::Other("no free port on 127.0.0.1 between 20000 and 32000".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("port");
        let first = remembered(&file).unwrap();
        let _taken = TcpListener::bind(&first).expect("a free port");
        assert_eq!(remembered(&file).unwrap(), first);
        assert_ne!(remembered(&dir.path().join("other")).unwrap(), first);
    }
}
