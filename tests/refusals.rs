//! What cannot be started says what to do, in one sentence, with exit code 1; what is typed wrongly
//! ends with 2.

mod support;

use keepfs::disk::DataDirectory;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::cluster::Cluster;
use support::{KEEPFS, can_mount, detach, eventually, has_programs, key, shell};

/// Runs keepfs, expecting it to end by itself; its exit code and standard error.
fn keepfs(args: &[&str]) -> (i32, String) {
    let quoted: Vec<_> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let ran = shell::try_sh(&format!("{KEEPFS} {}", quoted.join(" ")), Duration::from_secs(20));
    (ran.code.expect("keepfs should have ended"), ran.err)
}

/// The last line, which is the sentence; before it the log may have said more.
fn refused(args: &[&str]) -> String {
    let (code, said) = keepfs(args);
    let sentence = said.lines().last().unwrap_or_default().to_owned();
    assert_eq!(code, 1, "{said}");
    assert!(sentence.starts_with("keepfs: "), "{said}");
    sentence
}

/// `serve` of a one-replica cluster at these places.
fn serve<'a>(name: &'a str, data: &'a str, at: &'a str, found: &'a str) -> Vec<&'a str> {
    key::give(Path::new(data));
    vec!["serve", "--name", name, "--data", data, "--listen", at, "--bootstrap", found]
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A mount there would hide the host's processes from it, this daemon from itself first.
#[test]
fn a_place_of_the_kernels_own() {
    if !can_mount() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let said = refused(&["up", "/proc/self", "--data", data.path().to_str().unwrap()]);
    assert!(said.contains("the kernel's own"), "{said}");
}

/// It would wait for itself; nothing is founded, and nothing made.
#[test]
fn a_mount_in_the_data_directory_and_the_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let (outer, inner) = (dir.path().join("outer"), dir.path().join("outer/inner"));
    let said = refused(&["up", text(&inner), "--data", text(&outer)]);
    assert!(said.contains("is inside the data directory"), "{said}");
    let said = refused(&["up", text(&outer), "--data", text(&inner)]);
    assert!(said.contains("is inside the mount"), "{said}");
    assert!(!outer.exists());

    let (address, data) = (free_address(), dir.path().join("data"));
    let founders = format!("a={address}");
    let mut args = serve("a", text(&data), &address, &founders);
    args.extend(["--mount", text(&data)]);
    let said = refused(&args);
    assert!(said.contains("is inside the data directory"), "{said}");
    assert!(!data.join("identity").exists());
}

/// Neither a mount that answers nor one whose daemon is gone.
#[test]
fn what_is_mounted_in_a_data_directory_is_left_alone() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(1);
    let file = cluster.replicas[0].mount.join("f");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let data = tempfile::tempdir().unwrap();
    let there = data.path().join("backup/there");
    fs::create_dir_all(&there).unwrap();
    shell::sh(&format!("mount --bind {} {}", text(&cluster.replicas[0].mount), text(&there)));
    let alive = DataDirectory::open(data.path()).map(drop);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    cluster.replicas[0].kill();
    let is_dead = fs::read_dir(&there).is_err();
    let dead = DataDirectory::open(data.path()).map(drop);
    detach(&there);
    alive.unwrap();
    assert_eq!(mode & 0o777, 0o644);
    assert!(is_dead);
    dead.unwrap();
}

#[test]
fn who_only_looks_whether_a_daemon_listens_is_not_logged() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(1);
    let replica = &cluster.replicas[0];
    for _ in 0..10 {
        drop(std::os::unix::net::UnixStream::connect(replica.data.join("control")).unwrap());
    }
    std::thread::sleep(Duration::from_millis(500));
    let log = fs::read_to_string(replica.log()).unwrap();
    assert!(!log.contains("was not carried out"), "{log}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let script = format!("set +e; {KEEPFS} config | true; echo ${{PIPESTATUS[0]}}");
    assert_eq!(shell::sh(&script), "0");
}

/// Mounting over a daemon that stands still must not hang with it.
#[test]
fn a_mount_point_whose_daemon_stands_still() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(1);
    let (mount, data) = (&cluster.replicas[0].mount, cluster.dir.path().join("other"));
    cluster.replicas[0].signal(libc::SIGSTOP);
    let said = refused(&["up", mount.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    cluster.replicas[0].signal(libc::SIGCONT);
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn wrong_usage_ends_with_two() {
    for args in [&["serve", "--bogus"][..], &["frobnicate"], &["playground"], &["role"]] {
        assert_eq!(keepfs(args).0, 2, "{args:?}");
    }
    assert_eq!(keepfs(&["serve", "--bootstrap", "a=h:1", "--join", "h:1"]).0, 2);
}

#[test]
fn what_is_not_set_is_named() {
    assert!(refused(&["serve"]).contains("data is not set: give --data"));
    let dir = tempfile::tempdir().unwrap();
    let (address, data) = (free_address(), text(dir.path()));
    let said = refused(&["serve", "--name", "a", "--data", data, "--listen", &address]);
    assert!(said.contains("--bootstrap") && said.contains("--join"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let said = refused(&serve("a", text(dir.path()), &address, &format!("a={address}")));
    assert!(said.contains(&address), "{said}");
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn a_data_directory_in_use_and_one_of_another_replica_are_refused() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(1);
    let replica = &cluster.replicas[0];
    let (data, address) = (replica.data.clone(), replica.address.clone());
    let founders = format!("a={address}");
    let said = refused(&serve("a", text(&data), &address, &founders));
    assert!(said.contains(&format!("in use by process {}", replica.pid())), "{said}");

    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let other = format!("b={address}");
    let said = refused(&serve("b", text(&data), &address, &other));
    assert!(said.contains(text(&data)) && said.contains("\"a\""), "{said}");
}

/// It would go on in its own, and the operator would look for it in the other.
#[test]
fn a_data_directory_of_another_cluster_does_not_join() {
    if !can_mount() {
        return;
    }
    let other = Cluster::start(1);
    let mut cluster = Cluster::start(1);
    cluster.replicas[0].stop();
    let (own, there) = (&cluster.replicas[0].address, &other.replicas[0].address);
    let data = text(&cluster.replicas[0].data);
    let serve = ["serve", "--name", "a", "--data", data, "--listen", own];
    let founders = format!("a={own},b={there}");
    for start in [["--join", there], ["--bootstrap", &founders]] {
        let said = refused(&[&serve[..], &start].concat());
        assert!(said.contains(&format!("and {there} to ")), "{said}");
        assert!(said.contains("a directory of its own to each cluster"), "{said}");
    }
    // Nobody is there who could tell.
    let args = serve.join(" ");
    let nobody = free_address();
    let script = format!("timeout 5 {KEEPFS} {args} --join {nobody} 2>&1");
    let said = shell::try_sh(&script, Duration::from_secs(20)).out;
    assert!(said.contains("goes on in that cluster"), "{said}");
    assert!(said.contains("runs, listening"), "{said}");
}

#[test]
fn a_busy_mount_point_is_refused() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(1);
    let dir = tempfile::tempdir().unwrap();
    let (address, mount) = (free_address(), text(&cluster.replicas[0].mount).to_owned());
    let founders = format!("b={address}");
    let mut args = serve("b", text(dir.path()), &address, &founders);
    args.extend(["--mount", &mount]);
    let said = refused(&args);
    assert!(said.contains(&mount) && said.contains("mounted here already"), "{said}");
    assert_eq!(cluster.sh("echo well > $a/f; cat $a/f"), "well", "the other goes on");
}

#[test]
fn no_device_is_told() {
    if !can_mount() || !has_programs(&["unshare", "mount"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // In a mount namespace of its own, a /dev with hardly anything hides the device.
    let script = format!(
        "unshare --mount sh -c 'mount -t tmpfs none /dev; mknod /dev/urandom c 1 9
                              ln -s /proc/self/fd /dev/fd
                              exec {KEEPFS} up {0}/m --data {0}/d'",
        dir.path().display()
    );
    let ran = shell::try_sh(&script, Duration::from_secs(20));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("there is no /dev/fuse"), "{ran:?}");
}

/// `/dev/fuse` open to everyone, as udev has it, until this value goes.
struct OpenDevice(fs::Permissions);

impl OpenDevice {
    fn new() -> OpenDevice {
        let before = fs::metadata("/dev/fuse").unwrap().permissions();
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
        OpenDevice(before)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/dev/fuse", self.0.clone());
    }
}

#[test]
fn a_user_that_is_not_root_mounts_by_fusermount3() {
    if !can_mount() || !has_programs(&["fusermount3"]) {
        return;
    }
    // SAFETY: geteuid has no precondition and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let dir = tempfile::Builder::new().prefix("keepfs-test-").tempdir().unwrap();
    let home = dir.path();
    let out = home.join("out");
    let mut command = Command::new(home.join("keepfs"));
    fs::copy(KEEPFS, home.join("keepfs")).unwrap();
    let _open = root.then(OpenDevice::new);
    if root {
        // Nobody has to reach the program and the directory.
        shell::sh(&format!("chown -R 65534:65534 {0}; chmod 755 {0}", home.display()));
        command.uid(65534).gid(65534);
    }
    command.arg("up").arg(home.join("m")).arg("--data").arg(home.join("d"));
    command.stdin(Stdio::null()).stderr(fs::File::create(&out).unwrap());
    command.stdout(Stdio::null());
    let mut process = command.spawn().unwrap();
    let table = || fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = || table().contains(&format!(" {} fuse.keepfs ", home.join("m").display()));
    eventually("mounted", Duration::from_secs(30), || {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "{}", fs::read_to_string(&out).unwrap());
        mounted()
    });
    support::send(process.id(), libc::SIGTERM);
    let mut code = None;
    eventually("it ends", Duration::from_secs(20), || {
        code = process.try_wait().unwrap();
        code.is_some()
    });
    let still = mounted();
    detach(&home.join("m"));
    assert!(!still, "it has unmounted");
    assert_eq!(code.unwrap().code(), Some(0));
}
