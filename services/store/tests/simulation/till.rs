//! What tills and operators ask for: right and wrong, and often of the same members and checks.

use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Enroll, Fund, NewIdentifier, Original, Redeem,
    RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::ids::MemberId;
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::{Context, Kind};
use uuid::Uuid;

use super::desk::Desk;
use super::world::{MEMBERS, PARTNERS, member, partner};

/// Check numbers that tills use: few, so that they meet.
const CHECKS: u32 = 8;
/// A member whom nobody enrols.
const NOBODY: u32 = 99;
/// Numbers of members who enrol during a run begin here.
const FIRST_NEW_MEMBER: u32 = 100;
/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

/// Adds what a caller asks for next; the places of its commands, in order.
pub(crate) fn next_call(rng: &mut fastrand::Rng, desk: &mut Desk, now: Timestamp) -> Vec<usize> {
    let count = match rng.u32(0..10) {
        0 => rng.usize(2..=5),
        _ => 1,
    };
    (0..count).map(|_| next(rng, desk, now)).collect()
}

fn next(rng: &mut fastrand::Rng, desk: &mut Desk, now: Timestamp) -> usize {
    match rng.u32(0..100) {
        0..=5 if !desk.asked.is_empty() => rng.usize(0..desk.asked.len()),
        6..=7 if !desk.asked.is_empty() => other_body(rng, desk, now),
        _ => {
            let action = action(rng, desk, now);
            ask(rng, desk, action)
        }
    }
}

/// Adds a command under a request id of its own; now and then one that was undone before.
fn ask(rng: &mut fastrand::Rng, desk: &mut Desk, action: Action) -> usize {
    let scope = scope_of(&action);
    let fresh = Uuid::from_u128(0x1000 + desk.asked.len() as u128);
    let undone = desk
        .asked
        .iter()
        .filter_map(|asked| match &asked.command.action {
            Action::Reverse(reverse) if reverse.partner.uuid() == scope => {
                Some(reverse.original_request)
            }
            _ => None,
        });
    let undone: Vec<Uuid> = undone.collect();
    let id = match undone.len() {
        0 => fresh,
        count if rng.u32(0..20) == 0 => undone[rng.usize(0..count)],
        _ => fresh,
    };
    add(desk, RequestKey { id, scope }, action)
}

/// Adds a command under the request id of another.
fn other_body(rng: &mut fastrand::Rng, desk: &mut Desk, now: Timestamp) -> usize {
    let place = rng.usize(0..desk.asked.len());
    let (key, _) = desk.asked[place].command.request.expect("a request id");
    let action = action(rng, desk, now);
    add(desk, key, action)
}

/// Adds a command; its fingerprint is the place that it has.
pub(crate) fn add(desk: &mut Desk, key: RequestKey, action: Action) -> usize {
    let fingerprint = (1 + desk.asked.len() as u128).to_be_bytes();
    desk.add(Command {
        request: Some((key, fingerprint)),
        action,
    })
}

fn scope_of(action: &Action) -> Uuid {
    match action {
        Action::Earn(Earn { partner, .. })
        | Action::ReturnEarn(ReturnEarn { partner, .. })
        | Action::Redeem(Redeem { partner, .. })
        | Action::RefundRedemption(RefundRedemption { partner, .. })
        | Action::Reverse(Reverse { partner, .. }) => partner.uuid(),
        Action::Enroll(_) | Action::Fund(_) | Action::Sweep(_) => Uuid::nil(),
    }
}

fn context(rng: &mut fastrand::Rng) -> Context {
    let check_id = (rng.u32(0..3) == 0).then(|| format!("c{}", rng.u32(0..CHECKS)));
    Context {
        check_id,
        ..Context::default()
    }
}

fn action(rng: &mut fastrand::Rng, desk: &Desk, now: Timestamp) -> Action {
    match rng.u32(0..100) {
        0..=3 => {
            let number = u32::try_from(desk.asked.len()).expect("few");
            enroll(FIRST_NEW_MEMBER + number, rng.u8(0..6))
        }
        4..=33 => earn(rng, desk, now),
        34..=61 => redeem(rng, desk),
        62..=72 => return_earn(rng, desk).unwrap_or_else(|| earn(rng, desk, now)),
        73..=82 => refund(rng, desk).unwrap_or_else(|| redeem(rng, desk)),
        83..=89 => reverse(rng, desk).unwrap_or_else(|| redeem(rng, desk)),
        90..=91 => reverse_before(rng, desk),
        _ => fund(rng),
    }
}

pub(crate) fn enroll(number: u32, identifier: u8) -> Action {
    let identifier = NewIdentifier {
        hash: [identifier; 32],
        kind: 1,
        masked: "••••".to_owned(),
    };
    Action::Enroll(Enroll {
        member: member(number),
        identifiers: vec![identifier],
    })
}

/// Whom a call names: mostly one of the first members, who meet there.
fn someone(rng: &mut fastrand::Rng, desk: &Desk) -> MemberId {
    let mut new = desk
        .asked
        .iter()
        .filter_map(|asked| match &asked.command.action {
            Action::Enroll(enroll) => Some(enroll.member),
            _ => None,
        });
    match rng.u32(0..12) {
        0 => member(NOBODY),
        1..=2 => new.next_back().unwrap_or(member(0)),
        _ => member(rng.u32(0..MEMBERS)),
    }
}

fn earn(rng: &mut fastrand::Rng, desk: &Desk, now: Timestamp) -> Action {
    let late = [0, 0, 0, 0, 0, -2 * HOUR, -30 * HOUR, -200 * HOUR][rng.usize(0..8)];
    Action::Earn(Earn {
        partner: partner(rng.u32(0..PARTNERS)),
        member: someone(rng, desk),
        amounts: CheckAmounts {
            gross: Minor::new(rng.i64(0..=8_000)),
            ..CheckAmounts::default()
        },
        currency: Currency::EUR,
        occurred_at: (late != 0).then(|| now.saturating_add_micros(late)),
        context: context(rng),
    })
}

fn redeem(rng: &mut fastrand::Rng, desk: &Desk) -> Action {
    let total = rng
        .bool()
        .then(|| (Minor::new(rng.i64(1..=9_000)), Currency::EUR));
    Action::Redeem(Redeem {
        partner: partner(rng.u32(0..PARTNERS)),
        member: someone(rng, desk),
        points: Points::new(rng.i64(1..=90)),
        check_total: total,
        occurred_at: None,
        context: context(rng),
    })
}

pub(crate) fn deposit(number: u32, amount_minor: i64) -> Action {
    Action::Fund(Fund {
        partner: partner(number),
        withdrawal: false,
        amount: Minor::new(amount_minor),
        currency: Currency::EUR,
        bank_reference: "bank".to_owned(),
    })
}

fn fund(rng: &mut fastrand::Rng) -> Action {
    Action::Fund(Fund {
        partner: partner(rng.u32(0..PARTNERS)),
        withdrawal: rng.bool(),
        amount: Minor::new(rng.i64(1..=120)),
        currency: Currency::EUR,
        bank_reference: "bank".to_owned(),
    })
}

/// The place of an earlier command of a kind, one of the last more often.
fn earlier(
    rng: &mut fastrand::Rng,
    desk: &Desk,
    is_one: impl Fn(&Action) -> bool,
) -> Option<usize> {
    let places = (0..desk.asked.len()).filter(|place| is_one(&desk.asked[*place].command.action));
    let places: Vec<usize> = places.collect();
    let first = if rng.bool() {
        places.len().saturating_sub(6)
    } else {
        0
    };
    (!places.is_empty()).then(|| places[rng.usize(first..places.len())])
}

/// A name for what a command led to.
fn name(rng: &mut fastrand::Rng, desk: &Desk, place: usize, context: &Context) -> Original {
    let asked = &desk.asked[place];
    let (key, _) = asked.command.request.expect("a request id");
    match (rng.u32(0..4), asked.transaction(), &context.check_id) {
        (0, Some(transaction), _) => Original::Transaction(transaction.id),
        (1..=2, _, Some(check_id)) => Original::Check(check_id.clone()),
        _ => Original::Request(key.id),
    }
}

fn return_earn(rng: &mut fastrand::Rng, desk: &Desk) -> Option<Action> {
    let place = earlier(rng, desk, |action| matches!(action, Action::Earn(_)))?;
    let Action::Earn(earn) = &desk.asked[place].command.action else {
        return None;
    };
    let gross = earn.amounts.gross.get().max(1);
    let returned = if rng.u32(0..3) == 0 {
        gross
    } else {
        rng.i64(1..=gross)
    };
    Some(Action::ReturnEarn(ReturnEarn {
        partner: earn.partner,
        original: name(rng, desk, place, &earn.context),
        returned: Minor::new(returned),
        currency: Currency::EUR,
        occurred_at: None,
        context: context(rng),
    }))
}

fn refund(rng: &mut fastrand::Rng, desk: &Desk) -> Option<Action> {
    let place = earlier(rng, desk, |action| matches!(action, Action::Redeem(_)))?;
    let Action::Redeem(redeem) = &desk.asked[place].command.action else {
        return None;
    };
    let spent = redeem.points.get();
    let refunded = if rng.u32(0..3) == 0 {
        spent
    } else {
        rng.i64(1..=spent)
    };
    Some(Action::RefundRedemption(RefundRedemption {
        partner: redeem.partner,
        original: name(rng, desk, place, &redeem.context),
        points: Points::new(refunded),
        occurred_at: None,
        context: context(rng),
    }))
}

fn reverse(rng: &mut fastrand::Rng, desk: &Desk) -> Option<Action> {
    let is_one = |action: &Action| matches!(action, Action::Earn(_) | Action::Redeem(_));
    let command = &desk.asked[earlier(rng, desk, is_one)?].command;
    let (partner, kind) = match &command.action {
        Action::Earn(earn) => (earn.partner, Kind::Earn),
        Action::Redeem(redeem) => (redeem.partner, Kind::Redeem),
        _ => return None,
    };
    Some(Action::Reverse(Reverse {
        partner,
        kind,
        original_request: command.request?.0.id,
        occurred_at: None,
        context: Context::default(),
    }))
}

/// A reversal of a request that nobody has sent, yet.
fn reverse_before(rng: &mut fastrand::Rng, desk: &Desk) -> Action {
    Action::Reverse(Reverse {
        partner: partner(rng.u32(0..PARTNERS)),
        kind: if rng.bool() { Kind::Earn } else { Kind::Redeem },
        original_request: Uuid::from_u128(0x0010_0000 + desk.asked.len() as u128),
        occurred_at: None,
        context: Context::default(),
    })
}
