//! The trial balance: every account with its totals, and the equations that must hold between them.
//!
//! Of a window it is summed up from the postings, transfer by transfer. Of the whole books it is put
//! together from running sums that are kept apart from each other (totals of windows, what members
//! hold, positions), so that it takes no longer as the books grow and each equation compares two of
//! them; there, an account's sums are net of what was taken back, and of an account of members only
//! the balance is known. Recomputing everything from the transfers is [`crate::audit`]'s.
//! Source: domain, "The books".

use std::collections::BTreeMap;

use crate::account::{Account, Transfer};
use crate::ids::Party;
use crate::member::Totals;
use crate::money::{Currency, OutOfRange, Unit};
use crate::snapshot::{Measure, Position, TotalKey};

/// Kinds of accounts, in the order of a trial balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Where an issuer's points come from.
    Issued,
    /// Points that members cannot spend yet.
    Pending,
    /// Points that members can spend.
    Available,
    /// Points reserved for checks.
    Held,
    /// Points that members owe.
    Debt,
    /// Points spent.
    Redeemed,
    /// Points expired.
    Expired,
    /// What the network owes a party, or a party the network.
    Position,
    /// Money that the operator holds for a party.
    Funds,
    /// The operator's own money.
    Operator,
}

impl AccountKind {
    /// The kind of an account and whose it is: the issuer for points, the party for money.
    #[must_use]
    pub const fn of(account: Account) -> (Self, Option<Party>) {
        match account {
            Account::Issued(issuer) => (Self::Issued, Some(issuer)),
            Account::Pending(_, issuer) => (Self::Pending, Some(issuer)),
            Account::Available(_, issuer) => (Self::Available, Some(issuer)),
            Account::Held(_, issuer) => (Self::Held, Some(issuer)),
            Account::Debt(_, issuer) => (Self::Debt, Some(issuer)),
            Account::Redeemed(issuer) => (Self::Redeemed, Some(issuer)),
            Account::Expired(issuer) => (Self::Expired, Some(issuer)),
            Account::Position(party, _) => (Self::Position, Some(party)),
            Account::Funds(party) => (Self::Funds, Some(party)),
            Account::Operator => (Self::Operator, None),
        }
    }
}

/// One account with its totals, in points or micro-units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountTotal {
    /// Its kind.
    pub kind: AccountKind,
    /// Whose it is; `None` for the network's own.
    pub party: Option<Party>,
    /// What it counts.
    pub unit: Unit,
    /// The sum of what was taken from it.
    pub debits: i64,
    /// The sum of what was given to it.
    pub credits: i64,
    /// `credits` − `debits`.
    pub balance: i64,
}

/// An equation of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// What it says, and of whom.
    pub name: String,
    /// What its left side comes to.
    pub left: i64,
    /// What its right side comes to.
    pub right: i64,
}

impl Equation {
    /// Whether both sides are equal.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.left == self.right
    }
}

type Key = (AccountKind, Option<Party>, &'static str);

/// Adds up accounts.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    accounts: BTreeMap<Key, (Unit, i64, i64)>,
}

impl Trial {
    /// A trial balance of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The trial balance of the whole books, from three sets of running sums that belong to one
    /// instant: totals over all windows, what members hold and owe per issuer, and positions.
    pub fn of_books(
        totals: &[(TotalKey, i64)],
        holdings: &[(Party, Totals)],
        positions: &[((Party, Currency), Position)],
    ) -> Result<Self, OutOfRange> {
        let mut trial = Self::new();
        for (key, amount) in totals {
            trial.total(key, *amount)?;
        }
        for (issuer, held) in holdings {
            let debt = held.debt.negated()?;
            for (kind, points) in [
                (AccountKind::Pending, held.pending),
                (AccountKind::Available, held.available),
                (AccountKind::Held, held.held),
                (AccountKind::Debt, debt),
            ] {
                trial.moved(kind, Some(*issuer), Unit::Points, points.get())?;
            }
        }
        for ((party, currency), position) in positions {
            let unit = Unit::Money(*currency);
            trial.moved(AccountKind::Funds, Some(*party), unit, position.funds.get())?;
        }
        Ok(trial)
    }

    /// Takes in one transfer of a posting.
    pub fn transfer(&mut self, transfer: &Transfer) -> Result<(), OutOfRange> {
        let (amount, unit) = (transfer.amount, transfer.unit);
        let (kind, party) = AccountKind::of(transfer.debit);
        self.moved(kind, party, unit, negated(amount)?)?;
        let (kind, party) = AccountKind::of(transfer.credit);
        self.moved(kind, party, unit, amount)
    }

    /// What a window's total says of accounts that are not members'.
    fn total(&mut self, key: &TotalKey, amount: i64) -> Result<(), OutOfRange> {
        let (issuer, unit) = (Some(key.party), key.unit);
        match key.measure {
            Measure::Flow => {
                let to = Some(key.counterparty);
                self.moved(AccountKind::Position, issuer, unit, negated(amount)?)?;
                self.moved(AccountKind::Position, to, unit, amount)
            }
            Measure::Issued => self.moved(AccountKind::Issued, issuer, unit, negated(amount)?),
            Measure::ClawedBack => self.moved(AccountKind::Issued, issuer, unit, amount),
            Measure::Redeemed => self.moved(AccountKind::Redeemed, issuer, unit, amount),
            Measure::Refunded => self.moved(AccountKind::Redeemed, issuer, unit, negated(amount)?),
            Measure::Expired => self.moved(AccountKind::Expired, issuer, unit, amount),
            Measure::Funded => self.moved(AccountKind::Operator, None, unit, negated(amount)?),
            Measure::Postings => Ok(()),
        }
    }

    /// Gives `amount` to an account, or takes it where it is negative.
    fn moved(
        &mut self,
        kind: AccountKind,
        party: Option<Party>,
        unit: Unit,
        amount: i64,
    ) -> Result<(), OutOfRange> {
        if amount == 0 {
            return Ok(());
        }
        let key = (kind, party, unit.code());
        let (_, debits, credits) = self.accounts.entry(key).or_insert((unit, 0, 0));
        if amount < 0 {
            *debits = debits.checked_sub(amount).ok_or(OutOfRange)?;
        } else {
            *credits = credits.checked_add(amount).ok_or(OutOfRange)?;
        }
        Ok(())
    }

    /// The accounts with movements, in the order of kind, party and unit.
    pub fn accounts(&self) -> Result<Vec<AccountTotal>, OutOfRange> {
        let total = |(key, sums): (&Key, &(Unit, i64, i64))| {
            let ((kind, party, _), (unit, debits, credits)) = (*key, *sums);
            Ok(AccountTotal {
                kind,
                party,
                unit,
                debits,
                credits,
                balance: credits.checked_sub(debits).ok_or(OutOfRange)?,
            })
        };
        self.accounts.iter().map(total).collect()
    }

    /// The equations: per issuer for points; per currency for positions and for funds.
    pub fn equations(&self) -> Result<Vec<Equation>, OutOfRange> {
        let mut issuers: BTreeMap<Option<Party>, (i64, i64)> = BTreeMap::new();
        let mut positions: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut funds: BTreeMap<&'static str, (i64, i64)> = BTreeMap::new();
        for account in self.accounts()? {
            let (code, balance) = (account.unit.code(), account.balance);
            match account.kind {
                AccountKind::Issued => {
                    let (left, _) = issuers.entry(account.party).or_default();
                    *left = left.checked_sub(balance).ok_or(OutOfRange)?;
                }
                AccountKind::Pending
                | AccountKind::Available
                | AccountKind::Held
                | AccountKind::Debt
                | AccountKind::Redeemed
                | AccountKind::Expired => {
                    let (_, right) = issuers.entry(account.party).or_default();
                    *right = right.checked_add(balance).ok_or(OutOfRange)?;
                }
                AccountKind::Position => {
                    let sum = positions.entry(code).or_default();
                    *sum = sum.checked_add(balance).ok_or(OutOfRange)?;
                }
                AccountKind::Funds => {
                    let (left, _) = funds.entry(code).or_default();
                    *left = left.checked_add(balance).ok_or(OutOfRange)?;
                }
                AccountKind::Operator => {
                    let (_, right) = funds.entry(code).or_default();
                    *right = right.checked_sub(balance).ok_or(OutOfRange)?;
                }
            }
        }
        let points = issuers.into_iter().map(|(party, (left, right))| {
            let party = party.unwrap_or(Party::Operator);
            let name = format!(
                "issued = pending + available + held - debt + redeemed + expired, points of {party}"
            );
            Equation { name, left, right }
        });
        let positions = positions.into_iter().map(|(code, left)| Equation {
            name: format!("sum of positions = 0, {code}"),
            left,
            right: 0,
        });
        let funds = funds.into_iter().map(|(code, (left, right))| Equation {
            name: format!("sum of funds = paid in to the operator, {code}"),
            left,
            right,
        });
        Ok(points.chain(positions).chain(funds).collect())
    }
}

fn negated(amount: i64) -> Result<i64, OutOfRange> {
    amount.checked_neg().ok_or(OutOfRange)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::{MemberId, PartnerId};
    use crate::money::{Micros, Points};

    const EUR: Unit = Unit::Money(Currency::EUR);

    fn party(number: u128) -> Party {
        PartnerId::from_uuid(Uuid::from_u128(number)).into()
    }

    fn transfer(debit: Account, credit: Account, amount: i64, unit: Unit) -> Transfer {
        Transfer {
            debit,
            credit,
            amount,
            unit,
            lot: None,
            agreement: None,
            leg: None,
        }
    }

    #[test]
    fn equations_follow_from_transfers_whatever_they_are() {
        let (a, m) = (party(1), MemberId::from_uuid(Uuid::from_u128(9)));
        let mut trial = Trial::new();
        for transfer in [
            transfer(
                Account::Issued(a),
                Account::Available(m, a),
                100,
                Unit::Points,
            ),
            transfer(
                Account::Available(m, a),
                Account::Redeemed(a),
                70,
                Unit::Points,
            ),
            transfer(Account::Debt(m, a), Account::Issued(a), 20, Unit::Points),
            transfer(Account::Operator, Account::Funds(a), 5_000, EUR),
        ] {
            trial.transfer(&transfer).expect("small");
        }
        let equations = trial.equations().expect("small");
        assert_eq!(equations.len(), 2);
        assert!(equations.iter().all(Equation::holds), "{equations:?}");
        let issued = trial.accounts().expect("small");
        let issued = issued.first().expect("issued comes first");
        assert_eq!(
            (issued.debits, issued.credits, issued.balance),
            (100, 20, -80)
        );
    }

    #[test]
    fn sums_that_do_not_fit_each_other_are_seen() {
        let a = party(1);
        let issued = TotalKey {
            measure: Measure::Issued,
            party: a,
            counterparty: a,
            unit: Unit::Points,
        };
        let holds = |available: i64| {
            let held = Totals {
                available: Points::new(available),
                ..Totals::default()
            };
            let funded = Position {
                funds: Micros::ZERO,
                ..Position::default()
            };
            let positions = [((a, Currency::EUR), funded)];
            let trial = Trial::of_books(&[(issued, 10)], &[(a, held)], &positions)?;
            Ok::<_, OutOfRange>(trial.equations()?.iter().all(Equation::holds))
        };
        assert_eq!(holds(10), Ok(true));
        assert_eq!(holds(9), Ok(false));
    }
}
