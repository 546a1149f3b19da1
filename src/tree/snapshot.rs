//! A tree as bytes: written as it is walked, never copied whole.
//!
//! ```text
//! "keepfs tree\n"  version:u32le  level:u8
//! frame*           section:u8  length:u32le  crc32(section, length, payload):u32le  payload
//! ```
//!
//! A payload is records of one section, bincode, one after another. Sections come in the order of
//! their numbers: head, sessions, inodes, entries, orphans, who has them open, locks, end. The end
//! holds a hash over the headers before it, in order: what is cut short or spliced is as damaged as
//! a flipped bit; it begins with the level. Bytes are the same for equal trees.
//!
//! A tree of a level is written so that every program of that level reads it; one below does not
//! look into it.

use super::credentials::Tokens;
use super::directory::Entries;
use super::home::Home;
use super::inode::Inode;
use super::locks::LockTable;
use super::name_key::Cookie;
use super::orphan::Orphan;
use super::session::{Session, SessionState};
use super::{
    Ino, Level, Member, NameKey, Newer, Program, ReplicaId, SessionId, Stamp, Tree, TreeLimits,
    Zxid,
};
use crate::cow::CowMap;
use bincode::{Decode, Encode};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: &[u8; 12] = b"keepfs tree\n";
/// Of the frames below; what is in them follows from the level.
const VERSION: u32 = 3;
/// Records are gathered up to here before a frame is written, bytes.
const FRAME_BYTES: usize = 256 << 10;
/// A record that claims to be larger is no record of ours, bytes.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// Numbers on disk; never given to anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Head = 1,
    Session = 2,
    Inode = 3,
    Entry = 4,
    Orphan = 5,
    Open = 6,
    Locks = 7,
    End = 8,
}

#[derive(Encode, Decode)]
struct Head {
    zxid: Zxid,
    stamp: Stamp,
    digest: u64,
    next_ino: u64,
    members: Vec<Member>,
    programs: BTreeMap<ReplicaId, Program>,
    cluster: Option<u128>,
    limits: TreeLimits,
    name_key: NameKey,
    tokens: Tokens,
}

/// One name of a directory. Directories come without their entries, which may be millions.
#[derive(Encode, Decode)]
struct EntryRecord<Bytes> {
    directory: Ino,
    cookie: Cookie,
    name: Bytes,
    ino: Ino,
    owner: Option<SessionId>,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

impl Tree {
    /// Writes the whole state; [`Tree::read_snapshot`] makes an equal tree of it.
    pub fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&[self.level])?;
        let chain = u64::from(self.level);
        let mut frames = Frames { to, section: Section::Head, payload: Vec::new(), chain };
        let head = Head {
            zxid: self.zxid,
            stamp: self.stamp,
            digest: self.digest,
            next_ino: self.next_ino,
            members: self.members.clone(),
            programs: self.programs.clone(),
            cluster: self.cluster,
            limits: self.limits,
            name_key: self.name_key,
            tokens: self.tokens.clone(),
        };
        frames.record(Section::Head, &head)?;
        for (session, of) in self.sessions.iter() {
            frames.record(Section::Session, &(session, &of.state, false))?;
        }
        for (session, of) in self.ended.iter() {
            frames.record(Section::Session, &(session, &of.state, true))?;
        }
        for (ino, inode) in self.inodes.iter() {
            frames.record(Section::Inode, &(ino, inode))?;
        }
        for (ino, inode) in self.inodes.iter() {
            write_entries(&mut frames, ino, inode)?;
        }
        for (ino, _) in self.orphans.iter() {
            frames.record(Section::Orphan, &(ino, self.doomed.contains(ino)))?;
        }
        for (open, ()) in self.open.iter() {
            frames.record(Section::Open, &open)?;
        }
        frames.record(Section::Locks, &self.locks)?;
        frames.flush()?;
        let chain = frames.chain;
        frames.record(Section::End, &chain)?;
        frames.flush()
    }

    /// Reads what [`Tree::write_snapshot`] wrote. `InvalidData` if it is damaged, `Unsupported` if
    /// it is of another format, or of a level that a program which `can` do so much does not know.
    pub fn read_snapshot(from: &mut dyn Read, can: Level) -> io::Result<Tree> {
        let mut magic = [0; MAGIC.len()];
        let (mut version, mut level) = ([0; 4], [0]);
        from.read_exact(&mut magic).map_err(cut_short)?;
        from.read_exact(&mut version).map_err(cut_short)?;
        from.read_exact(&mut level).map_err(cut_short)?;
        if magic != *MAGIC {
            return Err(damaged("it is no snapshot of a keepfs tree"));
        }
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(unsupported(format!(
                "written in format {version}, and this program reads {VERSION}: install the keepfs that \
                 wrote it"
            )));
        }
        let [level] = level;
        Newer::check(level, can).map_err(unsupported)?;
        let mut tree = Tree { level, ..Tree::blank() };
        let (mut payload, mut chain) = (Vec::new(), u64::from(level));
        loop {
            let (section, header) = read_frame(from, &mut payload)?;
            if section == Section::End {
                let written: u64 = only_record(&payload)?;
                return if written == chain { Ok(tree) } else { Err(damaged("parts are missing")) };
            }
            tree.read_records(section, &payload)?;
            chain = xxh3_64_with_seed(&header, chain);
        }
    }

    fn read_records(&mut self, section: Section, payload: &[u8]) -> io::Result<()> {
        match section {
            Section::Head => {
                let head: Head = only_record(payload)?;
                self.zxid = head.zxid;
                self.stamp = head.stamp;
                self.digest = head.digest;
                self.next_ino = head.next_ino;
                self.members = head.members;
                self.programs = head.programs;
                self.cluster = head.cluster;
                self.limits = head.limits;
                self.name_key = head.name_key;
                self.tokens = head.tokens;
                Ok(())
            }
            Section::Session => {
                records(payload, |(session, state, over): (SessionId, SessionState, bool)| {
                    let restored = Arc::new(Session { state, ephemerals: CowMap::new() });
                    let sessions = if over { &mut self.ended } else { &mut self.sessions };
                    sessions.insert(session, restored);
                    Ok(())
                })
            }
            Section::Inode => records(payload, |(ino, mut inode): (Ino, Inode)| {
                if let Some(directory) = inode.directory_mut() {
                    directory.entries = Entries::new(self.name_key);
                }
                self.bytes += inode.stored();
                self.inodes.insert(ino, inode);
                Ok(())
            }),
            Section::Entry => records(payload, |entry| self.read_entry(entry)),
            Section::Orphan => records(payload, |(ino, doomed): (Ino, bool)| {
                self.orphans.insert(ino, Orphan::default());
                if doomed {
                    self.doomed.insert(ino, ());
                }
                Ok(())
            }),
            Section::Open => records(payload, |open: (SessionId, Ino)| {
                let orphan = self.orphans.get_mut(open.1);
                orphan.ok_or_else(|| damaged("what is open is no orphan"))?.open_in += 1;
                self.open.insert(open, ());
                Ok(())
            }),
            Section::Locks => {
                self.locks = only_record::<LockTable>(payload)?;
                self.hide_tickets();
                Ok(())
            }
            Section::End => Ok(()),
        }
    }

    fn read_entry(&mut self, entry: EntryRecord<Box<[u8]>>) -> io::Result<()> {
        let directory = self.directory_mut(entry.directory);
        let directory = directory.ok_or_else(|| damaged("an entry is in no directory"))?;
        directory.entries.put(entry.cookie, &entry.name, entry.ino);
        if let Some(owner) = entry.owner {
            directory.owners.insert(entry.cookie, owner);
            if let Some(session) = self.owner_mut(owner) {
                session.ephemerals.insert((entry.directory, entry.cookie), ());
            }
        }
        self.bytes += entry.name.len() as u64;
        self.settle_in(entry.ino, Home::of(entry.directory, entry.cookie));
        Ok(())
    }
}

fn write_entries(frames: &mut Frames<'_>, ino: Ino, inode: &Inode) -> io::Result<()> {
    let Some(directory) = inode.directory() else { return Ok(()) };
    for (cookie, entry) in directory.entries.after(0) {
        let record = EntryRecord {
            directory: ino,
            cookie,
            name: entry.name.as_bytes(),
            ino: entry.ino,
            owner: directory.owners.get(cookie).copied(),
        };
        frames.record(Section::Entry, &record)?;
    }
    Ok(())
}

struct Frames<'t> {
    to: &'t mut dyn Write,
    section: Section,
    payload: Vec<u8>,
    /// Over the headers written.
    chain: u64,
}

impl Frames<'_> {
    fn record(&mut self, section: Section, record: &impl Encode) -> io::Result<()> {
        if section != self.section || self.payload.len() >= FRAME_BYTES {
            self.flush()?;
            self.section = section;
        }
        bincode::encode_into_std_write(record, &mut self.payload, config())
            .map(|_| ())
            .map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.payload.len()).map_err(io::Error::other)?;
        let header = header(self.section as u8, length, &self.payload);
        self.to.write_all(&header)?;
        self.to.write_all(&self.payload)?;
        self.payload.clear();
        self.chain = xxh3_64_with_seed(&header, self.chain);
        Ok(())
    }
}

const HEADER_BYTES: usize = 9;

fn header(section: u8, length: u32, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = section;
    header[1..5].copy_from_slice(&length.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..5]);
    crc.update(payload);
    header[5..].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// Reads a frame's payload; allocates as bytes arrive, not as a damaged length claims.
fn read_frame(
    from: &mut dyn Read,
    payload: &mut Vec<u8>,
) -> io::Result<(Section, [u8; HEADER_BYTES])> {
    let mut read = [0; HEADER_BYTES];
    from.read_exact(&mut read).map_err(cut_short)?;
    let length = u32::from_le_bytes([read[1], read[2], read[3], read[4]]);
    payload.clear();
    from.take(u64::from(length)).read_to_end(payload)?;
    if payload.len() as u64 != u64::from(length) || read != header(read[0], length, payload) {
        return Err(damaged("a checksum is wrong"));
    }
    let section = match read[0] {
        1 => Section::Head,
        2 => Section::Session,
        3 => Section::Inode,
        4 => Section::Entry,
        5 => Section::Orphan,
        6 => Section::Open,
        7 => Section::Locks,
        8 => Section::End,
        other => return Err(damaged(format!("it has a part of unknown kind {other}"))),
    };
    Ok((section, read))
}

fn records<R: Decode<()>>(
    mut payload: &[u8],
    mut each: impl FnMut(R) -> io::Result<()>,
) -> io::Result<()> {
    while !payload.is_empty() {
        let (record, used) = bincode::decode_from_slice(payload, config())
            .map_err(|error| damaged(error.to_string()))?;
        each(record)?;
        payload = &payload[used..];
    }
    Ok(())
}

fn only_record<R: Decode<()>>(payload: &[u8]) -> io::Result<R> {
    let mut only = None;
    records(payload, |record| {
        only = Some(record);
        Ok(())
    })?;
    only.ok_or_else(|| damaged("a part is empty"))
}

fn damaged(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

fn unsupported(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, problem)
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
        _ => error,
    }
}
