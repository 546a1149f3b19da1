//! One `keepfs serve` process of a playground.

use super::layout::Replica;
use crate::cli::{complain, signals};
use crate::disk::private;
use crate::error::Error;
use crate::mount::mountpoint::clear_dead;
use crossbeam_channel::Receiver;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Child {
    name: &'static str,
    process: std::process::Child,
    /// As a shell takes it, to start the replica again by hand.
    command: String,
    log: PathBuf,
    mount: PathBuf,
    reported: bool,
}

impl Child {
    /// Starts the replica with its output appended to its log. It ends when this thread ends.
    pub fn start(replica: &Replica, founders: &str, key: &Path) -> Result<Child, Error> {
        let program = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
        let path = replica.log();
        let log = private::options().create(true).append(true).open(&path);
        let log = log.map_err(Error::file("open", &path))?;
        let errors = log.try_clone().map_err(Error::file("open", &path))?;
        let mut command = Command::new(program);
        command.arg("serve").args(["--name", replica.name]).arg("--data").arg(&replica.data);
        command.args(["--listen", &replica.address]).arg("--key").arg(key);
        if !replica.is_founded() {
            command.args(["--bootstrap", founders]);
        }
        command.arg("--mount").arg(&replica.mount);
        let line = shell_line(&command);
        // A group of its own: Ctrl-C is for the playground, which then stops its replicas.
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = signals::ends_with_parent(&mut command).spawn();
        Ok(Child {
            name: replica.name,
            process: process.map_err(Error::file("start", command.get_program()))?,
            command: line,
            log: path,
            mount: replica.mount.clone(),
            reported: false,
        })
    }

    /// Once, when the process has ended: what happened, and how to start it again.
    pub fn ended(&mut self) -> Option<String> {
        if self.reported {
            return None;
        }
        let status = self.process.try_wait().ok()??;
        self.reported = true;
        Some(format!(
            "replica {} has ended ({status}). {}\nIts log is {}. Start it again by:\n  {}",
            self.name,
            self.last_words(),
            self.log.display(),
            self.command
        ))
    }

    pub fn is_reported(&self) -> bool {
        self.reported
    }

    /// The last line of its log that says why, if one does.
    fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = text.lines().rev().take(20).find(|line| line.starts_with("keepfs: "));
        said.map(|line| format!("It said: {line}")).unwrap_or_default()
    }

    fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

/// SIGTERM to all, then SIGKILL to those that do not end in time or when asked to stop again; then
/// the mounts that are left are taken away.
pub fn stop_all(children: &mut [Child], within: Duration, hurry: &Receiver<i32>) {
    for child in children.iter_mut().filter(|child| !child.reported) {
        signals::send(child.process.id(), libc::SIGTERM);
        // One that is stopped (SIGSTOP) would not see it.
        signals::send(child.process.id(), libc::SIGCONT);
    }
    let deadline = Instant::now() + within;
    let mut patient = true;
    while patient && children.iter_mut().any(Child::is_running) {
        patient = hurry.recv_timeout(super::LOOK_EVERY).is_err() && Instant::now() < deadline;
    }
    for child in children.iter_mut() {
        if child.is_running() {
            complain(format_args!("replica {} does not end by itself: killed", child.name));
            let _ = child.process.kill();
        }
        let _ = child.process.wait();
        clear_dead(&child.mount, None);
    }
}

/// The command as one would type it.
fn shell_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quote = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.into_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    words.map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/bin/printf");
        command.args(["%s|", "plain", "a b", "it's", ""]);
        let said = Command::new("sh").arg("-c").arg(shell_line(&command)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "plain|a b|it's||");
    }
}
