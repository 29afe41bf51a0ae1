//! Good requests of what happens at a till: earning, redeeming, members.

use coalition_proto::common::{Channel, Identifier, IdentifierType, PosContext};
use coalition_proto::earn::{self, CheckAmounts, EarnRequest, ReturnEarnRequest};
use coalition_proto::member::{
    EnrollRequest, GetBalanceRequest, ListActivityRequest, LookupRequest,
};
use coalition_proto::redeem::{self, RedeemRequest, RefundRedemptionRequest};
use coalition_tests::figures::{money, time};
use coalition_tests::network::START;
use coalition_tests::request_id;

use super::Renew;
use super::{Base, PAGE, Renew as R, TILL, WRITE, World, card};

impl World<'_> {
    pub(super) fn earn(&self) -> Vec<Base> {
        let (maker, till, cafe) = (&self.network.maker, &self.cafe.till, &self.cafe);
        let (member, card) = (self.member.clone(), card());
        let partner_id = cafe.id.clone();
        let by_id = earn::QuoteRequest {
            partner_id: partner_id.clone(),
            member: Some(earn::quote_request::Member::MemberId(member.clone())),
            amounts: Some(amounts()),
            occurred_at: Some(time(START)),
        };
        let by_card = earn::QuoteRequest {
            member: Some(earn::quote_request::Member::Identifier(card.clone())),
            amounts: Some(amounts()),
            ..earn::QuoteRequest::default()
        };
        let earn_by_id = EarnRequest {
            partner_id: partner_id.clone(),
            context: Some(place()),
            amounts: Some(amounts()),
            ..cafe.earning(&member, "", 0)
        };
        let earn_by_card = EarnRequest {
            member: Some(earn::earn_request::Member::Identifier(card)),
            ..cafe.earning(&member, "", 10)
        };
        let back_by_check = ReturnEarnRequest {
            partner_id: partner_id.clone(),
            context: Some(place()),
            ..cafe.returning("big", 1)
        };
        let back_by_id = ReturnEarnRequest {
            original: Some(earn::return_earn_request::Original::OriginalTransactionId(
                self.earned_id.clone(),
            )),
            ..cafe.returning("", 1)
        };
        let undo = earn::ReverseByReferenceRequest {
            request_id: request_id(),
            original_request_id: request_id(),
            context: Some(place()),
            partner_id: String::new(),
        };
        let undo_for = earn::ReverseByReferenceRequest {
            partner_id: partner_id.clone(),
            ..undo.clone()
        };
        let look_by_id = earn::GetTransactionRequest {
            partner_id,
            key: Some(earn::get_transaction_request::Key::TransactionId(
                self.earned_id.clone(),
            )),
        };
        let look_by_request = earn::GetTransactionRequest {
            partner_id: String::new(),
            key: Some(earn::get_transaction_request::Key::RequestId(
                self.earned.request_id.clone(),
            )),
        };
        let reverse: &[Renew] = &[R::Request, R::Check, R::Earned];
        vec![
            self.base(maker, by_id, &[]),
            self.base(till, by_card, &[]).of_partner(cafe),
            self.base(maker, earn_by_id, TILL),
            self.base(till, earn_by_card, TILL).of_partner(cafe),
            self.base(maker, back_by_check, TILL),
            self.base(till, back_by_id, WRITE).of_partner(cafe),
            self.base(maker, undo_for, reverse),
            self.base(till, undo, reverse).of_partner(cafe),
            self.base(&self.network.viewer, look_by_id, &[]),
            self.base(till, look_by_request, &[]).of_partner(cafe),
        ]
    }

    pub(super) fn redeem(&self) -> Vec<Base> {
        let (maker, till, cafe) = (&self.network.maker, &self.cafe.till, &self.cafe);
        let (member, card) = (self.member.clone(), card());
        let partner_id = cafe.id.clone();
        let by_id = redeem::QuoteRequest {
            partner_id: partner_id.clone(),
            member: Some(redeem::quote_request::Member::MemberId(member.clone())),
            ask: Some(redeem::quote_request::Ask::Points(5)),
        };
        let by_card = redeem::QuoteRequest {
            member: Some(redeem::quote_request::Member::Identifier(card.clone())),
            ask: Some(redeem::quote_request::Ask::AmountDue(money("EUR", 5))),
            ..redeem::QuoteRequest::default()
        };
        let spend_by_id = RedeemRequest {
            partner_id: partner_id.clone(),
            context: Some(place()),
            check_total: Some(money("EUR", 5)),
            ..cafe.redeeming(&member, "", 1)
        };
        let spend_by_card = RedeemRequest {
            member: Some(redeem::redeem_request::Member::Identifier(card)),
            ..cafe.redeeming(&member, "", 1)
        };
        let back_by_check = RefundRedemptionRequest {
            partner_id: partner_id.clone(),
            context: Some(place()),
            ..cafe.refunding("spent", 1)
        };
        let back_by_id = RefundRedemptionRequest {
            original: Some(
                redeem::refund_redemption_request::Original::OriginalTransactionId(
                    self.spent_id.clone(),
                ),
            ),
            ..cafe.refunding("", 1)
        };
        let undo = redeem::ReverseByReferenceRequest {
            request_id: request_id(),
            original_request_id: request_id(),
            context: Some(place()),
            partner_id: String::new(),
        };
        let undo_for = redeem::ReverseByReferenceRequest {
            partner_id: partner_id.clone(),
            ..undo.clone()
        };
        let look_by_id = redeem::GetTransactionRequest {
            partner_id,
            key: Some(redeem::get_transaction_request::Key::TransactionId(
                self.spent_id.clone(),
            )),
        };
        let look_by_request = redeem::GetTransactionRequest {
            partner_id: String::new(),
            key: Some(redeem::get_transaction_request::Key::RequestId(
                self.spent.request_id.clone(),
            )),
        };
        let reverse: &[Renew] = &[R::Request, R::Check, R::Redeemed];
        vec![
            self.base(maker, by_id, &[]),
            self.base(till, by_card, &[]).of_partner(cafe),
            self.base(maker, spend_by_id, TILL),
            self.base(till, spend_by_card, TILL).of_partner(cafe),
            self.base(maker, back_by_check, TILL),
            self.base(till, back_by_id, WRITE).of_partner(cafe),
            self.base(maker, undo_for, reverse),
            self.base(till, undo, reverse).of_partner(cafe),
            self.base(&self.network.viewer, look_by_id, &[]),
            self.base(till, look_by_request, &[]).of_partner(cafe),
        ]
    }

    pub(super) async fn members(&self) -> Vec<Base> {
        let (maker, support) = (&self.network.maker, &self.network.support);
        let (cafe, till) = (&self.cafe, &self.cafe.till);
        let identifier = |kind: IdentifierType, value: &str| Identifier {
            r#type: kind.into(),
            value: value.to_owned(),
        };
        let enroll = EnrollRequest {
            request_id: request_id(),
            identifiers: vec![
                identifier(IdentifierType::Card, "1"),
                identifier(IdentifierType::Phone, "2"),
            ],
        };
        let lookup = LookupRequest {
            identifier: Some(card()),
        };
        let balance = GetBalanceRequest {
            member_id: self.member.clone(),
        };
        let activity = ListActivityRequest {
            member_id: self.member.clone(),
            partner_id: cafe.id.clone(),
            page_size: 1,
            page_token: String::new(),
        };
        let activity_on = ListActivityRequest {
            page_token: support.ask(activity.clone()).await.next_page_token,
            ..activity.clone()
        };
        vec![
            self.base(maker, enroll.clone(), &[R::Request, R::Identifiers]),
            self.base(till, enroll, &[R::Request, R::Identifiers])
                .of_partner(cafe),
            self.base(till, lookup.clone(), &[]).of_partner(cafe),
            self.base(support, lookup, &[]),
            self.base(support, balance, &[]),
            self.base(support, activity.clone(), &[]),
            self.base(till, activity, &[]).of_partner(cafe),
            self.base(support, activity_on, &[]).only(PAGE),
        ]
    }
}

/// Amounts of a check with every field set.
fn amounts() -> CheckAmounts {
    let euros = |amount| Some(money("EUR", amount));
    CheckAmounts {
        gross: euros(4_250),
        discounts: euros(250),
        tax: euros(760),
        tip: euros(400),
        gift_card: euros(100),
        paid_with_points: euros(100),
    }
}

/// A point of sale with every field set.
fn place() -> PosContext {
    PosContext {
        location: "berlin-mitte".to_owned(),
        terminal: "till-3".to_owned(),
        operator_ref: "op-17".to_owned(),
        shift_ref: "evening".to_owned(),
        business_date: "2026-01-01".to_owned(),
        channel: Some(Channel::InStore.into()),
        occurred_at: Some(time(START)),
        check_id: "4711".to_owned(),
        offline: true,
    }
}
