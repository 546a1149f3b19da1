//! F: what a file's data promises.

use super::support::mounted::FILE_BYTES;
use super::support::shell::sh;
use super::support::system::{self, Mapping, errno};
use super::{hosts, together};
use keepfs::cluster::Cluster as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// **F1** A write is on the disks of a majority before `write` returns, and its error is `write`'s,
/// never `close`'s.
#[test]
fn f1_a_write_is_committed_when_it_returns() {
    let Some(hosts) = hosts("f1") else { return };
    let mut file = File::create(hosts.a.join("f")).unwrap();
    let ino = keepfs::tree::Ino(file.metadata().unwrap().ino());
    for round in 0..50_u64 {
        file.write_at(&round.to_be_bytes(), 0).unwrap();
        let applied = |at| hosts.cluster.node(at).tree().read(ino, 0, 8).unwrap();
        let shown: Vec<_> = (0..3).map(applied).collect();
        assert_eq!(shown, vec![round.to_be_bytes().to_vec(); 3]);
    }
    // Too big: it is the write that fails, with the descriptor still open.
    assert_eq!(errno(file.write_at(b"x", FILE_BYTES)), libc::EFBIG);
    file.flush().unwrap();
    let script = format!("echo x > {}/missing/f", hosts.a.display());
    let ran = super::support::shell::try_sh(&script, std::time::Duration::from_secs(10));
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

/// **F2** `O_TRUNC` and the first write are one step. With `echo x > f` no reader, on any host,
/// ever sees `f` empty.
#[test]
fn f2_replacing_a_file_is_one_step() {
    let Some(hosts) = hosts("f2") else { return };
    let path = hosts.a.join("f");
    fs::write(&path, "old\n").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = hosts
            .all()
            .into_iter()
            .map(|host| {
                let (path, done) = (host.join("f"), &done);
                scope.spawn(move || {
                    let mut reads = 0;
                    while !done.load(Ordering::Relaxed) {
                        let text = fs::read_to_string(&path).unwrap();
                        assert!(text == "old\n" || text == "new\n", "saw {text:?}");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let target = path.display();
        let writers = format!(
            "for i in $(seq 100); do echo old > {target}; printf 'new\n' > {target}; done
             python3 -c 'for i in range(100): open(\"{target}\", \"w\").write(\"old\\n\")'"
        );
        sh(&writers);
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 20);
        }
    });
}

/// **F3** A file opened with `O_TRUNC` and closed without a write is empty on every host when
/// `close` returns (`: > f`).
#[test]
fn f3_truncating_alone_takes_effect_at_close() {
    let Some(hosts) = hosts("f3") else { return };
    for command in [": >", "true >", "dash -c ': > \"$0\"'", "truncate -s 0", "cp /dev/null"] {
        fs::write(hosts.a.join("f"), "something").unwrap();
        sh(&format!("{command} {}", hosts.a.join("f").display()));
        for host in hosts.all() {
            assert_eq!(fs::read(host.join("f")).unwrap(), b"", "{command}");
            assert_eq!(fs::metadata(host.join("f")).unwrap().len(), 0, "{command}");
        }
    }
}

/// **F3** ... `truncate(2)` has taken effect when it returns, also where the same thread has just
/// opened the file, and whoever asked for its attributes meanwhile.
#[test]
fn f3_truncating_by_name_is_not_put_off() {
    let Some(hosts) = hosts("f3-by-name") else { return };
    let path = hosts.a.join("f");
    fs::write(&path, "something").unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                fs::metadata(&path).unwrap();
            }
        });
        while Instant::now() < until {
            fs::write(&path, "something").unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            system::truncate(&path, 0).unwrap();
            assert_eq!(fs::read(hosts.b.join("f")).unwrap(), b"");
            // Nor is anything left to be done later.
            fs::write(hosts.b.join("f"), "else").unwrap();
            drop(file);
            assert_eq!(fs::read(hosts.c.join("f")).unwrap(), b"else");
        }
    });
}

/// **F4** Until then the file is empty to the process that opened it so, and unchanged for everyone
/// else. Any other write or truncation that comes in between, from this host, counts as later than
/// the truncation.
#[test]
fn f4_a_truncation_waits_for_the_first_write() {
    let Some(hosts) = hosts("f4") else { return };
    let path = hosts.a.join("f");
    fs::write(&path, "0123456789").unwrap();
    let open = |path| {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    };
    let mut truncating = open(&path);
    assert_eq!(truncating.metadata().unwrap().len(), 0);
    let mut seen = Vec::new();
    truncating.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"");
    for host in hosts.all() {
        assert_eq!(fs::read(host.join("f")).unwrap(), b"0123456789");
    }
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    other.write_at(b"later", 0).unwrap();
    truncating.write_at(b"!", 7).unwrap();
    drop(truncating);
    for host in hosts.all() {
        assert_eq!(fs::read(host.join("f")).unwrap(), b"later\0\0!");
    }
    let truncating = open(&path);
    truncating.set_len(3).unwrap();
    drop(truncating);
    assert_eq!(fs::read(hosts.b.join("f")).unwrap(), b"\0\0\0");
}

/// **F5** `O_APPEND` appends at the end the file has when the write takes effect: hosts that append
/// to one file lose nothing and overwrite nothing.
#[test]
fn f5_appends_of_all_hosts_are_kept() {
    let Some(hosts) = hosts("f5") else { return };
    let lines = 60;
    File::create(hosts.a.join("log")).unwrap();
    together(&hosts, |at, host| {
        let mut log = OpenOptions::new().append(true).open(host.join("log")).unwrap();
        for line in 0..lines {
            log.write_all(format!("host {at} line {line}\n").as_bytes()).unwrap();
            // A reader on the same host sees whole lines only, wherever the append went.
            for line in fs::read_to_string(host.join("log")).unwrap().lines() {
                assert!(line.starts_with("host ") && line.contains(" line "), "{line:?}");
            }
        }
    });
    let texts = hosts.all().map(|host| fs::read_to_string(host.join("log")).unwrap());
    assert!(texts.iter().all(|text| *text == texts[0]));
    for at in 0..3 {
        let of_host = texts[0].lines().filter(|line| line.starts_with(&format!("host {at} ")));
        let wanted: Vec<_> = (0..lines).map(|line| format!("host {at} line {line}")).collect();
        assert_eq!(of_host.collect::<Vec<_>>(), wanted);
    }
}

/// **F6** One `write` of up to 1020 KiB is one step; longer ones are several. A reader of a file of
/// at most 4096 bytes sees it whole, old or new.
#[test]
fn f6_a_write_is_one_step() {
    let Some(hosts) = hosts("f6") else { return };
    let path = hosts.a.join("f");
    let file = File::create(&path).unwrap();
    let version = || -> u64 {
        let text = system::xattr(&path, "user.keepfs.version").unwrap();
        String::from_utf8(text).unwrap().parse().unwrap()
    };
    let (before, bytes) = (version(), vec![7; 1 + (1020 << 10)]);
    // At any place in memory, which decides how many pages it takes there.
    assert_eq!(file.write_at(&bytes[1..], 0).unwrap(), 1020 << 10);
    assert_eq!(version(), before + 1);
    file.set_len(0).unwrap();
    let done = AtomicBool::new(false);
    file.write_at(&[0; 4096], 0).unwrap();
    std::thread::scope(|scope| {
        let readers = [&hosts.a, &hosts.b].map(|host| {
            let (path, done) = (host.join("f"), &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let bytes = fs::read(&path).unwrap();
                    assert_eq!(bytes.len(), 4096);
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
                }
            })
        });
        (1..100).for_each(|round| assert_eq!(file.write_at(&[round; 4096], 0).unwrap(), 4096));
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// **F7** A file holds `max_file_size` bytes. A write that would pass it fails with EFBIG and
/// changes nothing.
#[test]
fn f7_a_file_has_a_largest_size() {
    let Some(hosts) = hosts("f7") else { return };
    let path = hosts.a.join("f");
    fs::write(&path, "kept").unwrap();
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(errno(writer.write_at(b"12", FILE_BYTES - 1)), libc::EFBIG);
    assert_eq!(errno(writer.set_len(FILE_BYTES + 1)), libc::EFBIG);
    assert_eq!(fs::read(hosts.b.join("f")).unwrap(), b"kept");
    writer.set_len(FILE_BYTES - 3).unwrap();
    assert_eq!(errno((&file).write(b"four")), libc::EFBIG);
    assert_eq!(fs::metadata(hosts.b.join("f")).unwrap().len(), FILE_BYTES - 3);
    writer.write_at(b"1", FILE_BYTES - 1).unwrap();
    assert_eq!(fs::metadata(hosts.b.join("f")).unwrap().len(), FILE_BYTES);
}

/// **F8** Holes read as zeros. `fallocate` grows, keeps the size, punches and zeroes; `lseek` finds
/// data and holes.
#[test]
fn f8_holes_and_allocation() {
    let Some(hosts) = hosts("f8") else { return };
    let path = hosts.a.join("f");
    let file = File::create(&path).unwrap();
    file.write_at(b"end", 10).unwrap();
    let seen = || fs::read(hosts.b.join("f")).unwrap();
    assert_eq!(seen(), b"\0\0\0\0\0\0\0\0\0\0end");
    system::fallocate(&file, 0, 0, 16).unwrap();
    assert_eq!(seen(), b"\0\0\0\0\0\0\0\0\0\0end\0\0\0");
    system::fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 100).unwrap();
    assert_eq!(seen().len(), 16);
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    system::fallocate(&file, punch, 10, 1).unwrap();
    assert_eq!(&seen()[10..13], b"\0nd");
    system::fallocate(&file, libc::FALLOC_FL_ZERO_RANGE, 11, 9).unwrap();
    assert_eq!(seen(), [0; 20]);
    assert_eq!(
        errno(system::fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 1)),
        libc::ENOTSUP
    );
    let reader = File::open(&path).unwrap();
    assert!(system::seek(&reader, 0, libc::SEEK_HOLE).unwrap() <= 20);
    assert_eq!(errno(system::seek(&reader, 20, libc::SEEK_DATA)), libc::ENXIO);
    file.write_at(b"data", 4096).unwrap();
    let data = system::seek(&reader, 20, libc::SEEK_DATA).unwrap();
    assert!((20..=4096).contains(&data), "{data}");
    assert_eq!(system::seek(&reader, 4096, libc::SEEK_HOLE).unwrap(), 4100);
}

/// **F9** A file that is open stays whole when its last name goes, whichever host removed it, until
/// the last descriptor anywhere is closed.
#[test]
fn f9_an_unlinked_file_lives_while_it_is_open() {
    let Some(hosts) = hosts("f9") else { return };
    fs::write(hosts.a.join("f"), "still here").unwrap();
    let here = OpenOptions::new().read(true).write(true).open(hosts.a.join("f")).unwrap();
    let there = File::open(hosts.b.join("f")).unwrap();
    let ino = keepfs::tree::Ino(here.metadata().unwrap().ino());
    fs::remove_file(hosts.c.join("f")).unwrap();
    here.write_at(b"STILL", 0).unwrap();
    let mut text = [0; 10];
    there.read_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"STILL here");
    assert_eq!(here.metadata().unwrap().nlink(), 0);
    assert!(!hosts.a.join("f").exists());
    // Long enough for every host to let go of what it does not have open.
    std::thread::sleep(std::time::Duration::from_millis(400));
    drop(here);
    std::thread::sleep(std::time::Duration::from_millis(400));
    there.read_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"STILL here");
    drop(there);
    let gone = || hosts.cluster.node(2).tree().attributes(ino).is_none();
    super::support::eventually("it is freed", std::time::Duration::from_secs(10), gone);
}

/// **F10** Private and shared mappings work; a shared mapping follows what other hosts write.
#[test]
fn f10_mappings() {
    let Some(hosts) = hosts("f10") else { return };
    fs::write(hosts.a.join("f"), "mapped").unwrap();
    let file = File::open(hosts.a.join("f")).unwrap();
    let shared = Mapping::new(&file, libc::MAP_SHARED).unwrap();
    let mut private = Mapping::new(&file, libc::MAP_PRIVATE).unwrap();
    assert_eq!(shared.bytes(), b"mapped");
    private.write(0, b'M');
    assert_eq!((private.bytes(), shared.bytes()), (b"Mapped".to_vec(), b"mapped".to_vec()));
    let there = OpenOptions::new().write(true).open(hosts.b.join("f")).unwrap();
    there.write_at(b"MAPPED", 0).unwrap();
    assert_eq!(shared.bytes(), b"MAPPED");
    // What this host writes, too.
    let here = OpenOptions::new().write(true).open(hosts.a.join("f")).unwrap();
    here.write_at(b"z", 5).unwrap();
    assert_eq!(shared.bytes(), b"MAPPEz");
    // And through a descriptor that may write.
    let both = OpenOptions::new().read(true).write(true).open(hosts.a.join("f")).unwrap();
    assert_eq!(Mapping::new(&both, libc::MAP_SHARED).unwrap().bytes(), b"MAPPEz");
}
