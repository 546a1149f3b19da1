//! The Raft log: raft-engine with one group, behind [`Disk`].

use super::log_files::{FaultInjector, LogFiles};
use super::{Disk, LogState, LogWrite, private, torn};
use crate::error::Error;
use crate::panics::contained;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, HardState};
use raft_engine::{
    Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode, Version,
};
use std::io;
use std::path::{Path, PathBuf};

/// The one Raft group.
const GROUP: u64 = 1;
const HARD_STATE: &[u8] = b"hard_state";
const BASE: &[u8] = b"base";
/// Small enough that compaction soon frees whole files, large enough that a switch of files (a
/// truncation and two syncs) is rare.
const FILE_BYTES: u64 = 8 << 20;
/// Files are freed or recycled once the log takes more than this.
const PURGE_BYTES: u64 = 64 << 20;

/// The log in `DIR/log`.
pub struct RaftLog {
    engine: Engine<LogFiles>,
    files: LogFiles,
    path: PathBuf,
    written: Mutex<Written>,
}

/// What has been written, kept so that a restart of the log can write it again.
#[derive(Clone, Default)]
struct Written {
    hard_state: HardState,
    base: u64,
}

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// raft-engine makes this file by itself, as wide as the umask lets it.
fn make_lock_private(directory: &Path) -> Result<(), Error> {
    let path = directory.join("LOCK");
    private::narrow_file(&path).map_err(Error::file("narrow the mode of", &path))
}

impl RaftLog {
    /// Recovers the log. A torn tail is cut off; any other damage is [`Error::Damaged`].
    pub fn open(directory: &Path) -> Result<RaftLog, Error> {
        RaftLog::open_with_faults(directory, None)
    }

    /// [`RaftLog::open`] on a disk that fails when `faults` says so.
    pub fn open_with_faults(
        directory: &Path,
        faults: Option<FaultInjector>,
    ) -> Result<RaftLog, Error> {
        let files = LogFiles::new(faults);
        let damaged = |problem: String| Error::Damaged { path: directory.to_path_buf(), problem };
        if directory.exists() {
            torn::check_lengths(directory).map_err(|error| damaged(error.to_string()))?;
        }
        // The engine panics where a log is damaged or a sync failed.
        let opened =
            contained(|| Engine::open_with_file_system(config(directory), files.clone().into()));
        let engine = opened.map_err(&damaged)?.map_err(|error| damaged(engine_text(error)))?;
        make_lock_private(directory)?;
        files.recovered();
        files.check().map_err(|error| damaged(error.to_string()))?;
        let hard_state = engine
            .get_message::<HardState>(GROUP, HARD_STATE)
            .map_err(|error| damaged(engine_text(error)))?
            .unwrap_or_default();
        let base = match engine.get(GROUP, BASE) {
            None => 0,
            Some(bytes) => u64::from_le_bytes(
                bytes.try_into().map_err(|_| damaged("`base` is not 8 bytes".into()))?,
            ),
        };
        let written = Mutex::new(Written { hard_state, base });
        Ok(RaftLog { engine, files, path: directory.to_path_buf(), written })
    }

    fn fill(&self, batch: &mut LogBatch, write: &LogWrite, now: &mut Written) -> io::Result<()> {
        if let Some(index) = write.restart_after {
            batch.add_command(GROUP, Command::Clean);
            now.base = index;
        }
        batch.add_entries::<Entries>(GROUP, &write.entries).map_err(|e| self.error(e))?;
        if let Some(index) = write.compact_to {
            batch.add_command(GROUP, Command::Compact { index });
            now.base = now.base.max(index.saturating_sub(1));
        }
        if let Some(hard_state) = &write.hard_state {
            now.hard_state = hard_state.clone();
        }
        let restarted = write.restart_after.is_some();
        if restarted || write.hard_state.is_some() {
            batch
                .put_message(GROUP, HARD_STATE.to_vec(), &now.hard_state)
                .map_err(|e| self.error(e))?;
        }
        if restarted || write.compact_to.is_some() {
            batch
                .put(GROUP, BASE.to_vec(), now.base.to_le_bytes().to_vec())
                .map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    /// Runs one call of the engine; after it, the files say whether it can be believed.
    fn run<T>(&self, call: impl FnOnce() -> raft_engine::Result<T>) -> io::Result<T> {
        self.files.check()?;
        let result = contained(call);
        self.files.check()?;
        match result {
            Ok(result) => result.map_err(|error| self.error(error)),
            Err(panic) => Err(self.error_text(panic)),
        }
    }

    fn error(&self, error: raft_engine::Error) -> io::Error {
        self.error_text(engine_text(error))
    }

    fn error_text(&self, text: String) -> io::Error {
        io::Error::other(format!("log in {}: {text}", self.path.display()))
    }
}

impl Disk for RaftLog {
    fn write(&self, writes: &[LogWrite]) -> io::Result<()> {
        let mut written = self.written.lock();
        let mut now = written.clone();
        let mut batch = LogBatch::default();
        for write in writes {
            self.fill(&mut batch, write, &mut now)?;
        }
        self.run(|| self.engine.write(&mut batch, true))?;
        *written = now;
        Ok(())
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.run(|| {
            self.engine.fetch_entries_to::<Entries>(GROUP, low, high, Some(max), &mut entries)
        })?;
        Ok(entries)
    }

    fn state(&self) -> LogState {
        let written = self.written.lock().clone();
        let span = self.engine.first_index(GROUP).zip(self.engine.last_index(GROUP));
        LogState { hard_state: written.hard_state, base: written.base, span }
    }

    fn purge(&self) -> io::Result<()> {
        self.run(|| self.engine.purge_expired_files()).map(drop)
    }

    fn bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }
}

fn config(directory: &Path) -> Config {
    Config {
        dir: directory.to_string_lossy().into_owned(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        // One thread reads the files in order; the log is bounded to a few of them.
        recovery_threads: 1,
        // Entries are small and written once; compressing them costs more than it saves.
        batch_compression_threshold: ReadableSize(0),
        format_version: Version::V2,
        target_file_size: ReadableSize(FILE_BYTES),
        purge_threshold: ReadableSize(PURGE_BYTES),
        enable_log_recycle: true,
        // `LogFiles` fills with zeros as it goes, so a start need not.
        prefill_for_recycle: false,
        ..Config::default()
    }
}

fn engine_text(error: raft_engine::Error) -> String {
    match error {
        raft_engine::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
