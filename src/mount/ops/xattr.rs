//! Extended attributes: `user.*` is stored, `user.keepfs.*` is made up here, and nothing else
//! exists.

use crate::mount::{Caller, Mount, control, errno};
use crate::tree::{Attributes, Command, Ino, Kind, Role, Tree, XattrHow};
use fuser::{Errno, ReplyEmpty, ReplyXattr};
use std::sync::Arc;

/// Read-only but for the role, and not listed: a copy (`cp -a`, `rsync -X`) cannot take them along.
const VIRTUAL: &[u8] = b"user.keepfs.";
const ROLE: &[u8] = b"user.keepfs.role";

impl Mount {
    pub fn setxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        if let Err(errno) = check_writable(ino, name) {
            return reply.error(errno);
        }
        let how = match flags {
            0 => XattrHow::Set,
            libc::XATTR_CREATE => XattrHow::Create,
            libc::XATTR_REPLACE => XattrHow::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let session = self.cluster.session();
        if self.is_unprotected(caller, ino, None, session) {
            return reply.error(Errno::EIO);
        }
        let command = Command::SetXattr { ino, name: name.into(), value: value.into(), how };
        self.submit_for(session, command, reply);
    }

    pub fn removexattr(self: &Arc<Self>, caller: Caller, ino: Ino, name: &[u8], reply: ReplyEmpty) {
        if let Err(errno) = check_writable(ino, name) {
            return reply.error(errno);
        }
        let session = self.cluster.session();
        if self.is_unprotected(caller, ino, None, session) {
            return reply.error(Errno::EIO);
        }
        self.submit_for(session, Command::RemoveXattr { ino, name: name.into() }, reply);
    }

    pub fn getxattr(&self, ino: Ino, name: &[u8], size: u32, reply: ReplyXattr) {
        answer(self.xattr_value(ino, name), size, reply);
    }

    pub fn listxattr(&self, ino: Ino, size: u32, reply: ReplyXattr) {
        if control::is_control(ino) {
            return answer(Ok(Vec::new()), size, reply);
        }
        let tree = self.cluster.tree();
        let names = tree.xattrs(ino).map_err(errno::of_refusal);
        let role = tree.attributes(ino).map_or(Role::Plain, |attributes| attributes.role);
        drop(tree);
        let list = names.map(|names| {
            let mut list = Vec::new();
            let special = (role != Role::Plain).then_some(ROLE);
            for name in names.iter().map(|name| &name[..]).chain(special) {
                list.extend_from_slice(name);
                list.push(0);
            }
            list
        });
        answer(list, size, reply);
    }

    fn xattr_value(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if !name.starts_with(b"user.") {
            // The kernel asks for capabilities of its own accord and takes "none" for an answer.
            let capability = name == b"security.capability";
            return Err(if capability { Errno::ENODATA } else { Errno::ENOTSUP });
        }
        if control::is_control(ino) {
            return Err(Errno::ENODATA);
        }
        let tree = self.cluster.tree();
        let Some(virtual_name) = name.strip_prefix(VIRTUAL) else {
            return tree.xattr(ino, name).map_err(errno::of_refusal);
        };
        let attributes = tree.attributes(ino).ok_or(Errno::ESTALE)?;
        let value = match virtual_name {
            b"created" => self.handles.created_name(ino).or_else(|| tree.last_created(ino)),
            _ => virtual_value(&tree, &attributes, virtual_name)
                .map(|value| value.into_bytes().into()),
        };
        value.map(Vec::from).ok_or(Errno::ENODATA)
    }
}

/// The value of `user.keepfs.NAME`; `None` where it has no meaning.
fn virtual_value(tree: &Tree, of: &Attributes, name: &[u8]) -> Option<String> {
    let directory = of.kind == Kind::Directory;
    Some(match name {
        b"zxid" => tree.zxid().to_string(),
        b"czxid" => of.czxid.to_string(),
        b"mzxid" => of.mzxid.to_string(),
        b"pzxid" if directory => of.pzxid.to_string(),
        b"version" => of.version.to_string(),
        b"cversion" if directory => of.cversion.to_string(),
        b"aversion" => of.aversion.to_string(),
        b"owner" => of.owner.to_string(),
        b"role" if directory => of.role.name().to_owned(),
        b"sequence" => tree.ticket(of.ino)?.sequence.to_string(),
        b"token" => match tree.ticket(of.ino) {
            Some(ticket) => ticket.token?.to_string(),
            None => tree.lock_holder(of.ino)?.token?.to_string(),
        },
        b"holder" => holder(tree, of.ino)?,
        _ => return None,
    })
}

/// Who holds the lock: in a `lock` directory the ticket's name, on a file `HOST:PID`.
fn holder(tree: &Tree, ino: Ino) -> Option<String> {
    let lock = tree.lock_holder(ino)?;
    if let Some((name, _)) = lock.ticket {
        return Some(String::from_utf8_lossy(&name).into_owned());
    }
    let host = tree.session(lock.session)?.host;
    Some(format!("{}:{}", String::from_utf8_lossy(&host), lock.pid))
}

fn check_writable(ino: Ino, name: &[u8]) -> Result<(), Errno> {
    if !name.starts_with(b"user.") {
        return Err(Errno::ENOTSUP);
    }
    if control::is_control(ino) || (name.starts_with(VIRTUAL) && name != ROLE) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// The kernel asks twice: with no room for the length, then for the bytes.
fn answer(value: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match value {
        Err(errno) => reply.error(errno),
        Ok(value) if room == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}
