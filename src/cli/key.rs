//! `keepfs key`: the secret that makes a cluster.

use crate::disk::private;
use crate::error::Error;
use crate::peers::identity::Secret;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make a cluster's key.
///
/// The replicas that found a cluster are given the same key file; that is all it takes for nobody
/// else to be one of them, to read what they say, or to change it. Whoever has the file can be any
/// replica: keep it as you keep root's password. A file it is written to becomes its owner's alone
/// (mode 0600).
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  keepfs key > /etc/keepfs.key        once; then copy it to the other hosts, for instance by
  scp -p /etc/keepfs.key web2:/etc/   and start each with --key /etc/keepfs.key")]
pub struct Args {
    /// Write it to FILE, which must not exist, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.output {
        Some(path) => write_new(path)?,
        None => {
            make_private(io::stdout().as_fd().try_clone_to_owned())
                .map_err(Error::file("narrow the mode of", "standard output"))?;
            super::print(format!("{}\n", &*Secret::generate()?.to_text()).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A key of its own for a cluster that somebody tries out, made at its first start.
pub fn make_once(path: &Path) -> Result<(), Error> {
    match write_new(path) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn write_new(path: &Path) -> Result<(), Error> {
    let secret = Secret::generate()?;
    let write = || {
        let mut file = private::options().write(true).create_new(true).open(path)?;
        io::Write::write_all(&mut file, format!("{}\n", &*secret.to_text()).as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::file("write", path))
}

/// A shell makes files for everybody to read.
fn make_private(output: io::Result<impl Into<File>>) -> io::Result<()> {
    let output: File = output?.into();
    match output.metadata()?.is_file() {
        true => output.set_permissions(Permissions::from_mode(0o600)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::identity::Keyring;

    #[test]
    fn a_key_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        make_once(&path).unwrap();
        let first = Keyring::read(&path).expect("a key for its owner alone");
        make_once(&path).unwrap();
        assert_eq!(Keyring::read(&path).unwrap(), first);
        assert!(write_new(&path).is_err(), "a key is not overwritten");
    }

    #[test]
    fn what_a_shell_opened_for_the_key_becomes_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = File::create(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        make_private(file.try_clone()).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
