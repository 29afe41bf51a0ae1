//! Random networks: a handful of partners with every kind of terms.

mod script;

pub(crate) use script::{Clerk, Draft, MEMBERS, Step, scripts};

use coalition_ledger::agreement::{
    Basis, Funder, Leg, LegParty, ReturnPolicy, Rounding, Terms, Trigger, bilateral,
    settle_at_issue, settle_at_redemption,
};
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::rulebook::{Partner, PartnerStatus};
use proptest::prelude::*;
use proptest::sample::select;
use rust_decimal::Decimal;

use crate::support::network::Builder;
use crate::support::{DAY, after, dec, partner};

/// A random network's terms, and who is in it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) terms: Builder,
    /// The currency of each partner's agreement.
    pub(crate) currencies: Vec<Currency>,
}

impl World {
    /// Partners that trade: numbers 0 to this. The next one is suspended, the one after unknown.
    pub(crate) fn partners(&self) -> u8 {
        u8::try_from(self.currencies.len()).expect("few")
    }

    /// The currency that a partner's checks are in.
    pub(crate) fn currency(&self, number: u8) -> Currency {
        self.currencies
            .get(usize::from(number))
            .copied()
            .unwrap_or(Currency::EUR)
    }
}

/// Everything about one agreement, with partners as numbers to be taken modulo how many there are.
#[derive(Clone, Debug)]
struct TermsDraft {
    points_per_unit: &'static str,
    lifetime_days: u32,
    pending_days: u32,
    within_balance: bool,
    include: (bool, bool, bool),
    funders: Vec<(u8, u32)>,
    limit: Option<i64>,
    net_inbound: bool,
    preset: u8,
    prices: (i64, i64),
    legs: Vec<LegDraft>,
}

#[derive(Clone, Debug)]
struct LegDraft {
    trigger: Trigger,
    from: u8,
    to: u8,
    basis: Basis,
    rate: i64,
    bounds: Option<(i64, i64)>,
    minor: bool,
}

/// Random networks.
pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let partners = prop::collection::vec(drafts(), 2..=5);
    let second_versions = prop::collection::vec((any::<u8>(), drafts()), 0..=2);
    let pairs = prop::collection::vec((any::<u8>(), any::<u8>(), drafts()), 0..=2);
    let currency = select(vec![
        Currency::EUR,
        Currency::EUR,
        Currency::JPY,
        Currency::KWD,
    ]);
    let mixed = prop::bool::weighted(0.15);
    (partners, second_versions, pairs, currency, mixed).prop_map(
        |(partners, second_versions, pairs, currency, mixed)| {
            world(&partners, &second_versions, &pairs, currency, mixed)
        },
    )
}

fn world(
    partners: &[TermsDraft],
    second_versions: &[(u8, TermsDraft)],
    pairs: &[(u8, u8, TermsDraft)],
    currency: Currency,
    mixed: bool,
) -> World {
    let count = u8::try_from(partners.len()).expect("few");
    let currency_of = |number: u8| {
        if mixed && number % 2 == 1 {
            Currency::USD
        } else {
            currency
        }
    };
    let terms_of = |number: u8, draft: &TermsDraft| draft.terms(count, currency_of(number), mixed);
    let mut builder = Builder::new()
        .face_value(Currency::JPY, "1")
        .face_value(Currency::KWD, "0.0025")
        .face_value(Currency::USD, "0.005");
    for (number, draft) in (0..count).zip(partners) {
        builder = builder.partner(partner(number), terms_of(number, draft));
    }
    for (number, draft) in second_versions {
        let number = number % count;
        builder = builder.version(partner(number), after(3 * DAY), terms_of(number, draft));
    }
    for (issuer, redeemer, draft) in pairs {
        let (issuer, redeemer) = (issuer % count, redeemer % count);
        let terms = terms_of(redeemer, draft);
        builder = builder.pair(partner(issuer), partner(redeemer), terms);
    }
    builder.partners.push(Partner {
        id: partner(count),
        status: PartnerStatus::Suspended,
    });
    for agreement in &builder.agreements {
        agreement
            .terms
            .validate()
            .expect("terms that may be agreed");
    }
    World {
        terms: builder,
        currencies: (0..count).map(currency_of).collect(),
    }
}

fn drafts() -> impl Strategy<Value = TermsDraft> {
    let rates = (
        select(vec!["0", "0.5", "1", "1", "1.5", "2", "0.333333", "10"]),
        select(vec![1_u32, 2, 5, 30, 400]),
        select(vec![0_u32, 0, 0, 1, 2]),
        prop::bool::weighted(0.3),
        any::<(bool, bool, bool)>(),
    );
    let funders = prop::collection::vec((any::<u8>(), 1..=5_u32), 0..=4);
    let limit = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        3 => (0..=40_000_000_i64).prop_map(Some),
    ];
    let legs = prop::collection::vec(leg_drafts(), 0..=3);
    let prices = (0..=30_000_i64, 0..=30_000_i64);
    (rates, funders, limit, any::<bool>(), 0..=4_u8, prices, legs).prop_map(
        |(rates, funders, limit, net_inbound, preset, prices, legs)| TermsDraft {
            points_per_unit: rates.0,
            lifetime_days: rates.1,
            pending_days: rates.2.min(rates.1 - 1),
            within_balance: rates.3,
            include: rates.4,
            funders,
            limit,
            net_inbound,
            preset,
            prices,
            legs,
        },
    )
}

fn leg_drafts() -> impl Strategy<Value = LegDraft> {
    let trigger = select(vec![
        Trigger::Earn,
        Trigger::Redeem,
        Trigger::Redeem,
        Trigger::Expire,
    ]);
    let basis = select(vec![
        Basis::PerPoint,
        Basis::FaceValue,
        Basis::Basket,
        Basis::Fixed,
    ]);
    let bounds = prop::option::weighted(0.4, (0..=300_i64, 0..=3_000_i64));
    (
        trigger,
        any::<u8>(),
        any::<u8>(),
        basis,
        0..=99_999_i64,
        bounds,
        any::<bool>(),
    )
        .prop_map(|(trigger, from, to, basis, rate, bounds, minor)| LegDraft {
            trigger,
            from,
            to,
            basis,
            rate,
            bounds,
            minor,
        })
}

impl TermsDraft {
    fn terms(&self, partners: u8, currency: Currency, mixed: bool) -> Terms {
        let price = |micros| Decimal::new(micros, 6);
        let (first, second) = (price(self.prices.0), price(self.prices.1));
        let mut legs = match self.preset {
            0 | 3 => settle_at_issue(first, second),
            1 => settle_at_redemption(first, second),
            2 => bilateral(first, second),
            _ => Vec::new(),
        };
        legs.extend(self.legs.iter().map(|leg| leg.leg(partners, mixed)));
        let funders = self.funders(partners);
        // Which of several lots stands for what is exact for two funders; for more, only while
        // nothing expires and nothing is forgiven.
        let many = funders.len() > 2;
        Terms {
            currency,
            points_per_unit: dec(self.points_per_unit),
            lot_lifetime_days: if many { 400 } else { self.lifetime_days },
            pending_days: self.pending_days,
            return_policy: if self.within_balance && !many {
                ReturnPolicy::WithinBalance
            } else {
                ReturnPolicy::AllowNegative
            },
            include_tax: self.include.0,
            include_tip: self.include.1,
            include_gift_cards: self.include.2,
            funders,
            limit: if self.preset == 3 {
                Some(0)
            } else {
                self.limit
            }
            .map(Micros::new),
            net_inbound: self.net_inbound,
            alert_below_points: None,
            legs,
        }
    }

    fn funders(&self, partners: u8) -> Vec<Funder> {
        let mut funders: Vec<Funder> = Vec::new();
        for (number, weight) in &self.funders {
            let number = number % (partners + 1);
            let party: Party = if number == partners {
                Party::Operator
            } else {
                partner(number).into()
            };
            if funders.iter().all(|funder| funder.party != party) {
                funders.push(Funder {
                    party,
                    weight: *weight,
                });
            }
        }
        funders
    }
}

impl LegDraft {
    fn leg(&self, partners: u8, mixed: bool) -> Leg {
        let named: Vec<PartnerId> = (0..partners.min(2)).map(partner).collect();
        let mut parties = vec![LegParty::Issuer, LegParty::Operator];
        if self.trigger == Trigger::Redeem {
            parties.push(LegParty::Redeemer);
        }
        parties.extend(named.into_iter().map(LegParty::Named));
        let from = parties.remove(usize::from(self.from) % parties.len());
        let expires = self.trigger == Trigger::Expire;
        let to = match usize::from(self.to) % parties.len() {
            _ if expires && from != LegParty::Issuer => LegParty::Issuer,
            place => parties[place],
        };
        let basis = match self.basis {
            // A basket of one currency means nothing to an agreement in another.
            Basis::Basket if expires || mixed => Basis::PerPoint,
            basis => basis,
        };
        let rate = match basis {
            Basis::PerPoint | Basis::Basket => Decimal::new(self.rate, 6),
            Basis::FaceValue => Decimal::new(self.rate, 5),
            Basis::Fixed => Decimal::new(self.rate, 4),
        };
        let cents = |amount| Decimal::new(amount, 3);
        Leg {
            trigger: self.trigger,
            from,
            to,
            basis,
            rate,
            min: self.bounds.map(|(min, _)| cents(min)),
            max: self.bounds.map(|(min, more)| cents(min + more)),
            rounding: if self.minor {
                Rounding::Minor
            } else {
                Rounding::Micro
            },
        }
    }
}
