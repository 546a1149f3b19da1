//! `keepfs role`: what creating a name in a directory means.

use super::mounts;
use crate::error::Error;
use clap::ValueEnum;
use rustix::fs::XattrFlags;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show or set a directory's role.
///
/// The role says what creating a name in the directory means. It is kept in the tree as the xattr
/// user.keepfs.role and inherited by nobody.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs role /keep/services/web                 prints its role
  keepfs role /keep/services/web ephemeral       its entries go with the host that made them
  setfattr -n user.keepfs.role -v ephemeral /keep/services/web       the same")]
pub struct Args {
    directory: PathBuf,
    role: Option<Role>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// An ordinary directory.
    Plain,
    /// Entries belong to the session of the host that makes them, and go with it.
    Ephemeral,
    /// Names get a ten-digit counter appended.
    Sequential,
    /// Entries are tickets in a fair queue.
    Lock,
    /// A directory made in it is a lock directory.
    Locks,
}

const XATTR: &std::ffi::CStr = c"user.keepfs.role";

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    match args.role.and_then(|role| role.to_possible_value()) {
        Some(role) => set(&args.directory, role.get_name()),
        None => mounts::xattr(&args.directory, XATTR).map(super::say),
    }
    .map_err(|error| explain(&args.directory, error))?;
    Ok(ExitCode::SUCCESS)
}

fn set(directory: &Path, role: &str) -> io::Result<()> {
    Ok(rustix::fs::setxattr(directory, XATTR, role.as_bytes(), XattrFlags::empty())?)
}

fn explain(directory: &Path, error: io::Error) -> Error {
    let path = directory.display();
    Error::Other(match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP) => {
            format!("{path} has no role: it is no directory of a keepfs mount")
        }
        Some(libc::EROFS) => {
            format!("cannot set the role of {path}: the cluster has no quorum; see `keepfs status`")
        }
        _ => format!("cannot set or show the role of {path}: {error}"),
    })
}
