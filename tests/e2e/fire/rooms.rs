//! Limits, where several processes move one party's headroom at the same time.
//!
//! Which of two calls that were under way together was decided first is then not to be seen from
//! outside, and a decline may rest on a headroom that another process was just about to raise. What is
//! certain: calls that were answered before one was sent, and those of earlier instants of the network's
//! clock, count for it; of those under way at the same time, any may. So each call knows the least and
//! the most headroom that it can have met. A posting is wrong if even the most was too little; a
//! decline is wrong if even the least was enough.

use coalition_ledger::Timestamp;
use coalition_ledger::ids::Party;

use super::calls::Shot;

/// What one decision did to, and wanted of, one party's headroom, in micro-units.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) party: Party,
    pub(crate) posted_at: Timestamp,
    pub(crate) sent_us: u64,
    pub(crate) answered_us: u64,
    /// By how much the headroom went up or, below zero, down.
    pub(crate) effect: i128,
    /// How much headroom it needed; none for what is not limited.
    pub(crate) asked: Option<i128>,
    /// Whether it was told that there was too little, by this party among all that it asked.
    pub(crate) declined: bool,
    /// Which decision it is: one that asks several parties is wrongly declined only if all of them
    /// had enough.
    pub(crate) decision: usize,
}

impl Move {
    pub(crate) fn of(shot: &Shot, party: Party, posted_at: Timestamp, decision: usize) -> Self {
        Self {
            party,
            posted_at,
            sent_us: shot.sent_us,
            answered_us: shot.answered_us,
            effect: 0,
            asked: None,
            declined: false,
            decision,
        }
    }

    /// Whether this one was decided before `other` in every order.
    fn surely_before(&self, other: &Self) -> bool {
        self.posted_at < other.posted_at
            || (self.posted_at == other.posted_at && self.answered_us <= other.sent_us)
    }

    /// Whether there is an order in which it was decided before `other`.
    fn perhaps_before(&self, other: &Self) -> bool {
        self.decision != other.decision && !other.surely_before(self)
    }
}

/// How many decisions were held against what they can have met, and how many of them were declines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) posted: usize,
    pub(crate) declined: usize,
}

/// Holds all decisions against the headroom that they can have met; `start` is what there was before
/// any of them.
pub(crate) fn check(moves: &[Move], start: impl Fn(Party) -> i128) -> Held {
    let mut held = Held::default();
    let mut enough_for: Vec<usize> = Vec::new();
    let mut short_for: Vec<usize> = Vec::new();
    for one in moves {
        let Some(asked) = one.asked else { continue };
        let (mut least, mut most) = (start(one.party), start(one.party));
        let others = moves.iter().filter(|other| other.party == one.party);
        for other in others.filter(|other| other.perhaps_before(one)) {
            if other.surely_before(one) {
                least += other.effect;
                most += other.effect;
            } else {
                least += other.effect.min(0);
                most += other.effect.max(0);
            }
        }
        if !one.declined {
            assert!(asked <= most, "posted with {most} at most: {one:?}");
            held.posted += 1;
        } else if asked <= least {
            enough_for.push(one.decision);
        } else {
            short_for.push(one.decision);
            held.declined += 1;
        }
    }
    let wrong = enough_for
        .iter()
        .find(|decision| !short_for.contains(decision));
    assert!(
        wrong.is_none(),
        "declined with enough headroom in every order: {:?}",
        moves
            .iter()
            .filter(|one| Some(&one.decision) == wrong)
            .collect::<Vec<_>>()
    );
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(decision: usize, span: (u64, u64), effect: i128, asked: Option<i128>) -> Move {
        Move {
            party: Party::Operator,
            posted_at: Timestamp::from_micros(0),
            sent_us: span.0,
            answered_us: span.1,
            effect,
            asked,
            declined: effect == 0,
            decision,
        }
    }

    fn fails(moves: &[Move]) -> bool {
        std::panic::catch_unwind(|| check(moves, |_| 10)).is_err()
    }

    #[test]
    fn only_what_no_order_explains_is_wrong() {
        let all = moved(0, (0, 5), -10, Some(10));
        let deposit = |span| moved(1, span, 10, None);
        // Posted though the headroom was used up; fine where funds may have come first.
        let second = |span| moved(2, span, -1, Some(1));
        assert!(fails(&[all.clone(), second((6, 9))]));
        assert!(!fails(&[all.clone(), deposit((7, 12)), second((6, 9))]));
        assert!(
            !fails(&[all.clone(), second((4, 9))]),
            "which was first is not known"
        );
        // Declined though there was enough; fine where somebody else may have used it first.
        let declined = |span| moved(3, span, 0, Some(1));
        assert!(fails(&[declined((0, 5))]));
        assert!(!fails(&[all.clone(), declined((4, 9))]));
        assert!(fails(&[all.clone(), deposit((5, 6)), declined((7, 9))]));
        assert!(!fails(&[all, deposit((5, 8)), declined((7, 9))]));
    }
}
