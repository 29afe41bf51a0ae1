//! A partner of the network with a till and an office, and what is done at a till all day.

use coalition_proto::common::PosContext;
use coalition_proto::earn::{
    self, CheckAmounts, EarnRequest, EarnResponse, ReturnEarnRequest, ReturnEarnResponse,
};
use coalition_proto::redeem::{
    self, RedeemRequest, RedeemResponse, RefundRedemptionRequest, RefundRedemptionResponse,
};

use crate::caller::{Caller, Refusal};
use crate::figures::money;
use crate::request_id;

/// A partner with an agreement in force.
#[derive(Clone, Debug)]
pub struct Partner {
    /// `ptr_…`.
    pub id: String,
    /// Its short handle.
    pub code: String,
    /// The currency of its agreement.
    pub currency: String,
    /// The version in force, `agr_…`.
    pub agreement: String,
    /// Earns and redeems.
    pub till: Caller,
    /// Reads the partner's own figures.
    pub office: Caller,
}

impl Partner {
    /// Points for a check of `gross` minor units.
    pub fn earning(&self, member: &str, check: &str, gross: i64) -> EarnRequest {
        EarnRequest {
            request_id: request_id(),
            member: Some(earn::earn_request::Member::MemberId(member.to_owned())),
            context: Some(on_check(check)),
            amounts: Some(CheckAmounts {
                gross: Some(money(&self.currency, gross)),
                ..CheckAmounts::default()
            }),
            ..EarnRequest::default()
        }
    }

    /// Goods of a check worth `returned` minor units came back.
    pub fn returning(&self, check: &str, returned: i64) -> ReturnEarnRequest {
        ReturnEarnRequest {
            request_id: request_id(),
            original: Some(earn::return_earn_request::Original::OriginalCheckId(
                check.to_owned(),
            )),
            returned: Some(money(&self.currency, returned)),
            ..ReturnEarnRequest::default()
        }
    }

    /// Points spent on a check.
    pub fn redeeming(&self, member: &str, check: &str, points: i64) -> RedeemRequest {
        RedeemRequest {
            request_id: request_id(),
            member: Some(redeem::redeem_request::Member::MemberId(member.to_owned())),
            points,
            context: Some(on_check(check)),
            ..RedeemRequest::default()
        }
    }

    /// Points spent on a check, given back.
    pub fn refunding(&self, check: &str, points: i64) -> RefundRedemptionRequest {
        let original =
            redeem::refund_redemption_request::Original::OriginalCheckId(check.to_owned());
        RefundRedemptionRequest {
            request_id: request_id(),
            original: Some(original),
            points,
            ..RefundRedemptionRequest::default()
        }
    }

    /// Gives points for a check of `gross` minor units.
    pub async fn earn(&self, member: &str, check: &str, gross: i64) -> EarnResponse {
        self.till.ask(self.earning(member, check, gross)).await
    }

    /// Takes goods of a check back.
    pub async fn take_back(&self, check: &str, returned: i64) -> ReturnEarnResponse {
        self.till.ask(self.returning(check, returned)).await
    }

    /// Takes points for a check.
    pub async fn redeem(&self, member: &str, check: &str, points: i64) -> RedeemResponse {
        self.till.ask(self.redeeming(member, check, points)).await
    }

    /// Gives points of a check back.
    pub async fn refund(&self, check: &str, points: i64) -> RefundRedemptionResponse {
        self.till.ask(self.refunding(check, points)).await
    }

    /// Tries to take points for a check.
    ///
    /// # Errors
    ///
    /// What the network answered instead.
    pub async fn try_redeem(
        &self,
        member: &str,
        check: &str,
        points: i64,
    ) -> Result<RedeemResponse, Refusal> {
        self.till.call(self.redeeming(member, check, points)).await
    }
}

/// A point of sale that says no more than its check.
pub fn on_check(check: &str) -> PosContext {
    PosContext {
        check_id: check.to_owned(),
        ..PosContext::default()
    }
}
