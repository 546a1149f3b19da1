//! scratch
use keepfs::mount::{Mount, MountConfig};
use keepfs::node::{Node, NodeConfig, Start};
use std::time::Duration;
fn main() {
    env_logger::init();
    let base = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let n: usize = std::env::args().nth(2).map_or(1, |n| n.parse().unwrap());
    let ports: Vec<String> = (0..n)
        .map(|_| {
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
        })
        .collect();
    let names = ["a", "b", "c"];
    let members: Vec<(String, String)> =
        (0..n).map(|i| (names[i].to_string(), ports[i].clone())).collect();
    let mut mounts = vec![];
    let mut nodes = vec![];
    for i in 0..n {
        let data = base.join("data").join(names[i]);
        std::fs::create_dir_all(&data).unwrap();
        let node = Node::start(NodeConfig {
            name: names[i].into(),
            data,
            listen: ports[i].clone(),
            start: Start::Bootstrap(members.clone()),
            op_timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(6),
            election_timeout: Duration::from_millis(500),
            heartbeat: Duration::from_millis(50),
            visibility_timeout: Duration::from_millis(200),
            limits: keepfs::tree::TreeLimits {
                file_bytes: 1 << 20,
                tree_bytes: 1 << 30,
                inodes: 1 << 20,
            },
        })
        .unwrap();
        nodes.push(node);
    }
    for i in 0..n {
        mounts.push(Mount::start(nodes[i].clone(), MountConfig::new(base.join(names[i]))).unwrap());
    }
    println!("ready {}", std::process::id());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for m in mounts {
        m.unmount();
    }
    for n in nodes {
        n.stop();
    }
}
