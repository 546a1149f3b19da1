//! Backups in the tree: the manifest of each snapshot, and the stream that shows the newest.

use super::content::Content;
use super::create::STREAM_NAME;
use super::directory::Directory;
use super::edit::Edit;
use super::inode::Body;
use super::name::check_name;
use super::{Change, Ino, Name, Refusal, Reply, Role};
use std::sync::Arc;

const SNAPSHOTS_NAME: &[u8] = b"snapshots";
/// What recording one may add: the directory, the manifest and the stream.
const INODES_MAX: u64 = 3;

impl Edit<'_> {
    /// Adds `snapshots/NAME` with the manifest and lets `backup` show it, each made if missing. A
    /// `backup` that is no stream (a directory of streams) stays as it is.
    pub fn record_snapshot(
        &mut self,
        host: Ino,
        name: &Name,
        size: u64,
        manifest: &[u8],
    ) -> Result<Reply, Refusal> {
        check_name(name)?;
        let directory = self.living_directory(host)?;
        if !self.is_backup_host(host) || directory.state.role == Role::Lock {
            return Err(Refusal::Invalid);
        }
        let snapshots = directory.entries.find(SNAPSHOTS_NAME).map(|(_, ino)| ino);
        let stream = directory.entries.find(STREAM_NAME).map(|(_, ino)| ino);
        if let Some(snapshots) = snapshots {
            let snapshots = self.living_directory(snapshots)?;
            if snapshots.entries.find(name).is_some() {
                return Err(Refusal::AlreadyExists);
            }
            if snapshots.state.role == Role::Lock {
                return Err(Refusal::NotPermitted);
            }
        }
        self.check_size(0, manifest.len() as u64)?;
        let names = SNAPSHOTS_NAME.len() + STREAM_NAME.len() + name.len();
        self.check_space(INODES_MAX, (names + manifest.len()) as u64)?;

        let snapshots = snapshots.unwrap_or_else(|| {
            let directory = Directory::new(host, Role::Plain, self.zxid(), self.tree.name_key);
            self.add_own(host, SNAPSHOTS_NAME, Body::Directory(Arc::new(directory)), 0o755)
        });
        let mut content = Content::empty();
        content.write(0, manifest);
        self.add_own(snapshots, name, Body::File(content), 0o444);
        let stream = stream.unwrap_or_else(|| {
            self.add_own(host, STREAM_NAME, Body::Stream(Arc::default()), 0o600)
        });
        self.show_snapshot(stream, name, size);
        Ok(Reply::Done)
    }

    fn show_snapshot(&mut self, ino: Ino, name: &Name, size: u64) {
        let (zxid, now) = (self.zxid(), self.now());
        let Some(stream) = self.stream_mut(ino) else { return };
        let length = size.max(stream.size);
        stream.size = size;
        stream.latest = Some(name.clone());
        if let Some(inode) = self.tree.inodes.get_mut(ino) {
            inode.touch_data(zxid, now);
        }
        self.change(Change::Data { ino, offset: 0, length });
        self.change(Change::Attributes { ino });
    }
}
