//! [`Error`]: local failures. Never replicated, and never answered to a file operation as such:
//! what an operation is answered is a [`crate::tree::Refusal`] or a [`crate::node::Failure`].

use std::io;
use std::path::PathBuf;

/// What went wrong here, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory; names it and the attempt.
    #[error("cannot {attempt} {}: {source}", path.display())]
    File { attempt: &'static str, path: PathBuf, source: io::Error },
    /// The data directory does not fit: another cluster's, another replica's, another format's, in
    /// use.
    #[error("data directory {}: {problem}", path.display())]
    DataDirectory { path: PathBuf, problem: String },
    /// What is on disk is not what was written.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("cannot {attempt} {address}: {source}")]
    Network { attempt: &'static str, address: String, source: io::Error },
    #[error("cannot mount at {}: {problem}", path.display())]
    Mount { path: PathBuf, problem: String },
    /// A flag, a variable or a line of the configuration file.
    #[error("{0}")]
    Configuration(String),
    /// The cluster has no place for this replica as it is: its data directory was wiped, or copied,
    /// or is another cluster's. Trying again changes nothing.
    #[error("{0}")]
    Refused(String),
    #[error("backup: {0}")]
    Backup(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err`: `fs::read(p).map_err(Error::file("read", p))`.
    pub fn file(
        attempt: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { attempt, path, source }
    }

    /// For `map_err`: `peer.send(m).map_err(Error::network("send to", address))`.
    pub fn network(
        attempt: &'static str,
        address: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Error {
        let address = address.into();
        move |source| Error::Network { attempt, address, source }
    }

    /// The errno it was made of; EIO if of none.
    pub fn errno(&self) -> i32 {
        match self {
            Error::File { source, .. } | Error::Network { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
            _ => libc::EIO,
        }
    }
}
