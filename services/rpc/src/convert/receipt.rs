//! Lines fit to print on a receipt: short, in plain words, at most eight.

use coalition_ledger::member::Balance;
use coalition_ledger::money::{Currency, Minor, Points};

use super::time::date;

/// Most characters of a line: what the narrowest receipt printers take.
pub const LINE_CHARS: usize = 40;

/// Most lines.
pub const LINES: usize = 8;

/// Lines as they are put together. A line that is too long, or one too many, is left out: the
/// figures stand in the answer in any case.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    lines: Vec<String>,
}

impl Receipt {
    /// A receipt without lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        let line = line.into();
        if self.lines.len() < LINES && line.chars().count() <= LINE_CHARS {
            self.lines.push(line);
        }
        self
    }

    /// Adds a line about some points, unless there are none: `before`, the points, `after`.
    #[must_use]
    pub fn points(self, before: &str, points: Points, after: &str) -> Self {
        if points.is_zero() {
            return self;
        }
        self.line(format!("{before}{}{after}", counted(points)))
    }

    /// Adds a line about an amount, as `Paid with points: 4.00 EUR`.
    #[must_use]
    pub fn amount(self, before: &str, amount: Minor, currency: Currency) -> Self {
        match amount.to_major(currency) {
            Ok(major) => self.line(format!("{before}{major} {}", currency.code())),
            Err(_) => self,
        }
    }

    /// Adds what the member has: balance, what is pending or owed, what expires next.
    #[must_use]
    pub fn balance(self, balance: &Balance) -> Self {
        let totals = &balance.totals;
        let Ok(spendable) = totals.balance() else {
            return self;
        };
        let receipt = self
            .line(format!("Balance {}", counted(spendable)))
            .points("", totals.pending, " not spendable yet")
            .points("", totals.debt, " owed after a return");
        let Some(next) = balance.next_expiry else {
            return receipt;
        };
        match date(next.at) {
            Some(day) => receipt.points("", next.points, &format!(" expire {day}")),
            None => receipt,
        }
    }

    /// The lines.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        self.lines
    }
}

fn counted(points: Points) -> String {
    match points.get() {
        1 => "1 point".to_owned(),
        count => format!("{count} points"),
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::Timestamp;
    use coalition_ledger::member::{Totals, Upcoming};

    use super::*;

    #[test]
    fn a_receipt_says_what_a_guest_wants_to_know() {
        let balance = Balance {
            totals: Totals {
                available: Points::new(130),
                ..Totals::default()
            },
            next_expiry: Some(Upcoming {
                at: Timestamp::from_micros(1_795_305_600_000_000),
                points: Points::new(40),
            }),
        };
        let receipt = Receipt::new()
            .points("You earned ", Points::new(1), "")
            .points("", Points::ZERO, " nobody prints")
            .amount("Worth ", Minor::new(5), Currency::EUR)
            .balance(&balance);
        assert_eq!(
            receipt.lines(),
            [
                "You earned 1 point",
                "Worth 0.05 EUR",
                "Balance 130 points",
                "40 points expire 2026-11-22"
            ]
        );
    }

    #[test]
    fn no_line_is_too_long_and_there_are_never_too_many() {
        let most = Points::new(i64::MAX);
        let mut receipt =
            Receipt::new().points("A long beginning of a line: ", most, " and an end");
        assert!(receipt.clone().lines().is_empty());
        for _ in 0..20 {
            receipt = receipt.points("", most, "");
        }
        let lines = receipt.lines();
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_CHARS));
    }
}
