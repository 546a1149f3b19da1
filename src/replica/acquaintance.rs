//! Who may speak as a member: the data directory that the address book names. A founder that it
//! does not name yet is known by the first one that was heard, as long as the book says nothing.
//!
//! A disk that was wiped has promised nothing, whatever its replica promised: if it could vote, an
//! acknowledged entry could be lost. So it comes back as another member, or not at all.

use crate::tree::{Incarnation, Member};

/// What a member's incarnation says to one who knows that member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// It is the member.
    Known,
    /// It is, from now on: to be made durable before anything of it is believed.
    First,
    /// Another data directory under the member's name.
    Stranger,
}

impl Meeting {
    /// `known` is what the list has, `said` what the other says of itself.
    pub fn of(known: Incarnation, said: Incarnation) -> Meeting {
        match known {
            _ if said == 0 => Meeting::Stranger,
            0 => Meeting::First,
            _ if known == said => Meeting::Known,
            _ => Meeting::Stranger,
        }
    }
}

/// The address book as it is kept here: what it leaves open stays as it was heard.
pub fn keep_met(book: &mut [Member], kept: &[Member]) {
    for member in book.iter_mut().filter(|member| member.incarnation == 0) {
        if let Some(kept) = kept.iter().find(|kept| kept.id == member.id) {
            member.incarnation = kept.incarnation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ReplicaId;

    #[test]
    fn the_first_heard_is_the_member_until_the_book_says_otherwise() {
        assert_eq!(Meeting::of(0, 7), Meeting::First);
        assert_eq!(Meeting::of(7, 7), Meeting::Known);
        assert_eq!(Meeting::of(7, 8), Meeting::Stranger);
        assert_eq!([0, 7].map(|known| Meeting::of(known, 0)), [Meeting::Stranger; 2]);
    }

    #[test]
    fn the_book_beats_what_was_heard() {
        let book = |incarnations: [Incarnation; 3]| -> Vec<Member> {
            let member = |(index, incarnation)| Member {
                id: ReplicaId(index as u64),
                name: String::new(),
                address: String::new(),
                learner: false,
                incarnation,
            };
            incarnations.into_iter().enumerate().map(member).collect()
        };
        let mut members = book([0, 5, 0]);
        keep_met(&mut members, &book([3, 4, 0]));
        assert_eq!(members, book([3, 5, 0]));
    }
}
