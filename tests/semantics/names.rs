//! N: what names and directories promise.

use super::support::shell::sh;
use super::support::system::{self, errno};
use super::{hosts, together};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

fn names(directory: &Path) -> BTreeSet<OsString> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// **N1** `rename` is one step, for files, directories with all they hold, and exchanges
/// (`RENAME_EXCHANGE`); it replaces, or refuses to (`RENAME_NOREPLACE`).
#[test]
fn n1_rename() {
    let Some(hosts) = hosts("n1") else { return };
    let (a, b) = (&hosts.a, &hosts.b);
    fs::create_dir_all(a.join("app/deep")).unwrap();
    fs::write(a.join("app/deep/f"), "f").unwrap();
    assert_eq!(fs::read(b.join("app/deep/f")).unwrap(), b"f");
    fs::rename(a.join("app"), a.join("service")).unwrap();
    assert_eq!(fs::read(b.join("service/deep/f")).unwrap(), b"f");
    assert!(!b.join("app").exists());

    fs::write(a.join("one"), "1").unwrap();
    fs::write(a.join("two"), "2").unwrap();
    let no_replace = system::rename(&b.join("one"), &b.join("two"), libc::RENAME_NOREPLACE);
    assert_eq!(errno(no_replace), libc::EEXIST);
    system::rename(&b.join("one"), &b.join("service"), libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read(a.join("service")).unwrap(), b"1");
    assert_eq!(fs::read(a.join("one/deep/f")).unwrap(), b"f");
    fs::rename(a.join("two"), a.join("service")).unwrap();
    assert_eq!(fs::read(b.join("service")).unwrap(), b"2");

    assert_eq!(errno(fs::rename(a.join("one"), a.join("one/deep/one"))), libc::EINVAL);
    fs::create_dir(a.join("empty")).unwrap();
    assert_eq!(errno(fs::rename(a.join("empty"), a.join("service"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(a.join("service"), a.join("empty"))), libc::EISDIR);
    assert_eq!(errno(fs::rename(a.join("empty"), a.join("one"))), libc::ENOTEMPTY);
    fs::rename(a.join("one"), a.join("empty")).unwrap();
    assert_eq!(names(b), BTreeSet::from(["empty".into(), "service".into()]));
}

/// **N1** ... A name that is replaced all the time can be opened all the time.
#[test]
fn n1_a_name_that_is_replaced_can_be_opened() {
    let Some(hosts) = hosts("n1-replaced") else { return };
    fs::write(hosts.a.join("f"), "0").unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        for (at, host) in hosts.all().into_iter().chain(hosts.all()).enumerate() {
            scope.spawn(move || {
                for round in 0.. {
                    let new = host.join(format!("new-{at}"));
                    fs::write(&new, round.to_string()).unwrap();
                    fs::rename(&new, host.join("f")).unwrap();
                    if Instant::now() > until {
                        return;
                    }
                }
            });
        }
        for host in hosts.all().into_iter().chain(hosts.all()) {
            scope.spawn(move || {
                let mut opened = 0;
                while Instant::now() < until {
                    File::open(host.join("f")).unwrap();
                    OpenOptions::new().append(true).open(host.join("f")).unwrap();
                    opened += 1;
                }
                assert!(opened > 20, "{opened}");
            });
        }
    });
}

/// **N2** Of all hosts that create one name with `O_EXCL`, `mkdir`, `link`, `symlink` or
/// `RENAME_NOREPLACE`, one succeeds; the others get EEXIST.
#[test]
fn n2_one_creator_wins() {
    let Some(hosts) = hosts("n2") else { return };
    type Make = fn(&Path, &Path) -> std::io::Result<()>;
    let makes: [(&str, Make); 5] = [
        ("excl", |_, path| File::create_new(path).map(drop)),
        ("mkdir", |_, path| DirBuilder::new().create(path)),
        ("link", |own, path| fs::hard_link(own, path)),
        ("symlink", |own, path| symlink(own, path)),
        ("rename", |own, path| system::rename(own, path, libc::RENAME_NOREPLACE)),
    ];
    for (what, make) in makes {
        for round in 0..8 {
            let outcomes = together(&hosts, |at, host| {
                let own = host.join(format!("own-{what}-{round}-{at}"));
                File::create(&own).unwrap();
                errno(make(&own, &host.join(format!("{what}-{round}"))))
            });
            let winners = outcomes.iter().filter(|errno| **errno == 0).count();
            let losers = outcomes.iter().filter(|errno| **errno == libc::EEXIST).count();
            assert_eq!((winners, losers), (1, 2), "{what}: {outcomes:?}");
        }
    }
}

/// **N3** Of all hosts that create one name without `O_EXCL`, every one succeeds, and they have the
/// same file open.
#[test]
fn n3_creators_without_excl_share_the_file() {
    let Some(hosts) = hosts("n3") else { return };
    for round in 0..15 {
        let inodes = together(&hosts, |at, host| {
            let path = host.join(format!("f{round}"));
            let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(format!("{at}").as_bytes()).unwrap();
            file.metadata().unwrap().ino()
        });
        assert!(inodes.iter().all(|ino| *ino == inodes[0]));
        let text = fs::read_to_string(hosts.b.join(format!("f{round}"))).unwrap();
        assert_eq!(text.chars().collect::<BTreeSet<_>>(), BTreeSet::from(['0', '1', '2']));
    }
}

/// **N4** Hard links are names of one inode; inode numbers are equal on every host and are never
/// reused.
#[test]
fn n4_hard_links_and_inode_numbers() {
    let Some(hosts) = hosts("n4") else { return };
    fs::write(hosts.a.join("one"), "x").unwrap();
    fs::hard_link(hosts.b.join("one"), hosts.b.join("two")).unwrap();
    let stats = hosts.all().map(|host| fs::metadata(host.join("two")).unwrap());
    assert!(stats.iter().all(|stat| stat.nlink() == 2 && stat.ino() == stats[0].ino()));
    assert_eq!(fs::metadata(hosts.a.join("one")).unwrap().nlink(), 2);
    fs::remove_file(hosts.c.join("one")).unwrap();
    assert_eq!(fs::metadata(hosts.a.join("two")).unwrap().nlink(), 1);
    fs::remove_file(hosts.a.join("two")).unwrap();
    fs::write(hosts.a.join("one"), "y").unwrap();
    assert!(fs::metadata(hosts.b.join("one")).unwrap().ino() > stats[0].ino());
    let directory = hosts.a.join("directory");
    fs::create_dir(&directory).unwrap();
    assert_eq!(errno(fs::hard_link(&directory, hosts.a.join("link"))), libc::EPERM);
    assert_eq!(fs::metadata(&directory).unwrap().nlink(), 2);
}

/// **N5** Symbolic links, fifos, sockets and device nodes are stored like files.
#[test]
fn n5_other_kinds() {
    let Some(hosts) = hosts("n5") else { return };
    symlink("a target/that\u{e9}/need not exist", hosts.a.join("link")).unwrap();
    let target = fs::read_link(hosts.b.join("link")).unwrap();
    assert_eq!(target, Path::new("a target/that\u{e9}/need not exist"));
    let length = fs::symlink_metadata(hosts.b.join("link")).unwrap().len();
    assert_eq!(length, target.as_os_str().len() as u64);
    system::mknod(&hosts.a.join("fifo"), libc::S_IFIFO | 0o600, 0).unwrap();
    assert!(fs::metadata(hosts.b.join("fifo")).unwrap().file_type().is_fifo());
    drop(std::os::unix::net::UnixListener::bind(hosts.a.join("socket")).unwrap());
    assert!(fs::metadata(hosts.c.join("socket")).unwrap().file_type().is_socket());
    let null = libc::makedev(1, 3);
    system::mknod(&hosts.a.join("null"), libc::S_IFCHR | 0o666, null).unwrap();
    let stat = fs::metadata(hosts.b.join("null")).unwrap();
    assert!(stat.file_type().is_char_device());
    assert_eq!(stat.rdev(), null);
    assert_eq!(errno(File::open(hosts.b.join("null"))), libc::EACCES, "the mount is nodev");
    let fifo = hosts.a.join("fifo");
    assert_eq!(sh(&format!("echo through > {0} & cat {0}", fifo.display())), "through");
}

/// **N6** A listing that goes on while names come and go shows every name that was there all along,
/// once.
#[test]
fn n6_listings_under_change() {
    let Some(hosts) = hosts("n6") else { return };
    let stay: BTreeSet<OsString> = (0..400).map(|n| format!("stays-{n}").into()).collect();
    for name in &stay {
        File::create(hosts.a.join(name)).unwrap();
    }
    for round in 0..10 {
        for n in 0..20 {
            File::create(hosts.b.join(format!("goes-{round}-{n}"))).unwrap();
        }
        let mut listing = fs::read_dir(&hosts.c).unwrap();
        let mut seen: Vec<OsString> =
            listing.by_ref().take(50).map(|entry| entry.unwrap().file_name()).collect();
        for n in 0..20 {
            fs::remove_file(hosts.a.join(format!("goes-{round}-{n}"))).unwrap();
        }
        seen.extend(listing.map(|entry| entry.unwrap().file_name()));
        let stayed: Vec<_> = seen.iter().filter(|name| stay.contains(*name)).collect();
        assert_eq!(stayed.len(), stay.len());
        assert_eq!(stayed.into_iter().collect::<BTreeSet<_>>().len(), stay.len());
        assert_eq!(names(&hosts.c), stay);
    }
}

/// **N7** A name has up to 255 bytes, any but `/` and NUL.
#[test]
fn n7_names() {
    let Some(hosts) = hosts("n7") else { return };
    let odd: Vec<u8> = (1..=255_u8).filter(|byte| *byte != b'/').collect();
    let odd = OsStr::from_bytes(&odd);
    let long = "n".repeat(255);
    for name in [odd, OsStr::new(&long), OsStr::new("-rf"), OsStr::new("a b\n"), OsStr::new("...")]
    {
        fs::write(hosts.a.join(name), "named").unwrap();
        assert_eq!(fs::read(hosts.b.join(name)).unwrap(), b"named");
        assert!(names(&hosts.c).contains(name));
    }
    assert_eq!(errno(File::create(hosts.a.join("n".repeat(256)))), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(hosts.a.join("n".repeat(256)))), libc::ENAMETOOLONG);
}

/// **N8** `.keepfs` in the root is not listed, and cannot be changed. Its files are answered on
/// this host alone, and always.
#[test]
fn n8_the_control_directory() {
    let Some(hosts) = hosts("n8") else { return };
    let root = hosts.cluster.root(1);
    let control = root.join(".keepfs");
    assert!(!names(&root).contains(OsStr::new(".keepfs")));
    let files =
        ["status", "members", "leader", "sessions", "locks", "metrics", "version", "limits"];
    for file in files {
        assert!(names(&control).contains(OsStr::new(file)), "{file}");
        let text = fs::read(control.join(file)).unwrap();
        assert!(file == "locks" || !text.is_empty(), "{file} says nothing");
    }
    assert!(fs::read_to_string(control.join("status")).unwrap().contains("b"));
    let refused = |errno: i32| errno == libc::EPERM || errno == libc::EACCES;
    assert!(refused(errno(File::create(control.join("new")))));
    assert!(refused(errno(fs::write(control.join("status"), "x"))));
    assert!(refused(errno(fs::remove_file(control.join("status")))));
    assert!(refused(errno(fs::create_dir(control.join("d")))));
    assert!(refused(errno(fs::rename(&control, root.join("elsewhere")))));
    assert!(refused(errno(fs::rename(&hosts.a, hosts.cluster.root(0).join(".keepfs")))));
    assert_eq!(errno(fs::create_dir(&control)), libc::EEXIST);
    assert_eq!(errno(fs::read(&control)), libc::EISDIR);
}
