//! The tree against a model that is slow and obvious: maps of names, vectors of bytes, links
//! counted by looking. Generated file operations must be answered alike and leave the same files.
//! Each failure names its seed.

#[path = "support/dice.rs"]
mod dice;
#[path = "tree/model.rs"]
mod model;

use dice::Dice;
use keepfs::tree::*;
use model::{Model, Node};
use std::collections::BTreeMap;

const SEEDS: u64 = 100;
const STEPS: u64 = 300;

/// The tree under test, with the model's numbers for its inodes.
struct Pair {
    tree: Tree,
    model: Model,
    /// By the model's number.
    inos: BTreeMap<u64, Ino>,
    session: SessionId,
    sequence: u64,
}

impl Pair {
    fn new() -> Pair {
        let inos = BTreeMap::from([(Model::ROOT, Ino::ROOT)]);
        let mut pair = Pair {
            tree: Tree::new(),
            model: Model::new(),
            inos,
            session: SessionId::NONE,
            sequence: 0,
        };
        let command = Command::OpenSession {
            host: name("host"),
            client: name(""),
            replica: ReplicaId(1),
            nonce: 1,
            timeout_ms: 1,
        };
        assert_eq!(pair.apply(command), Ok(Reply::Session { session: SessionId(1) }));
        pair.session = SessionId(1);
        pair
    }

    fn apply(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.sequence += u64::from(self.session != SessionId::NONE);
        let (session, sequence) = (self.session, self.sequence);
        let proposal = Proposal { session, sequence, acknowledged: sequence, command };
        let zxid = self.tree.zxid() + 1;
        self.tree.apply(zxid, zxid * 1000, &proposal).reply
    }

    /// One operation on both; panics where they differ.
    fn step(&mut self, dice: &mut Dice) {
        let numbers: Vec<u64> = self.model.nodes.keys().copied().collect();
        let (any, other) = (*dice.pick(&numbers), *dice.pick(&numbers));
        let (to, from) = (self.directory(dice, &numbers), self.directory(dice, &numbers));
        let (first, second) = (some_name(dice), some_name(dice));
        match dice.roll(14) {
            0..3 => self.create(dice, to, &first),
            3 => {
                let expected = self.model.link(any, to, &first);
                let (ino, parent) = (self.inos[&any], self.inos[&to]);
                self.expect(Command::Link { ino, parent, name: name(&first) }, expected);
            }
            4 => {
                let expected = self.model.unlink(to, &first);
                self.expect(
                    Command::Unlink { parent: self.inos[&to], name: name(&first) },
                    expected,
                );
            }
            5 => {
                let expected = self.model.rmdir(to, &first);
                let parent = self.inos[&to];
                self.expect(Command::RemoveDirectory { parent, name: name(&first) }, expected);
            }
            6..9 => {
                let hows = [RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange];
                let how = *dice.pick(&hows);
                let expected = self.model.rename(from, &first, to, &second, how);
                let (from, to) = (self.inos[&from], self.inos[&to]);
                let (name, new_name) = (name(&first), name(&second));
                self.expect(Command::Rename { from, name, to, new_name, how }, expected);
            }
            9..11 => self.write(dice, any),
            11 => {
                let size = some_offset(dice);
                let expected = self.model.truncate(any, size);
                let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
                self.expect(Command::SetAttributes { ino: self.inos[&any], set }, expected);
            }
            12 => {
                let mode = dice.roll(0o10000) as u32;
                let expected = self.model.chmod(any, mode);
                let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
                self.expect(Command::SetAttributes { ino: self.inos[&any], set }, expected);
            }
            _ => {
                self.model.release(other);
                let inodes = vec![self.inos[&other]];
                self.expect(Command::Release { inodes }, Ok(()));
            }
        }
    }

    /// Mostly a directory.
    fn directory(&self, dice: &mut Dice, numbers: &[u64]) -> u64 {
        let is_directory = |number: &&u64| self.model.nodes[number].is_directory();
        let directories: Vec<u64> = numbers.iter().filter(is_directory).copied().collect();
        let anything = dice.roll(20) == 0;
        *dice.pick(if anything { numbers } else { &directories })
    }

    fn create(&mut self, dice: &mut Dice, parent: u64, called: &str) {
        let target = called.as_bytes().into();
        let nodes = [NewNode::File, NewNode::Directory, NewNode::Fifo, NewNode::Symlink { target }];
        let node = dice.pick(&nodes).clone();
        let (mode, gid) = (dice.roll(0o10000) as u32, dice.roll(3) as u32);
        let expected = self.model.create(parent, called, &node, mode, gid);
        let create = Create {
            parent: self.inos[&parent],
            name: name(called),
            node,
            mode,
            uid: 7,
            gid,
            ticket: None,
            wait: true,
        };
        let got = self.apply(Command::Create(create));
        match (got, expected) {
            (Ok(Reply::Created { ino, name: None }), Ok(number)) => {
                assert_eq!(self.inos.insert(number, ino), None);
            }
            (got, expected) => assert_eq!(got.err(), expected.err(), "create {called}"),
        }
    }

    fn write(&mut self, dice: &mut Dice, number: u64) {
        let data = vec![dice.roll(255) as u8 + 1; dice.roll(6000) as usize];
        let offset = some_offset(dice);
        let places = [Place::At(offset), Place::End, Place::Replace(offset)];
        let (place, clear_set_id) = (*dice.pick(&places), dice.roll(2) == 0);
        let expected = self.model.write(number, place, &data, clear_set_id);
        let ino = self.inos[&number];
        let write = Write { ino, place, data: data.into(), clear_set_id };
        let written = self.apply(Command::Write(write)).map(|reply| match reply {
            Reply::Written { offset, .. } => offset,
            other => panic!("a write was answered with {other:?}"),
        });
        assert_eq!(written, expected);
    }

    fn expect(&mut self, command: Command, expected: Result<(), Refusal>) {
        let got = self.apply(command.clone());
        assert_eq!(got.map(|_| ()), expected, "{command:?}");
    }

    /// Everything a user can see is alike.
    fn compare(&self) {
        self.tree.check().expect("the tree is sound");
        for (number, node) in &self.model.nodes {
            let ino = self.inos[number];
            let it = self.tree.attributes(ino).expect("the inode is there");
            assert_eq!((it.mode, it.gid), (node.mode, node.gid), "of {ino}");
            assert_eq!(it.links, self.model.links(*number), "links of {ino}");
            match &node.what {
                Node::Directory { parent, entries } => {
                    let listed: BTreeMap<Vec<u8>, Ino> = self.list(ino);
                    let same = entries
                        .iter()
                        .map(|(name, number)| (name.clone().into_bytes(), self.inos[number]));
                    assert_eq!(listed, same.collect(), "entries of {ino}");
                    assert_eq!(self.tree.parent(ino), Some(self.inos[parent]));
                }
                Node::File(data) => {
                    assert_eq!(it.size, data.len() as u64);
                    assert!(
                        self.tree.read(ino, 0, usize::MAX).as_ref() == Ok(data),
                        "data of {ino}"
                    );
                }
                Node::Other => {}
            }
        }
        let built_in = 7;
        assert_eq!(self.tree.usage().inodes as usize, self.model.nodes.len() + built_in);
    }

    /// A listing taken three entries at a time.
    fn list(&self, ino: Ino) -> BTreeMap<Vec<u8>, Ino> {
        let (mut listed, mut cookie) = (BTreeMap::new(), 0);
        loop {
            let mut left = 3;
            self.tree
                .list(ino, cookie, &mut |entry| {
                    cookie = entry.cookie;
                    left -= 1;
                    if !entry.ino.is_built_in() {
                        let again = listed.insert(entry.name.to_vec(), entry.ino);
                        assert_eq!(again, None, "an entry is listed once");
                    }
                    left > 0
                })
                .expect("a directory can be listed");
            if left > 0 {
                return listed;
            }
        }
    }
}

fn name(name: &str) -> Name {
    name.as_bytes().into()
}

fn some_name(dice: &mut Dice) -> String {
    match dice.roll(40) {
        0 => "a name that is too long for the place where short ones are kept".into(),
        1 => ".".into(),
        2 => "x".repeat(256),
        letter => char::from(b'a' + (letter % 8) as u8).into(),
    }
}

fn some_offset(dice: &mut Dice) -> u64 {
    match dice.roll(10) {
        0 => (1 << 20) - dice.roll(3000),
        1 => 65_000 + dice.roll(1000),
        2 => u64::MAX - dice.roll(3000),
        _ => dice.roll(5000),
    }
}

#[test]
fn files_are_what_the_model_says() {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let (mut pair, mut dice) = (Pair::new(), Dice(seed));
            for step in 0..STEPS {
                pair.step(&mut dice);
                if step % 20 == 19 {
                    pair.compare();
                }
            }
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
