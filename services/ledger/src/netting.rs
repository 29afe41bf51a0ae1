//! Netting: from what legs moved between parties to what they pay each other.
//!
//! Source: domain, "Settlement". Positions are exact in micro-units; payments are in minor units.
//! Rounding happens once per partner, the operator takes the exact negative of the partners' sum,
//! so that Σ = 0 in minor units too; what that leaves over is the rounding.

use std::collections::BTreeMap;

use crate::ids::Party;
use crate::money::{Currency, Micros, Minor, OutOfRange, Unit};
use crate::snapshot::{Measure, TotalKey};

/// How obligations are made from flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Against the operator: one payment per partner whose net is not zero.
    Multilateral,
    /// One payment per pair whose net is not zero.
    Bilateral,
    /// One payment per pair and direction.
    Gross,
}

/// A party's net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// Who.
    pub party: Party,
    /// In which currency.
    pub currency: Currency,
    /// Exact; positive where the party receives.
    pub net: Micros,
    /// As paid.
    pub net_minor: Minor,
}

/// A payment that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Who pays.
    pub payer: Party,
    /// Who receives.
    pub payee: Party,
    /// In which currency.
    pub currency: Currency,
    /// How much; positive.
    pub amount: Minor,
}

/// What a settlement comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netting {
    /// Nets, in the order of currency code and party; the operator's included.
    pub nets: Vec<Net>,
    /// Payments, in the order of currency code, payer and payee.
    pub payments: Vec<Payment>,
    /// Per currency, the sum of all flows, each in its direction.
    pub gross: Vec<(Currency, Micros)>,
    /// Per currency, what the operator's figure in minor units has over its exact one.
    pub rounding: Vec<(Currency, Micros)>,
}

type Flows = BTreeMap<(Party, Party), Micros>;

/// Nets the flows among the totals of one or more windows.
pub fn net(totals: &[(TotalKey, i64)], method: Method) -> Result<Netting, OutOfRange> {
    let mut by_currency: BTreeMap<&'static str, (Currency, Flows)> = BTreeMap::new();
    for (key, amount) in totals {
        let (Measure::Flow, Unit::Money(currency)) = (key.measure, key.unit) else {
            continue;
        };
        let (_, flows) = by_currency
            .entry(currency.code())
            .or_insert((currency, Flows::new()));
        let sum = flows.entry((key.party, key.counterparty)).or_default();
        *sum = sum.plus(Micros::new(*amount))?;
    }
    let mut netting = Netting::default();
    for (currency, flows) in by_currency.into_values() {
        add_currency(&mut netting, currency, &flows, method)?;
    }
    Ok(netting)
}

fn add_currency(
    netting: &mut Netting,
    currency: Currency,
    flows: &Flows,
    method: Method,
) -> Result<(), OutOfRange> {
    let mut nets: BTreeMap<Party, Micros> = BTreeMap::from([(Party::Operator, Micros::ZERO)]);
    let mut gross = Micros::ZERO;
    for ((from, to), amount) in flows {
        let payer = nets.entry(*from).or_default();
        *payer = payer.minus(*amount)?;
        let payee = nets.entry(*to).or_default();
        *payee = payee.plus(*amount)?;
        gross = gross.plus(*amount)?;
    }
    let mut minor: BTreeMap<Party, Minor> = BTreeMap::new();
    for (party, net) in nets.iter().filter(|(party, _)| **party != Party::Operator) {
        minor.insert(*party, net.to_minor(currency)?);
    }
    let operator = Minor::sum(minor.values().copied())?.negated()?;
    let exact = nets.get(&Party::Operator).copied().unwrap_or_default();
    netting
        .rounding
        .push((currency, operator.to_micros(currency)?.minus(exact)?));
    netting.gross.push((currency, gross));
    netting
        .payments
        .extend(payments(currency, flows, &minor, method)?);
    minor.insert(Party::Operator, operator);
    for (party, net) in nets {
        let net_minor = minor.get(&party).copied().unwrap_or_default();
        netting.nets.push(Net {
            party,
            currency,
            net,
            net_minor,
        });
    }
    Ok(())
}

/// Who pays whom; whatever the method, each partner's payments sum to its net.
///
/// Payments between partners are rounded on their own; the payment between a partner and the
/// operator takes up what that leaves.
fn payments(
    currency: Currency,
    flows: &Flows,
    nets: &BTreeMap<Party, Minor>,
    method: Method,
) -> Result<Vec<Payment>, OutOfRange> {
    let mut owed: BTreeMap<(Party, Party), Minor> = BTreeMap::new();
    let mut left = nets.clone();
    for ((from, to), amount) in grouped(flows, method)? {
        let amount = amount.to_minor(currency)?;
        let sum = owed.entry((from, to)).or_default();
        *sum = sum.plus(amount)?;
        if let Some(left) = left.get_mut(&from) {
            *left = left.plus(amount)?;
        }
        if let Some(left) = left.get_mut(&to) {
            *left = left.minus(amount)?;
        }
    }
    for (partner, left) in left {
        let sum = owed.entry((Party::Operator, partner)).or_default();
        *sum = sum.plus(left)?;
    }
    // What flowed backwards is paid forwards, in one sum with what flows that way anyhow.
    let mut paid: BTreeMap<(Party, Party), Minor> = BTreeMap::new();
    for ((from, to), amount) in owed {
        let (pair, amount) = if amount.is_negative() {
            ((to, from), amount.negated()?)
        } else {
            ((from, to), amount)
        };
        let sum = paid.entry(pair).or_default();
        *sum = sum.plus(amount)?;
    }
    let due = |((payer, payee), amount): ((Party, Party), Minor)| {
        (amount.is_positive() && payer != payee).then_some(Payment {
            payer,
            payee,
            currency,
            amount,
        })
    };
    Ok(paid.into_iter().filter_map(due).collect())
}

/// The flows that become payments of their own, in the method's grouping.
fn grouped(flows: &Flows, method: Method) -> Result<Flows, OutOfRange> {
    let mut grouped = Flows::new();
    for ((from, to), amount) in flows {
        let with_operator = *from == Party::Operator || *to == Party::Operator;
        match method {
            Method::Gross => {
                grouped.insert((*from, *to), *amount);
            }
            Method::Bilateral if !with_operator && from != to => {
                let (pair, amount) = if from < to {
                    ((*from, *to), *amount)
                } else {
                    ((*to, *from), amount.negated()?)
                };
                let sum = grouped.entry(pair).or_default();
                *sum = sum.plus(amount)?;
            }
            Method::Bilateral | Method::Multilateral => {}
        }
    }
    Ok(grouped)
}
