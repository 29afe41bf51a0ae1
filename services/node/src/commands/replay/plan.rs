//! Which rows may be sent under which time of the network's clock.
//!
//! Expiry goes by the network's clock, which a sandbox's operator sets. A journal row has to be
//! decided as at its own time; but setting the clock for each row would send rows one by one. So
//! rows are sent in batches, with the clock at the time of the batch's last row, and every row has
//! a deadline: the time that the clock must not have reached when the row is decided. It is the
//! first expiry of one of the member's own lots after the row, where the row looks at lots, and in
//! any case the age up to which the network takes rows at all.

use std::collections::BTreeSet;
use std::ops::Range;

use coalition_ledger::Timestamp;
use coalition_ledger::time::MICROS_PER_DAY;

use super::journal::{Act, Deed, Journal};

/// How far the clock may run ahead of a row: a day less than a network accepts unless configured.
const AHEAD_MAX_MICROS: i64 = 6 * MICROS_PER_DAY;

/// What to send, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Visits, with the clock at this time.
    Visits {
        clock: Timestamp,
        rows: Range<usize>,
    },
    /// A cut, with the clock at its time and nothing else in hand.
    Cut { row: usize },
}

pub(super) struct Plan {
    pub(super) batches: Vec<Batch>,
    /// Per row, the time that the clock must not have reached when it is decided.
    pub(super) deadlines: Vec<Timestamp>,
}

impl Plan {
    pub(super) fn new(journal: &Journal) -> Self {
        let deadlines = deadlines(journal);
        let mut batches = Vec::new();
        let mut gathering = Gathering::default();
        for (n, row) in journal.rows.iter().enumerate() {
            match row.deed {
                Deed::Cut => {
                    batches.extend(gathering.close());
                    batches.push(Batch::Cut { row: n });
                }
                Deed::Visit(_) => {
                    if gathering.must_precede(row.at) {
                        batches.extend(gathering.close());
                    }
                    gathering.add(n, row.at, deadlines[n]);
                }
            }
        }
        batches.extend(gathering.close());
        Self { batches, deadlines }
    }
}

/// The batch that rows are being put into.
#[derive(Default)]
struct Gathering {
    rows: Option<Range<usize>>,
    clock: Timestamp,
    deadline: Timestamp,
}

impl Gathering {
    /// Whether the clock can only be set to `at` after this batch.
    fn must_precede(&self, at: Timestamp) -> bool {
        self.rows.is_some() && self.deadline <= at
    }

    fn add(&mut self, row: usize, at: Timestamp, deadline: Timestamp) {
        self.deadline = match &self.rows {
            None => deadline,
            Some(_) => self.deadline.min(deadline),
        };
        let start = self.rows.as_ref().map_or(row, |rows| rows.start);
        self.rows = Some(start..row + 1);
        self.clock = at;
    }

    fn close(&mut self) -> Option<Batch> {
        let clock = self.clock;
        self.rows.take().map(|rows| Batch::Visits { clock, rows })
    }
}

fn deadlines(journal: &Journal) -> Vec<Timestamp> {
    let mut lots: Vec<BTreeSet<Timestamp>> = vec![BTreeSet::new(); journal.members.len()];
    let mut deadlines = Vec::with_capacity(journal.rows.len());
    for row in &journal.rows {
        let mut deadline = row.at.saturating_add_micros(AHEAD_MAX_MICROS);
        if let Deed::Visit(visit) = &row.deed {
            let own = &mut lots[visit.member];
            match visit.act {
                // New points first repay debts, which do not expire.
                Act::Earn { .. } => {
                    let days = journal.partners[visit.partner].lot_lifetime_days;
                    own.extend(row.at.checked_add_days(days));
                }
                Act::Redeem { .. } | Act::Return { .. } | Act::ReverseRedeem { .. } => {
                    // What has expired by now stays so.
                    *own = own.split_off(&row.at.saturating_add_micros(1));
                    deadline = own.first().map_or(deadline, |next| deadline.min(*next));
                }
            }
        }
        deadlines.push(deadline);
    }
    deadlines
}

#[cfg(test)]
mod tests {
    use super::super::journal::{PartnerRow, Row, Visit};
    use super::*;
    use crate::client::setup::NewPartner;
    use coalition_proto::partner::{PartnerKind, Terms};

    const DAY: i64 = MICROS_PER_DAY;

    fn journal(rows: &[(i64, usize, &str)]) -> Journal {
        let partner = PartnerRow {
            partner: NewPartner {
                code: "p".to_owned(),
                display_name: "P".to_owned(),
                kind: PartnerKind::Shop,
            },
            currency_code: "USD".to_owned(),
            lot_lifetime_days: 10,
            terms: Terms::default(),
        };
        let rows = rows.iter().zip(1..).map(|(&(at, member, act), seq)| Row {
            seq,
            at: Timestamp::from_micros(at),
            deed: match act {
                "cut" => Deed::Cut,
                act => Deed::Visit(Visit {
                    partner: 0,
                    location: String::new(),
                    member,
                    check_id: seq.to_string(),
                    act: match act {
                        "earn" => Act::Earn { amount_minor: 1 },
                        _ => Act::Redeem { points: 1 },
                    },
                }),
            },
        });
        Journal {
            partners: vec![partner],
            members: vec!["a".to_owned(), "b".to_owned()],
            rows: rows.collect(),
        }
    }

    fn visits(clock: i64, rows: Range<usize>) -> Batch {
        let clock = Timestamp::from_micros(clock);
        Batch::Visits { clock, rows }
    }

    #[test]
    fn a_lot_that_expires_after_a_row_is_still_there_when_the_row_is_decided() {
        let plan = Plan::new(&journal(&[
            (0, 0, "earn"),
            (5 * DAY, 1, "earn"),
            // The lot of member 0 expires at day 10.
            (9 * DAY, 0, "redeem"),
            // That of member 1 does at day 15, which is no matter to member 0.
            (10 * DAY - 1, 1, "redeem"),
            (10 * DAY, 1, "redeem"),
            (11 * DAY, 0, "redeem"),
        ]));
        assert_eq!(
            plan.batches,
            [
                visits(5 * DAY, 0..2),
                visits(10 * DAY - 1, 2..4),
                visits(11 * DAY, 4..6)
            ]
        );
        assert_eq!(plan.deadlines[2], Timestamp::from_micros(10 * DAY));
        assert_eq!(plan.deadlines[3], Timestamp::from_micros(15 * DAY));
        // Nothing of member 0 is left to expire: only the age counts.
        assert_eq!(plan.deadlines[5], Timestamp::from_micros(17 * DAY));
    }

    #[test]
    fn a_cut_stands_alone() {
        let plan = Plan::new(&journal(&[
            (0, 0, "earn"),
            (1, 0, "earn"),
            (1, 0, "cut"),
            (2, 0, "cut"),
            (3, 0, "earn"),
        ]));
        let (first, second) = (Batch::Cut { row: 2 }, Batch::Cut { row: 3 });
        assert_eq!(
            plan.batches,
            [visits(1, 0..2), first, second, visits(3, 4..5)]
        );
    }
}
