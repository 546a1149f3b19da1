//! What a thousand sessions on one replica cost the leader while nothing happens: three replicas,
//! each a process of its own, with and without a thousand clients on one that does not lead.
//!
//! `cargo bench --bench sessions -- 100` for fewer.

#[path = "speed/cpu.rs"]
#[allow(dead_code)]
mod cpu;
#[path = "../tests/support/key.rs"]
mod key;

use keepfs::cluster::Cluster as _;
use keepfs::node::{Node, NodeConfig, Program, Start};
use keepfs::tree::TreeLimits;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long the CPU of each is counted.
const SPAN: Duration = Duration::from_secs(30);
/// Of a core.
const SHARE_MAX: f64 = 0.01;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, founders, data] = &args[..]
        && word == "replica"
    {
        serve(name, founders, Path::new(data));
        return ExitCode::SUCCESS;
    }
    let sessions: usize = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(1000);
    let data = tempfile::tempdir().expect("a directory");
    let mut replicas = start(data.path());
    sleep(Duration::from_secs(2));
    let leads = |replica: &mut Replica| replica.ask("role") == "leader";
    let leader = replicas.iter_mut().position(leads).expect("one leads");
    let before = replicas[leader].share();
    let carrier = (leader + 1) % NAMES.len();
    let attached = replicas[carrier].ask(&format!("attach {sessions}"));
    // What they cost to open is not what they cost at rest.
    sleep(Duration::from_secs(3));
    let (leading, carrying) = (replicas[leader].share(), replicas[carrier].share());
    let lost = replicas[carrier].ask("lost");
    let more = leading - before;
    println!(
        "{attached} sessions on a follower, {SPAN:?} at rest, {lost} lost; load {}",
        cpu::load()
    );
    println!("leader, of a core: {:.3} % without, {:.3} % with", before * 100.0, leading * 100.0);
    println!("the follower: {:.3} %", carrying * 100.0);
    println!("a thousand sessions: {:.3} % (at most 1 %)", more * 100.0 * 1000.0 / sessions as f64);
    let is_met = more * 1000.0 / sessions as f64 <= SHARE_MAX && lost == "0";
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Replica {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("it runs");
        self.answers.next().expect("it answers").expect("text")
    }

    /// The part of a core that it uses.
    fn share(&self) -> f64 {
        let used = || cpu::used(self.child.id()).expect("it runs");
        let before = used();
        sleep(SPAN);
        (used() - before) as f64 / SPAN.as_nanos() as f64
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &Path) -> Vec<Replica> {
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let listeners: Vec<TcpListener> = NAMES.iter().map(|_| free()).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    let founders: Vec<String> =
        NAMES.iter().zip(&listeners).map(|(name, l)| format!("{name}={}", address(l))).collect();
    drop(listeners);
    let founders = founders.join(",");
    let start = |name: &&str| {
        let program = std::env::current_exe().expect("a path");
        let mut command = Command::new(program);
        command.args(["replica", name, &founders]).arg(data.join(name));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Replica { child, orders, answers }
    };
    NAMES.iter().map(start).collect()
}

/// One replica with the settings of a daemon, which does what it reads.
fn serve(name: &str, founders: &str, data: &Path) {
    let all: Vec<(String, String)> = founders
        .split(',')
        .filter_map(|founder| founder.split_once('='))
        .map(|(name, address)| (name.into(), address.into()))
        .collect();
    let (_, listen) = all.iter().find(|(founder, _)| founder == name).expect("a founder").clone();
    let key = Some(key::give(data));
    let node = Node::start(NodeConfig {
        name: name.into(),
        data: data.to_path_buf(),
        listen,
        key,
        program: Program::this(),
        start: Start::Bootstrap(all),
        op_timeout: Duration::from_secs(5),
        session_timeout: Duration::from_secs(10),
        election_timeout: Duration::from_secs(1),
        heartbeat: Duration::from_millis(100),
        visibility_timeout: Duration::from_millis(200),
        limits: TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 },
    })
    .expect("it starts");
    let mut clients = Vec::new();
    let mut sessions = Vec::new();
    for order in std::io::stdin().lines().map_while(Result::ok) {
        match order.split_once(' ') {
            Some(("attach", count)) => {
                let count: usize = count.parse().expect("a number");
                clients.extend((0..count).map(|at| node.attach(format!("client {at}").as_bytes())));
                sessions = clients.iter().map(|client| client.wait_for_session().ok()).collect();
                println!("{}", sessions.iter().flatten().count());
            }
            _ if order == "lost" => {
                let now = clients.iter().map(|client| client.session());
                println!("{}", now.zip(&sessions).filter(|(now, then)| now != *then).count());
            }
            _ => println!("{}", node.status().role),
        }
    }
}
