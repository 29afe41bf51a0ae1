//! What a batch says it needs to know.

use coalition_ledger::command::{CheckKey, Command, Draws, Keys, Original, RequestKey};
use coalition_ledger::ids::TransactionId;
use coalition_ledger::money::Points;
use coalition_ledger::transaction::Kind;
use uuid::Uuid;

use crate::support::commands::{IntoAction, checked, command};
use crate::support::{
    deposit, earn, enroll, euros, member, partner, redeem, refund, return_earn, reverse, sweep,
};

/// Request numbers in the order of the commands, all in the first partner's scope.
fn batch(actions: Vec<coalition_ledger::command::Action>) -> Vec<Command> {
    let scope = partner(1).uuid();
    (1..)
        .zip(actions)
        .map(|(number, action)| command(number, scope, action))
        .collect()
}

fn request(number: u128) -> RequestKey {
    RequestKey {
        id: Uuid::from_u128(number),
        scope: partner(1).uuid(),
    }
}

fn check(kind: Kind, check_id: &str) -> CheckKey {
    CheckKey {
        partner: partner(1),
        kind,
        check_id: check_id.to_owned(),
    }
}

#[test]
fn members_are_named_with_what_is_drawn_from_their_lots() {
    let mut commands = batch(vec![
        earn(partner(1), member(1), euros("1.00")).into_action(),
        redeem(partner(1), member(2), 1).into_action(),
        redeem(partner(2), member(2), 30).into_action(),
        enroll(member(3)),
    ]);
    commands.push(sweep(member(4)));
    let members: Vec<_> = Keys::of(&commands).members.into_iter().collect();
    let draws = |count, points| Draws {
        count,
        points: Points::new(points),
    };
    let drawn = [
        (member(1), draws(0, 0)),
        (member(2), draws(2, 31)),
        (member(4), draws(0, 0)),
    ];
    assert_eq!(members, drawn);
}

#[test]
fn what_is_drawn_is_counted_as_far_as_points_go() {
    let of = |points: [i64; 2]| {
        let redeem = |points| redeem(partner(1), member(1), points).into_action();
        let keys = Keys::of(&batch(points.map(redeem).into()));
        keys.members[&member(1)].points.get()
    };
    assert_eq!(of([i64::MAX, 1]), i64::MAX);
    assert_eq!(of([5, -3]), 5, "an ill request draws nothing");
}

#[test]
fn own_names_and_those_of_originals_are_kept_apart() {
    let slip = |mut ret: coalition_ledger::command::ReturnEarn| {
        ret.context = checked("slip");
        ret.into_action()
    };
    let transaction = TransactionId::from_uuid(Uuid::from_u128(7));
    let by_check = Original::Check("A".into());
    let by_request = Original::Request(Uuid::from_u128(99));
    let keys = Keys::of(&batch(vec![
        slip(return_earn(partner(1), by_check.clone(), euros("1.00"))),
        refund(partner(1), by_check, 1).into_action(),
        refund(partner(1), by_request, 1).into_action(),
        refund(partner(1), Original::Transaction(transaction), 1).into_action(),
        reverse(partner(1), Kind::Earn, Uuid::from_u128(98)).into_action(),
    ]));
    assert_eq!(keys.requests, (1..=5).map(request).collect());
    assert_eq!(keys.original_requests, [98, 99].map(request).into());
    assert_eq!(keys.checks, [check(Kind::ReturnEarn, "slip")].into());
    let originals = [check(Kind::Earn, "A"), check(Kind::Redeem, "A")];
    assert_eq!(keys.original_checks, originals.into());
    assert_eq!(keys.transactions, [transaction].into());
    assert!(
        keys.members.is_empty(),
        "they are found through the originals"
    );
}

#[test]
fn funds_name_the_position_that_they_move() {
    let keys = Keys::of(&batch(vec![
        deposit(partner(2), euros("1.00")).into_action(),
    ]));
    assert_eq!(keys.positions, [(partner(2), "EUR")].into());
}
