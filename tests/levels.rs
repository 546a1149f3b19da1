//! Programs of several levels in one cluster: the cluster's level is what all of them can do, and
//! whoever cannot do it is told so.

#[path = "support/key.rs"]
mod key;

use keepfs::cluster::Cluster as _;
use keepfs::error::Error;
use keepfs::node::{Failure, Node, NodeConfig, Program, Start};
use keepfs::tree::{Command, Level, Refusal, Reply, TreeLimits};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the leader takes to raise a level.
const WHILE: Duration = Duration::from_secs(3);

struct Host {
    name: &'static str,
    listen: String,
    data: TempDir,
    node: Option<Node>,
}

impl Host {
    fn new(name: &'static str) -> Host {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Host { name, listen: free.to_string(), data: tempfile::tempdir().unwrap(), node: None }
    }

    fn try_start(&self, level: Level, start: Start) -> Result<Node, Error> {
        Node::start(NodeConfig {
            name: self.name.into(),
            program: Program { level, version: format!("0.{level}.0") },
            data: self.data.path().to_path_buf(),
            listen: self.listen.clone(),
            key: Some(key::give(self.data.path())),
            start,
            op_timeout: Duration::from_secs(20),
            session_timeout: Duration::from_secs(20),
            election_timeout: Duration::from_secs(1),
            heartbeat: Duration::from_millis(100),
            visibility_timeout: Duration::from_millis(200),
            limits: TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 },
        })
    }

    fn start(&mut self, level: Level, start: Start) {
        self.node = Some(self.try_start(level, start).unwrap());
    }

    fn stop(&mut self) {
        self.node.take().unwrap().stop();
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn level(&self) -> Level {
        self.node().tree().level()
    }

    fn probe(&self, level: Level) -> Result<Reply, Failure> {
        let node = self.node();
        let command = Command::Probe { level };
        node.wait_for_session().and_then(|session| node.submit_and_wait(session, command))
    }

    /// What each member runs, as `.keepfs/status` has it here.
    fn versions(&self) -> Vec<Option<(String, Level)>> {
        let members = self.node().status().members.into_iter();
        members.map(|member| Some((member.version?, member.level?))).collect()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn cluster(levels: [Level; 3]) -> [Host; 3] {
    let _ = env_logger::try_init(); // RUST_LOG=info and --nocapture tell what the nodes say.
    let mut hosts = ["a", "b", "c"].map(Host::new);
    let list = hosts.each_ref().map(|host| (host.name.to_owned(), host.listen.clone()));
    for (host, level) in hosts.iter_mut().zip(levels) {
        host.start(level, Start::Bootstrap(list.to_vec()));
    }
    hosts
}

fn runs(levels: [Level; 3]) -> Vec<Option<(String, Level)>> {
    levels.into_iter().map(|level| Some((format!("0.{level}.0"), level))).collect()
}

/// U1, U2: the level rises when the last member can, present or not; until then what is newer is
/// refused, at the leader and at the others.
#[test]
fn the_level_rises_when_the_last_member_can() {
    let mut hosts = cluster([1, 2, 2]);
    eventually("everyone says what it runs", || {
        hosts.iter().all(|host| host.versions() == runs([1, 2, 2]))
    });
    for host in &hosts {
        assert_eq!(host.probe(2), Err(Failure::Refused(Refusal::TooNew)), "{}", host.name);
        assert_eq!(host.probe(1), Ok(Reply::Done), "{}", host.name);
    }
    // Who is away counts.
    hosts[0].stop();
    std::thread::sleep(WHILE);
    assert_eq!(hosts[1].level(), 1);
    assert_eq!(hosts[1].versions(), runs([1, 2, 2]));
    hosts[0].start(3, Start::Existing);
    eventually("the level is 2", || hosts.iter().all(|host| host.level() == 2));
    for host in &hosts {
        assert_eq!(host.probe(2), Ok(Reply::Done), "{}", host.name);
        assert_eq!(host.probe(3), Err(Failure::Refused(Refusal::TooNew)), "{}", host.name);
    }
    assert_eq!(hosts[2].versions(), runs([3, 2, 2]));
}

/// U3: whoever cannot do the cluster's level neither goes on nor joins, and says why.
#[test]
fn an_older_program_is_refused_with_a_sentence() {
    let mut hosts = cluster([2, 2, 2]);
    eventually("the level is 2", || hosts.iter().all(|host| host.level() == 2));

    // From its log, or from what the others send it.
    hosts[1].stop();
    hosts[1].start(1, Start::Existing);
    let told = || hosts[1].node().failed().unwrap_or_default();
    eventually("an older program stops", || !told().is_empty());
    assert!(
        told().contains("written by a newer keepfs (level 2; this program can do 1)"),
        "{told:?}",
        told = told()
    );
    assert!(hosts[1].node().was_refused());
    assert_eq!(hosts[0].probe(2), Ok(Reply::Done), "the others go on");
    hosts[1].stop();

    let mut new = Host::new("new");
    let join = Start::Join(vec![hosts[0].listen.clone()]);
    let refused = new.try_start(1, join.clone()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("new runs an older keepfs (level 1)"), "{refused}");
    new.start(2, join);
    eventually("it has said what it runs", || {
        new.versions().last() == Some(&Some(("0.2.0".to_owned(), 2)))
    });

    hosts[1].start(2, Start::Existing);
    eventually("it goes on with its own program", || hosts[1].probe(2) == Ok(Reply::Done));
}
