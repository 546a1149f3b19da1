//! The network between hosts: it delays, drops, repeats, reorders and parts them.

use super::dice::Dice;
use super::{MICROSECOND, MILLISECOND};
use std::collections::BTreeSet;

/// What becomes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Arrives after each of these delays, in nanoseconds: twice, if the network repeats it.
    Arrives(Vec<u64>),
    Lost,
    /// No connection: the sender notices.
    Refused,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    loss_permille: u64,
    repeat_permille: u64,
    delay_min: u64,
    /// Most messages take less; one in twenty up to ten times as long, so that they overtake.
    delay_usual: u64,
    /// Nothing gets from the first to the second; not always the other way round too.
    parted: BTreeSet<(usize, usize)>,
}

impl Network {
    /// One that loses and repeats nothing.
    pub fn calm() -> Network {
        Network {
            delay_min: 50 * MICROSECOND,
            delay_usual: 500 * MICROSECOND,
            ..Network::default()
        }
    }

    pub fn bad(dice: &mut Dice) -> Network {
        Network {
            loss_permille: [0, 5, 50][dice.roll(3)],
            repeat_permille: [0, 5, 50][dice.roll(3)],
            delay_min: 50 * MICROSECOND,
            delay_usual: [MILLISECOND, 5 * MILLISECOND, 40 * MILLISECOND][dice.roll(3)],
            parted: BTreeSet::new(),
        }
    }

    /// Another weather; what is parted stays so.
    pub fn become_like(&mut self, other: Network) {
        let parted = std::mem::take(&mut self.parted);
        *self = Network { parted, ..other };
    }

    pub fn fate(&self, dice: &mut Dice, from: usize, to: usize) -> Fate {
        if self.parted.contains(&(from, to)) {
            return if dice.chance(300) { Fate::Refused } else { Fate::Lost };
        }
        if dice.chance(self.loss_permille) {
            return Fate::Lost;
        }
        let copies = if dice.chance(self.repeat_permille) { 2 } else { 1 };
        Fate::Arrives((0..copies).map(|_| self.delay(dice)).collect())
    }

    fn delay(&self, dice: &mut Dice) -> u64 {
        let most = if dice.chance(50) { 10 * self.delay_usual } else { self.delay_usual };
        dice.between(self.delay_min, self.delay_min + most)
    }

    /// Parts one random group of hosts from the others, one way or both.
    pub fn part(&mut self, dice: &mut Dice, hosts: usize) {
        let inside: Vec<bool> = (0..hosts).map(|_| dice.chance(500)).collect();
        let one_way = dice.chance(300);
        for from in 0..hosts {
            for to in 0..hosts {
                if inside[from] != inside[to] && !(one_way && inside[to]) {
                    self.parted.insert((from, to));
                }
            }
        }
    }

    /// Cuts one host off from all others.
    pub fn isolate(&mut self, host: usize, hosts: usize) {
        let others = (0..hosts).filter(|other| *other != host);
        self.parted.extend(others.flat_map(|other| [(host, other), (other, host)]));
    }

    pub fn heal(&mut self) {
        self.parted.clear();
    }
}
