//! The cluster's key, on real processes: what it keeps out, and how it is replaced.

mod support;

use keepfs::peers::bulk::fetch_as_mount;
use keepfs::peers::identity::Token;
use keepfs::peers::redeem_mount;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use support::cluster::{Cluster, quoted};
use support::{KEEPFS, can_mount, eventually, key, shell};

const SOON: Duration = Duration::from_secs(20);

fn log_of(cluster: &Cluster, index: usize) -> String {
    fs::read_to_string(cluster.replicas[index].log()).unwrap_or_default()
}

/// One step, and its copy to the other hosts; until every replica goes by it.
fn step(cluster: &Cluster, step: &str, nth: usize) {
    let files: Vec<_> = cluster.replicas.iter().map(|replica| replica.data.join("key")).collect();
    shell::sh(&format!("{KEEPFS} key rotate {step} {}", quoted(&files[0])));
    for other in &files[1..] {
        shell::sh(&format!("cp -p {0} {1}.new; mv {1}.new {1}", quoted(&files[0]), quoted(other)));
    }
    for index in 0..files.len() {
        eventually("the new file counts", SOON, || {
            log_of(cluster, index).matches("is what counts now").count() == nth
        });
    }
}

#[test]
fn a_key_is_replaced_while_writers_write() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let [stop, count] = ["stop", "count"].map(|name| cluster.dir.path().join(name));
    let script = format!(
        "n=0; while [ ! -e {} ]; do echo $n > $a/f; echo $n > $b/g; n=$((n+1)); done; echo $n > {}",
        quoted(&stop),
        quoted(&count)
    );
    let _writer = cluster.background(&script);
    step(&cluster, "begin", 1);
    step(&cluster, "switch", 2);
    // One that starts in the middle finds the others.
    assert_eq!(cluster.replicas[2].stop(), Some(0));
    cluster.run(&[2]);
    cluster.wait_ready();
    fs::write(cluster.replicas[2].log(), "is what counts now\nis what counts now\n").unwrap();
    step(&cluster, "finish", 3);
    assert_eq!(cluster.sh("echo well > $c/h; cat $a/h $b/h"), "well\nwell");
    // The script ends at the first write that fails.
    let written = || cluster.sh("cat $a/f").trim().parse::<u64>().unwrap();
    let before = written();
    eventually("it still writes", SOON, || written() > before + 5);
    fs::write(&stop, "").unwrap();
    eventually("no write failed", SOON, || count.exists());

    // Whoever has the old key is a stranger.
    assert_eq!(cluster.replicas[2].stop(), Some(0));
    key::give(&cluster.replicas[2].data);
    cluster.run(&[2]);
    eventually("the old key is turned away", SOON, || {
        log_of(&cluster, 2).contains("do both have the same key?")
    });
    assert_eq!(cluster.sh("echo on > $a/h; cat $b/h"), "on");
}

#[test]
fn a_token_is_all_that_a_new_replica_needs() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(1);
    let (a, data) = (&cluster.replicas[0], cluster.dir.path().join("new"));
    let ask = |what: &str| shell::sh(&format!("{KEEPFS} token --at {} {what}", quoted(&a.data)));
    let token = ask("");
    let serve = |token: &str, name: &str, data: &std::path::Path| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        format!(
            "{KEEPFS} serve --name {name} --data {} --listen {free} --join {token} 2>&1",
            quoted(data)
        )
    };
    let _new = cluster.background(&serve(&token, "z", &data));
    eventually("it is a member", SOON, || cluster.sh("cat $a/.keepfs/members").contains("z"));
    let kept = fs::read_to_string(data.join("key")).unwrap();
    assert_eq!(kept, key::KEY);
    assert_eq!(shell::sh(&format!("stat -c %a {}", quoted(&data.join("key")))), "600");
    // It was for one.
    let other = cluster.dir.path().join("other");
    let ran = shell::try_sh(&serve(&token, "y", &other), SOON);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("used up"), "{ran:?}");
    assert!(!other.join("key").exists());
    let rows: Vec<String> = ask("list").lines().map(str::to_owned).collect();
    assert!(rows.len() == 2 && rows[1].contains("0 of 1") && rows[1].ends_with("used"), "{rows:?}");
    // One that is revoked is of no use any more, nor one for somebody else.
    let token = ask("--uses 2 --name x");
    let ran = shell::try_sh(&serve(&token, "w", &cluster.dir.path().join("fourth")), SOON);
    assert!(ran.code == Some(1) && ran.out.contains("for x only"), "{ran:?}");
    let known: serde_json::Value = serde_json::from_str(&ask("list --json")).unwrap();
    let known = known.as_array().unwrap().iter().find(|row| row["state"] == "valid").unwrap();
    assert_eq!((&known["name"], &known["left"]), (&"x".into(), &2.into()));
    ask(&format!("revoke {}", known["id"].as_str().unwrap()));
    let ran = shell::try_sh(&serve(&token, "x", &cluster.dir.path().join("third")), SOON);
    assert!(ran.code == Some(1) && ran.out.contains("revoked"), "{ran:?}");
    ask("--ttl 1ms");
    eventually("its time is over", SOON, || ask("list").contains("expired"));
    let script = format!("{KEEPFS} token --at {} revoke 1", quoted(&a.data));
    let ran = shell::try_sh(&script, SOON);
    assert!(ran.code == Some(1) && ran.err.contains("knows no token"), "{ran:?}");
}

#[test]
fn a_mount_comes_by_a_token_and_stays_until_that_is_revoked() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    cluster.sh("mkdir -p $a/backup/node/a; echo what > $a/backup/node/a/backup");
    let at = |replica: usize| quoted(&cluster.replicas[replica].data);
    let token = |what: &str| shell::sh(&format!("{KEEPFS} token --at {} {what}", at(0)));
    let text = token("--role mount --name web1");
    let serve = format!(
        "{KEEPFS} serve --name web1 --data {} --listen 127.0.0.1:29998 --join {text} 2>&1",
        quoted(&cluster.dir.path().join("new"))
    );
    let ran = shell::try_sh(&serve, SOON);
    assert!(ran.code == Some(1) && ran.out.contains("a token for a mount is not"), "{ran:?}");
    let parsed: Token = text.parse().unwrap();
    let other = redeem_mount(&parsed, "web2").err().unwrap().to_string();
    assert!(other.contains("for web1 only"), "{other}");
    let mount = redeem_mount(&parsed, "web1").unwrap();
    // It fetches what peers keep, from every replica that has heard of it.
    let link = quoted(&cluster.replicas[0].data.join("backup/node/a"));
    let listing = format!("{}/files", shell::sh(&format!("basename $(readlink {link})")));
    let fetch = |address: &str| {
        let (_, mut data) = fetch_as_mount(address, &mount, "backup", &listing, 0, u64::MAX)?;
        let mut text = String::new();
        data.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    for address in &parsed.addresses {
        eventually("it is let in", SOON, || fetch(address).is_ok_and(|text| text.contains("pack")));
    }
    let known: serde_json::Value = serde_json::from_str(&token("list --json")).unwrap();
    let row = known.as_array().unwrap().iter().find(|row| row["role"] == "mount").unwrap();
    assert_eq!((&row["mounts"], &row["state"]), (&1.into(), &"used".into()));
    token(&format!("revoke {text}"));
    for address in &parsed.addresses {
        eventually("it is shut out", SOON, || {
            fetch(address).is_err_and(|error| error.to_string().contains("revoked"))
        });
    }
    assert!(redeem_mount(&parsed, "web1").is_err());
}

#[test]
fn a_replica_without_a_key_or_with_one_for_all_to_read_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("d"), dir.path().join("key"));
    let serve = |more: &str| {
        let script = format!(
            "{KEEPFS} serve --name a --data {} --listen 127.0.0.1:1 --bootstrap a=127.0.0.1:1 {more}",
            quoted(&data)
        );
        shell::try_sh(&script.replace("127.0.0.1:1 ", "127.0.0.1:29999 "), SOON)
    };
    let ran = serve("");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("keepfs key > FILE"), "{ran:?}");
    shell::sh(&format!("umask 022; {KEEPFS} key > {}", quoted(&file)));
    assert_eq!(shell::sh(&format!("stat -c %a {}", quoted(&file))), "600");
    shell::sh(&format!("chmod 644 {}", quoted(&file)));
    let ran = serve(&format!("--key {}", quoted(&file)));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains(&format!("chmod 600 {}", file.display())), "{ran:?}");
    shell::sh(&format!("chmod 600 {}", quoted(&file)));
    // Only root may give it away.
    if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
        let ran = serve(&format!("--key {}", quoted(&file)));
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("belongs to user 65534"), "{ran:?}");
    }
    let fifo = dir.path().join("fifo");
    shell::sh(&format!("mkfifo -m 600 {}", quoted(&fifo)));
    for odd in [&fifo, Path::new("/dev/null")] {
        let ran = serve(&format!("--key {}", quoted(odd)));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("is no regular file"), "{ran:?}");
    }
}
