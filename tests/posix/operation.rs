//! What may be asked of a filesystem.

use super::support::dice::Dice;

/// How many files can be open at once.
pub const SLOTS: u64 = 5;

/// Paths are relative to the world's root.
#[derive(Debug)]
pub enum Operation {
    Open { slot: usize, path: String, flags: i32, mode: u32 },
    Close { slot: usize },
    Read { slot: usize, offset: u64, length: usize },
    Write { slot: usize, offset: u64, data: Vec<u8> },
    Append { slot: usize, data: Vec<u8> },
    SetLength { slot: usize, length: u64 },
    Allocate { slot: usize, mode: i32, offset: i64, length: i64 },
    SeekEnd { slot: usize },
    StatOpen { slot: usize },
    Truncate { path: String, length: u64 },
    Stat { path: String },
    List { path: String },
    MakeDirectory { path: String, mode: u32 },
    MakeFifo { path: String },
    RemoveDirectory { path: String },
    Remove { path: String },
    Rename { from: String, to: String, flags: u32 },
    Link { from: String, to: String },
    Symlink { target: String, path: String },
    ReadLink { path: String },
    ChangeMode { path: String, mode: u32 },
    ChangeOwner { path: String, uid: u32, gid: u32 },
    SetTimes { path: String, access: (i64, i64), modification: (i64, i64) },
    SetXattr { path: String, name: String, value: Vec<u8>, flags: i32 },
    Xattr { path: String, name: String },
    Xattrs { path: String },
    RemoveXattr { path: String, name: String },
}

fn path(dice: &mut Dice) -> String {
    let depth = *dice.pick(&[1, 1, 1, 1, 2, 2, 2, 2, 2, 3]);
    let names: Vec<&str> = (0..depth).map(|_| *dice.pick(&["a", "b", "c"])).collect();
    names.join("/")
}

fn slot(dice: &mut Dice) -> usize {
    dice.roll(SLOTS) as usize
}

/// Mostly within a page or two.
fn offset(dice: &mut Dice) -> u64 {
    let most = *dice.pick(&[10, 100, 5000, 20_000]);
    dice.roll(most)
}

fn data(dice: &mut Dice) -> Vec<u8> {
    let length = offset(dice);
    (0..length).map(|_| dice.roll(256) as u8).collect()
}

fn mode(dice: &mut Dice) -> u32 {
    *dice.pick(&[0o644, 0o600, 0o755, 0o000, 0o777, 0o4755, 0o2755, 0o6711, 0o1777])
}

fn flags(dice: &mut Dice) -> i32 {
    let access = *dice.pick(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
    let extra = [
        libc::O_CREAT,
        libc::O_CREAT,
        libc::O_CREAT | libc::O_EXCL,
        libc::O_CREAT | libc::O_TRUNC,
        libc::O_TRUNC,
        libc::O_APPEND,
        libc::O_CREAT | libc::O_APPEND,
        libc::O_NOFOLLOW,
        0,
    ];
    access | *dice.pick(&extra)
}

fn time(dice: &mut Dice) -> (i64, i64) {
    let seconds = [0, 1, 1_000_000_000, 2_000_000_000, -1, -1000];
    let nanoseconds = [0, 1, 500_000_000, 999_999_999, libc::UTIME_OMIT];
    (*dice.pick(&seconds), *dice.pick(&nanoseconds))
}

fn xattr_name(dice: &mut Dice) -> String {
    dice.pick(&["user.a", "user.b", "user.a.b"]).to_string()
}

impl Operation {
    pub fn choose(dice: &mut Dice) -> Operation {
        match dice.roll(10) {
            0..=4 => Operation::of_files(dice),
            5..=7 => Operation::of_names(dice),
            _ => Operation::of_metadata(dice),
        }
    }

    fn of_files(dice: &mut Dice) -> Operation {
        let slot = slot(dice);
        match dice.roll(16) {
            14.. | 0..=3 => {
                Operation::Open { slot, path: path(dice), flags: flags(dice), mode: mode(dice) }
            }
            4 => Operation::Close { slot },
            5 | 6 => {
                Operation::Read { slot, offset: offset(dice), length: 1 + offset(dice) as usize }
            }
            7 | 8 => Operation::Write { slot, offset: offset(dice), data: data(dice) },
            9 => Operation::Append { slot, data: data(dice) },
            10 => Operation::SetLength { slot, length: offset(dice) },
            11 => Operation::Allocate {
                slot,
                mode: *dice.pick(&[
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_ZERO_RANGE,
                    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
                ]),
                offset: offset(dice) as i64,
                length: offset(dice) as i64,
            },
            12 => Operation::SeekEnd { slot },
            13 => Operation::StatOpen { slot },
        }
    }

    fn of_names(dice: &mut Dice) -> Operation {
        match dice.roll(14) {
            0 | 1 | 12 => Operation::MakeDirectory { path: path(dice), mode: mode(dice) },
            2 => Operation::RemoveDirectory { path: path(dice) },
            3 => Operation::Remove { path: path(dice) },
            4..=6 => Operation::Rename {
                from: path(dice),
                to: path(dice),
                flags: *dice.pick(&[0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]),
            },
            7 => Operation::Link { from: path(dice), to: path(dice) },
            8 if dice.roll(2) == 0 => {
                let target = dice.pick(&["a", "b", "../a", "c/a", "nowhere", "./b/../c"]);
                Operation::Symlink { target: target.to_string(), path: path(dice) }
            }
            9 => Operation::MakeFifo { path: path(dice) },
            10 => Operation::ReadLink { path: path(dice) },
            _ => Operation::List { path: path(dice) },
        }
    }

    fn of_metadata(dice: &mut Dice) -> Operation {
        let path = path(dice);
        match dice.roll(10) {
            0 | 1 => Operation::Stat { path },
            2 => Operation::ChangeMode { path, mode: mode(dice) },
            3 => {
                let (uid, gid) = (dice.roll(3) as u32, dice.roll(3) as u32);
                Operation::ChangeOwner { path, uid, gid }
            }
            4 => Operation::SetTimes { path, access: time(dice), modification: time(dice) },
            5 => Operation::Truncate { path, length: offset(dice) },
            6 => {
                let flags = *dice.pick(&[0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
                let value = vec![7; dice.roll(50) as usize];
                Operation::SetXattr { path, name: xattr_name(dice), value, flags }
            }
            7 => Operation::Xattr { path, name: xattr_name(dice) },
            8 => Operation::Xattrs { path },
            _ => Operation::RemoveXattr { path, name: xattr_name(dice) },
        }
    }
}
