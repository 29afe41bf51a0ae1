//! Who trades in the network under fire, and on which terms: as the network is told, and as the model
//! is.

use coalition_ledger::Timestamp;
use coalition_ledger::agreement::{
    self, Agreement, Funder, Leg, ReturnPolicy, Terms as LedgerTerms,
};
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::rulebook::{Partner as LedgerPartner, PartnerStatus};
use coalition_proto::partner::{Agreement as WireAgreement, ReturnPolicy as WirePolicy, Terms};
use coalition_proto::policy::Role;
use coalition_rpc::auth::dev::TokenRequest;
use coalition_tests::figures::micros;
use coalition_tests::network::partner_id;
use coalition_tests::{Caller, OPERATOR, terms};
use rust_decimal::Decimal;

use super::model::Rules;
use super::setting::Setting;

/// Connections to each gateway: a client's calls all go over one of them.
const LANES_PER_DOOR: usize = 4;

/// What a point is worth at the till, as the settings of the processes have it.
const FACE_VALUES: [(&str, &str); 2] = [("EUR", "0.01"), ("USD", "0.005")];

/// How points are paid for, with the two prices of the preset.
#[derive(Clone, Copy)]
enum Preset {
    Issue(&'static str, &'static str),
    Redemption(&'static str, &'static str),
    Bilateral(&'static str, &'static str),
    Prepaid(&'static str, &'static str),
}

/// Who shares in issuing what a partner's checks earn.
#[derive(Clone, Copy)]
enum With {
    Nobody,
    Operator(u32, u32),
    /// The partner at this place, which is in the network already.
    Partner(usize, u32, u32),
}

struct Deal {
    code: &'static str,
    currency: &'static str,
    lifetime_days: u16,
    pending_days: u16,
    within_balance: bool,
    limit: Option<&'static str>,
    net_inbound: bool,
    preset: Preset,
    with: With,
}

const PLAIN: Deal = Deal {
    code: "",
    currency: "EUR",
    lifetime_days: 5,
    pending_days: 0,
    within_balance: false,
    limit: None,
    net_inbound: false,
    preset: Preset::Issue("0.010333", "0.00777"),
    with: With::Nobody,
};

/// Every preset, lives short enough to end during a run, limits that bind, points shared two ways,
/// and a second currency.
const DEALS: [Deal; 6] = [
    Deal {
        code: "cafe",
        ..PLAIN
    },
    Deal {
        code: "salon",
        lifetime_days: 30,
        pending_days: 1,
        within_balance: true,
        limit: Some("12.00"),
        preset: Preset::Redemption("0.009111", "0.008333"),
        ..PLAIN
    },
    Deal {
        code: "shop",
        lifetime_days: 3,
        preset: Preset::Bilateral("0.0077777", "0.000333"),
        with: With::Partner(0, 3, 2),
        ..PLAIN
    },
    Deal {
        code: "gym",
        lifetime_days: 10,
        preset: Preset::Prepaid("0.01", "0.008"),
        ..PLAIN
    },
    Deal {
        code: "bar",
        limit: Some("10.00"),
        net_inbound: true,
        preset: Preset::Issue("0.01", "0.0099"),
        with: With::Operator(1, 1),
        ..PLAIN
    },
    Deal {
        code: "kiosk",
        currency: "USD",
        lifetime_days: 8,
        limit: Some("6.00"),
        preset: Preset::Redemption("0.006", "0.005"),
        with: With::Partner(1, 1, 1),
        ..PLAIN
    },
];

/// Points of the first, spent at the second, go by terms of the pair.
const PAIR: (usize, usize) = (0, 4);

/// A partner of the network under fire.
pub(crate) struct Shop {
    pub(crate) id: PartnerId,
    pub(crate) text: String,
    pub(crate) currency: &'static str,
    /// Whether credits count towards its limit: undoing them is not limited.
    pub(crate) net_inbound: bool,
}

/// One connection, and everybody who calls over it.
pub(crate) struct Lane {
    /// One till of each shop, in their order.
    pub(crate) tills: Vec<Caller>,
    /// The operator's maker.
    pub(crate) maker: Caller,
}

/// Everybody.
pub(crate) struct World {
    pub(crate) shops: Vec<Shop>,
    pub(crate) lanes: Vec<Lane>,
    /// What the model is told.
    pub(crate) rules: Rules,
}

impl World {
    pub(crate) async fn make(setting: &Setting) -> Self {
        let network = &setting.network;
        let mut rules = Rules {
            face_values: FACE_VALUES
                .iter()
                .map(|(code, value)| (currency(code), decimal(value)))
                .collect(),
            ..Rules::default()
        };
        let mut shops: Vec<Shop> = Vec::new();
        for deal in &DEALS {
            let text = network.newcomer(deal.code).await;
            let id = partner_id(&text);
            let (wire, plain) = deal.terms(&text, &shops);
            let agreed = network.agree(&text, "", wire).await;
            rules.agreements.push(version(&agreed, id, None, plain));
            rules.partners.push(LedgerPartner {
                id,
                status: PartnerStatus::Active,
            });
            shops.push(Shop {
                id,
                text,
                currency: deal.currency,
                net_inbound: deal.net_inbound,
            });
        }
        let pair = Deal {
            preset: Preset::Bilateral("0.006", "0.0005"),
            ..PLAIN
        };
        let (issuer, redeemer) = (&shops[PAIR.0], &shops[PAIR.1]);
        let (wire, plain) = pair.terms(&issuer.text, &shops);
        let agreed = network.agree(&issuer.text, &redeemer.text, wire).await;
        rules
            .agreements
            .push(version(&agreed, issuer.id, Some(redeemer.id), plain));
        let lanes = lanes(setting, &shops);
        Self {
            shops,
            lanes,
            rules,
        }
    }
}

fn lanes(setting: &Setting, shops: &[Shop]) -> Vec<Lane> {
    let doors = setting.doors.iter().cycle();
    let doors = doors.take(setting.doors.len() * LANES_PER_DOOR);
    let maker = TokenRequest::new("maker under fire", [Role::OperatorMaker]);
    doors
        .map(|door| {
            let door = setting.network.at(door);
            Lane {
                tills: shops.iter().map(|shop| door.till(&shop.text)).collect(),
                maker: door.caller(&maker),
            }
        })
        .collect()
}

impl Deal {
    /// The terms, said twice.
    fn terms(&self, own: &str, shops: &[Shop]) -> (Terms, LedgerTerms) {
        let (first, second, preset): (_, _, fn(&str, &str, &str) -> Terms) = match self.preset {
            Preset::Issue(first, second) => (first, second, terms::settle_at_issue),
            Preset::Redemption(first, second) => (first, second, terms::settle_at_redemption),
            Preset::Bilateral(first, second) => (first, second, terms::bilateral),
            Preset::Prepaid(first, second) => (first, second, terms::prepaid),
        };
        let funders: Vec<(String, u32)> = match self.with {
            With::Nobody => Vec::new(),
            With::Operator(mine, theirs) => {
                vec![(own.to_owned(), mine), (OPERATOR.to_owned(), theirs)]
            }
            With::Partner(place, mine, theirs) => {
                vec![(own.to_owned(), mine), (shops[place].text.clone(), theirs)]
            }
        };
        let policy = if self.within_balance {
            WirePolicy::WithinBalance
        } else {
            WirePolicy::AllowNegative
        };
        let wire = Terms {
            lot_lifetime_days: self.lifetime_days.into(),
            pending_days: self.pending_days.into(),
            return_policy: Some(policy.into()),
            funders: funders
                .iter()
                .map(|(party, weight)| terms::funder(party, weight.cast_signed()))
                .collect(),
            limit: self.limit.map(str::to_owned),
            net_inbound: self.net_inbound,
            ..preset(self.currency, first, second)
        };
        (wire, self.plain(&funders, decimal(first), decimal(second)))
    }

    fn plain(&self, funders: &[(String, u32)], first: Decimal, second: Decimal) -> LedgerTerms {
        let legs: Vec<Leg> = match self.preset {
            Preset::Issue(..) | Preset::Prepaid(..) => agreement::settle_at_issue(first, second),
            Preset::Redemption(..) => agreement::settle_at_redemption(first, second),
            Preset::Bilateral(..) => agreement::bilateral(first, second),
        };
        let funder = |(party, weight): &(String, u32)| Funder {
            party: party.parse::<Party>().expect("a party"),
            weight: *weight,
        };
        let prepaid = matches!(self.preset, Preset::Prepaid(..)).then_some("0");
        LedgerTerms {
            currency: currency(self.currency),
            points_per_unit: decimal(terms::POINT_PER_MINOR),
            lot_lifetime_days: self.lifetime_days.into(),
            pending_days: self.pending_days.into(),
            return_policy: if self.within_balance {
                ReturnPolicy::WithinBalance
            } else {
                ReturnPolicy::AllowNegative
            },
            include_tax: false,
            include_tip: false,
            include_gift_cards: false,
            funders: funders.iter().map(funder).collect(),
            limit: self
                .limit
                .or(prepaid)
                .map(|limit| Micros::new(micros(limit))),
            net_inbound: self.net_inbound,
            alert_below_points: None,
            legs,
        }
    }
}

fn version(
    agreed: &WireAgreement,
    partner: PartnerId,
    counterparty: Option<PartnerId>,
    terms: LedgerTerms,
) -> Agreement {
    let at = agreed.effective_at.as_ref().expect("it is in force");
    Agreement {
        id: agreed.agreement_id.parse().expect("an agreement's id"),
        partner,
        counterparty,
        effective_at: instant(at),
        terms,
    }
}

/// An instant as the ledger counts.
pub(crate) fn instant(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000)
}

pub(crate) fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).expect("a decimal")
}
