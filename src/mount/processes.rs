//! What `/proc` and pidfds tell about the processes behind requests.
//!
//! Every pid and thread id is of the daemon's pid namespace, as the kernel puts them into requests.
//! What may wait says so; everything else never does.

use super::proc;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;

/// Longest command line kept for `.keepfs/locks`, bytes.
const COMMAND_BYTES_MAX: usize = 256;
/// Flags of `/proc/PID/stat` (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;
const PF_SIGNALED: u64 = 0x400;

/// The process that a thread belongs to; `None` if the thread is gone.
pub fn process_of(thread: u32) -> Option<u32> {
    Status::read(thread)?.number("Tgid:")
}

/// The arguments of a process joined by spaces, cut at 256 bytes; empty for a kernel thread or a
/// process that is gone. May wait for the process's memory.
pub fn command_line(process: u32) -> Box<[u8]> {
    let mut command = proc::command_line_may_wait(process);
    while command.last() == Some(&0) {
        command.pop();
    }
    command.truncate(COMMAND_BYTES_MAX);
    for byte in &mut command {
        if *byte < b' ' || *byte == 0x7f {
            *byte = b' ';
        }
    }
    command.into_boxed_slice()
}

/// The process that `number` means to the process `speaker`: the same one, unless the speaker lives
/// in a pid namespace of its own. `None` if there is no such process (any more), or no telling
/// which. Looks at every process in the latter case.
///
/// Which namespace a process is in is told by how many numbers it has and by the namespace's init
/// among its ancestors, for the kernel's own answer waits for a process that executes a program.
pub fn process_named_by(speaker: u32, number: u32) -> Option<u32> {
    let depth = Status::read(speaker)?.numbers("NSpid:").len();
    if depth <= 1 {
        return is_alive(number).then_some(number);
    }
    let is_meant = |&process: &u32| {
        Status::read(process).is_some_and(|status| {
            let numbers = status.numbers("NSpid:");
            numbers.len() == depth && numbers.last() == Some(&number) && status.is_alive()
        })
    };
    let meant: Vec<u32> =
        proc::all_processes().map(|process| process.id).filter(is_meant).collect();
    match meant[..] {
        [only] => Some(only),
        _ => {
            let init = init_of(speaker, depth)?;
            meant.into_iter().find(|&process| init_of(process, depth) == Some(init))
        }
    }
}

/// The init of a process's pid namespace, if the process descends from it.
fn init_of(process: u32, depth: usize) -> Option<u32> {
    with_ancestors(process).find(|&ancestor| {
        Status::read(ancestor).is_some_and(|status| {
            let numbers = status.numbers("NSpid:");
            numbers.len() == depth && numbers.last() == Some(&1)
        })
    })
}

/// Whether a process or thread has not ended.
pub fn is_alive(id: u32) -> bool {
    Status::read(id).is_some_and(|status| status.is_alive())
}

/// What a thread is doing, by the letter of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Runs, or would if there were a processor for it.
    Running,
    /// Waits for what the kernel has promised, such as the lock of a directory.
    Blocked,
    /// Waits for what may never come; or has ended.
    Asleep,
}

pub fn progress(thread: u32) -> Progress {
    let status = Status::read(thread);
    match status.as_ref().and_then(|status| field(&status.0, "State:")?.chars().next()) {
        Some('R') => Progress::Running,
        Some('D') => Progress::Blocked,
        _ => Progress::Asleep,
    }
}

/// The process itself, the one that started it, the one that started that, and so on.
pub fn with_ancestors(process: u32) -> impl Iterator<Item = u32> {
    let parent =
        |&process: &u32| Status::read(process)?.number("PPid:").filter(|&parent| parent != 0);
    std::iter::successors(Some(process), parent)
}

/// Why a blocked thread should be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Nothing asks for it.
    None,
    /// A signal for the whole process is pending: another of its threads may take it.
    Perhaps,
    /// A signal waits for this thread, or the thread is gone.
    Certain,
}

/// Whether a thread that waits for a reply of ours has a signal to take.
pub fn interruption(thread: u32) -> Interruption {
    match Status::read(thread) {
        Some(status) => status.interruption(),
        None => Interruption::Certain,
    }
}

/// Whether a thread is to die of a signal as soon as its system call returns. Signals that are
/// handled do not count, nor those that dump core.
pub fn is_being_killed(thread: u32) -> bool {
    // To kill a process, the kernel makes SIGKILL pending for each of its threads.
    Status::read(thread).is_some_and(|status| status.signals("SigPnd:") & bit(libc::SIGKILL) != 0)
}

/// A signal's place in the masks of `/proc/ID/status`.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// How a process is ending, as far as it is known while it closes its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Lives: it closed the descriptor of its own accord.
    NotEnding,
    /// Exits, with this status.
    Exits(u8),
    /// A signal kills it.
    Killed,
}

/// How the thread's process ends. To be asked while a FLUSH of that thread is unanswered, so that
/// the thread still stands where it stood. Of thread 0, outside our pid namespace, nothing is
/// known.
///
/// A process lets go of its memory before its descriptors when it ends. One that still has memory
/// may be executing a program: nothing more may be asked of it.
pub fn ending(thread: u32) -> Ending {
    if thread == 0 {
        return Ending::NotEnding;
    }
    match Status::read(thread) {
        None => Ending::Killed,
        Some(status) if status.has_memory() => Ending::NotEnding,
        Some(_) => match proc::stat_of_exiting(thread) {
            Some(stat) => parse_ending(&stat).unwrap_or(Ending::NotEnding),
            None => Ending::Killed,
        },
    }
}

fn parse_ending(stat: &str) -> Option<Ending> {
    // The second field is the name in parentheses, which may hold spaces and parentheses.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let flags: u64 = fields.get(6)?.parse().ok()?;
    let code: i32 = fields.get(49)?.parse().ok()?;
    if flags & PF_EXITING == 0 {
        return Some(Ending::NotEnding);
    }
    // `code` is the wait status, where the low seven bits name a signal. It reads 0 where the
    // daemon may not inspect the process; the flags are always true.
    if flags & PF_SIGNALED != 0 || code & 0x7f != 0 {
        return Some(Ending::Killed);
    }
    Some(Ending::Exits((code >> 8) as u8))
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(process: u32) -> std::io::Result<OwnedFd> {
    let process = Pid::from_raw(process as i32).ok_or(Errno::SRCH)?;
    Ok(pidfd_open(process, PidfdFlags::empty())?)
}

/// The value of a `NAME:\tVALUE` line, as in `/proc/PID/status` and `/proc/PID/fdinfo/N`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `/proc/ID/status` of a process or a thread.
struct Status(String);

impl Status {
    fn read(id: u32) -> Option<Status> {
        proc::status(id).map(Status)
    }

    fn number(&self, name: &str) -> Option<u32> {
        field(&self.0, name)?.parse().ok()
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        let numbers = field(&self.0, name).unwrap_or_default().split_ascii_whitespace();
        numbers.filter_map(|number| number.parse().ok()).collect()
    }

    fn signals(&self, name: &str) -> u64 {
        field(&self.0, name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
    }

    fn has_memory(&self) -> bool {
        field(&self.0, "VmSize:").is_some()
    }

    /// Neither a zombie nor dead.
    fn is_alive(&self) -> bool {
        !field(&self.0, "State:").unwrap_or("X").starts_with(['Z', 'X', 'x'])
    }

    fn interruption(&self) -> Interruption {
        if !self.is_alive() {
            return Interruption::Certain;
        }
        let stops =
            bit(libc::SIGSTOP) | bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);
        // A signal that only stops the process leaves the wait alone: Ctrl-Z takes effect when the
        // lock is granted, rather than losing the place in the queue.
        let harmless =
            self.signals("SigBlk:") | self.signals("SigIgn:") | stops & !self.signals("SigCgt:");
        if self.signals("SigPnd:") & !harmless != 0 {
            Interruption::Certain
        } else if self.signals("ShdPnd:") & !harmless == 0 {
            Interruption::None
        } else if self.number("Threads:") == Some(1) {
            Interruption::Certain
        } else {
            Interruption::Perhaps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn status(lines: &str) -> Status {
        Status(format!("Name:\tsleep\nState:\tS (sleeping)\nThreads:\t1\n{lines}"))
    }

    #[test]
    fn this_process_is_known() {
        let me = std::process::id();
        assert_eq!(process_of(me), Some(me));
        assert_eq!(process_named_by(me, me), Some(me));
        assert_eq!(interruption(me), Interruption::None);
        assert_eq!(ending(me), Ending::NotEnding);
        assert!(!command_line(me).is_empty());
        assert_eq!(with_ancestors(me).nth(1), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn an_ended_process_is_not_alive() {
        let mut child = Command::new("true").spawn().expect("true starts");
        let pid = child.id();
        let readable = pidfd(pid).expect("the child is not reaped");
        child.wait().expect("the child ends");
        drop(readable);
        assert_eq!(process_named_by(std::process::id(), pid), None);
        assert_eq!(interruption(pid), Interruption::Certain);
        assert!(pidfd(pid).is_err());
    }

    #[test]
    fn arguments_are_joined_by_spaces() {
        let mut child = Command::new("sleep").arg("30").stdin(Stdio::null()).spawn().unwrap();
        // The kernel lets the parent go on a moment before it has laid out the child's arguments.
        let mut command = command_line(child.id());
        for _ in 0..500 {
            if !command.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            command = command_line(child.id());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(&*command, b"sleep 30");
    }

    #[test]
    fn a_pending_signal_interrupts_unless_blocked_ignored_or_only_a_stop() {
        let pending = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\n";
        let with = |rest: &str| status(&format!("{pending}{rest}")).interruption();
        assert_eq!(with(""), Interruption::Certain);
        assert_eq!(with("SigBlk:\t0000000000000002\n"), Interruption::None);
        assert_eq!(with("SigIgn:\t0000000000000002\n"), Interruption::None);
        let stop = "SigPnd:\t0000000000080000\n";
        assert_eq!(status(stop).interruption(), Interruption::None);
        let caught = format!("{stop}SigCgt:\t0000000000080000\n");
        assert_eq!(status(&caught).interruption(), Interruption::Certain);
    }

    #[test]
    fn the_end_of_a_process_is_read_from_its_stat() {
        let stat = |flags: u64, code: i32| {
            let middle = "0 ".repeat(42);
            parse_ending(&format!("7 (a) b) S 1 7 7 0 -1 {flags} {middle}{code}\n"))
        };
        assert_eq!(stat(0x400000, 0), Some(Ending::NotEnding));
        assert_eq!(stat(0x400004, 3 << 8), Some(Ending::Exits(3)));
        assert_eq!(stat(0x400404, 9), Some(Ending::Killed));
        assert_eq!(stat(0x400004, 2), Some(Ending::Killed));
    }
}
