//! What the totals of windows say: positions, exposures, counts.
//!
//! Everything here is a sum over the rows of [`crate::snapshot::TotalKey`]; nothing is stored, and
//! nothing is decided. Source: domain, "Windows", "Settlement". How positions become payments
//! stands in [`crate::netting`].

use std::collections::BTreeMap;

use crate::ids::Party;
use crate::money::{Currency, Micros, OutOfRange, Points, Unit};
use crate::snapshot::{Measure, TotalKey};

/// The points that passed a party in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyPoints {
    /// Issued by the party.
    pub issued: Points,
    /// Issued by the party and clawed back, debts included.
    pub clawed_back: Points,
    /// Spent at the party, less those given back.
    pub redeemed_here: Points,
    /// Issued by the party and spent anywhere, less those given back.
    pub redeemed_of: Points,
    /// Issued by the party and expired.
    pub expired: Points,
    /// Given back at the party.
    pub refunded_here: Points,
    /// Issued by the party and given back anywhere.
    pub refunded_of: Points,
}

/// What the network owes a party in a window, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowPosition {
    /// The party.
    pub party: Party,
    /// The currency of `net`; `None` for a party with points and no money.
    pub currency: Option<Currency>,
    /// Positive: the network owes the party.
    pub net: Micros,
    /// The party's points: on its first row, whatever the currency.
    pub points: PartyPoints,
}

/// Points of one issuer that were spent at one redeemer, less those given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Whose points.
    pub issuer: Party,
    /// Where they were spent.
    pub redeemer: Party,
    /// How many; negative where more came back in the window than went.
    pub points: Points,
}

type Totals<'a> = &'a [(TotalKey, i64)];

/// The positions in the order of party and currency code; parties without any movement are left
/// out.
pub fn positions(totals: Totals<'_>) -> Result<Vec<WindowPosition>, OutOfRange> {
    let mut points: BTreeMap<Party, PartyPoints> = BTreeMap::new();
    for (key, amount) in totals {
        add_points(&mut points, key, Points::new(*amount))?;
    }
    let mut rows = Vec::new();
    for ((party, _), (currency, net)) in nets(totals)? {
        rows.push(WindowPosition {
            party,
            currency: Some(currency),
            net,
            points: points.remove(&party).unwrap_or_default(),
        });
    }
    rows.extend(points.into_iter().map(|(party, points)| WindowPosition {
        party,
        currency: None,
        net: Micros::ZERO,
        points,
    }));
    // The sort is stable: a party's currencies stay in their order.
    rows.sort_by_key(|row| row.party);
    Ok(rows)
}

/// The sum of all positions per currency, in the order of the codes; zero, always.
pub fn position_sums(totals: Totals<'_>) -> Result<Vec<(Currency, Micros)>, OutOfRange> {
    let mut sums: BTreeMap<&'static str, (Currency, Micros)> = BTreeMap::new();
    for ((_, code), (currency, net)) in nets(totals)? {
        let (_, sum) = sums.entry(code).or_insert((currency, Micros::ZERO));
        *sum = sum.plus(net)?;
    }
    Ok(sums.into_values().collect())
}

/// The matrix of issuers and redeemers, in their order; empty cells are left out.
pub fn exposures(totals: Totals<'_>) -> Result<Vec<Exposure>, OutOfRange> {
    let mut cells: BTreeMap<(Party, Party), Points> = BTreeMap::new();
    for (key, amount) in totals {
        let amount = match key.measure {
            Measure::Redeemed => Points::new(*amount),
            Measure::Refunded => Points::new(*amount).negated()?,
            _ => continue,
        };
        let cell = cells.entry((key.party, key.counterparty)).or_default();
        *cell = cell.plus(amount)?;
    }
    let cells = cells.into_iter().filter(|(_, points)| !points.is_zero());
    Ok(cells
        .map(|((issuer, redeemer), points)| Exposure {
            issuer,
            redeemer,
            points,
        })
        .collect())
}

/// How many points expired.
pub fn expired(totals: Totals<'_>) -> Result<Points, OutOfRange> {
    let expired = totals
        .iter()
        .filter(|(key, _)| key.measure == Measure::Expired);
    Points::sum(expired.map(|(_, amount)| Points::new(*amount)))
}

/// How many transactions were posted.
#[must_use]
pub fn postings(totals: Totals<'_>) -> i64 {
    let counts = totals
        .iter()
        .filter(|(key, _)| key.measure == Measure::Postings);
    counts.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

type Nets = BTreeMap<(Party, &'static str), (Currency, Micros)>;

/// What each party receives less what it pays, per currency.
fn nets(totals: Totals<'_>) -> Result<Nets, OutOfRange> {
    let mut nets = Nets::new();
    for (key, amount) in totals {
        let (Measure::Flow, Unit::Money(currency)) = (key.measure, key.unit) else {
            continue;
        };
        let amount = Micros::new(*amount);
        for (party, amount) in [(key.party, amount.negated()?), (key.counterparty, amount)] {
            let place = (party, currency.code());
            let (_, net) = nets.entry(place).or_insert((currency, Micros::ZERO));
            *net = net.plus(amount)?;
        }
    }
    Ok(nets)
}

fn add_points(
    parties: &mut BTreeMap<Party, PartyPoints>,
    key: &TotalKey,
    amount: Points,
) -> Result<(), OutOfRange> {
    let add = |sum: &mut Points, amount: Points| sum.plus(amount).map(|after| *sum = after);
    let mut of = |party: Party, change: &dyn Fn(&mut PartyPoints) -> Result<(), OutOfRange>| {
        change(parties.entry(party).or_default())
    };
    match key.measure {
        Measure::Issued => of(key.party, &|p| add(&mut p.issued, amount)),
        Measure::ClawedBack => of(key.party, &|p| add(&mut p.clawed_back, amount)),
        Measure::Expired => of(key.party, &|p| add(&mut p.expired, amount)),
        Measure::Redeemed => {
            of(key.party, &|p| add(&mut p.redeemed_of, amount))?;
            of(key.counterparty, &|p| add(&mut p.redeemed_here, amount))
        }
        Measure::Refunded => {
            let less = amount.negated()?;
            of(key.party, &|p| {
                add(&mut p.redeemed_of, less)?;
                add(&mut p.refunded_of, amount)
            })?;
            of(key.counterparty, &|p| {
                add(&mut p.redeemed_here, less)?;
                add(&mut p.refunded_here, amount)
            })
        }
        Measure::Flow | Measure::Funded | Measure::Postings => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::PartnerId;

    fn party(number: u128) -> Party {
        PartnerId::from_uuid(Uuid::from_u128(number)).into()
    }

    fn row(measure: Measure, from: Party, to: Party, unit: Unit, amount: i64) -> (TotalKey, i64) {
        let key = TotalKey {
            measure,
            party: from,
            counterparty: to,
            unit,
        };
        (key, amount)
    }

    #[test]
    fn positions_are_net_of_refunds_and_sum_to_zero() {
        let (a, b, eur) = (party(1), party(2), Unit::Money(Currency::EUR));
        let totals = [
            row(Measure::Flow, a, b, eur, 700),
            row(Measure::Flow, b, Party::Operator, eur, 50),
            row(Measure::Issued, a, a, Unit::Points, 100),
            row(Measure::Redeemed, a, b, Unit::Points, 40),
            row(Measure::Refunded, a, b, Unit::Points, 15),
            row(Measure::Expired, a, a, Unit::Points, 9),
            row(
                Measure::Postings,
                Party::Operator,
                Party::Operator,
                Unit::Points,
                6,
            ),
        ];
        let rows = positions(&totals).expect("small");
        let nets: Vec<_> = rows.iter().map(|row| (row.party, row.net.get())).collect();
        assert_eq!(nets, [(Party::Operator, 50), (a, -700), (b, 650)]);
        let of_a = rows.get(1).expect("a").points;
        assert_eq!(of_a.redeemed_of, Points::new(25));
        assert_eq!(of_a.refunded_of, Points::new(15));
        let of_b = rows.get(2).expect("b").points;
        assert_eq!(of_b.redeemed_here, Points::new(25));
        assert_eq!(
            position_sums(&totals),
            Ok(vec![(Currency::EUR, Micros::ZERO)])
        );
        assert_eq!(postings(&totals), 6);
        assert_eq!(expired(&totals), Ok(Points::new(9)));
        let cells = exposures(&totals).expect("small");
        assert_eq!(
            cells,
            [Exposure {
                issuer: a,
                redeemer: b,
                points: Points::new(25)
            }]
        );
    }

    #[test]
    fn a_party_with_points_and_no_money_has_a_row_of_its_own() {
        let a = party(1);
        let totals = [row(Measure::Issued, a, a, Unit::Points, 5)];
        let rows = positions(&totals).expect("small");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.first().map(|row| row.currency), Some(None));
    }
}
