//! Names, amounts and instants, and the way from a decision to what the test wants of it.

use std::str::FromStr;

use coalition_ledger::agreement::{Leg, ReturnPolicy, Terms};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{MemberId, PartnerId};
use coalition_ledger::money::{Currency, Micros, Minor};
use coalition_ledger::time::{MICROS_PER_DAY, Timestamp};
use coalition_ledger::transaction::{Decline, Transaction};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Microseconds in a day.
pub(crate) const DAY: i64 = MICROS_PER_DAY;
/// Microseconds in an hour.
pub(crate) const HOUR: i64 = DAY / 24;
/// Microseconds in a minute.
pub(crate) const MINUTE: i64 = HOUR / 60;
/// When every network of the tests starts: 2027-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_micros(20_819 * MICROS_PER_DAY);

pub(crate) fn partner(number: u8) -> PartnerId {
    PartnerId::from_uuid(Uuid::from_u128(0x0a00 + u128::from(number)))
}

pub(crate) fn member(number: u8) -> MemberId {
    MemberId::from_uuid(Uuid::from_u128(0x0b00 + u128::from(number)))
}

pub(crate) fn dec(text: &str) -> Decimal {
    Decimal::from_str_exact(text).expect("a decimal")
}

/// The instant `micros` after the start.
pub(crate) fn after(micros: i64) -> Timestamp {
    START.saturating_add_micros(micros)
}

/// Midnight UTC of a `YYYY-MM-DD`.
pub(crate) fn instant(date: &str) -> Timestamp {
    let part = |range| i64::from_str(&date[range]).expect("digits");
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    // Days from civil: years that begin in March, in eras of 400.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468;
    Timestamp::from_micros(days * MICROS_PER_DAY)
}

/// Money in minor units, given in euros: `"12.30"`.
pub(crate) fn euros(text: &str) -> Minor {
    Micros::from_major(dec(text))
        .and_then(|micros| micros.to_minor(Currency::EUR))
        .expect("euros")
}

/// Terms in euros with these legs: one point per euro, at once, for a year, without a limit.
pub(crate) fn terms(legs: Vec<Leg>) -> Terms {
    Terms {
        currency: Currency::EUR,
        points_per_unit: Decimal::ONE,
        lot_lifetime_days: 365,
        pending_days: 0,
        return_policy: ReturnPolicy::AllowNegative,
        include_tax: false,
        include_tip: false,
        include_gift_cards: false,
        funders: Vec::new(),
        limit: None,
        net_inbound: false,
        alert_below_points: None,
        legs,
    }
}

/// The transaction of a command that must have been posted.
#[track_caller]
pub(crate) fn posted(decision: &Decision) -> Transaction {
    match decision {
        Decision::Recorded { transaction, .. } if transaction.declined.is_none() => {
            Transaction::clone(transaction)
        }
        other => panic!("not posted: {other:?}"),
    }
}

/// Why a command was declined, which it must have been.
#[track_caller]
pub(crate) fn declined(decision: &Decision) -> Decline {
    match decision {
        Decision::Recorded { transaction, .. } => transaction.declined.expect("declined"),
        other => panic!("not declined: {other:?}"),
    }
}
