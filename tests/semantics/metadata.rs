//! M: what attributes promise.

use super::hosts;
use super::support::shell::{Ran, sh, try_sh};
use super::support::system::{self, errno};
use keepfs::cluster::Cluster as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

/// Runs a script as a user without any rights.
fn as_nobody(script: &str) -> Ran {
    let setpriv = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    try_sh(&format!("{setpriv} bash -c '{script}'"), Duration::from_secs(20))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// **M1** Permissions are checked by the kernel, by mode, owner and group; the umask applies;
/// sticky and set-group-id directories work as everywhere.
#[test]
fn m1_permissions() {
    let Some(hosts) = hosts("m1") else { return };
    let (a, b) = (&hosts.a, &hosts.b);
    fs::write(a.join("secret"), "s").unwrap();
    fs::set_permissions(a.join("secret"), Permissions::from_mode(0o600)).unwrap();
    let read = format!("cat {}", b.join("secret").display());
    assert!(as_nobody(&read).err.contains("Permission denied"));
    fs::set_permissions(a.join("secret"), Permissions::from_mode(0o640)).unwrap();
    chown(a.join("secret"), None, Some(65534)).unwrap();
    assert_eq!(as_nobody(&read).out, "s");

    let made = as_nobody(&format!("umask 027; touch {0}/made; mkdir {0}/dir", b.display()));
    assert_eq!(made.code, Some(0), "{made:?}");
    let stat = fs::metadata(a.join("made")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (65534, 65534, 0o640));
    assert_eq!(mode(&a.join("dir")), 0o750);

    fs::set_permissions(a, Permissions::from_mode(0o1777)).unwrap();
    let sticky = as_nobody(&format!("rm -f {}", b.join("secret").display()));
    assert!(sticky.err.contains("not permitted"), "{sticky:?}");
    fs::create_dir(a.join("group")).unwrap();
    chown(a.join("group"), None, Some(1234)).unwrap();
    fs::set_permissions(a.join("group"), Permissions::from_mode(0o2777)).unwrap();
    fs::create_dir(b.join("group/sub")).unwrap();
    fs::write(b.join("group/f"), "").unwrap();
    assert_eq!(fs::metadata(a.join("group/f")).unwrap().gid(), 1234);
    assert_eq!(fs::metadata(a.join("group/sub")).unwrap().gid(), 1234);
    assert_eq!(mode(&a.join("group/sub")) & 0o2000, 0o2000);
}

/// **M2** Set-id bits go when an unprivileged process writes or truncates, and with every `chown`.
#[test]
fn m2_set_id_bits() {
    let Some(hosts) = hosts("m2") else { return };
    let path = hosts.a.join("f");
    let set = || {
        fs::write(&path, "data").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
        assert_eq!(mode(&hosts.b.join("f")), 0o6777);
    };
    let there = hosts.b.join("f");
    // Asks for nothing but the mode, so that no other attribute makes the kernel ask again.
    let mode_alone = || sh(&format!("stat -c %a {}", there.display()));
    for script in ["echo x >>", "echo x >", ": >", "truncate -s 2"] {
        set();
        assert_eq!(mode_alone(), "6777");
        let ran = as_nobody(&format!("{script} {}", there.display()));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(mode_alone(), "777", "{script}");
        assert_eq!(mode(&path), 0o777, "{script}");
        assert_eq!(mode(&there), 0o777, "{script}");
    }
    set();
    OpenOptions::new().write(true).open(&path).unwrap().write_at(b"root may", 0).unwrap();
    assert_eq!(mode(&there), 0o6777);
    chown(&path, Some(1), Some(1)).unwrap();
    assert_eq!(mode(&there), 0o777);
}

/// **M3** Times are equal on every host: they come from the cluster, or from `utimensat`, which
/// keeps nanoseconds and takes moments before 1970. Reading does not change the access time.
#[test]
fn m3_times() {
    let Some(hosts) = hosts("m3") else { return };
    let times = |path: &Path| {
        let stat = fs::symlink_metadata(path).unwrap();
        let modified = (stat.mtime(), stat.mtime_nsec());
        ((stat.atime(), stat.atime_nsec()), modified, (stat.ctime(), stat.ctime_nsec()))
    };
    fs::write(hosts.a.join("f"), "x").unwrap();
    let written = times(&hosts.a.join("f"));
    for host in hosts.all() {
        fs::read(host.join("f")).unwrap();
        assert_eq!(times(&host.join("f")), written);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(written.1.0 as u64) < 60);
    for time in [(0, 0), (1, 1), (-1, 0), (-2, 250_000_000), (4_000_000_000, 999_999_999)] {
        system::set_times(&hosts.b.join("f"), (12, 34), time).unwrap();
        for host in hosts.all() {
            let (access, modification, _) = times(&host.join("f"));
            assert_eq!((access, modification), ((12, 34), time));
        }
    }
    let now = (0, libc::UTIME_NOW);
    system::set_times(&hosts.b.join("f"), (0, libc::UTIME_OMIT), now).unwrap();
    let (access, modification, change) = times(&hosts.c.join("f"));
    assert_eq!(access, (12, 34));
    assert!(modification > written.1 && change >= modification);
}

/// **M4** Extended attributes of the namespace `user` are stored: 255 bytes of name, 4 KiB of
/// value, 16 KiB together. Other namespaces do not exist (EOPNOTSUPP).
#[test]
fn m4_extended_attributes() {
    let Some(hosts) = hosts("m4") else { return };
    let (here, there) = (hosts.a.join("f"), hosts.b.join("f"));
    File::create(&here).unwrap();
    assert_eq!(system::xattrs(&there).unwrap(), b"");
    system::set_xattr(&here, "user.one", b"1\0binary", 0).unwrap();
    system::set_xattr(&here, "user.two", &[7; 4096], libc::XATTR_CREATE).unwrap();
    assert_eq!(system::xattr(&there, "user.one").unwrap(), b"1\0binary");
    assert_eq!(system::xattr(&there, "user.two").unwrap(), [7; 4096]);
    assert_eq!(system::xattrs(&there).unwrap(), b"user.one\0user.two\0");
    let again = system::set_xattr(&here, "user.two", b"", libc::XATTR_CREATE);
    assert_eq!(errno(again), libc::EEXIST);
    let new = system::set_xattr(&here, "user.three", b"", libc::XATTR_REPLACE);
    assert_eq!(errno(new), libc::ENODATA);
    system::remove_xattr(&there, "user.one").unwrap();
    assert_eq!(errno(system::xattr(&here, "user.one")), libc::ENODATA);
    assert_eq!(errno(system::remove_xattr(&here, "user.one")), libc::ENODATA);
    assert_eq!(errno(system::set_xattr(&here, "user.big", &[0; 4097], 0)), libc::E2BIG);
    for n in 0..2 {
        system::set_xattr(&here, &format!("user.fill{n}"), &[0; 4096], 0).unwrap();
    }
    system::set_xattr(&here, "user.last", &[0; 4096], 0).unwrap_err();
    assert_eq!(errno(system::set_xattr(&here, "trusted.x", b"", 0)), libc::ENOTSUP);
    assert_eq!(errno(system::xattr(&here, "trusted.x")), libc::ENOTSUP);
    assert_eq!(errno(system::set_xattr(&here, "security.x", b"", 0)), libc::ENOTSUP);
    assert_eq!(errno(system::xattr(&here, "security.capability")), libc::ENODATA);
}

/// **M5** `user.keepfs.*` tells what the cluster knows of an entry. They cannot be set, but for the
/// role, and are not listed, so that copying a file does not carry them along.
#[test]
fn m5_what_the_cluster_knows() {
    let Some(hosts) = hosts("m5") else { return };
    let (file, directory) = (hosts.a.join("f"), &hosts.a);
    let text = |path: &Path, name: &str| {
        String::from_utf8(system::xattr(path, &format!("user.keepfs.{name}")).unwrap()).unwrap()
    };
    let number = |path: &Path, name: &str| text(path, name).parse::<u64>().unwrap();
    fs::write(&file, "1").unwrap();
    let created = number(&file, "czxid");
    let modified = number(&file, "mzxid");
    let version = number(&file, "version");
    assert!(created < modified);
    fs::write(&file, "2").unwrap();
    assert_eq!(number(&file, "version"), version + 1);
    assert_eq!(number(&file, "czxid"), created);
    assert!(number(&file, "mzxid") > modified);
    assert!(number(&file, "zxid") >= number(&file, "mzxid"));
    let listings = number(directory, "cversion");
    let before = number(directory, "pzxid");
    fs::write(hosts.b.join("g"), "").unwrap();
    assert!(number(directory, "cversion") > listings && number(directory, "pzxid") > before);
    let metadata = number(&file, "aversion");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(number(&file, "aversion"), metadata + 1);
    assert_eq!(text(&file, "owner"), "0x0");
    assert_eq!(errno(system::xattr(&file, "user.keepfs.token")), libc::ENODATA);
    assert_eq!(errno(system::set_xattr(&file, "user.keepfs.version", b"9", 0)), libc::EPERM);
    assert_eq!(errno(system::remove_xattr(&file, "user.keepfs.version")), libc::EPERM);
    assert_eq!(system::xattrs(&file).unwrap(), b"");

    let jobs = hosts.a.join("jobs");
    fs::create_dir(&jobs).unwrap();
    assert_eq!(text(&jobs, "role"), "plain");
    let unknown = system::set_xattr(&jobs, "user.keepfs.role", b"nonsense", 0);
    assert_eq!(errno(unknown), libc::EINVAL);
    system::set_xattr(&jobs, "user.keepfs.role", b"sequential", 0).unwrap();
    assert_eq!(text(&hosts.b.join("jobs"), "role"), "sequential");
    let job = File::create(jobs.join("job-")).unwrap();
    assert_eq!(text(&hosts.b.join("jobs"), "created"), "job-0000000000");
    let name = system::xattr_of_open(&job, "user.keepfs.created").unwrap();
    assert_eq!(name, b"job-0000000000");
    assert!(hosts.c.join("jobs/job-0000000000").exists());
    assert!(!hosts.c.join("jobs/job-").exists() && !jobs.join("job-").exists());
    let ephemeral = hosts.a.join("ephemeral");
    fs::create_dir(&ephemeral).unwrap();
    system::set_xattr(&ephemeral, "user.keepfs.role", b"ephemeral", 0).unwrap();
    File::create(ephemeral.join("me")).unwrap();
    let session = hosts.cluster.node(0).session().unwrap();
    assert_eq!(text(&hosts.b.join("ephemeral/me"), "owner"), session.to_string());
}

/// **M6** `statfs` tells the true limits of bytes and inodes, and what is left.
#[test]
fn m6_space() {
    let Some(hosts) = hosts("m6") else { return };
    let before = keepfs::volume::statvfs(&hosts.a).unwrap();
    assert_eq!(before.f_blocks * before.f_frsize, 1 << 30);
    assert_eq!((before.f_files, before.f_namemax), (1 << 20, 255));
    fs::write(hosts.b.join("f"), vec![1; 1 << 20]).unwrap();
    let after = keepfs::volume::statvfs(&hosts.a).unwrap();
    let taken = (before.f_bfree as i64 - after.f_bfree as i64) * after.f_frsize as i64;
    // Other tests write, and remove, at the same time: a little either way.
    assert!((1 << 19..1 << 22).contains(&taken), "{taken}");
    assert!(after.f_ffree < after.f_files);
}
