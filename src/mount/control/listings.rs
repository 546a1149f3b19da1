//! Listings of everything: what may be long and walks the tree. A thread makes them from a frozen
//! tree, so that neither the tree nor a request of the kernel waits for one.
//!
//! All who ask while it works are answered together, from one tree frozen after they asked: however
//! many read at once, at most one text for each of them who sees another one is made at a time.

use super::{ControlFile, text};
use crate::cluster::Cluster;
use crate::mailbox::{Mailbox, Taken};
use crate::tree::{SessionId, Stamp, Tree};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the texts that one user keeps open may take together, bytes; more are refused. Root's are
/// not counted.
const TEXTS_BYTES_MAX: usize = 64 << 20;
/// After a long text the thread rests for as long as it took, but not longer: readers in a loop
/// take half of a core at most.
const REST_MAX: Duration = Duration::from_secs(1);
/// What is made so quickly needs no rest.
const QUICK: Duration = Duration::from_millis(5);

/// A text, shared by all who were told it.
pub type Text = Arc<Vec<u8>>;

/// Told on the thread of the listings, or at once if that has ended: `None`: the reader keeps too
/// many texts open, or nobody makes them any more.
pub type Then = Box<dyn FnOnce(Option<Text>) + Send>;

/// Made by a thread of its own, which ends when this is closed or dropped.
pub struct Listings(Arc<Mailbox<Asked>>);

struct Asked {
    file: ControlFile,
    uid: u32,
    then: Then,
}

impl Listings {
    /// Fails if threads are used up.
    pub fn start(cluster: Arc<dyn Cluster>) -> io::Result<Listings> {
        let asked = Arc::<Mailbox<Asked>>::default();
        let mailbox = Arc::clone(&asked);
        thread::Builder::new()
            .name("mount-listings".into())
            .spawn(move || run(&*cluster, &mailbox))?;
        Ok(Listings(asked))
    }

    /// Asks for a file that [`ControlFile::is_listing`], as the user `uid` may see it.
    pub fn ask(&self, file: ControlFile, uid: u32, then: Then) {
        if let Err(asked) = self.0.send(Asked { file, uid, then }) {
            (asked.then)(None);
        }
    }

    /// Nobody is told anything after this but that there is nothing.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Drop for Listings {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(cluster: &dyn Cluster, mailbox: &Mailbox<Asked>) {
    let mut asked = Vec::new();
    let mut kept = Kept::default();
    while mailbox.take(&mut asked, None) == Taken::Items {
        let started = Instant::now();
        answer_all(cluster, &mut kept, asked.drain(..));
        let took = started.elapsed();
        if took > QUICK {
            thread::sleep(took.min(REST_MAX));
        }
    }
}

fn answer_all(cluster: &dyn Cluster, kept: &mut Kept, asked: impl Iterator<Item = Asked>) {
    // Frozen in one step, read without a lock, and let go of here.
    let (tree, own) = (cluster.frozen(), cluster.session());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mut texts: BTreeMap<(ControlFile, u32), Option<Text>> = BTreeMap::new();
    for Asked { file, uid, then } in asked {
        let text = texts.entry((file, uid)).or_insert_with(|| {
            kept.has_room(uid).then(|| {
                let text = Text::new(render(file, &tree, own, now, uid).into_bytes());
                kept.add(uid, &text);
                text
            })
        });
        then(text.clone());
    }
}

fn render(file: ControlFile, tree: &Tree, own: Option<SessionId>, now: Stamp, uid: u32) -> String {
    match file {
        ControlFile::Sessions => text::sessions(&tree.sessions(), own, now),
        _ => text::locks(&described(tree), now, uid),
    }
}

fn described(tree: &Tree) -> Vec<text::Lock> {
    let mut paths = BTreeMap::new();
    let described = tree.locks().into_iter().map(|view| text::Lock {
        path: Arc::clone(
            paths.entry(view.ino).or_insert_with(|| tree.path(view.ino).unwrap_or_default().into()),
        ),
        host: tree.host_of(view.session).cloned().unwrap_or_default(),
        view,
    });
    described.collect()
}

/// The texts that are open, by who reads them.
#[derive(Default)]
struct Kept(BTreeMap<u32, Vec<Open>>);

/// Its bytes, while somebody has it open.
type Open = (usize, Weak<Vec<u8>>);

impl Kept {
    fn has_room(&mut self, uid: u32) -> bool {
        let Some(texts) = self.0.get_mut(&uid) else { return true };
        texts.retain(|(_, text)| text.strong_count() > 0);
        texts.iter().map(|(bytes, _)| bytes).sum::<usize>() < TEXTS_BYTES_MAX
    }

    fn add(&mut self, uid: u32, text: &Text) {
        if uid != 0 {
            self.0.entry(uid).or_default().push((text.capacity(), Arc::downgrade(text)));
        }
        self.0.retain(|_, texts| texts.iter().any(|(_, text)| text.strong_count() > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_so_much_open_and_no_more() {
        let mut kept = Kept::default();
        let text = || Text::new(vec![0; TEXTS_BYTES_MAX / 2]);
        let (first, second) = (text(), text());
        kept.add(1000, &first);
        assert!(kept.has_room(1000));
        kept.add(1000, &second);
        assert!(!kept.has_room(1000));
        assert!(kept.has_room(1001) && kept.has_room(0), "others read on");
        drop(first);
        assert!(kept.has_room(1000), "what is closed no longer counts");
        (0..4).for_each(|_| kept.add(0, &second));
        assert!(kept.has_room(0), "root is not counted");
    }
}
