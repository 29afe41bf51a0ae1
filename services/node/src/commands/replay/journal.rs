//! The four files of a replay: partners, the journal, and the figures that should come out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::bail;
use coalition_ledger::Timestamp;
use coalition_proto::partner::leg_party::Party as PartyKey;
use coalition_proto::partner::{
    Leg, LegBasis, LegParty, LegRounding, LegTrigger, PartnerKind, PartyRole, Terms,
};

use super::table::{Line, Table};
use crate::client::setup::NewPartner;

/// The name of the operator in the expected figures.
const OPERATOR: &str = "operator";

/// A partner with its terms.
#[derive(Clone, Debug)]
pub(super) struct PartnerRow {
    pub(super) partner: NewPartner,
    pub(super) currency_code: String,
    pub(super) lot_lifetime_days: u32,
    pub(super) terms: Terms,
}

/// One row of the journal. Partners and members are indices into the journal's lists.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) deed: Deed,
}

/// What a row asks for.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Expire what is due and close the window.
    Cut,
    /// A member at a till.
    Visit(Visit),
}

#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) partner: usize,
    pub(super) location: String,
    pub(super) member: usize,
    pub(super) check_id: String,
    pub(super) act: Act,
}

/// What is done at the till.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Earn { amount_minor: i64 },
    Redeem { points: i64 },
    Return { amount_minor: i64, check_id: String },
    ReverseRedeem { points: i64, check_id: String },
}

/// A journal with all that it names.
pub(super) struct Journal {
    pub(super) partners: Vec<PartnerRow>,
    /// What the journal calls the members.
    pub(super) members: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl Journal {
    pub(super) fn read(partners: &Path, journal: &Path) -> anyhow::Result<Self> {
        let partners = read_partners(partners)?;
        let codes = partners.iter().map(|row| row.partner.code.clone());
        let codes: HashMap<String, usize> = codes.zip(0..).collect();
        let mut read = Self {
            partners,
            members: Vec::new(),
            rows: Vec::new(),
        };
        let mut members = HashMap::new();
        let mut table = Table::open(
            journal,
            &[
                "seq",
                "type",
                "occurred_at",
                "partner",
                "location",
                "member",
                "check_id",
                "amount_minor",
                "points",
                "reference",
            ],
        )?;
        while let Some(line) = table.next()? {
            let row = row(&line, &codes, &mut members)?;
            if read.rows.last().is_some_and(|last| row.at < last.at) {
                return Err(line.wrong("occurred_at", "is before the row above"));
            }
            read.rows.push(row);
        }
        if read.rows.is_empty() {
            bail!("{}: there are no rows", journal.display());
        }
        read.members = vec![String::new(); members.len()];
        for (name, n) in members {
            read.members[n] = name;
        }
        Ok(read)
    }
}

fn row(
    line: &Line<'_>,
    codes: &HashMap<String, usize>,
    members: &mut HashMap<String, usize>,
) -> anyhow::Result<Row> {
    let seq = u64::try_from(line.count("seq")?)?;
    let at = line.instant("occurred_at")?;
    let act = match line.required("type")? {
        "CUT" => {
            let deed = Deed::Cut;
            return Ok(Row { seq, at, deed });
        }
        "EARN" => Act::Earn {
            amount_minor: line.count("amount_minor")?,
        },
        "REDEEM" => Act::Redeem {
            points: line.count("points")?,
        },
        "RETURN" => Act::Return {
            amount_minor: line.count("amount_minor")?,
            check_id: line.required("reference")?.to_owned(),
        },
        "REVERSE_REDEEM" => Act::ReverseRedeem {
            points: line.count("points")?,
            check_id: line.required("reference")?.to_owned(),
        },
        _ => {
            return Err(line.wrong(
                "type",
                "is not one of EARN, REDEEM, RETURN, REVERSE_REDEEM, CUT",
            ));
        }
    };
    let partner = codes.get(line.required("partner")?);
    let next = members.len();
    let visit = Visit {
        partner: *partner.ok_or_else(|| line.wrong("partner", "is not among the partners"))?,
        location: line.text("location")?.to_owned(),
        member: *members
            .entry(line.required("member")?.to_owned())
            .or_insert(next),
        check_id: line.required("check_id")?.to_owned(),
        act,
    };
    let deed = Deed::Visit(visit);
    Ok(Row { seq, at, deed })
}

fn read_partners(path: &Path) -> anyhow::Result<Vec<PartnerRow>> {
    let mut table = Table::open(
        path,
        &[
            "partner",
            "kind",
            "display_name",
            "currency",
            "points_per_unit",
            "lot_lifetime_days",
            "settle_at",
            "issue_price",
            "redemption_price",
            "reimbursement",
            "redemption_fee_rate",
        ],
    )?;
    let mut partners: Vec<PartnerRow> = Vec::new();
    while let Some(line) = table.next()? {
        let row = partner(&line)?;
        if partners
            .iter()
            .any(|known| known.partner.code == row.partner.code)
        {
            return Err(line.wrong("partner", "is there already"));
        }
        partners.push(row);
    }
    Ok(partners)
}

fn partner(line: &Line<'_>) -> anyhow::Result<PartnerRow> {
    use LegTrigger::{Earn, Redeem};
    use PartyRole::{Issuer, Operator, Redeemer};

    let kind = match line.required("kind")? {
        "RESTAURANT" => PartnerKind::Restaurant,
        "SALON" => PartnerKind::Salon,
        "SHOP" => PartnerKind::Shop,
        "OTHER" => PartnerKind::Other,
        _ => return Err(line.wrong("kind", "is not one of RESTAURANT, SALON, SHOP, OTHER")),
    };
    if !matches!(line.required("settle_at")?, "ISSUE" | "REDEMPTION") {
        return Err(line.wrong("settle_at", "is neither ISSUE nor REDEMPTION"));
    }
    let lot_lifetime_days = i32::try_from(line.count("lot_lifetime_days")?)
        .map_err(|_| line.wrong("lot_lifetime_days", "is too long"))?;
    let currency_code = line.required("currency")?.to_owned();
    let per_point = [
        (Earn, Issuer, Operator, "issue_price"),
        (Redeem, Issuer, Operator, "redemption_price"),
        (Redeem, Operator, Redeemer, "reimbursement"),
    ];
    let mut legs = Vec::new();
    for (trigger, from, to, column) in per_point {
        let (basis, rounding) = (LegBasis::PerPoint, LegRounding::Micro);
        legs.extend(leg(line, column, trigger, from, to, basis, rounding)?);
    }
    let (basis, rounding) = (LegBasis::FaceValue, LegRounding::Minor);
    legs.extend(leg(
        line,
        "redemption_fee_rate",
        Redeem,
        Redeemer,
        Operator,
        basis,
        rounding,
    )?);
    let terms = Terms {
        currency_code: currency_code.clone(),
        points_per_unit: line.decimal("points_per_unit")?,
        lot_lifetime_days,
        legs,
        ..Terms::default()
    };
    Ok(PartnerRow {
        partner: NewPartner {
            code: line.required("partner")?.to_owned(),
            display_name: line.required("display_name")?.to_owned(),
            kind,
        },
        currency_code,
        lot_lifetime_days: lot_lifetime_days.unsigned_abs(),
        terms,
    })
}

/// The leg with the rate that stands in a column; none where the rate is zero.
fn leg(
    line: &Line<'_>,
    column: &str,
    trigger: LegTrigger,
    from: PartyRole,
    to: PartyRole,
    basis: LegBasis,
    rounding: LegRounding,
) -> anyhow::Result<Option<Leg>> {
    let rate = line.decimal(column)?;
    if rate.chars().all(|c| matches!(c, '0' | '.')) {
        return Ok(None);
    }
    let party = |role: PartyRole| {
        Some(LegParty {
            party: Some(PartyKey::Role(role.into())),
        })
    };
    Ok(Some(Leg {
        trigger: trigger.into(),
        from: party(from),
        to: party(to),
        basis: basis.into(),
        rate,
        min: None,
        max: None,
        rounding: Some(rounding.into()),
    }))
}

/// What a window should come to, by the number of the cut that closed it.
pub(super) type ExpectedWindows = BTreeMap<usize, ExpectedWindow>;

#[derive(Clone, Debug)]
pub(super) struct ExpectedWindow {
    pub(super) closed_at: Timestamp,
    /// By what the journal calls the partner.
    pub(super) partners: BTreeMap<String, ExpectedPartner>,
    pub(super) operator: Option<Net>,
}

/// What a party should be owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Net {
    pub(super) micros: i64,
    pub(super) minor: i64,
}

/// What a partner should have done, in points, and be owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExpectedPartner {
    pub(super) issued: i64,
    pub(super) clawed_back: i64,
    pub(super) redeemed_at: i64,
    pub(super) redeemed_of: i64,
    pub(super) expired: i64,
    pub(super) net: Net,
}

/// The expected windows, and how many rows there are of them.
pub(super) fn read_windows(path: &Path) -> anyhow::Result<(ExpectedWindows, usize)> {
    let mut table = Table::open(
        path,
        &[
            "window",
            "closed_at",
            "partner",
            "issued",
            "clawed_back",
            "redeemed_at",
            "redeemed_of",
            "expired",
            "net_micros",
            "net_minor",
        ],
    )?;
    let mut windows = ExpectedWindows::new();
    let mut rows = 0;
    while let Some(line) = table.next()? {
        let closed_at = line.instant("closed_at")?;
        let number = usize::try_from(line.count("window")?)?;
        let window = windows.entry(number).or_insert_with(|| ExpectedWindow {
            closed_at,
            partners: BTreeMap::new(),
            operator: None,
        });
        if window.closed_at != closed_at {
            return Err(line.wrong("closed_at", "differs from other rows of this window"));
        }
        let net = Net {
            micros: line.integer("net_micros")?,
            minor: line.integer("net_minor")?,
        };
        let code = line.required("partner")?;
        let before = if code == OPERATOR {
            window.operator.replace(net).is_some()
        } else {
            let expected = ExpectedPartner {
                issued: line.integer("issued")?,
                clawed_back: line.integer("clawed_back")?,
                redeemed_at: line.integer("redeemed_at")?,
                redeemed_of: line.integer("redeemed_of")?,
                expired: line.integer("expired")?,
                net,
            };
            window.partners.insert(code.to_owned(), expected).is_some()
        };
        if before {
            return Err(line.wrong("partner", "is in this window already"));
        }
        rows += 1;
    }
    Ok((windows, rows))
}

/// The expected balances, by what the journal calls the members.
pub(super) fn read_balances(path: &Path) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut table = Table::open(path, &["member", "balance"])?;
    let mut balances = BTreeMap::new();
    while let Some(line) = table.next()? {
        let member = line.required("member")?.to_owned();
        if balances.insert(member, line.integer("balance")?).is_some() {
            return Err(line.wrong("member", "is there already"));
        }
    }
    Ok(balances)
}
