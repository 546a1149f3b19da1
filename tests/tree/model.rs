//! A filesystem in the plainest words: for every rule of POSIX that the tree keeps, a line here.

use keepfs::limits::FILE_BYTES_DEFAULT;
use keepfs::tree::{NewNode, Place, Refusal, RenameHow};
use std::collections::BTreeMap;

type Done = Result<(), Refusal>;

pub struct Model {
    /// Everything that has a name, or is still open.
    pub nodes: BTreeMap<u64, Inode>,
    next: u64,
}

pub struct Inode {
    pub what: Node,
    pub mode: u32,
    pub gid: u32,
}

pub enum Node {
    File(Vec<u8>),
    Directory { parent: u64, entries: BTreeMap<String, u64> },
    Other,
}

impl Inode {
    pub fn is_directory(&self) -> bool {
        matches!(self.what, Node::Directory { .. })
    }
}

impl Model {
    pub const ROOT: u64 = 0;

    pub fn new() -> Model {
        let what = Node::Directory { parent: Self::ROOT, entries: BTreeMap::new() };
        let root = Inode { what, mode: 0o755, gid: 0 };
        Model { nodes: BTreeMap::from([(Self::ROOT, root)]), next: 1 }
    }

    pub fn links(&self, number: u64) -> u32 {
        let names = self.nodes.values().flat_map(|node| match &node.what {
            Node::Directory { entries, .. } => entries.values().collect(),
            _ => Vec::new(),
        });
        let names = names.filter(|named| **named == number).count() as u32;
        match &self.nodes[&number].what {
            // What the root has from the start: /lock and /backup.
            Node::Directory { .. } if number == Self::ROOT => 4 + self.subdirectories(number),
            Node::Directory { .. } if names == 0 => 0,
            Node::Directory { .. } => 2 + self.subdirectories(number),
            _ => names,
        }
    }

    fn subdirectories(&self, number: u64) -> u32 {
        let Ok(entries) = self.entries(number) else { return 0 };
        entries.values().filter(|entry| self.nodes[entry].is_directory()).count() as u32
    }

    fn entries(&self, number: u64) -> Result<&BTreeMap<String, u64>, Refusal> {
        match &self.nodes[&number].what {
            Node::Directory { entries, .. } => Ok(entries),
            _ => Err(Refusal::NotADirectory),
        }
    }

    fn entries_mut(&mut self, number: u64) -> &mut BTreeMap<String, u64> {
        match &mut self.nodes.get_mut(&number).expect("the directory is there").what {
            Node::Directory { entries, .. } => entries,
            _ => panic!("looked before"),
        }
    }

    /// A directory that may get a name.
    fn check_target(&self, parent: u64) -> Done {
        self.entries(parent)?;
        if self.links(parent) == 0 { Err(Refusal::NotFound) } else { Ok(()) }
    }

    fn find(&self, parent: u64, name: &str) -> Result<u64, Refusal> {
        self.entries(parent)?.get(name).copied().ok_or(Refusal::NotFound)
    }

    pub fn create(
        &mut self,
        parent: u64,
        name: &str,
        node: &NewNode,
        mode: u32,
        gid: u32,
    ) -> Result<u64, Refusal> {
        check_name(name)?;
        self.check_target(parent)?;
        if self.find(parent, name).is_ok() {
            return Err(Refusal::AlreadyExists);
        }
        let what = match node {
            NewNode::File => Node::File(Vec::new()),
            NewNode::Directory => Node::Directory { parent, entries: BTreeMap::new() },
            _ => Node::Other,
        };
        let inherits = self.nodes[&parent].mode & 0o2000 != 0;
        let gid = if inherits { self.nodes[&parent].gid } else { gid };
        let is_directory = matches!(what, Node::Directory { .. });
        let mode = if inherits && is_directory { mode | 0o2000 } else { mode };
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Inode { what, mode, gid });
        self.entries_mut(parent).insert(name.into(), number);
        Ok(number)
    }

    pub fn link(&mut self, number: u64, parent: u64, name: &str) -> Done {
        check_name(name)?;
        if self.links(number) == 0 {
            return Err(Refusal::NotFound);
        }
        self.check_target(parent)?;
        if self.nodes[&number].is_directory() {
            return Err(Refusal::NotPermitted);
        }
        if self.find(parent, name).is_ok() {
            return Err(Refusal::AlreadyExists);
        }
        self.entries_mut(parent).insert(name.into(), number);
        Ok(())
    }

    pub fn unlink(&mut self, parent: u64, name: &str) -> Done {
        let number = self.find(parent, name)?;
        if self.nodes[&number].is_directory() {
            return Err(Refusal::IsADirectory);
        }
        self.entries_mut(parent).remove(name);
        Ok(())
    }

    pub fn rmdir(&mut self, parent: u64, name: &str) -> Done {
        let number = self.find(parent, name)?;
        if !self.entries(number)?.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.entries_mut(parent).remove(name);
        Ok(())
    }

    pub fn rename(
        &mut self,
        from: u64,
        name: &str,
        to: u64,
        new_name: &str,
        how: RenameHow,
    ) -> Done {
        check_name(name)?;
        check_name(new_name)?;
        self.entries(from)?;
        self.check_target(to)?;
        let moved = self.find(from, name)?;
        let target = self.find(to, new_name).ok();
        self.check_not_within(moved, to)?;
        match (how, target) {
            (RenameHow::Exchange, None) => return Err(Refusal::NotFound),
            (RenameHow::Exchange, Some(target)) => {
                self.check_not_within(target, from)?;
                self.put(from, name, target);
            }
            (RenameHow::NoReplace, Some(_)) => return Err(Refusal::AlreadyExists),
            (_, Some(target)) if target == moved => return Ok(()),
            (_, target) => {
                if let Some(target) = target {
                    self.check_replaced(moved, target)?;
                }
                self.entries_mut(from).remove(name);
            }
        }
        self.put(to, new_name, moved);
        Ok(())
    }

    fn check_not_within(&self, moved: u64, mut directory: u64) -> Done {
        loop {
            if directory == moved && self.nodes[&moved].is_directory() {
                return Err(Refusal::Invalid);
            }
            match self.nodes[&directory].what {
                Node::Directory { parent, .. } if parent != directory => directory = parent,
                _ => return Ok(()),
            }
        }
    }

    fn check_replaced(&self, moved: u64, target: u64) -> Done {
        match (self.nodes[&moved].is_directory(), self.entries(target)) {
            (true, Err(_)) => Err(Refusal::NotADirectory),
            (false, Ok(_)) => Err(Refusal::IsADirectory),
            (true, Ok(entries)) if !entries.is_empty() => Err(Refusal::NotEmpty),
            _ => Ok(()),
        }
    }

    fn put(&mut self, to: u64, name: &str, number: u64) {
        self.entries_mut(to).insert(name.into(), number);
        if let Some(Inode { what: Node::Directory { parent, .. }, .. }) =
            self.nodes.get_mut(&number)
        {
            *parent = to;
        }
    }

    fn data(&mut self, number: u64) -> Result<(&mut Vec<u8>, &mut u32), Refusal> {
        let node = self.nodes.get_mut(&number).expect("the node is there");
        match &mut node.what {
            Node::File(data) => Ok((data, &mut node.mode)),
            Node::Directory { .. } => Err(Refusal::IsADirectory),
            Node::Other => Err(Refusal::Invalid),
        }
    }

    /// Answers with the place.
    pub fn write(
        &mut self,
        number: u64,
        place: Place,
        bytes: &[u8],
        clear_set_id: bool,
    ) -> Result<u64, Refusal> {
        let (data, mode) = self.data(number)?;
        let offset = match place {
            Place::At(offset) | Place::Replace(offset) => offset,
            Place::End => data.len() as u64,
        };
        let end = offset.checked_add(bytes.len() as u64).ok_or(Refusal::FileTooBig)?;
        if end > FILE_BYTES_DEFAULT {
            return Err(Refusal::FileTooBig);
        }
        let replace = matches!(place, Place::Replace(_));
        if replace {
            *data = vec![0; offset as usize];
        } else if bytes.is_empty() {
            return Ok(offset);
        }
        data.resize(data.len().max(end as usize), 0);
        data[offset as usize..end as usize].copy_from_slice(bytes);
        if clear_set_id {
            *mode &= if *mode & 0o10 != 0 { !0o6000 } else { !0o4000 };
        }
        Ok(offset)
    }

    pub fn truncate(&mut self, number: u64, size: u64) -> Done {
        let (data, _) = self.data(number)?;
        if size > FILE_BYTES_DEFAULT {
            return Err(Refusal::FileTooBig);
        }
        data.resize(size as usize, 0);
        Ok(())
    }

    pub fn chmod(&mut self, number: u64, mode: u32) -> Done {
        self.nodes.get_mut(&number).expect("the node is there").mode = mode;
        Ok(())
    }

    /// Nobody has it open: it goes, if it has no name.
    pub fn release(&mut self, number: u64) {
        if number != Self::ROOT && self.links(number) == 0 {
            self.nodes.remove(&number);
        }
    }
}

fn check_name(name: &str) -> Done {
    match name {
        "" | "." | ".." => Err(Refusal::Invalid),
        name if name.len() > 255 => Err(Refusal::NameTooLong),
        _ => Ok(()),
    }
}
