//! What a closed descriptor means for a backup stream.
//!
//! A pipe only knows that it was closed. Here the closing process stands still until it is
//! answered, so it can be looked at: whether it is ending, and how, and whether anybody else can
//! still write.

use super::writer::Writer;
use crate::mount::processes::{self, Ending};
use crate::tree::Ino;

/// The last part of every stream's path.
const STREAM_NAME: &str = "backup";

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

/// Judges the close by `thread`, which must not have been answered yet (0: unknown).
pub fn judge(writer: &Writer, ino: Ino, thread: u32) -> Verdict {
    let process = processes::process_of(thread);
    let ending = processes::ending(thread);
    let involved = process.is_some_and(|process| writer.involves(process));
    decide(ending, involved, || is_held(process, ino, STREAM_NAME))
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

/// Whether any process has the stream open for writing. The descriptor being closed has left its
/// process's table already. The shell that started the writers is the likeliest holder.
fn is_held(process: Option<u32>, ino: Ino, name: &str) -> bool {
    let likeliest = process.into_iter().flat_map(processes::with_ancestors);
    likeliest
        .chain(processes::all_processes())
        .filter(|&process| process != std::process::id())
        .any(|process| processes::writes_to(process, ino.0, name))
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

    #[test]
    fn a_descriptor_of_this_very_test_is_a_holder_of_a_child() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("backup")).unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        let mut child = std::process::Command::new("sleep").arg("60").stdout(file).spawn().unwrap();
        let held = (is_held(None, ino, "backup"), is_held(None, ino, "other"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(held, (true, false));
        assert!(!is_held(None, ino, "backup"));
    }
}
