//! Lots against their transfers: whether all of them agree, and which do not.
//!
//! The first takes as much memory for a hundred million lots as for none ([`Scales`]), but has no
//! names to tell; the second remembers every lot whose transfers and row do not agree so far. Fed side
//! by side, as they were written, those are the lots that are spent or expire later: most of them.
//! Decision 18.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use siphasher::sip::SipHasher13;

use crate::account::{Account, Transfer};
use crate::ids::LotId;
use crate::member::Lot;
use crate::money::{OutOfRange, Points};

/// What a lot holds by its transfers, less what its row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LotSums {
    pub(super) points: Points,
    pub(super) pending: Points,
    pub(super) available: Points,
    pub(super) held: Points,
    pub(super) expired: Points,
}

/// What lots hold by their transfers, less what their rows say.
#[derive(Debug)]
pub(super) enum Lots {
    /// All on one pair of scales.
    Weighed(Scales),
    /// Of each of which it is not all zero.
    Each(HashMap<LotId, LotSums>),
}

impl Lots {
    /// Takes a change of a lot in.
    pub(super) fn change(
        &mut self,
        lot: LotId,
        change: impl FnOnce(&mut LotSums) -> Result<(), OutOfRange>,
    ) -> Result<(), OutOfRange> {
        match self {
            Self::Weighed(scales) => {
                let mut sums = LotSums::default();
                change(&mut sums)?;
                scales.put(lot, &sums);
            }
            Self::Each(lots) => match lots.entry(lot) {
                Entry::Vacant(vacant) => {
                    let mut sums = LotSums::default();
                    change(&mut sums)?;
                    if sums != LotSums::default() {
                        vacant.insert(sums);
                    }
                }
                Entry::Occupied(mut occupied) => {
                    change(occupied.get_mut())?;
                    if *occupied.get() == LotSums::default() {
                        occupied.remove();
                    }
                }
            },
        }
        Ok(())
    }

    /// Whether transfers and row agree of every lot.
    pub(super) fn agree(&self) -> bool {
        match self {
            Self::Weighed(scales) => scales.are_even(),
            Self::Each(lots) => lots.is_empty(),
        }
    }

    /// Those that do not agree, as far as they are known, in the order of id.
    pub(super) fn disputed(&self) -> Vec<LotId> {
        let Self::Each(lots) = self else {
            return Vec::new();
        };
        let mut disputed: Vec<LotId> = lots.keys().copied().collect();
        disputed.sort_unstable();
        disputed
    }

    /// Forgets one, if it does not agree.
    pub(super) fn settle(&mut self, lot: LotId) -> Option<LotSums> {
        match self {
            Self::Weighed(_) => None,
            Self::Each(lots) => lots.remove(&lot),
        }
    }
}

/// The differences of all lots, each times a weight of its lot's own, summed up.
///
/// The weights are 64 bits each, by SipHash with a key that must be random and of this audit alone: to
/// whoever writes to the database they are as good as drawn afterwards. Where every lot agrees the sums
/// are zero. Where one does not, by less than 2^64 points, no more than one of its 2^64 weights makes a
/// sum zero all the same, whatever the others are.
#[derive(Debug)]
pub(super) struct Scales {
    weights: SipHasher13,
    /// Of points, pending, available, held and expired.
    sums: [i128; 5],
}

impl Scales {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self {
            weights: SipHasher13::new_with_key(&key),
            sums: [0; 5],
        }
    }

    fn put(&mut self, lot: LotId, sums: &LotSums) {
        let weight = i128::from(self.weights.hash(lot.uuid().as_bytes()));
        let LotSums {
            points,
            pending,
            available,
            held,
            expired,
        } = *sums;
        for (sum, points) in self
            .sums
            .iter_mut()
            .zip([points, pending, available, held, expired])
        {
            // 64 bits times 63 fit; of the sum the lower 128 bits are enough.
            *sum = sum.wrapping_add(weight.wrapping_mul(points.get().into()));
        }
    }

    fn are_even(&self) -> bool {
        self.sums == [0; 5]
    }
}

impl LotSums {
    /// Takes a row's figures away.
    pub(super) fn less(&mut self, lot: &Lot) -> Result<(), OutOfRange> {
        *self = Self {
            points: self.points.minus(lot.points)?,
            pending: self.pending.minus(lot.pending)?,
            available: self.available.minus(lot.available)?,
            held: self.held.minus(lot.held)?,
            expired: self.expired.minus(lot.expired)?,
        };
        Ok(())
    }

    /// Takes a transfer in.
    pub(super) fn take(&mut self, t: &Transfer) -> Result<(), OutOfRange> {
        let amount = Points::new(t.amount);
        for (account, amount) in [(t.debit, amount.negated()?), (t.credit, amount)] {
            let (sum, amount) = match account {
                Account::Issued(_) => (&mut self.points, amount.negated()?),
                Account::Pending(..) => (&mut self.pending, amount),
                Account::Available(..) => (&mut self.available, amount),
                Account::Held(..) => (&mut self.held, amount),
                Account::Expired(_) => (&mut self.expired, amount),
                _ => continue,
            };
            *sum = sum.plus(amount)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn lot(id: u8) -> LotId {
        LotId::from_uuid(Uuid::from_u128(u128::from(id)))
    }

    /// A change of one figure.
    fn put(lots: &mut Lots, id: u8, field: usize, points: i64) {
        let change = |sums: &mut LotSums| {
            let sum = [
                &mut sums.points,
                &mut sums.pending,
                &mut sums.available,
                &mut sums.held,
                &mut sums.expired,
            ];
            let sum = sum.into_iter().nth(field).unwrap();
            *sum = sum.plus(Points::new(points))?;
            Ok(())
        };
        lots.change(lot(id), change).unwrap();
    }

    fn both() -> [Lots; 2] {
        [
            Lots::Weighed(Scales::new(*b"16 random bytes.")),
            Lots::Each(HashMap::new()),
        ]
    }

    #[test]
    fn what_is_moved_from_lot_to_lot_or_from_figure_to_figure_is_seen() {
        for moved in [[(1, 2, -5), (2, 2, 5)], [(1, 2, -5), (1, 3, 5)]] {
            for mut lots in both() {
                for (id, field, points) in moved {
                    put(&mut lots, id, field, points);
                }
                assert!(!lots.agree(), "{moved:?}");
            }
        }
    }

    #[test]
    fn the_greatest_figures_fit() {
        for (there, back) in [(i64::MAX, -i64::MAX), (i64::MIN + 1, i64::MAX)] {
            let [mut weighed, _] = both();
            for id in 0..=u8::MAX {
                put(&mut weighed, id, 0, there);
            }
            assert!(!weighed.agree());
            for id in 0..=u8::MAX {
                put(&mut weighed, id, 0, back);
            }
            assert!(weighed.agree());
        }
    }

    proptest! {
        #[test]
        fn the_scales_say_what_the_list_says(
            changes in prop::collection::vec((0..4_u8, 0..5_usize, -3..=3_i64), 0..24)
        ) {
            let [mut weighed, mut each] = both();
            for (id, field, points) in changes {
                put(&mut weighed, id, field, points);
                put(&mut each, id, field, points);
            }
            prop_assert_eq!(weighed.agree(), each.agree());
            prop_assert_eq!(each.agree(), each.disputed().is_empty());
        }
    }
}
