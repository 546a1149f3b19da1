//! Mode, owner, times, size and xattrs; and the role of a directory, which is set as an xattr.

use super::content::Content;
use super::edit::Edit;
use super::inode::{Body, Inode, Rare};
use super::{Change, Ino, Name, Refusal, Reply, Role, SetAttributes, XattrHow};
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX};

/// Xattrs that users may keep start so.
const USER_PREFIX: &[u8] = b"user.";
/// But these are the tree's own.
const OWN_PREFIX: &[u8] = b"user.keepfs.";
/// The one of them that can be set.
const ROLE_XATTR: &[u8] = b"user.keepfs.role";

impl Edit<'_> {
    pub fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Reply, Refusal> {
        let inode = self.inode(ino)?;
        let resized = match (set.size, &inode.body) {
            (Some(size), Body::File(content)) => {
                self.check_size(0, size)?;
                let growth = Content::growth_to(size).saturating_sub(content.stored());
                self.check_space(0, growth)?;
                Some((content.size(), size))
            }
            (Some(_), Body::Directory(_)) => return Err(Refusal::IsADirectory),
            (Some(_), Body::Stream(_)) | (None, _) => None,
            (Some(_), _) => return Err(Refusal::Invalid),
        };
        let (zxid, stamp, now) = (self.zxid(), self.stamp(), self.now());
        self.change_stored(ino, |inode| {
            if let (Some((_, size)), Body::File(content)) = (resized, &mut inode.body) {
                content.resize(size);
                inode.touch_data(zxid, now);
            }
            set_owner_and_mode(inode, set);
            if let Some(atime) = set.atime {
                inode.atime = atime.resolve(stamp);
            }
            if let Some(mtime) = set.mtime {
                inode.mtime = mtime.resolve(stamp);
            }
            inode.ctime = now;
        });
        if let Some((old, new)) = resized
            && old != new
        {
            let offset = old.min(new);
            self.change(Change::Data { ino, offset, length: old.max(new) - offset });
        }
        self.change(Change::Attributes { ino });
        Ok(Reply::Done)
    }

    pub fn set_xattr(
        &mut self,
        ino: Ino,
        name: &Name,
        value: &[u8],
        how: XattrHow,
    ) -> Result<Reply, Refusal> {
        if **name == *ROLE_XATTR {
            return self.set_role(ino, value);
        }
        let inode = self.xattr_holder(ino, name)?;
        if name.len() > XATTR_NAME_BYTES_MAX || value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Refusal::XattrTooBig);
        }
        let rare = inode.rare.as_deref();
        let old = rare.and_then(|rare| rare.xattrs.get(name));
        match how {
            XattrHow::Create if old.is_some() => return Err(Refusal::AlreadyExists),
            XattrHow::Replace if old.is_none() => return Err(Refusal::NoXattr),
            _ => {}
        }
        let before = old.map_or(0, |old| name.len() + old.len()) as u64;
        let after = (name.len() + value.len()) as u64;
        let all = rare.map_or(0, Rare::xattr_bytes);
        if all + after - before > XATTRS_BYTES_MAX as u64 {
            return Err(Refusal::XattrTooBig);
        }
        self.check_space(0, after.saturating_sub(before))?;
        self.change_stored(ino, |inode| {
            inode.rare_mut(|rare| rare.xattrs.insert(name.clone(), value.into()))
        });
        self.touch_meaning(ino);
        Ok(Reply::Done)
    }

    pub fn remove_xattr(&mut self, ino: Ino, name: &Name) -> Result<Reply, Refusal> {
        if **name == *ROLE_XATTR {
            return self.set_role(ino, b"plain");
        }
        let rare = self.xattr_holder(ino, name)?.rare.as_deref();
        if !rare.is_some_and(|rare| rare.xattrs.contains_key(name)) {
            return Err(Refusal::NoXattr);
        }
        self.change_stored(ino, |inode| inode.rare_mut(|rare| rare.xattrs.remove(name)));
        self.touch_meaning(ino);
        Ok(Reply::Done)
    }

    /// Files and directories keep xattrs of users; nothing keeps others.
    fn xattr_holder(&self, ino: Ino, name: &[u8]) -> Result<&Inode, Refusal> {
        let inode = self.inode(ino)?;
        let holds = matches!(inode.body, Body::File(_) | Body::Directory(_) | Body::Stream(_));
        let is_users = name.starts_with(USER_PREFIX) && name.len() > USER_PREFIX.len();
        if !holds || !is_users || name.starts_with(OWN_PREFIX) || name.contains(&0) {
            return Err(Refusal::NotPermitted);
        }
        Ok(inode)
    }

    fn set_role(&mut self, ino: Ino, role: &[u8]) -> Result<Reply, Refusal> {
        let role = Role::named(role).ok_or(Refusal::Invalid)?;
        let directory = self.living_directory(ino)?;
        let old = directory.state.role;
        if ino.is_built_in() {
            return Err(Refusal::NotPermitted);
        }
        if old == role {
            return Ok(Reply::Done);
        }
        if (old == Role::Lock || role == Role::Lock) && !directory.entries.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        if let Some(directory) = self.tree.directory_mut(ino) {
            directory.state.role = role;
        }
        self.touch_meaning(ino);
        Ok(Reply::Done)
    }

    /// Xattrs or the role changed.
    fn touch_meaning(&mut self, ino: Ino) {
        let now = self.now();
        if let Some(inode) = self.tree.inodes.get_mut(ino) {
            inode.aversion = inode.aversion.saturating_add(1);
            inode.ctime = now;
        }
        self.change(Change::Attributes { ino });
    }
}

fn set_owner_and_mode(inode: &mut Inode, set: &SetAttributes) {
    let chowned = set.uid.is_some() || set.gid.is_some();
    if set.clear_set_id && !inode.is_directory() && (chowned || set.size.is_some()) {
        inode.clear_set_id();
    }
    inode.uid = set.uid.unwrap_or(inode.uid);
    inode.gid = set.gid.unwrap_or(inode.gid);
    if let Some(mode) = set.mode {
        inode.set_mode(mode);
    }
    if chowned || set.mode.is_some() {
        inode.aversion = inode.aversion.saturating_add(1);
    }
}
