//! Funds: money that a partner leaves with the operator, and takes out again.

use super::books::{Books, Plan};
use super::{Refusal, Stop};
use crate::account::{Account, Transfer};
use crate::command::Fund;
use crate::ids::Party;
use crate::money::{Micros, Unit};
use crate::transaction::{Context, Decline, Kind};

pub(super) fn plan(books: &mut Books<'_>, fund: &Fund) -> Result<Plan, Stop> {
    if books.rulebook.partner(fund.partner).is_none() {
        return Err(Refusal::UnknownPartner(fund.partner).into());
    }
    let now = books.setting.now;
    let agreed = books
        .rulebook
        .in_force(fund.partner, now)
        .map(|a| a.terms.currency);
    if let Some(expected) = agreed.filter(|expected| *expected != fund.currency) {
        return Err(Refusal::CurrencyMismatch { expected }.into());
    }
    if books.rulebook.face_value(fund.currency).is_none() {
        let expected = books.rulebook.currencies().next().unwrap_or(fund.currency);
        return Err(Refusal::CurrencyMismatch { expected }.into());
    }
    let amount = fund.amount.to_micros(fund.currency)?;
    if !amount.is_positive() {
        return Err(Refusal::OutOfRange.into());
    }
    let party = Party::Partner(fund.partner);
    if fund.withdrawal {
        let position = books.position(party, fund.currency)?;
        let limit = books.rulebook.limit(party, fund.currency, now);
        let left = position.funds.minus(amount)?;
        let headroom = limit
            .map(|(limit, inbound)| position.headroom(limit, inbound))
            .transpose()?;
        let binds = headroom.is_some_and(|headroom| headroom < amount);
        if left.is_negative() || binds {
            return Err(Decline::FundsExceeded.into());
        }
        let (limit, inbound) = limit.unwrap_or((Micros::new(i64::MAX / 4), false));
        books.bind(party, fund.currency, limit, inbound);
    }
    let (kind, debit, credit) = if fund.withdrawal {
        (Kind::Withdraw, Account::Funds(party), Account::Operator)
    } else {
        (Kind::Deposit, Account::Operator, Account::Funds(party))
    };
    let mut plan = Plan::new(kind, party, now);
    plan.amount = Some((fund.amount, fund.currency));
    plan.context = Context {
        operator_ref: Some(fund.bank_reference.clone()),
        ..Context::default()
    };
    plan.transfers = vec![Transfer {
        debit,
        credit,
        amount: amount.get(),
        unit: Unit::Money(fund.currency),
        lot: None,
        agreement: None,
        leg: None,
    }];
    Ok(plan)
}
