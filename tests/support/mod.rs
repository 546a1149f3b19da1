//! Real clusters for tests: `keepfs` processes, mounts in a temporary directory, and shells with a
//! time limit that look at them. Everything started here is ended here, also when a test fails.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod cluster;
pub mod dice;
pub mod key;
pub mod mounted;
pub mod shell;
pub mod system;

use std::path::Path;
use std::time::{Duration, Instant};

pub const KEEPFS: &str = env!("CARGO_BIN_EXE_keepfs");

/// Whether this host can mount; if not, says loudly that a test is skipped, and fails with CI=true.
pub fn can_mount() -> bool {
    // SAFETY: geteuid has no precondition and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let helper =
        Path::new("/usr/bin/fusermount3").exists() || Path::new("/bin/fusermount3").exists();
    needs("/dev/fuse, and root or fusermount3", Path::new("/dev/fuse").exists() && (root || helper))
}

/// Whether this host lets us make network namespaces.
pub fn can_make_namespaces() -> bool {
    let made = std::process::Command::new("unshare").args(["--net", "true"]).status();
    let ip = std::process::Command::new("ip").arg("-V").output().is_ok();
    needs("root, unshare, nsenter and ip", ip && made.is_ok_and(|status| status.success()))
}

/// Whether these programs are installed.
pub fn has_programs(programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |name: &&str| path.split(':').any(|dir| Path::new(dir).join(name).exists());
    needs(&programs.join(", "), programs.iter().all(found))
}

fn needs(what: &str, there: bool) -> bool {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(there || !ci, "this test needs {what}");
    if !there {
        eprintln!("SKIPPED: this test needs {what}");
    }
    there
}

/// Waits until `holds`, and fails with `what` if that takes longer than `within`.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a process this test started.
pub fn send(pid: u32, signal: i32) {
    // SAFETY: kill takes two integers.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Takes away a mount whatever uses it.
pub fn detach(mount: &Path) {
    let quiet = std::process::Stdio::null;
    let unmount = |program: &str, flags: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(flags).arg(mount).stdout(quiet()).stderr(quiet()).status()
    };
    let done = unmount("umount", &["-l"]).is_ok_and(|status| status.success());
    if !done {
        let _ = unmount("fusermount3", &["-u", "-z"]);
    }
}

/// Ends a mount's connection: whoever waits for it gets an error.
pub fn abort(mount: &Path) {
    let _ = std::process::Command::new("umount").arg("-f").arg(mount).status();
    detach(mount);
}
