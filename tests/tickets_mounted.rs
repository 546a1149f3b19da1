//! Ticket files in `lock` directories, by two mounts: the promises T of docs/semantics.md.

mod support;

use std::time::Duration;
use support::cluster::{Cluster, PATIENT};
use support::shell::Background;
use support::{can_mount, eventually, has_programs};

const SOON: Duration = Duration::from_secs(20);

fn cluster() -> Option<Cluster> {
    if !can_mount() || !has_programs(&["awk", "timeout"]) {
        return None;
    }
    let cluster = Cluster::start(2);
    cluster.sh("mkdir $a/lock/x");
    Some(cluster)
}

/// A shell that takes `$HOST/lock/x/NAME` with its pid in it, says so in `$TMP/NAME`, and stays.
fn taker(cluster: &Cluster, host: &str, name: &str) -> Background {
    let said = cluster.dir.path().join(format!("has-{name}-{host}"));
    let said = said.display();
    cluster.background(&format!(
        "export a b; exec bash -c 'echo $$ > ${host}/lock/x/{name} && touch {said}; sleep 60'"
    ))
}

fn has(cluster: &Cluster, host: &str, name: &str) -> bool {
    cluster.dir.path().join(format!("has-{name}-{host}")).exists()
}

/// The queue as `.keepfs/locks` of host `a` shows it: `name:position` for each.
fn queue(cluster: &Cluster) -> String {
    cluster.sh("awk '$1 ~ /^.lock.x./ {n=split($1,p,\"/\"); printf \"%s:%s \", p[n], $2}' \
                $a/.keepfs/locks")
}

fn until_queue(cluster: &Cluster, expected: &str) {
    eventually(&format!("the queue is {expected}, not {}", queue(cluster)), SOON, || {
        queue(cluster).trim() == expected
    });
}

/// T1, T2: creating a name waits for the grant, while the directory stays usable on both hosts;
/// `rm` of the holder's hands on.
#[test]
fn creating_a_name_waits_and_nobody_else_does() {
    let Some(cluster) = cluster() else { return };
    cluster.sh("echo mine > $a/lock/x/one");
    let _two = taker(&cluster, "b", "two");
    until_queue(&cluster, "one:holder two:1");
    let _three = taker(&cluster, "a", "three");
    until_queue(&cluster, "one:holder two:1 three:2");
    for host in ["$a", "$b"] {
        let look = format!(
            "cd {host}/lock/x; ls -U; stat -c %n two; cat two; touch two; ls -l >/dev/null"
        );
        let ran = cluster.try_sh(&look, Duration::from_secs(5));
        assert_eq!(ran.out, "one\ntwo\nthree\ntwo\n", "{ran:?}");
    }
    assert!(!has(&cluster, "b", "two"));
    cluster.sh("rm $b/lock/x/one");
    eventually("two has it", SOON, || has(&cluster, "b", "two"));
    assert!(!has(&cluster, "a", "three"));
    cluster.sh("rm $a/lock/x/two");
    eventually("three has it", SOON, || has(&cluster, "a", "three"));
}

/// T3: `rm` of a waiting ticket cancels the wait.
#[test]
fn removing_a_waiting_ticket_cancels_it() {
    let Some(cluster) = cluster() else { return };
    cluster.sh("echo > $a/lock/x/one");
    let script = "sleep 1 && rm $a/lock/x/two & echo $$ > $b/lock/x/two";
    let ran = cluster.try_sh(script, SOON);
    assert!(ran.err.contains("Operation canceled"), "{ran:?}");
    until_queue(&cluster, "one:holder");
}

/// T4: a ticket whose content is a process id goes with that process.
#[test]
fn a_ticket_goes_with_the_process_whose_id_it_holds() {
    let Some(cluster) = cluster() else { return };
    let one = taker(&cluster, "a", "one");
    eventually("one has it", SOON, || has(&cluster, "a", "one"));
    let _two = taker(&cluster, "b", "two");
    until_queue(&cluster, "one:holder two:1");
    drop(one);
    eventually("two has it", SOON, || has(&cluster, "b", "two"));
    until_queue(&cluster, "two:holder");
    // Other content is not looked at.
    cluster.sh("rm $b/lock/x/two; export a; bash -c 'echo not $$ > $a/lock/x/note'; sleep 0.3");
    until_queue(&cluster, "note:holder");
}

/// T5: exclusive and non-blocking creation answer at once.
#[test]
fn a_try_answers_at_once() {
    let Some(cluster) = cluster() else { return };
    cluster.sh("set -C; echo mine > $a/lock/x/one");
    let ran = cluster.try_sh("set -C; echo mine > $b/lock/x/two", SOON);
    assert!(ran.err.contains("File exists") || ran.err.contains("existing"), "{ran:?}");
    let open = |flags: &str| {
        format!(
            "python3 -c 'import os,sys,errno\ntry: \
             os.open(sys.argv[1], os.O_CREAT|os.O_WRONLY|{flags})\n\
             except OSError as e: print(errno.errorcode[e.errno])' $b/lock/x/two"
        )
    };
    if has_programs(&["python3"]) {
        assert_eq!(cluster.sh(&open("os.O_EXCL")), "EEXIST");
        assert_eq!(cluster.sh(&open("os.O_NONBLOCK")), "EAGAIN");
    }
    until_queue(&cluster, "one:holder");
    cluster.sh("rm $a/lock/x/one; set -C; echo mine > $b/lock/x/two");
    until_queue(&cluster, "two:holder");
}

/// T1: whoever waits behind many others for the kernel's lock of the directory, longer than an OPEN
/// takes as a rule, keeps its place. The lock is made to be held by stopping the other replica: the
/// CREATE that is under way then holds it.
#[test]
fn a_place_is_kept_for_who_is_late() {
    if !can_mount() || !has_programs(&["python3"]) {
        return;
    }
    let cluster = Cluster::start_with(2, PATIENT);
    cluster.sh("mkdir $a/lock/x; echo > $b/lock/x/first");
    let takers = cluster.dir.path().join("takers.py");
    std::fs::write(&takers, TAKERS).unwrap();
    let script = format!("exec python3 {} $a/lock/x $a/took", takers.display());
    let mut takers = cluster.background(&script);
    let queued = || cluster.sh("ls -U $b/lock/x | wc -l").parse::<u32>().unwrap();
    eventually("some are queued", SOON, || queued() > 10);
    cluster.replicas[1].signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(9));
    cluster.replicas[1].signal(libc::SIGCONT);
    eventually("all are queued", 2 * SOON, || queued() == 1 + TAKERS_COUNT);
    cluster.sh("rm $b/lock/x/first");
    eventually("all had it", 2 * SOON, || !takers.is_running());
    let took = cluster.sh("sort $a/took | uniq -c");
    assert_eq!(took.trim(), format!("{TAKERS_COUNT} took"));
    until_queue(&cluster, "");
}

const TAKERS_COUNT: u32 = 150;
const TAKERS: &str = r#"
import os, sys, threading
directory, out = sys.argv[1:]
threading.stack_size(65536)
said = []
def take(name):
    try:
        ticket = os.open(f'{directory}/{name}', os.O_WRONLY | os.O_CREAT)
        os.unlink(f'{directory}/{name}')
        os.close(ticket)
        said.append('took')
    except OSError as error:
        said.append(error.strerror)
threads = [threading.Thread(target=take, args=(name,)) for name in range(150)]
for thread in threads: thread.start()
for thread in threads: thread.join()
open(out, 'w').write('\n'.join(said) + '\n')
"#;

/// T6: an interrupted or killed waiter leaves no ticket.
#[test]
fn a_killed_waiter_leaves_the_queue() {
    let Some(cluster) = cluster() else { return };
    cluster.sh("echo > $a/lock/x/one");
    for signal in ["INT", "TERM", "KILL"] {
        let script = format!(
            "export b; timeout --foreground -s {signal} 0.4 bash -c 'echo $$ > $b/lock/x/two'"
        );
        let ran = cluster.try_sh(&script, SOON);
        assert!(matches!(ran.code, Some(124 | 137)), "{signal}: {ran:?}");
        assert!(ran.took < Duration::from_secs(4), "{signal}: {ran:?}");
        until_queue(&cluster, "one:holder");
    }
}

/// T7: one name is one holder, whoever opens it: others queue under the same name.
#[test]
fn the_same_name_twice_is_two_places_in_the_queue() {
    let Some(cluster) = cluster() else { return };
    let first = taker(&cluster, "a", "me");
    eventually("a has it", SOON, || has(&cluster, "a", "me"));
    let second = taker(&cluster, "b", "me");
    until_queue(&cluster, "me:holder me:1");
    let script =
        "export a; exec bash -c 'echo $$ > $a/lock/x/me && echo third > $a/third; sleep 60'";
    let _third = cluster.background(script);
    until_queue(&cluster, "me:holder me:1 me:2");
    assert_eq!(cluster.sh("ls $a/lock/x $b/lock/x | grep -c me"), "2");
    drop(first);
    eventually("b has it", SOON, || has(&cluster, "b", "me"));
    assert_eq!(cluster.try_sh("cat $a/third", SOON).out, "");
    drop(second);
    eventually("the third has it", SOON, || cluster.try_sh("cat $a/third", SOON).out == "third\n");
}

/// T7: also when both create it in the same instant.
#[test]
fn two_hosts_that_create_one_name_at_once_have_it_one_after_the_other() {
    let Some(cluster) = cluster() else { return };
    let worker = |host: &str| {
        cluster.background(&format!(
            "cd ${host}; for i in $(seq 30); do bash -c 'echo $$ > lock/x/me; \
             n=$(cat n || echo 0); echo $((n+1)) > n; rm lock/x/me'; done; touch done-{host}"
        ))
    };
    cluster.sh("echo 0 > $a/n");
    let _both = [worker("a"), worker("b")];
    eventually("both are through", Duration::from_secs(60), || {
        cluster.try_sh("[ -e $a/done-a ] && [ -e $a/done-b ]", SOON).code == Some(0)
    });
    assert_eq!(cluster.sh("cat $a/n"), "60");
    until_queue(&cluster, "");
}

/// T8: a ticket that is still empty when the process that has it open ends goes with it; one that
/// was closed stays.
#[test]
fn an_empty_ticket_goes_with_its_opener() {
    let Some(cluster) = cluster() else { return };
    let holder = cluster.background("exec 9> $a/lock/x/one; sleep 60");
    until_queue(&cluster, "one:holder");
    drop(holder);
    until_queue(&cluster, "");
    for take in ["touch", ": >"] {
        cluster.sh(&format!("{take} $a/lock/x/two; sleep 0.3"));
        until_queue(&cluster, "two:holder");
        cluster.sh("rm $b/lock/x/two");
    }
}

/// T9: the tickets of a host go with its session.
#[test]
fn a_host_that_goes_leaves_no_ticket() {
    let Some(mut cluster) = cluster() else { return };
    cluster.sh("echo mine > $b/lock/x/one");
    let _two = taker(&cluster, "a", "two");
    until_queue(&cluster, "one:holder two:1");
    // A daemon that starts again opens a new session, which ends the old one at once.
    cluster.replicas[1].kill();
    support::detach(&cluster.replicas[1].mount);
    cluster.run(&[1]);
    cluster.wait_ready();
    eventually("two has it", SOON, || has(&cluster, "a", "two"));
    until_queue(&cluster, "two:holder");
}
