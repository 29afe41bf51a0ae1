//! Earning and spending.

use coalition_ledger::agreement::{Funder, Terms, settle_at_issue, settle_at_redemption};
use coalition_ledger::command::{Action, Earn, Redeem};
use coalition_ledger::decision::Refusal;
use coalition_ledger::member::MemberStatus;
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::transaction::Decline;

use super::{NOBODY, OTHER, SHOP, Says, Scene, Table};
use crate::support::commands::checked;
use crate::support::{
    Builder, DAY, MINUTE, Network, after, dec, deposit, earn, euros, member, partner, redeem, terms,
};

/// A member with 150 points; the shop shares its issues with the other one, and both have a
/// headroom of 5 euros.
fn network() -> Network {
    let mut legs = settle_at_issue(dec("0.01"), dec("0.008"));
    legs.extend(settle_at_redemption(dec("0.01"), dec("0.008")));
    let funders = [SHOP, OTHER].map(|number| Funder {
        party: partner(number).into(),
        weight: 1,
    });
    let shop = Terms {
        funders: funders.to_vec(),
        limit: Some(Micros::new(5_000_000)),
        ..terms(legs.clone())
    };
    let other = Terms {
        limit: Some(Micros::new(5_000_000)),
        ..terms(legs)
    };
    let mut network = Builder::new()
        .partner(partner(SHOP), shop)
        .partner(partner(OTHER), other)
        .build();
    network.enroll(member(1));
    let buy = earn(partner(SHOP), member(1), euros("150.00"));
    network.must_post(Action::Earn(Earn {
        context: checked("used"),
        ..buy
    }));
    let spend = redeem(partner(SHOP), member(1), 10);
    network.must_post(Action::Redeem(Redeem {
        context: checked("used"),
        ..spend
    }));
    // What the history used of the headroom is paid in again.
    for number in [SHOP, OTHER] {
        let used = network.position(partner(number)).debits;
        let used = used.to_minor(Currency::EUR).expect("in range");
        network.must_post(Action::Fund(deposit(partner(number), used)));
    }
    network
}

fn suspend<C>(scene: &mut Scene<C>) {
    scene
        .network
        .set_partner_status(partner(SHOP), PartnerStatus::Suspended);
}

fn freeze<C>(scene: &mut Scene<C>) {
    scene.network.set_status(member(1), MemberStatus::Frozen);
}

fn close<C>(scene: &mut Scene<C>) {
    scene.network.set_status(member(1), MemberStatus::Closed);
}

/// Takes a partner's agreements away.
fn disagree<C>(scene: &mut Scene<C>, number: u8) {
    scene
        .network
        .terms
        .agreements
        .retain(|agreement| agreement.partner != partner(number));
    scene.network.rulebook = scene.network.terms.rulebook();
}

const UNKNOWN_PARTNER: Says = Says::Refused(Refusal::UnknownPartner(
    coalition_ledger::ids::PartnerId::from_uuid(uuid::Uuid::from_u128(0x0a00 + 99)),
));
const IN_EUROS: Says = Says::Refused(Refusal::CurrencyMismatch {
    expected: Currency::EUR,
});
const NO_AGREEMENT: Says = Says::Declined(Decline::NoAgreementInForce);
const OUT_OF_RANGE: Says = Says::Refused(Refusal::OutOfRange);
const TIME: Says = Says::Refused(Refusal::OccurredAtOutOfRange);

#[test]
fn earns() {
    assert_eq!(
        UNKNOWN_PARTNER,
        Says::Refused(Refusal::UnknownPartner(partner(NOBODY)))
    );
    let scene = || Scene::new(network(), earn(partner(SHOP), member(1), euros("10.00")));
    Table::new(scene)
        .fault("partner", "an unknown partner", UNKNOWN_PARTNER, |scene| {
            scene.command.partner = partner(NOBODY);
        })
        .fault(
            "partner",
            "suspended",
            Says::Declined(Decline::PartnerSuspended),
            suspend,
        )
        .fault(
            "",
            "an unknown member",
            Says::Refused(Refusal::UnknownMember),
            |scene| {
                scene.command.member = member(99);
            },
        )
        .fault(
            "",
            "a used check",
            Says::Declined(Decline::CheckAlreadyEarned),
            |scene| {
                scene.command.context = checked("used");
            },
        )
        .fault(
            "status",
            "frozen",
            Says::Declined(Decline::MemberFrozen),
            freeze,
        )
        .fault(
            "status",
            "closed",
            Says::Declined(Decline::MemberClosed),
            close,
        )
        .fault("time", "too old", TIME, |scene| {
            scene.command.occurred_at = Some(after(-7 * DAY - 1));
        })
        .fault("time", "too far ahead", TIME, |scene| {
            scene.command.occurred_at = Some(after(5 * MINUTE + 1));
        })
        .fault("", "no agreement", NO_AGREEMENT, |scene| {
            disagree(scene, SHOP);
        })
        .fault("", "another currency", IN_EUROS, |scene| {
            scene.command.currency = Currency::USD;
        })
        .fault("", "a tip below zero", OUT_OF_RANGE, |scene| {
            scene.command.amounts.tip = Minor::new(-1);
        })
        .fault(
            "amounts",
            "deductions above the check",
            Says::Refused(Refusal::NegativeBasis),
            |scene| scene.command.amounts.discounts = euros("10000.00"),
        )
        .fault("", "a funder without agreement", NO_AGREEMENT, |scene| {
            disagree(scene, OTHER);
        })
        .fault("amounts", "beyond the books", OUT_OF_RANGE, |scene| {
            scene.command.amounts.gross = Minor::new(i64::MAX);
        })
        .fault(
            "amounts",
            "more than the headroom pays for",
            Says::Declined(Decline::LimitExceeded),
            |scene| scene.command.amounts.gross = euros("1002.00"),
        )
        .check();
}

#[test]
fn redemptions() {
    let scene = || Scene::new(network(), redeem(partner(SHOP), member(1), 10));
    Table::new(scene)
        .fault("partner", "an unknown partner", UNKNOWN_PARTNER, |scene| {
            scene.command.partner = partner(NOBODY);
        })
        .fault(
            "partner",
            "suspended",
            Says::Declined(Decline::PartnerSuspended),
            suspend,
        )
        .fault(
            "",
            "an unknown member",
            Says::Refused(Refusal::UnknownMember),
            |scene| {
                scene.command.member = member(99);
            },
        )
        .fault(
            "",
            "a used check",
            Says::Declined(Decline::CheckAlreadyRedeemed),
            |scene| {
                scene.command.context = checked("used");
            },
        )
        .fault(
            "status",
            "frozen",
            Says::Declined(Decline::MemberFrozen),
            freeze,
        )
        .fault(
            "status",
            "closed",
            Says::Declined(Decline::MemberClosed),
            close,
        )
        .fault("time", "too old", TIME, |scene| {
            scene.command.occurred_at = Some(after(-7 * DAY - 1));
        })
        .fault("time", "too far ahead", TIME, |scene| {
            scene.command.occurred_at = Some(after(5 * MINUTE + 1));
        })
        .fault("", "no agreement", NO_AGREEMENT, |scene| {
            disagree(scene, SHOP);
        })
        .fault("total", "another currency", IN_EUROS, |scene| {
            scene.command.check_total = Some((Minor::new(1), Currency::USD));
        })
        .fault("total", "a total below zero", OUT_OF_RANGE, |scene| {
            scene.command.check_total = Some((Minor::new(-1), Currency::EUR));
        })
        .fault("points", "no points", OUT_OF_RANGE, |scene| {
            scene.command.points = Points::ZERO;
        })
        .fault(
            "points",
            "more than the balance",
            Says::Declined(Decline::InsufficientPoints),
            |scene| scene.command.points = Points::new(1_000_000),
        )
        .fault(
            "",
            "no headroom",
            Says::Declined(Decline::LimitExceeded),
            |scene| {
                let shop = scene.network.terms.agreements.iter_mut();
                shop.for_each(|agreement| agreement.terms.limit = Some(Micros::new(0)));
                scene.network.rulebook = scene.network.terms.rulebook();
            },
        )
        .check();
}

#[test]
fn an_occurrence_at_either_end_of_its_range_is_believed() {
    for micros in [-7 * DAY, 5 * MINUTE] {
        let buy = earn(partner(SHOP), member(1), euros("10.00"));
        let occurred_at = Some(after(micros));
        network().must_post(Action::Earn(Earn { occurred_at, ..buy }));
    }
}
