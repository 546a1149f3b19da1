//! Three hosts, each a network namespace of its own, and a network that breaks.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::cluster::{Cluster, OP_TIMEOUT};
use support::{can_make_namespaces, can_mount, eventually, shell};

/// Namespaces on one bridge, inside a namespace of its own. Names carry our pid and a count.
struct Network {
    hub: String,
    hosts: Vec<String>,
}

impl Network {
    fn new(count: usize) -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hub = format!("keepfs-{id}-hub");
        let hosts: Vec<String> = (0..count).map(|host| format!("keepfs-{id}-{host}")).collect();
        let network = Network { hub, hosts };
        let hub = &network.hub;
        shell::sh(&format!(
            "ip netns add {hub}
             ip -n {hub} link add br0 type bridge
             ip -n {hub} link set br0 up"
        ));
        for (number, host) in network.hosts.iter().enumerate() {
            shell::sh(&format!(
                "ip netns add {host}
                 ip -n {hub} link add port{number} type veth peer name eth0 netns {host}
                 ip -n {hub} link set port{number} master br0 up
                 ip -n {host} addr add 10.77.0.{ip}/24 dev eth0
                 ip -n {host} link set eth0 up
                 ip -n {host} link set lo up",
                ip = number + 1
            ));
        }
        network
    }

    fn cut(&self, host: usize) {
        shell::sh(&format!("ip -n {} link set port{host} down", self.hub));
    }

    fn heal(&self, host: usize) {
        shell::sh(&format!("ip -n {} link set port{host} up", self.hub));
    }

    fn addresses(&self) -> Vec<(String, Option<String>)> {
        let address = |number: usize| format!("10.77.0.{}:7411", number + 1);
        let hosts = self.hosts.iter().enumerate();
        hosts.map(|(number, host)| (address(number), Some(host.clone()))).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain([&self.hub]) {
            shell::try_sh(&format!("ip netns del {namespace}"), Duration::from_secs(10));
        }
    }
}

#[test]
fn a_leader_cut_off_from_the_others_gives_way_and_comes_back() {
    if !can_mount() || !can_make_namespaces() {
        return;
    }
    let network = Network::new(3);
    let cluster = Cluster::at(network.addresses());
    cluster.sh("echo before > $a/f; touch $a/lck");
    let cut = cluster.leader(0);
    let (one, two) = ((cut + 1) % 3, (cut + 2) % 3);
    let name = |index: usize| cluster.replicas[index].name;
    network.cut(cut);

    let ran = cluster.try_sh(&format!("echo after > ${}/f", name(one)), Duration::from_secs(20));
    assert_eq!(ran.code, Some(0), "the majority goes on: {ran:?}");
    assert_eq!(cluster.sh(&format!("cat ${}/f", name(two))), "after");

    let ran = cluster.try_sh(&format!("echo lost > ${}/f", name(cut)), OP_TIMEOUT * 4);
    assert_eq!(ran.code, Some(1), "the minority must not write: {ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    let ran = cluster.try_sh(&format!("cat ${0}/f; df ${0}", name(cut)), Duration::from_secs(5));
    assert_eq!(ran.code, Some(0), "the minority still reads: {ran:?}");
    assert!(ran.out.starts_with("before"), "{ran:?}");

    network.heal(cut);
    eventually("the one that was cut off has what it missed", Duration::from_secs(30), || {
        let ran = cluster.try_sh(&format!("cat ${}/f", name(cut)), Duration::from_secs(5));
        ran.out.trim() == "after"
    });
    eventually("and takes changes", Duration::from_secs(30), || {
        let script = format!("echo healed > ${}/f", name(cut));
        cluster.try_sh(&script, OP_TIMEOUT * 4).code == Some(0)
    });
    assert_eq!(cluster.sh(&format!("cat ${}/f", name(one))), "healed");
}

#[test]
fn a_holder_that_is_cut_off_stops_believing_before_another_gets_the_lock() {
    if !can_mount() || !can_make_namespaces() {
        return;
    }
    let network = Network::new(3);
    let cluster = Cluster::at(network.addresses());
    cluster.sh("touch $a/lck");
    let cut = (cluster.leader(0) + 1) % 3;
    let other = (cut + 1) % 3;
    let name = |index: usize| cluster.replicas[index].name;
    // Holds the lock and writes through its descriptor until that fails; then says when.
    let times = cluster.dir.path().join("times");
    let _holder = cluster.background(&format!(
        "exec 9<> ${}/lck; flock 9
         while echo beat >&9; do sleep 0.05; done 2>/dev/null
         date +%s%N > {}.lost",
        name(cut),
        times.display()
    ));
    eventually("the lock is taken", Duration::from_secs(20), || {
        let try_lock = format!("flock -n ${}/lck true", name(other));
        cluster.try_sh(&try_lock, Duration::from_secs(10)).code == Some(1)
    });
    network.cut(cut);
    let take = format!("flock ${}/lck date +%s%N", name(other));
    let ran = cluster.try_sh(&take, Duration::from_secs(40));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let taken: u128 = ran.out.trim().parse().unwrap();
    let file = format!("{}.lost", times.display());
    eventually("the holder has seen an error", Duration::from_secs(20), || {
        std::fs::read_to_string(&file).is_ok_and(|text| !text.trim().is_empty())
    });
    let lost: u128 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(lost <= taken, "lost {} ms after it was taken", (lost - taken) / 1_000_000);
}
