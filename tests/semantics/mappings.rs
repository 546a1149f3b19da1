//! F10: mappings that are written, by processes of their own: a fault of this one could wait for a
//! thread of its own daemon.

use super::support::shell::sh;
use super::{Hosts, hosts};
use std::fs;

/// Runs a Python program with the paths of `f` on two hosts, and what else it is told.
fn python(hosts: &Hosts, program: &str, argument: u64) {
    let [a, b] = [&hosts.a, &hosts.b].map(|host| host.join("f"));
    let script = hosts.cluster.path(&format!("{argument}.py"));
    fs::write(&script, program).unwrap();
    let script = script.display();
    sh(&format!("timeout 100 python3 {script} {} {} {argument}", a.display(), b.display()));
}

/// **F10** ... A store changes the bytes that were stored and no others: what is written beside
/// them, on whichever host, is kept.
#[test]
fn f10_what_is_written_beside_a_mapping_is_kept() {
    let Some(hosts) = hosts("f10-beside") else { return };
    python(&hosts, BESIDE, 0);
}

/// One process stores into each page, while another of this host and one of another host write to
/// it.
const BESIDE: &str = r#"
import mmap, os, sys
here, there = sys.argv[1:3]
PAGE, PAGES = 4096, 128
def writer(path, byte, offset, go):
    if os.fork() == 0:
        os.read(go, 1)
        f = os.open(path, os.O_WRONLY)
        for page in range(PAGES):
            assert os.pwrite(f, byte * 8, page * PAGE + offset) == 8
        os._exit(0)
for round in range(6):
    f = os.open(here, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(f, PAGES * PAGE)
    m = mmap.mmap(f, PAGES * PAGE)
    go, start = os.pipe()
    writer(here, b'W', 1024, go)
    writer(there, b'T', 2048, go)
    os.write(start, b'xx')
    for page in range(PAGES):
        m[page * PAGE + 3072:page * PAGE + 3080] = b'M' * 8
        # About in step with the writer.
        for _ in range(50):
            if page % 8 or os.pread(f, 1, page * PAGE + 1024) != b'\0': break
    for _ in range(2): assert os.wait()[1] == 0
    m.flush()
    for seen in m[:], open(here, 'rb').read(), open(there, 'rb').read():
        for page in range(PAGES):
            for byte, offset in (b'W', 1024), (b'T', 2048), (b'M', 3072):
                at = page * PAGE + offset
                assert seen[at:at + 8] == byte * 8, (round, page, byte, seen[at:at + 8])
    m.close(); os.close(f); os.close(go); os.close(start)
"#;

/// **F10** ... Mappings of one file on two hosts that store to different bytes lose none.
#[test]
fn f10_mappings_on_two_hosts() {
    let Some(hosts) = hosts("f10-two") else { return };
    fs::write(hosts.a.join("f"), [0; 4 * 4096]).unwrap();
    python(&hosts, TWO_HOSTS, 0);
}

const TWO_HOSTS: &str = r#"
import mmap, os, sys
SIZE = 4 * 4096
def host(path, first):
    f = os.open(path, os.O_RDWR)
    m = mmap.mmap(f, SIZE)
    for at in range(first, SIZE, 64):
        m[at] = first + 1
        if at % 1024 < 64: m.flush()
    m.flush()
    os._exit(0)
for first, path in enumerate(sys.argv[1:3]):
    if os.fork() == 0: host(path, first)
for _ in range(2): assert os.wait()[1] == 0
for path in sys.argv[1:3]:
    seen = open(path, 'rb').read()
    for at in range(SIZE):
        assert seen[at] == (at % 64 + 1 if at % 64 < 2 else 0), (path, at, seen[at])
"#;

/// **F10** Shared mappings, `write`, truncation and holes in any order are one file, on every host.
#[test]
fn f10_a_mapping_agrees_with_all_else() {
    let Some(hosts) = hosts("f10-model") else { return };
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => vec![1, 2, 3],
    };
    seeds.into_iter().for_each(|seed| python(&hosts, MODEL, seed));
}

const MODEL: &str = r#"
import ctypes, mmap, os, random, sys
here, there, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
dice, SIZE = random.Random(seed), 6 * 4096 - 100
fallocate = ctypes.CDLL(None, use_errno=True).fallocate
fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
f = os.open(here, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.ftruncate(f, SIZE)
writer, elsewhere = os.open(here, os.O_WRONLY), os.open(there, os.O_WRONLY)
m, model, past = mmap.mmap(f, SIZE), bytearray(SIZE), []
for step in range(150):
    at = dice.randrange(SIZE)
    n = dice.choice([1, 8, 100, 5000])
    n = min(n, SIZE - at)
    data = bytes([dice.randrange(1, 256)]) * n
    what = dice.choice(['store', 'store', 'store', 'write', 'elsewhere', 'sync', 'cut', 'punch', 'read'])
    past.append((step, what, at, n, data[:1]))
    if what == 'store': m[at:at + n] = data
    elif what == 'write': os.pwrite(writer, data, at)
    elif what == 'elsewhere':
        m.flush()
        os.pwrite(elsewhere, data, at)
    elif what == 'sync': m.flush()
    elif what == 'cut':
        os.ftruncate(f, at)
        os.ftruncate(f, SIZE)
        model[at:] = bytes(SIZE - at)
    elif what == 'punch':
        assert fallocate(f, 3, at, n) == 0
        model[at:at + n] = bytes(n)
    if what in ('store', 'write', 'elsewhere'): model[at:at + n] = data
    if what == 'read':
        seen = os.pread(f, SIZE, 0)
    else:
        seen = m[:]
    wrong = [i for i in range(SIZE) if seen[i] != model[i]]
    assert not wrong, (wrong[0], len(wrong), past[-12:])
m.flush()
assert open(there, 'rb').read() == model
"#;
