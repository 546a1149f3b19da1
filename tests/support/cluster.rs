//! `keepfs serve` processes, one a replica, each with a mount.

use super::{KEEPFS, detach, eventually, key, send, shell};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

type Settings = &'static [(&'static str, &'static str)];

/// Short enough for tests that wait for them, long enough for a machine with two busy cores.
const SETTINGS: Settings = &[
    ("KEEPFS_OP_TIMEOUT", "3s"),
    ("KEEPFS_SESSION_TIMEOUT", "4s"),
    ("KEEPFS_ELECTION_TIMEOUT", "1s"),
];

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// An election, or the end of a silent session, would be noticed.
pub const PATIENT: Settings = &[
    ("KEEPFS_OP_TIMEOUT", "20s"),
    ("KEEPFS_SESSION_TIMEOUT", "40s"),
    ("KEEPFS_ELECTION_TIMEOUT", "10s"),
    ("KEEPFS_HEARTBEAT", "100ms"),
];

pub const OP_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Cluster {
    pub replicas: Vec<Replica>,
    pub dir: tempfile::TempDir,
}

pub struct Replica {
    pub name: &'static str,
    pub address: String,
    pub data: PathBuf,
    pub mount: PathBuf,
    /// What runs at its next start.
    pub program: PathBuf,
    /// The network namespace it runs in, for a replica on a host of its own.
    pub namespace: Option<String>,
    /// Where it joins a running cluster, if it does not found one.
    joins: Option<String>,
    settings: Settings,
    process: Option<Child>,
}

impl Cluster {
    /// `count` replicas on loopback, mounted and writable.
    pub fn start(count: usize) -> Cluster {
        Cluster::start_with(count, SETTINGS)
    }

    pub fn start_with(count: usize, settings: Settings) -> Cluster {
        Cluster::start_as(Path::new(KEEPFS), count, settings)
    }

    /// Replicas that run `program`.
    pub fn start_as(program: &Path, count: usize, settings: Settings) -> Cluster {
        let listeners: Vec<_> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|l| (l.local_addr().unwrap().to_string(), None));
        let addresses: Vec<_> = addresses.collect();
        drop(listeners);
        Cluster::of(program, addresses, settings)
    }

    /// A replica at each (address, namespace).
    pub fn at(addresses: Vec<(String, Option<String>)>) -> Cluster {
        Cluster::of(Path::new(KEEPFS), addresses, SETTINGS)
    }

    fn of(program: &Path, addresses: Vec<(String, Option<String>)>, settings: Settings) -> Cluster {
        let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
        let replicas = NAMES.into_iter().zip(addresses);
        let replicas = replicas.map(|(name, (address, namespace))| {
            let (data, mount) = (dir.path().join("data").join(name), dir.path().join(name));
            key::give(&data);
            fs::create_dir(&mount).unwrap();
            let (program, joins, process) = (program.to_owned(), None, None);
            Replica { name, address, data, mount, program, namespace, joins, settings, process }
        });
        let replicas = replicas.collect();
        let mut cluster = Cluster { replicas, dir };
        let all: Vec<usize> = (0..cluster.replicas.len()).collect();
        cluster.run(&all);
        cluster.wait_ready();
        cluster
    }

    /// One more replica, which joins the others.
    pub fn join(&mut self) {
        let name = NAMES[self.replicas.len()];
        let (data, mount) = (self.dir.path().join("data").join(name), self.dir.path().join(name));
        key::give(&data);
        fs::create_dir(&mount).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, joins) = (free.to_string(), Some(self.replicas[0].address.clone()));
        let (program, namespace, settings, process) = (KEEPFS.into(), None, SETTINGS, None);
        let mut replica =
            Replica { name, address, data, mount, program, namespace, joins, settings, process };
        replica.run("");
        replica.wait_ready();
        self.replicas.push(replica);
    }

    /// A replica whose data directory is empty joins the one at `at`.
    pub fn join_again(&mut self, index: usize, at: usize) {
        let address = self.replicas[at].address.clone();
        let replica = &mut self.replicas[index];
        replica.joins = Some(address);
        replica.run("");
        replica.wait_ready();
    }

    /// Starts these replicas' processes.
    pub fn run(&mut self, which: &[usize]) {
        let founder = |replica: &Replica| format!("{}={}", replica.name, replica.address);
        let founders = self.replicas.iter().map(founder).collect::<Vec<_>>().join(",");
        for index in which {
            self.replicas[*index].run(&founders);
        }
    }

    /// Until every running replica's mount takes a change.
    pub fn wait_ready(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.process.is_some()) {
            replica.wait_ready();
        }
    }

    /// A path in the mount of replica `index`.
    pub fn path(&self, index: usize, path: &str) -> PathBuf {
        self.replicas[index].mount.join(path)
    }

    /// Runs a script with `$a`, `$b`, `$c`... set to the mounts.
    pub fn sh(&self, script: &str) -> String {
        shell::sh(&format!("{}{script}", self.names()))
    }

    pub fn try_sh(&self, script: &str, within: Duration) -> shell::Ran {
        shell::try_sh(&format!("{}{script}", self.names()), within)
    }

    pub fn background(&self, script: &str) -> shell::Background {
        shell::background(&format!("{}{script}", self.names()))
    }

    fn names(&self) -> String {
        let name = |replica: &Replica| format!("{}={}\n", replica.name, replica.mount.display());
        self.replicas.iter().map(name).collect()
    }

    /// The index of the replica that leads, as replica `asked` knows it.
    pub fn leader(&self, asked: usize) -> usize {
        let status = self.replicas[asked].status().expect("a status");
        let leader = status["leader"].as_str().expect("a leader").to_owned();
        self.replicas.iter().position(|replica| replica.name == leader).expect("a known name")
    }
}

impl Replica {
    fn run(&mut self, founders: &str) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = match &self.namespace {
            None => Command::new(&self.program),
            Some(namespace) => {
                // Not `ip netns exec`: that would hide the mount from us.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg(&self.program);
                command
            }
        };
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        command.args(["serve", "--name", self.name, "--listen", &self.address]);
        match &self.joins {
            _ if self.data.join("identity").exists() => {}
            Some(address) => drop(command.args(["--join", address])),
            None => drop(command.args(["--bootstrap", founders])),
        }
        command.arg("--data").arg(&self.data).arg("--mount").arg(&self.mount);
        command.envs(self.settings.iter().copied()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    pub fn log(&self) -> PathBuf {
        self.data.join("keepfs.log")
    }

    /// Of the daemon itself: `nsenter` becomes it by exec.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running replica").id()
    }

    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        send(process.id(), libc::SIGTERM);
        let mut code = None;
        eventually("a replica ends at SIGTERM", Duration::from_secs(20), || {
            code = process.try_wait().unwrap();
            code.is_some()
        });
        code?.code()
    }

    /// The exit code of a replica that gives up, and what it logged.
    pub fn ends_by_itself(&mut self) -> (Option<i32>, String) {
        let mut process = self.process.take().expect("a running replica");
        let mut code = None;
        eventually("a replica ends by itself", Duration::from_secs(30), || {
            code = process.try_wait().unwrap();
            code.is_some()
        });
        (code.and_then(|code| code.code()), fs::read_to_string(self.log()).unwrap())
    }

    /// `.keepfs/status.json`, if it answers within 5 s.
    pub fn status(&self) -> Option<serde_json::Value> {
        let script = format!("cat {}", quoted(&self.mount.join(".keepfs/status.json")));
        let ran = shell::try_sh(&script, Duration::from_secs(5));
        serde_json::from_str(&ran.out).ok()
    }

    pub fn wait_ready(&mut self) {
        // Between a dead mount and the next one the directory below takes changes too.
        let mount = quoted(&self.mount);
        let alive = format!("test -e {mount}/.keepfs/status");
        let touch = format!("{alive} && touch -a {mount} && {alive}");
        let within = Duration::from_secs(60);
        let (log, mount) = (self.log(), self.mount.clone());
        let process = self.process.as_mut().expect("a running replica");
        let is_mounted = || {
            let table = fs::read_to_string("/proc/self/mounts").unwrap();
            table.contains(&format!(" {} fuse.keepfs ", mount.display()))
        };
        eventually(&format!("ready; see {}", log.display()), within, || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("replica ended ({status}): {}", fs::read_to_string(&log).unwrap());
            }
            is_mounted() && shell::try_sh(&touch, Duration::from_secs(10)).code == Some(0)
        });
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
        detach(&self.mount);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- the log of replica {} ends:\n{last}", self.name);
        }
    }
}

/// A path as a word of a shell script.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
