//! `keepfs key`: the secret that makes a cluster.

use crate::disk::private;
use crate::error::Error;
use crate::peers::identity::{Keyring, Secret};
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
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Write it to FILE, which must not exist, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Verb {
    Rotate(Rotate),
}

/// Replace the key of a running cluster, in three steps.
///
/// Each step changes FILE; copy it to every host before the next. Running replicas see that within
/// a second, and go on meanwhile. Until the last step certificates of both keys are believed.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  keepfs key rotate begin  /etc/keepfs.key      the new key is believed too
  keepfs key rotate switch /etc/keepfs.key      and makes the certificates
  keepfs key rotate finish /etc/keepfs.key      the old one is believed no more")]
struct Rotate {
    step: Step,
    file: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Step {
    Begin,
    Switch,
    Finish,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    if let Some(Verb::Rotate(Rotate { step, file })) = &args.verb {
        return rotate(*step, file);
    }
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

fn rotate(step: Step, path: &Path) -> Result<ExitCode, Error> {
    let keyring = Keyring::read(path)?;
    let next = match step {
        Step::Begin => keyring.begin(),
        Step::Switch => keyring.switch(),
        Step::Finish => keyring.finish(),
    };
    let next = next.map_err(|error| match error {
        Error::Configuration(why) => {
            Error::Configuration(format!("the key {} {why}", path.display()))
        }
        other => other,
    })?;
    private::replace_file(path, next.to_text().as_bytes()).map_err(Error::file("write", path))?;
    super::say(match step {
        Step::Begin => {
            "The new key is in it too. Copy it to every host, then: keepfs key rotate switch"
        }
        Step::Switch => {
            "The new key comes first. Copy it to every host, then: keepfs key rotate finish"
        }
        Step::Finish => "Only the new key is left. Copy it to every host.",
    });
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
