//! What clients do because they hold a lock: they write to the file they have locked, in the
//! session in which they have it.

use super::super::MILLISECOND;
use super::super::scene::Scene;
use super::locking::Wish;
use super::{Ask, Doing, Workload, write};
use crate::replica::{Answer, Failure};
use crate::tree::{Place, Zxid};

impl Workload {
    /// The hosts on which somebody holds the sole right to write to a file.
    pub fn guarding_hosts(&self) -> Vec<usize> {
        let guards = |doing: &Doing| match doing {
            Doing::Holding { wish, .. } => wish.guards().is_some(),
            _ => false,
        };
        let holders = self.clients.iter().filter(|client| guards(&client.doing));
        holders.map(|client| client.host).collect()
    }

    /// The turn of a lock's holder: writes, or has held it for long enough.
    pub(super) fn hold_on(
        &mut self,
        client: usize,
        wish: Wish,
        token: Zxid,
        scene: &mut Scene<'_>,
    ) {
        match wish.guards() {
            Some(ino) if scene.dice.chance(600) => {
                self.serial += 1;
                let bytes = format!("guarded{client}.{}", self.serial).into_bytes();
                scene.checker.guarded(wish.belief(client, token, scene), bytes.clone());
                let command = write(ino, Place::Replace(0), &bytes);
                self.ask(client, Ask::Guarded { wish, token }, command, scene);
            }
            _ => self.give_back(client, wish, scene),
        }
    }

    /// The session is still the one of the lock.
    pub(super) fn guarded_answered(
        &mut self,
        client: usize,
        wish: Wish,
        token: Zxid,
        answer: Answer,
        scene: &mut Scene<'_>,
    ) {
        match answer {
            Ok(_) => self.guarded += 1,
            Err(Failure::Refused(_)) => {}
            Err(failure) => scene.failed(format!("client {client} writes: {failure:?}")),
        }
        self.clients[client].doing = Doing::Holding { wish, token };
        let pause = scene.dice.between(MILLISECOND / 10, 20 * MILLISECOND);
        self.wake(client, pause, scene);
    }
}
