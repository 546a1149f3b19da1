//! What the operations measured are called.

pub const STAT: &str = "stat, cached";
pub const READDIR: &str = "readdir, 100 entries";
pub const OPEN: &str = "open+read+close, cached";
pub const OVERWRITE: &str = "overwrite 100 B";
pub const APPEND: &str = "append 100 B";
pub const CREATE: &str = "create";
pub const RENAME: &str = "rename";
pub const UNLINK: &str = "unlink";
pub const WRITERS: &str = "64 writers, 64 files";
