//! What clients know of what was done, and what they can make of it.

use std::collections::VecDeque;

use coalition_ledger::ids::MemberId;
use coalition_proto::common::{Identifier, IdentifierType, PosContext};
use coalition_proto::earn::{self, CheckAmounts};
use coalition_proto::member::EnrollRequest;
use coalition_proto::redeem;
use coalition_tests::figures::money;
use fastrand::Rng;

use super::calls::{Aim, Answer, Call, Draft, Shot};

/// What clients remember of each kind: the latest, so that what they undo is still warm.
const REMEMBERED: usize = 200;

/// Something that was done and can be undone.
#[derive(Clone)]
struct Done {
    shop: usize,
    request_id: String,
    transaction: String,
    check: String,
    /// Points of a redemption, the basis of an earn.
    size: i64,
    member: Option<MemberId>,
}

/// A member as clients know one.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) id: MemberId,
    pub(super) text: String,
    pub(super) card: String,
}

/// What all clients know.
#[derive(Default)]
pub(super) struct Memory {
    members: Vec<Known>,
    earned: VecDeque<Done>,
    redeemed: VecDeque<Done>,
    declined: VecDeque<Draft>,
    sent: VecDeque<Draft>,
    /// Slips of returns and refunds: shop, number.
    slips: VecDeque<(usize, String)>,
    /// Requests that were reversed without having been sent: shop, id.
    ghosts: VecDeque<(usize, String)>,
    /// Numbers given to checks so far.
    numbers: u64,
}

impl Memory {
    pub(super) fn number(&mut self) -> String {
        self.numbers += 1;
        format!("{}", self.numbers)
    }

    /// A member; the first few come more often, so that clients meet.
    pub(super) fn member(&self, rng: &mut Rng) -> &Known {
        let all = self.members.len();
        let among = if rng.bool() { all.min(6) } else { all };
        &self.members[rng.usize(0..among)]
    }

    /// The number of a card: mostly a new one, sometimes one that is taken.
    pub(super) fn card(&mut self, rng: &mut Rng) -> String {
        match rng.u8(0..4) {
            0 => self.member(rng).card.clone(),
            _ => self.number(),
        }
    }

    pub(super) fn earning(
        &mut self,
        rng: &mut Rng,
        shop: usize,
        currency: &str,
        occurred_us: Option<i64>,
    ) -> Draft {
        let member = self.member(rng).clone();
        let check = self.number();
        let gross = rng.i64(1..300);
        let sometimes = |rng: &mut Rng, most: i64| {
            (rng.u8(0..5) == 0).then(|| money(currency, rng.i64(0..=most)))
        };
        let call = earn::EarnRequest {
            request_id: new_id(rng),
            member: Some(if rng.u8(0..4) == 0 {
                earn::earn_request::Member::Identifier(card(&member.card))
            } else {
                earn::earn_request::Member::MemberId(member.text)
            }),
            context: Some(PosContext {
                check_id: format!("c-{check}"),
                occurred_at: occurred_us.map(timestamp),
                offline: occurred_us.is_some(),
                ..PosContext::default()
            }),
            amounts: Some(CheckAmounts {
                gross: Some(money(currency, gross)),
                discounts: sometimes(rng, gross / 3),
                gift_card: sometimes(rng, gross / 3),
                paid_with_points: sometimes(rng, gross / 3),
                tax: sometimes(rng, 20),
                tip: sometimes(rng, 20),
            }),
            ..earn::EarnRequest::default()
        };
        plain(shop, Call::Earn(call), Some(member.id))
    }

    pub(super) fn redeeming(&mut self, rng: &mut Rng, shop: usize, currency: &str) -> Draft {
        let member = self.member(rng).clone();
        let check = self.number();
        let points = match rng.u8(0..12) {
            0 => 1_000_000,
            _ => rng.i64(1..250),
        };
        let total = (rng.bool()).then(|| money(currency, rng.i64(0..500)));
        let call = redeem::RedeemRequest {
            request_id: new_id(rng),
            member: Some(if rng.u8(0..4) == 0 {
                redeem::redeem_request::Member::Identifier(card(&member.card))
            } else {
                redeem::redeem_request::Member::MemberId(member.text)
            }),
            points,
            context: Some(on(format!("r-{check}"))),
            check_total: total,
            ..redeem::RedeemRequest::default()
        };
        plain(shop, Call::Redeem(call), Some(member.id))
    }

    pub(super) fn returning(
        &mut self,
        rng: &mut Rng,
        currency: impl Fn(usize) -> &'static str,
    ) -> Option<Draft> {
        use earn::return_earn_request::Original;
        let done = one_of(rng, &self.earned)?.clone();
        let call = earn::ReturnEarnRequest {
            request_id: new_id(rng),
            original: Some(if rng.bool() {
                Original::OriginalTransactionId(done.transaction)
            } else {
                Original::OriginalCheckId(done.check)
            }),
            returned: Some(money(currency(done.shop), part(rng, done.size))),
            context: self.slip(rng, done.shop),
            ..earn::ReturnEarnRequest::default()
        };
        Some(plain(done.shop, Call::ReturnEarn(call), done.member))
    }

    pub(super) fn refunding(&mut self, rng: &mut Rng) -> Option<Draft> {
        use redeem::refund_redemption_request::Original;
        let done = one_of(rng, &self.redeemed)?.clone();
        let call = redeem::RefundRedemptionRequest {
            request_id: new_id(rng),
            original: Some(if rng.bool() {
                Original::OriginalTransactionId(done.transaction)
            } else {
                Original::OriginalCheckId(done.check)
            }),
            points: part(rng, done.size),
            context: self.slip(rng, done.shop),
            ..redeem::RefundRedemptionRequest::default()
        };
        Some(plain(done.shop, Call::Refund(call), done.member))
    }

    /// The number of a slip: mostly none, sometimes one that was used.
    fn slip(&mut self, rng: &mut Rng, shop: usize) -> Option<PosContext> {
        match rng.u8(0..6) {
            0 => {
                let number = self.number();
                Some(on(format!("s-{number}")))
            }
            1 => {
                let used = self.slips.iter().filter(|(of, _)| *of == shop);
                let used: Vec<_> = used.collect();
                rng.choice(used).map(|(_, number)| on(number.clone()))
            }
            _ => None,
        }
    }

    /// Undoes something by reference: what was done, or what was declined.
    pub(super) fn reversing(&mut self, rng: &mut Rng) -> Option<Draft> {
        if rng.u8(0..5) == 0 {
            let declined = one_of(rng, &self.declined)?.clone();
            return reversal_of(rng, &declined);
        }
        if rng.bool() {
            let done = one_of(rng, &self.earned)?.clone();
            Some(plain(
                done.shop,
                reverse_earn(rng, done.request_id),
                done.member,
            ))
        } else {
            let done = one_of(rng, &self.redeemed)?.clone();
            Some(plain(
                done.shop,
                reverse_redeem(rng, done.request_id),
                done.member,
            ))
        }
    }

    /// Reverses what was never sent.
    pub(super) fn reversing_a_ghost(&mut self, rng: &mut Rng, shop: usize) -> Draft {
        let ghost = new_id(rng);
        remember(&mut self.ghosts, (shop, ghost.clone()));
        let call = if rng.bool() {
            reverse_earn(rng, ghost)
        } else {
            reverse_redeem(rng, ghost)
        };
        plain(shop, call, None)
    }

    /// What was reversed before it was sent, sent after all.
    pub(super) fn the_ghost_itself(
        &mut self,
        rng: &mut Rng,
        currency: impl Fn(usize) -> &'static str,
    ) -> Option<Draft> {
        let (shop, ghost) = one_of(rng, &self.ghosts)?.clone();
        let mut draft = self.earning(rng, shop, currency(shop), None);
        if let Call::Earn(call) = &mut draft.call {
            call.request_id = ghost;
        }
        Some(draft)
    }

    /// The very same request.
    pub(super) fn again(&mut self, rng: &mut Rng) -> Option<Draft> {
        one_of(rng, &self.sent).cloned()
    }

    /// Another request under the same id.
    pub(super) fn another_body(&mut self, rng: &mut Rng) -> Option<Draft> {
        let mut draft = one_of(rng, &self.sent)?.clone();
        match &mut draft.call {
            Call::Earn(call) => call.amounts.as_mut()?.gross.as_mut()?.amount += 1,
            Call::Redeem(call) => call.points += 1,
            Call::ReturnEarn(call) => call.returned.as_mut()?.amount += 1,
            Call::Refund(call) => call.points += 1,
            Call::Fund(call) => call.amount.as_mut()?.amount += 1,
            _ => return None,
        }
        Some(draft)
    }

    /// The same check under another request id.
    pub(super) fn same_check(
        &mut self,
        rng: &mut Rng,
        currency: impl Fn(usize) -> &'static str,
    ) -> Option<Draft> {
        if rng.bool() {
            let done = one_of(rng, &self.earned)?.clone();
            let mut draft = self.earning(rng, done.shop, currency(done.shop), None);
            if let Call::Earn(call) = &mut draft.call {
                call.context.as_mut()?.check_id = done.check;
            }
            Some(draft)
        } else {
            let done = one_of(rng, &self.redeemed)?.clone();
            let mut draft = self.redeeming(rng, done.shop, currency(done.shop));
            if let Call::Redeem(call) = &mut draft.call {
                call.context.as_mut()?.check_id = done.check;
            }
            Some(draft)
        }
    }

    pub(super) fn a_stranger(&mut self, rng: &mut Rng, shop: usize, currency: &str) -> Draft {
        let check = format!("never-{}", self.number());
        let call = if rng.bool() {
            Call::ReturnEarn(earn::ReturnEarnRequest {
                request_id: new_id(rng),
                original: Some(earn::return_earn_request::Original::OriginalCheckId(check)),
                returned: Some(money(currency, 10)),
                ..earn::ReturnEarnRequest::default()
            })
        } else {
            Call::Refund(redeem::RefundRedemptionRequest {
                request_id: new_id(rng),
                original: Some(redeem::refund_redemption_request::Original::OriginalCheckId(check)),
                points: 10,
                ..redeem::RefundRedemptionRequest::default()
            })
        };
        let mut draft = plain(shop, call, None);
        draft.aim = Aim::Stranger;
        draft
    }

    pub(super) fn of_the_wrong_kind(&mut self, rng: &mut Rng) -> Option<Draft> {
        let done = one_of(rng, &self.earned)?.clone();
        let mut draft = plain(done.shop, reverse_redeem(rng, done.request_id), None);
        draft.aim = Aim::WrongKind;
        Some(draft)
    }

    /// Remembers what came of a call.
    pub(super) fn note(&mut self, shot: &Shot) {
        let Shot { draft, answer, .. } = shot;
        if draft.aim != Aim::Anything {
            return;
        }
        remember(&mut self.sent, draft.clone());
        let done = |transaction: &str, context: &Option<PosContext>, size: i64| Done {
            shop: draft.shop,
            request_id: draft.request_id().to_owned(),
            transaction: transaction.to_owned(),
            check: context
                .as_ref()
                .map(|at| at.check_id.clone())
                .unwrap_or_default(),
            size,
            member: draft.member,
        };
        match (&draft.call, answer) {
            (_, answer) if answer.is_replayed() => {}
            (Call::Enroll(call), Answer::Enrolled(told)) => self.members.push(Known {
                id: told.member_id.parse().expect("a member's id"),
                text: told.member_id.clone(),
                card: call.identifiers[0].value.clone(),
            }),
            (Call::Earn(call), Answer::Earned(told)) => {
                let basis = basis(call.amounts.as_ref().expect("amounts"));
                let done = done(&told.transaction_id, &call.context, basis);
                remember(&mut self.earned, done);
            }
            (Call::Redeem(call), Answer::Redeemed(told)) => {
                let done = done(&told.transaction_id, &call.context, call.points);
                remember(&mut self.redeemed, done);
            }
            (
                Call::ReturnEarn(earn::ReturnEarnRequest { context, .. })
                | Call::Refund(redeem::RefundRedemptionRequest { context, .. }),
                answer,
            ) if answer.is_posted() => {
                if let Some(slip) = context {
                    remember(&mut self.slips, (draft.shop, slip.check_id.clone()));
                }
            }
            (Call::Earn(_) | Call::Redeem(_), answer) if answer.record().is_some() => {
                remember(&mut self.declined, draft.clone());
            }
            _ => {}
        }
    }
}

/// What of a check earns, under terms that include nothing further.
fn basis(amounts: &CheckAmounts) -> i64 {
    let part = |money: &Option<coalition_proto::common::Money>| {
        money.as_ref().map_or(0, |money| money.amount)
    };
    let taken = part(&amounts.discounts) + part(&amounts.gift_card);
    part(&amounts.gross) - taken - part(&amounts.paid_with_points)
}

pub(super) fn enrolling(rng: &mut Rng, number: &str) -> Draft {
    let call = EnrollRequest {
        request_id: new_id(rng),
        identifiers: vec![card(number)],
    };
    plain(0, Call::Enroll(call), None)
}

/// The reversal of a sale, by its request id.
pub(super) fn reversal_of(rng: &mut Rng, draft: &Draft) -> Option<Draft> {
    let original = draft.request_id().to_owned();
    let call = match &draft.call {
        Call::Earn(_) if draft.aim == Aim::Anything => reverse_earn(rng, original),
        Call::Redeem(_) => reverse_redeem(rng, original),
        _ => return None,
    };
    Some(plain(draft.shop, call, draft.member))
}

fn reverse_earn(rng: &mut Rng, original_request_id: String) -> Call {
    Call::ReverseEarn(earn::ReverseByReferenceRequest {
        request_id: new_id(rng),
        original_request_id,
        ..earn::ReverseByReferenceRequest::default()
    })
}

fn reverse_redeem(rng: &mut Rng, original_request_id: String) -> Call {
    Call::ReverseRedeem(redeem::ReverseByReferenceRequest {
        request_id: new_id(rng),
        original_request_id,
        ..redeem::ReverseByReferenceRequest::default()
    })
}

pub(super) fn plain(shop: usize, call: Call, member: Option<MemberId>) -> Draft {
    Draft {
        shop,
        call,
        member,
        aim: Aim::Anything,
    }
}

/// Part of what was done; sometimes all of it, sometimes more.
fn part(rng: &mut Rng, size: i64) -> i64 {
    match rng.u8(0..8) {
        0 => size.max(1),
        1 => size + 1,
        _ => rng.i64(1..=size.max(1)),
    }
}

fn one_of<'a, T>(rng: &mut Rng, all: &'a VecDeque<T>) -> Option<&'a T> {
    (!all.is_empty()).then(|| &all[rng.usize(0..all.len())])
}

fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

pub(super) fn new_id(rng: &mut Rng) -> String {
    let bytes = rng.u128(..).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

fn card(number: &str) -> Identifier {
    Identifier {
        r#type: IdentifierType::Card.into(),
        value: number.to_owned(),
    }
}

fn on(check_id: String) -> PosContext {
    PosContext {
        check_id,
        ..PosContext::default()
    }
}

fn timestamp(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).expect("below a second"),
    }
}
