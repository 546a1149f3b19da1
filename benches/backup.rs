//! One large stream through three replicas in this process (the writer's engine, two receivers):
//! CPU and memory of storing, copying and reading it back. `cargo bench --bench backup -- FILE` for
//! a stream of your own; otherwise a GiB that compresses by a quarter.

#[path = "../tests/backup/world.rs"]
#[allow(dead_code)] // The tests use more of it.
mod world;

use keepfs::cluster::streams::StreamStore;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use world::{World, bytes, put, wait};

const MIB: usize = 1 << 20;
/// Three replicas' and an engine's together; does not grow with the stream.
const RESIDENT_MIB_MAX: u64 = 400;

fn main() -> ExitCode {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let mut source: Box<dyn Read> = match &file {
        Some(path) => Box::new(File::open(path).unwrap()),
        None => Box::new(Synthetic { next: 0, current: Vec::new() }.take(1 << 30)),
    };
    let world = World::new();
    // The first stream makes the repository, which costs one scrypt (134 MB).
    world.write(0, b"first").unwrap();
    println!("empty: {} MiB resident, {} MiB at the most", memory("VmRSS"), memory("VmHWM"));

    let start = Meter::start();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    let (mut at, mut most, mut made) = (0u64, 0, Duration::ZERO);
    loop {
        let before = Meter::start();
        let mut piece = Vec::with_capacity(MIB);
        source.by_ref().take(MIB as u64).read_to_end(&mut piece).unwrap();
        made += before.wall.elapsed();
        if piece.is_empty() {
            break;
        }
        put(&mut *sink, at, &piece).unwrap();
        at += piece.len() as u64;
        most = most.max(memory("VmRSS"));
    }
    println!("{} MiB taken; making them took {:.1} s", at >> 20, made.as_secs_f64());
    let closing = Instant::now();
    wait(|done| sink.finish(done)).unwrap();
    println!("close took {:.2} s", closing.elapsed().as_secs_f64());
    start.report("stored on three replicas", at);
    println!("resident while it was written: {most} MiB, at most {RESIDENT_MIB_MAX} MiB");

    let start = Meter::start();
    let source = world.replicas[1].backup.open("web1").unwrap();
    let (mut read, mut most_reading) = (0, 0);
    while read < at {
        let piece = wait(|done| source.read(read, 128 << 10, done)).unwrap();
        read += piece.len() as u64;
        most_reading = most_reading.max(memory("VmRSS"));
    }
    start.report("read at another replica", read);
    println!("resident while it was read: {most_reading} MiB, at most {RESIDENT_MIB_MAX} MiB");
    if most.max(most_reading) <= RESIDENT_MIB_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Synthetic {
    next: u64,
    current: Vec<u8>,
}

impl Read for Synthetic {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.current.is_empty() {
            self.next += 1;
            self.current = bytes(self.next, MIB);
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current[..length]);
        self.current.drain(..length);
        Ok(length)
    }
}

/// Wall clock and CPU since a moment.
struct Meter {
    wall: Instant,
    cpu: f64,
}

impl Meter {
    fn start() -> Meter {
        Meter { wall: Instant::now(), cpu: cpu_seconds() }
    }

    fn report(&self, what: &str, bytes: u64) {
        let (cpu, wall) = (cpu_seconds() - self.cpu, self.wall.elapsed().as_secs_f64());
        let gib = bytes as f64 / (1u64 << 30) as f64;
        println!("{what}: {:.1} s of CPU and {:.1} s a GiB", cpu / gib, wall / gib);
    }
}

fn cpu_seconds() -> f64 {
    // SAFETY: all zeros is a value of this plain struct, and the call only fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A line of /proc/self/status, MiB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find(|text| text.starts_with(line)).unwrap();
    found.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
