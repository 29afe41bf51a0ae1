//! Returns, refunds and reversals.

use coalition_ledger::agreement::settle_at_issue;
use coalition_ledger::command::{
    Action, Earn, Original, Redeem, RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::decision::Refusal;
use coalition_ledger::ids::TransactionId;
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::transaction::{Decline, Kind};
use uuid::Uuid;

use super::{NOBODY, OTHER, SHOP, Says, Scene, Table};
use crate::support::commands::{IntoAction, checked, command};
use crate::support::{
    Builder, DAY, Network, after, dec, earn, enroll, euros, member, partner, redeem, refund,
    return_earn, reverse, terms,
};

/// The request ids, in the operators' scope, of what the network has seen.
mod seen {
    pub(super) const ENROLMENT: u128 = 1;
    pub(super) const EARN: u128 = 2;
    pub(super) const REDEMPTION: u128 = 3;
    pub(super) const DECLINED_EARN: u128 = 4;
    pub(super) const DECLINED_REDEMPTION: u128 = 5;
    pub(super) const OTHERS_EARN: u128 = 6;
    pub(super) const OTHERS_REDEMPTION: u128 = 7;
    pub(super) const RETURNED_EARN: u128 = 8;
    pub(super) const REVERSED_EARN: u128 = 9;
    pub(super) const NOTHING: u128 = 10;
    pub(super) const UNDONE_EARLY: u128 = 11;
}

/// A network in which everything has happened that a command may try to undo.
fn network() -> Network {
    let legs = settle_at_issue(dec("0.01"), dec("0.008"));
    let mut network = Builder::new()
        .partner(partner(SHOP), terms(legs.clone()))
        .partner(partner(OTHER), terms(legs))
        .build();
    let mut run = |id: u128, action: Action| {
        network.run_one(&command(id, Uuid::nil(), action));
    };
    let buy = |number| earn(partner(number), member(1), euros("100.00"));
    let spend = |number, points| redeem(partner(number), member(1), points);
    run(seen::ENROLMENT, enroll(member(1)));
    run(
        seen::EARN,
        Action::Earn(Earn {
            context: checked("A"),
            ..buy(SHOP)
        }),
    );
    run(seen::REDEMPTION, Action::Redeem(spend(SHOP, 30)));
    run(
        seen::DECLINED_EARN,
        Action::Earn(Earn {
            context: checked("A"),
            ..buy(SHOP)
        }),
    );
    run(
        seen::DECLINED_REDEMPTION,
        Action::Redeem(spend(SHOP, 5_000)),
    );
    run(seen::OTHERS_EARN, Action::Earn(buy(OTHER)));
    run(seen::OTHERS_REDEMPTION, Action::Redeem(spend(OTHER, 30)));
    run(seen::RETURNED_EARN, Action::Earn(buy(SHOP)));
    run(seen::REVERSED_EARN, Action::Earn(buy(SHOP)));
    let original = |id| Original::Request(Uuid::from_u128(id));
    let ret = return_earn(
        partner(SHOP),
        original(seen::RETURNED_EARN),
        euros("100.00"),
    );
    run(
        100,
        Action::ReturnEarn(ReturnEarn {
            context: checked("slip"),
            ..ret
        }),
    );
    let ret = refund(partner(SHOP), original(seen::REDEMPTION), 1);
    run(
        101,
        Action::RefundRedemption(RefundRedemption {
            context: checked("slip"),
            ..ret
        }),
    );
    let undo = |id| reverse(partner(SHOP), Kind::Earn, Uuid::from_u128(id));
    run(102, Action::Reverse(undo(seen::REVERSED_EARN)));
    run(103, Action::Reverse(undo(seen::UNDONE_EARLY)));
    network
}

fn scene<C: Clone + IntoAction>(command: C) -> Scene<C> {
    let mut scene = Scene::new(network(), command);
    scene.key.scope = Uuid::nil();
    scene
}

/// The transaction that a request of the history led to.
fn transaction(network: &Network, id: u128) -> Original {
    let key = RequestKey {
        id: Uuid::from_u128(id),
        scope: Uuid::nil(),
    };
    Original::Transaction(TransactionId::from_uuid(
        network.store.requests[&key].subject_id,
    ))
}

fn suspend<C>(scene: &mut Scene<C>) {
    scene
        .network
        .set_partner_status(partner(SHOP), PartnerStatus::Suspended);
}

fn unknown_partner() -> Says {
    Says::Refused(Refusal::UnknownPartner(partner(NOBODY)))
}

const SUSPENDED: Says = Says::Declined(Decline::PartnerSuspended);
const UNKNOWN: Says = Says::Refused(Refusal::UnknownOriginal);
const WRONG_KIND: Says = Says::Refused(Refusal::WrongKind);
const WAS_DECLINED: Says = Says::Declined(Decline::OriginalWasDeclined);
const USED_SLIP: Says = Says::Declined(Decline::CheckAlreadyReturned);
const TIME: Says = Says::Refused(Refusal::OccurredAtOutOfRange);
const OUT_OF_RANGE: Says = Says::Refused(Refusal::OutOfRange);

#[test]
fn returns() {
    let scene = || {
        let original = transaction(&network(), seen::EARN);
        scene(return_earn(partner(SHOP), original, euros("10.00")))
    };
    Table::new(scene)
        .fault(
            "partner",
            "an unknown partner",
            unknown_partner(),
            |scene| {
                scene.command.partner = partner(NOBODY);
            },
        )
        .fault("partner", "suspended", SUSPENDED, suspend)
        .fault("original", "no such check", UNKNOWN, |scene| {
            scene.command.original = Original::Check("B".into());
        })
        .fault("original", "no such request", UNKNOWN, |scene| {
            scene.command.original = Original::Request(Uuid::from_u128(seen::NOTHING));
        })
        .fault("original", "an enrolment", UNKNOWN, |scene| {
            scene.command.original = Original::Request(Uuid::from_u128(seen::ENROLMENT));
        })
        .fault("original", "another partner's earn", UNKNOWN, |scene| {
            scene.command.original = transaction(&scene.network, seen::OTHERS_EARN);
        })
        .fault(
            "original",
            "another partner's redemption",
            UNKNOWN,
            |scene| {
                scene.command.original = transaction(&scene.network, seen::OTHERS_REDEMPTION);
            },
        )
        .fault("original", "a redemption", WRONG_KIND, |scene| {
            scene.command.original = transaction(&scene.network, seen::REDEMPTION);
        })
        .fault("original", "a declined redemption", WRONG_KIND, |scene| {
            scene.command.original = transaction(&scene.network, seen::DECLINED_REDEMPTION);
        })
        .fault("original", "a declined earn", WAS_DECLINED, |scene| {
            scene.command.original = transaction(&scene.network, seen::DECLINED_EARN);
        })
        .fault("", "a used slip", USED_SLIP, |scene| {
            scene.command.context = checked("slip");
        })
        .fault("", "too old", TIME, |scene| {
            scene.command.occurred_at = Some(after(-7 * DAY - 1));
        })
        .fault(
            "",
            "another currency",
            Says::Refused(Refusal::CurrencyMismatch {
                expected: Currency::EUR,
            }),
            |scene| scene.command.currency = Currency::USD,
        )
        .fault("amount", "nothing", OUT_OF_RANGE, |scene| {
            scene.command.returned = Minor::ZERO;
        })
        .fault(
            "amount",
            "more than is left",
            Says::Declined(Decline::ReturnExceedsCheck),
            |scene| scene.command.returned = euros("100.01"),
        )
        .fault(
            "original",
            "all returned",
            Says::Declined(Decline::ReturnExceedsCheck),
            |scene| {
                scene.command.original = transaction(&scene.network, seen::RETURNED_EARN);
            },
        )
        .check();
}

#[test]
fn refunds() {
    let scene = || {
        let original = transaction(&network(), seen::REDEMPTION);
        scene(refund(partner(SHOP), original, 10))
    };
    Table::new(scene)
        .fault(
            "partner",
            "an unknown partner",
            unknown_partner(),
            |scene| {
                scene.command.partner = partner(NOBODY);
            },
        )
        .fault("partner", "suspended", SUSPENDED, suspend)
        .fault("original", "no such request", UNKNOWN, |scene| {
            scene.command.original = Original::Request(Uuid::from_u128(seen::NOTHING));
        })
        .fault(
            "original",
            "another partner's redemption",
            UNKNOWN,
            |scene| {
                scene.command.original = transaction(&scene.network, seen::OTHERS_REDEMPTION);
            },
        )
        .fault("original", "another partner's earn", UNKNOWN, |scene| {
            scene.command.original = transaction(&scene.network, seen::OTHERS_EARN);
        })
        .fault("original", "an earn", WRONG_KIND, |scene| {
            scene.command.original = transaction(&scene.network, seen::EARN);
        })
        .fault("original", "a declined earn", WRONG_KIND, |scene| {
            scene.command.original = transaction(&scene.network, seen::DECLINED_EARN);
        })
        .fault("original", "a declined redemption", WAS_DECLINED, |scene| {
            scene.command.original = transaction(&scene.network, seen::DECLINED_REDEMPTION);
        })
        .fault("", "a used slip", USED_SLIP, |scene| {
            scene.command.context = checked("slip");
        })
        .fault("", "too old", TIME, |scene| {
            scene.command.occurred_at = Some(after(-7 * DAY - 1));
        })
        .fault("points", "none", OUT_OF_RANGE, |scene| {
            scene.command.points = Points::ZERO;
        })
        .fault(
            "points",
            "more than are left",
            Says::Declined(Decline::RefundExceedsRedemption),
            |scene| scene.command.points = Points::new(30),
        )
        .check();
}

fn name(scene: &mut Scene<Reverse>, kind: Kind, id: u128) {
    scene.command.kind = kind;
    scene.command.original_request = Uuid::from_u128(id);
}

#[test]
fn reversals() {
    let scene = || {
        scene(reverse(
            partner(SHOP),
            Kind::Earn,
            Uuid::from_u128(seen::EARN),
        ))
    };
    let not_found = Says::Declined(Decline::OriginalNotFound);
    let nothing_left = Says::Declined(Decline::AlreadyReversed);
    Table::new(scene)
        .fault(
            "partner",
            "an unknown partner",
            unknown_partner(),
            |scene| {
                scene.command.partner = partner(NOBODY);
            },
        )
        .fault("partner", "suspended", SUSPENDED, suspend)
        .fault("original", "itself", WRONG_KIND, |scene| {
            scene.command.original_request = scene.key.id;
        })
        .fault("original", "no such request", not_found, |scene| {
            name(scene, Kind::Earn, seen::NOTHING);
        })
        .fault(
            "original",
            "undone before it arrived, again",
            Says::Replayed,
            |scene| {
                name(scene, Kind::Earn, seen::UNDONE_EARLY);
            },
        )
        .fault("original", "an enrolment", WRONG_KIND, |scene| {
            name(scene, Kind::Earn, seen::ENROLMENT);
        })
        .fault(
            "original",
            "another partner's redemption",
            UNKNOWN,
            |scene| {
                name(scene, Kind::Earn, seen::OTHERS_REDEMPTION);
            },
        )
        .fault("original", "another partner's earn", UNKNOWN, |scene| {
            name(scene, Kind::Earn, seen::OTHERS_EARN);
        })
        .fault(
            "original",
            "a declined redemption as an earn",
            WRONG_KIND,
            |scene| {
                name(scene, Kind::Earn, seen::DECLINED_REDEMPTION);
            },
        )
        .fault("original", "a declined earn", WAS_DECLINED, |scene| {
            name(scene, Kind::Earn, seen::DECLINED_EARN);
        })
        .fault("original", "undone before", Says::Replayed, |scene| {
            name(scene, Kind::Earn, seen::REVERSED_EARN);
        })
        .fault("original", "returned whole", nothing_left, |scene| {
            name(scene, Kind::Earn, seen::RETURNED_EARN);
        })
        .fault("", "too old", TIME, |scene| {
            scene.command.occurred_at = Some(after(-7 * DAY - 1));
        })
        .check();
}

#[test]
fn a_sale_that_spent_the_check_is_told_who_was_first() {
    let mut network = network();
    let again = Earn {
        context: checked("A"),
        ..earn(partner(SHOP), member(1), euros("1.00"))
    };
    let decision = network.send(Action::Earn(again));
    let coalition_ledger::decision::Decision::Recorded {
        transaction: record,
        ..
    } = decision
    else {
        panic!("not recorded");
    };
    let Original::Transaction(first) = transaction(&network, seen::EARN) else {
        unreachable!()
    };
    assert_eq!(record.original, Some(first));
}

#[test]
fn a_redemption_may_use_the_number_of_a_check_that_earned() {
    let spend = Redeem {
        context: checked("A"),
        ..redeem(partner(SHOP), member(1), 1)
    };
    network().must_post(Action::Redeem(spend));
}
