//! Who believes at this moment that a lock is theirs. Two who conflict must never both believe,
//! even while one of them has lost touch with the cluster: that is what session deadlines are for.

use crate::tree::locks::Span;
use crate::tree::{Ino, LockMode, Zxid};

/// One client's belief.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub host: usize,
    pub client: usize,
    /// The file, or the `lock` directory.
    pub ino: Ino,
    pub span: Span,
    pub mode: LockMode,
    pub token: Zxid,
}

impl Belief {
    fn conflicts(&self, other: &Belief) -> bool {
        self.client != other.client
            && self.ino == other.ino
            && self.span.overlaps(other.span)
            && (self.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
    }
}

#[derive(Default)]
pub(super) struct Beliefs {
    now: Vec<Belief>,
    /// Of processes that stand still: nobody acts on them.
    suspended: Vec<Belief>,
    past: Vec<Belief>,
}

impl Beliefs {
    /// A client begins to believe; answers what is wrong with that.
    pub fn begin(&mut self, belief: Belief) -> Option<String> {
        if let Some(other) = self.now.iter().find(|other| other.conflicts(&belief)) {
            return Some(format!("two hold a lock at once: {belief:?} and {other:?}"));
        }
        let newer = |past: &&Belief| past.conflicts(&belief) && past.token >= belief.token;
        let wrong = self.past.iter().find(newer);
        let wrong = wrong.map(|past| format!("the token of {belief:?} does not pass {past:?}"));
        self.now.push(belief);
        self.past.push(belief);
        wrong
    }

    /// Who has had, by `zxid`, what `belief` was once the sole right to.
    pub fn overtaken(&self, belief: &Belief, zxid: Zxid) -> Option<&Belief> {
        self.past
            .iter()
            .find(|past| past.conflicts(belief) && past.token > belief.token && past.token < zxid)
    }

    pub fn end(&mut self, client: usize) {
        self.drop_where(|belief| belief.client == client);
    }

    /// All of a host end: its session is lost, or it is no more.
    pub fn end_all(&mut self, host: usize) {
        self.drop_where(|belief| belief.host == host);
    }

    fn drop_where(&mut self, ends: impl Fn(&Belief) -> bool) {
        self.now.retain(|belief| !ends(belief));
        self.suspended.retain(|belief| !ends(belief));
    }

    pub fn suspend(&mut self, host: usize) {
        let (still, stay) = self.now.drain(..).partition(|belief| belief.host == host);
        self.suspended.extend::<Vec<_>>(still);
        self.now = stay;
    }

    /// What was not taken back by now counts again; answers what is wrong with that.
    pub fn resume(&mut self, host: usize) -> Option<String> {
        let (back, stay): (Vec<_>, Vec<_>) =
            self.suspended.drain(..).partition(|belief| belief.host == host);
        self.suspended = stay;
        let conflict = back.iter().find_map(|belief| {
            let other = self.now.iter().find(|other| other.conflicts(belief))?;
            Some(format!("{belief:?} comes back beside {other:?}"))
        });
        self.now.extend(back);
        conflict
    }
}
