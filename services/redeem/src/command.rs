//! From messages to commands. The rules on the fields hold already.

use coalition_ledger::command::{Action, Original, Redeem, RefundRedemption, Reverse};
use coalition_ledger::ids::MemberId;
use coalition_ledger::money::Points;
use coalition_ledger::transaction::Kind;
use coalition_ledger::view::Ask;
use coalition_proto::redeem as pb;
use coalition_rpc::Problem;
use coalition_rpc::convert::{Named, Till, minor, original_request};
use coalition_rpc::request::id;

/// The member of a quote.
pub(crate) fn quoted(message: &pb::QuoteRequest) -> Result<Named<'_>, Problem> {
    match &message.member {
        Some(pb::quote_request::Member::MemberId(id)) => Ok(Named::Id(id)),
        Some(pb::quote_request::Member::Identifier(identifier)) => {
            Ok(Named::Identifier(identifier))
        }
        None => Err(Problem::invalid("member", "is required")),
    }
}

/// What a quote works out.
pub(crate) fn ask(message: &pb::QuoteRequest) -> Result<Ask, Problem> {
    Ok(match &message.ask {
        None => Ask::Everything,
        Some(pb::quote_request::Ask::Points(points)) => Ask::Points(Points::new(*points)),
        Some(pb::quote_request::Ask::AmountDue(due)) => {
            let (amount, currency) = minor("amount_due", due)?;
            Ask::Amount(amount, currency)
        }
    })
}

/// Who pays.
pub(crate) fn payer(message: &pb::RedeemRequest) -> Result<Named<'_>, Problem> {
    match &message.member {
        Some(pb::redeem_request::Member::MemberId(id)) => Ok(Named::Id(id)),
        Some(pb::redeem_request::Member::Identifier(identifier)) => {
            Ok(Named::Identifier(identifier))
        }
        None => Err(Problem::invalid("member", "is required")),
    }
}

pub(crate) fn redeem(
    message: &pb::RedeemRequest,
    till: Till,
    member: MemberId,
) -> Result<Action, Problem> {
    let total = message.check_total.as_ref();
    Ok(Action::Redeem(Redeem {
        partner: till.partner,
        member,
        points: Points::new(message.points),
        check_total: total.map(|total| minor("check_total", total)).transpose()?,
        occurred_at: till.occurred_at,
        context: till.context,
    }))
}

pub(crate) fn refund(message: &pb::RefundRedemptionRequest, till: Till) -> Result<Action, Problem> {
    use pb::refund_redemption_request::Original as Named;
    let original = match &message.original {
        Some(Named::OriginalTransactionId(text)) => {
            Original::Transaction(id("original_transaction_id", text)?)
        }
        Some(Named::OriginalCheckId(check_id)) => Original::Check(check_id.clone()),
        None => return Err(Problem::invalid("original", "is required")),
    };
    Ok(Action::RefundRedemption(RefundRedemption {
        partner: till.partner,
        original,
        points: Points::new(message.points),
        occurred_at: till.occurred_at,
        context: till.context,
    }))
}

pub(crate) fn reverse(
    message: &pb::ReverseByReferenceRequest,
    till: Till,
) -> Result<Action, Problem> {
    Ok(Action::Reverse(Reverse {
        partner: till.partner,
        kind: Kind::Redeem,
        original_request: original_request(&message.original_request_id)?,
        occurred_at: till.occurred_at,
        context: till.context,
    }))
}

#[cfg(test)]
mod tests {
    use coalition_ledger::Timestamp;
    use coalition_ledger::ids::PartnerId;
    use coalition_ledger::money::{Currency, Minor};
    use coalition_ledger::transaction::Context;
    use coalition_proto::common::Money;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_quote_asks_for_everything_unless_it_says_otherwise() {
        let mut message = pb::QuoteRequest::default();
        assert_eq!(ask(&message).ok(), Some(Ask::Everything));
        message.ask = Some(pb::quote_request::Ask::Points(7));
        assert_eq!(ask(&message).ok(), Some(Ask::Points(Points::new(7))));
        message.ask = Some(pb::quote_request::Ask::AmountDue(Money {
            currency_code: "EUR".to_owned(),
            amount: 250,
        }));
        let due = Ask::Amount(Minor::new(250), Currency::EUR);
        assert_eq!(ask(&message).ok(), Some(due));
    }

    #[test]
    fn a_redemption_is_translated_word_for_word() {
        let partner = PartnerId::from_uuid(Uuid::from_u128(1));
        let member = MemberId::from_uuid(Uuid::from_u128(2));
        let message = pb::RedeemRequest {
            points: 40,
            ..pb::RedeemRequest::default()
        };
        let till = Till {
            partner,
            context: Context::default(),
            occurred_at: Some(Timestamp::from_micros(5_000_000)),
        };
        let action = redeem(&message, till, member);
        let expected = Redeem {
            partner,
            member,
            points: Points::new(40),
            check_total: None,
            occurred_at: Some(Timestamp::from_micros(5_000_000)),
            context: Context::default(),
        };
        assert_eq!(action.ok(), Some(Action::Redeem(expected)));
    }
}
