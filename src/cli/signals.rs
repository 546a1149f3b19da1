//! Being asked to stop: Ctrl-C and SIGTERM become messages.

use crate::error::Error;
use crossbeam_channel::{Receiver, bounded};
use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::Command;

/// From now on SIGINT, SIGTERM and SIGHUP do not end the process; each is a message here.
pub fn stop_requests() -> Result<Receiver<i32>, Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Error::Other(format!("cannot listen for signals: {error}")))?;
    let (tell, told) = bounded(4);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                // A full queue means that enough requests are waiting.
                let _ = tell.try_send(signal);
            }
        })
        .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
    Ok(told)
}

/// A child that gets SIGTERM when the thread that starts it ends, however it ends.
pub fn ends_with_parent(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    let parent = Some(getpid());
    let arrange = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        let gone = getppid() != parent;
        // The parent may have ended between fork and prctl.
        if gone { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
    };
    // SAFETY: `arrange` runs between fork and exec; it makes two system calls, allocates nothing
    // and takes no lock.
    unsafe { command.pre_exec(arrange) }
}

/// Sends `signal` to a process we started; one that has ended is no error.
pub fn send(pid: u32, signal: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid as i32), Signal::from_named_raw(signal)) {
        let _ = kill_process(pid, signal);
    }
}
