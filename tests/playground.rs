//! The newcomer's first ten minutes, line by line, and what else a playground promises.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::shell::{self, Ran};
use support::{KEEPFS, can_mount, detach, eventually, has_programs, send};

const SOON: Duration = Duration::from_secs(30);

/// `keepfs playground DIR`, ended with all it started when this value goes.
struct Playground {
    dir: PathBuf,
    process: Option<Child>,
}

impl Playground {
    /// Starts it and waits for `ready`.
    fn start(dir: &Path) -> Playground {
        let (out, mut command) = (dir.with_extension("out"), Command::new(KEEPFS));
        command.arg("playground").arg(dir).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap());
        command.env("KEEPFS_OP_TIMEOUT", "3s").env("KEEPFS_SESSION_TIMEOUT", "4s");
        let process = Some(command.spawn().unwrap());
        let mut playground = Playground { dir: dir.to_owned(), process };
        eventually("the playground says ready", Duration::from_secs(90), || {
            if let Some(status) = playground.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("the playground ended ({status})");
            }
            playground.said().lines().any(|line| line == "ready")
        });
        playground
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.with_extension("out")).unwrap()
    }

    fn pid_of(&self, replica: &str) -> u32 {
        let text = fs::read_to_string(self.dir.join(".replicas").join(replica).join("pid"));
        text.unwrap().trim().parse().unwrap()
    }

    /// Runs a script with `$k` set to the directory.
    fn sh(&self, script: &str) -> String {
        shell::sh(&format!("k={}\n{script}", self.dir.display()))
    }

    fn try_sh(&self, script: &str) -> Ran {
        shell::try_sh(&format!("k={}\n{script}", self.dir.display()), SOON)
    }

    /// Sends a signal and returns the exit code.
    fn end(&mut self, signal: i32) -> Option<i32> {
        let mut process = self.process.take()?;
        send(process.id(), signal);
        let mut status = None;
        eventually("the playground ends", Duration::from_secs(40), || {
            status = process.try_wait().unwrap();
            status.is_some()
        });
        status?.code()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = format!("tail -n 30 {}/.replicas/*/keepfs.log", self.dir.display());
            eprintln!("{}", shell::try_sh(&logs, SOON).out);
        }
        if let Some(mut process) = self.process.take() {
            send(process.id(), libc::SIGTERM);
            for _ in 0..400 {
                if !matches!(process.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        ["a", "b", "c"].iter().for_each(|name| detach(&self.dir.join(name)));
    }
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().contains(&format!(" {} ", path.display()))
}

#[test]
fn the_newcomers_script() {
    if !can_mount() || !has_programs(&["flock", "tar", "bash"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
    let mut playground = Playground::start(&dir.path().join("k"));
    let sh = |script: &str| playground.sh(script);

    assert_eq!(sh("echo v1 > $k/a/config && cat $k/b/config"), "v1");

    sh("mkdir -p $k/c/app/web && cp -a /etc/ssl $k/a/app/web/");
    sh("mv $k/a/app $k/a/service && ls -lR $k/c/service >/dev/null");
    sh("diff -r --no-dereference /etc/ssl $k/b/service/web/ssl");
    assert_eq!(playground.try_sh("ls $k/b/app").code, Some(2));

    let started = "flock $k/a/job.lck sleep 3 & sleep 0.5; flock $k/b/job.lck date +%s; wait";
    let begun: i64 = sh("date +%s").parse().unwrap();
    let got: i64 = sh(started).parse().unwrap();
    assert!(got - begun >= 2, "the second waits for the first: {begun} {got}");

    sh("mkdir $k/a/lock/deploy");
    assert_eq!(sh("getfattr --only-values -n user.keepfs.role $k/b/lock/deploy"), "lock");
    let _one = shell::background(&format!(
        "echo $$ > {}/a/lock/deploy/one; exec sleep 1000",
        playground.dir.display()
    ));
    eventually("one holds the lock", SOON, || sh("ls $k/c/lock/deploy") == "one");
    let mine = dir.path().join("mine");
    let _two = shell::background(&format!(
        "bash -c 'echo $$ > {}/b/lock/deploy/two; echo mine > {}; sleep 60'",
        playground.dir.display(),
        mine.display()
    ));
    eventually("two queues", SOON, || sh("ls -tr $k/c/lock/deploy") == "one\ntwo");
    assert!(!mine.exists(), "two waits");
    let queue = sh("cat $k/c/.keepfs/locks");
    assert!(queue.contains("one") && queue.contains("two"), "{queue}");
    sh("ls -ltr $k/c/lock/deploy; rm $k/a/lock/deploy/one");
    eventually("two gets it, at once", Duration::from_secs(5), || mine.exists());

    sh("mkdir $k/a/backup/node/web1");
    sh("tar c /usr/share/doc > $k/a/backup/node/web1/backup");
    assert_eq!(sh("ls $k/b/backup/node/web1/snapshots/ | wc -l"), "1");
    let listed: usize = sh("cat $k/c/backup/node/web1/backup | tar t | wc -l").parse().unwrap();
    let expected: usize = sh("tar c /usr/share/doc 2>/dev/null | tar t | wc -l").parse().unwrap();
    assert_eq!(listed, expected);

    send(playground.pid_of("c"), libc::SIGKILL);
    eventually("the playground reports the dead replica", SOON, || {
        playground.said().contains("replica c has ended")
    });
    assert!(playground.said().contains("serve --name c --data"), "and how to start it again");
    let ran = playground.try_sh("echo v2 > $k/a/config && cat $k/b/config");
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "v2"), "the other two go on: {ran:?}");
    let status = playground.sh("cat $k/a/.keepfs/status");
    assert!(status.contains("c") && status.contains("leader"), "{status}");
    assert_eq!(playground.end(libc::SIGINT), Some(0));
}

#[test]
fn a_second_start_finds_the_data_and_a_second_playground_is_refused() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
    let dir = dir.path().join("k");
    let mut playground = Playground::start(&dir);
    playground.sh("echo kept > $k/a/f");

    let second = Command::new(KEEPFS).arg("playground").arg(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("a playground already runs on"), "{said}");

    assert_eq!(playground.end(libc::SIGTERM), Some(0));
    for name in ["a", "b", "c"] {
        assert!(!is_mounted(&dir.join(name)), "{name} is unmounted");
        assert!(!dir.join(".replicas").join(name).join("pid").exists(), "{name} has ended");
    }

    let playground = Playground::start(&dir);
    assert_eq!(playground.sh("cat $k/c/f"), "kept");
    drop(playground);

    let five = Command::new(KEEPFS).arg("playground").arg(&dir).args(["--replicas", "5"]).output();
    let said = String::from_utf8_lossy(&five.unwrap().stderr).into_owned();
    assert!(said.contains("start it with --replicas 3"), "{said}");
}

#[test]
fn a_killed_playground_takes_its_replicas_along_and_starts_again() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
    let dir = dir.path().join("k");
    let mut playground = Playground::start(&dir);
    playground.sh("echo kept > $k/a/f");
    let pids = ["a", "b", "c"].map(|name| playground.pid_of(name));
    // One of them dies without a chance to unmount: a stale mount, which the kernel knows all about
    // and can be asked for without an error.
    playground.sh("stat $k/b; stat $k/b");
    send(pids[1], libc::SIGKILL);
    playground.end(libc::SIGKILL);
    eventually("its replicas end", SOON, || {
        pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}/root")).exists())
    });
    let playground = Playground::start(&dir);
    assert_eq!(playground.sh("cat $k/b/f"), "kept");
}

#[test]
fn status_says_by_its_exit_code_whether_there_is_a_quorum() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
    let playground = Playground::start(&dir.path().join("k"));
    let status = format!("{KEEPFS} status --json $k/a");
    let said = playground.sh(&status);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["quorum"].as_bool(), said["name"].as_str()), (Some(true), Some("a")));
    for name in ["b", "c"] {
        send(playground.pid_of(name), libc::SIGKILL);
    }
    eventually("no quorum", SOON, || playground.try_sh(&status).code == Some(1));
    let ran = playground.try_sh(&format!("{KEEPFS} status $k"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("is no keepfs mount"), "{ran:?}");
}
