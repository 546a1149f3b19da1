//! A panic is a mistake of this program's: what its thread owned is in no known state, and others
//! may wait for it for ever. So it ends the process, at once and with its reason, and whoever
//! started it starts it again. Its mount is left dead (ENOTCONN): nobody writes into the directory
//! below.
//!
//! Excepted are calls into crates that panic where they should return an error, because of what a
//! disk holds: [`contained`]. Threads that such crates start have no name, and a panic of one comes
//! back to the caller, now or when it waits for the thread. All threads of this program have a
//! name; `tests/tidy/` sees to it.

use log::error;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// `EX_SOFTWARE` of sysexits.h: an internal mistake.
pub const EXIT_CODE: i32 = 70;
/// For the last words to be said, seconds: whoever reads them may have stopped.
const LAST_WORDS_SECS: libc::c_uint = 2;

static ENDS_THE_PROCESS: AtomicBool = AtomicBool::new(false);
/// Contained calls on their way.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static HOOK: Once = Once::new();

thread_local! {
    /// How many contained calls this thread is in.
    static CONTAINED: Cell<usize> = const { Cell::new(0) };
}

/// From now on a panic of any thread is logged in a line (with a backtrace if `RUST_BACKTRACE` asks
/// for one) and ends the process with [`EXIT_CODE`]. Nothing is unwound or cleaned up.
pub fn end_the_process() {
    ENDS_THE_PROCESS.store(true, Ordering::Release);
    hook();
}

/// Runs a call into a crate whose panics are errors, and tells the first words of one.
pub fn contained<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    hook();
    CALLS.fetch_add(1, Ordering::AcqRel);
    CONTAINED.set(CONTAINED.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(CONTAINED.get() - 1);
    CALLS.fetch_sub(1, Ordering::AcqRel);
    result.map_err(|panic| text(&*panic).to_owned())
}

/// What a panic said.
pub fn text(panic: &(dyn Any + Send)) -> &str {
    let string = panic.downcast_ref::<String>().map(String::as_str);
    string.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Puts the hook before the one that is there, which speaks for the panics of everyone else.
fn hook() {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let foreign = thread::current().name().is_none();
            if CONTAINED.get() > 0 || (foreign && CALLS.load(Ordering::Acquire) > 0) {
                log::debug!("contained: {}", describe(info));
            } else if !ENDS_THE_PROCESS.load(Ordering::Acquire) {
                before(info);
            } else if foreign {
                log::warn!("contained, after its call: {}", describe(info));
            } else {
                end(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo) -> String {
    let place = info.location().map_or_else(|| "?".to_owned(), ToString::to_string);
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    format!("thread {name} panicked at {place}: {}", text(info.payload()))
}

fn end(info: &PanicHookInfo) -> ! {
    // SAFETY: the process ends by SIGALRM then, which has no handler here.
    unsafe { libc::alarm(LAST_WORDS_SECS) };
    error!("{}; this process ends", describe(info));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!("{backtrace}");
    }
    // SAFETY: ends the process; no destructor runs, so that none waits for another thread.
    unsafe { libc::_exit(EXIT_CODE) }
}
