//! Terms that scenarios agree on. A check of one minor unit earns one point, so that a scenario says
//! points where it means points.

use coalition_proto::partner::terms::Preset;
use coalition_proto::partner::{
    Bilateral, Funder, Prepaid, SettleAtIssue, SettleAtRedemption, Terms,
};

/// Points per major unit: of a currency with two decimals, one per minor unit.
pub const POINT_PER_MINOR: &str = "100";

/// How long lots of these terms live.
pub const LIFETIME_DAYS: i32 = 365;

/// Terms without any leg: points cost nobody anything.
pub fn bare(currency: &str) -> Terms {
    Terms {
        currency_code: currency.to_owned(),
        points_per_unit: POINT_PER_MINOR.to_owned(),
        lot_lifetime_days: LIFETIME_DAYS,
        ..Terms::default()
    }
}

/// The issuer pays as points are earned.
pub fn settle_at_issue(currency: &str, issue_price: &str, reimbursement: &str) -> Terms {
    let preset = Preset::SettleAtIssue(SettleAtIssue {
        issue_price_per_point: issue_price.to_owned(),
        reimbursement_per_point: reimbursement.to_owned(),
    });
    Terms {
        preset: Some(preset),
        ..bare(currency)
    }
}

/// The issuer pays as points are spent.
pub fn settle_at_redemption(currency: &str, redemption_price: &str, reimbursement: &str) -> Terms {
    let preset = Preset::SettleAtRedemption(SettleAtRedemption {
        redemption_price_per_point: redemption_price.to_owned(),
        reimbursement_per_point: reimbursement.to_owned(),
    });
    Terms {
        preset: Some(preset),
        ..bare(currency)
    }
}

/// Issuer and redeemer settle directly.
pub fn bilateral(currency: &str, price: &str, fee: &str) -> Terms {
    let preset = Preset::Bilateral(Bilateral {
        price_per_point: price.to_owned(),
        fee_per_point: fee.to_owned(),
    });
    Terms {
        preset: Some(preset),
        ..bare(currency)
    }
}

/// The issuer pays as points are earned, out of funds.
pub fn prepaid(currency: &str, issue_price: &str, reimbursement: &str) -> Terms {
    let preset = Preset::Prepaid(Prepaid {
        issue_price_per_point: issue_price.to_owned(),
        reimbursement_per_point: reimbursement.to_owned(),
    });
    Terms {
        preset: Some(preset),
        ..bare(currency)
    }
}

/// A share in who issues what a check earns.
pub fn funder(party: &str, weight: i32) -> Funder {
    Funder {
        party: party.to_owned(),
        weight,
    }
}
