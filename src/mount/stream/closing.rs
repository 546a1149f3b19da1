//! What a closed descriptor means for a backup stream.
//!
//! A pipe only knows that it was closed. Here the closing process stands still until it is
//! answered, so it can be looked at: whether it is ending, and how, and whether anybody else can
//! still write.

use super::holders::{OpenFile, is_held};
use super::writer::Writer;
use crate::mount::processes::{self, Ending};

/// What a close comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Others may still write: nothing to do.
    HeldByOthers,
    /// It was the last one, and all is well.
    Finish,
    /// Its writer died, or failed before it closed the stream.
    Abort(String),
}

/// Judges the close of `stream` by `thread`, which must not have been answered yet (0: unknown).
/// Not for a thread that serves requests.
pub fn judge(writer: &Writer, stream: OpenFile<'_>, thread: u32) -> Verdict {
    let process = processes::process_of(thread);
    let ending = processes::ending(thread);
    let involved = process.is_some_and(|process| writer.involves(process));
    decide(ending, involved, || is_held(stream, &writer.suspects(process)))
}

fn decide(ending: Ending, involved: bool, is_held: impl Fn() -> bool) -> Verdict {
    match ending {
        // A helper that never wrote may be killed; whoever wrote, or ran the writers, may not.
        Ending::Killed if involved => Verdict::Abort("its writer was killed".into()),
        _ if is_held() => Verdict::HeldByOthers,
        Ending::Killed => Verdict::Abort("its last process was killed".into()),
        Ending::Exits(status) if status != 0 => {
            Verdict::Abort(format!("its writer exited with status {status} without closing it"))
        }
        Ending::Exits(_) | Ending::NotEnding => Verdict::Finish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_close_ends_the_stream_by_how_its_process_fares() {
        let alone = |ending| decide(ending, false, || false);
        assert_eq!(alone(Ending::NotEnding), Verdict::Finish);
        assert_eq!(alone(Ending::Exits(0)), Verdict::Finish);
        assert!(matches!(alone(Ending::Exits(3)), Verdict::Abort(_)));
        assert!(matches!(alone(Ending::Killed), Verdict::Abort(_)));
    }

    #[test]
    fn while_others_hold_it_only_a_killed_writer_ends_it() {
        let shared = |ending, involved| decide(ending, involved, || true);
        assert_eq!(shared(Ending::Exits(3), true), Verdict::HeldByOthers);
        assert_eq!(shared(Ending::Killed, false), Verdict::HeldByOthers);
        assert!(matches!(shared(Ending::Killed, true), Verdict::Abort(_)));
    }
}
