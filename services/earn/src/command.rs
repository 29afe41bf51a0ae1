//! From messages to commands. The rules on the fields hold already.

use coalition_ledger::command::{Action, CheckAmounts, Earn, Original, ReturnEarn, Reverse};
use coalition_ledger::decision::Refusal;
use coalition_ledger::ids::MemberId;
use coalition_ledger::money::{Currency, Minor};
use coalition_ledger::transaction::Kind;
use coalition_proto::common::{ErrorReason, Money};
use coalition_proto::earn as pb;
use coalition_rpc::Problem;
use coalition_rpc::convert::{Named, Till, minor, original_request};
use coalition_rpc::request::id;

/// The member of a quote.
pub(crate) fn quoted(member: &pb::quote_request::Member) -> Named<'_> {
    match member {
        pb::quote_request::Member::MemberId(id) => Named::Id(id),
        pb::quote_request::Member::Identifier(identifier) => Named::Identifier(identifier),
    }
}

/// Who earns.
pub(crate) fn earner(message: &pb::EarnRequest) -> Result<Named<'_>, Problem> {
    match &message.member {
        Some(pb::earn_request::Member::MemberId(id)) => Ok(Named::Id(id)),
        Some(pb::earn_request::Member::Identifier(identifier)) => Ok(Named::Identifier(identifier)),
        None => Err(Problem::invalid("member", "is required")),
    }
}

pub(crate) fn earn(
    message: &pb::EarnRequest,
    till: Till,
    member: MemberId,
) -> Result<Action, Problem> {
    let (amounts, currency) = amounts(message.amounts.as_ref())?;
    Ok(Action::Earn(Earn {
        partner: till.partner,
        member,
        amounts,
        currency,
        occurred_at: till.occurred_at,
        context: till.context,
    }))
}

pub(crate) fn return_earn(message: &pb::ReturnEarnRequest, till: Till) -> Result<Action, Problem> {
    use pb::return_earn_request::Original as Named;
    let original = match &message.original {
        Some(Named::OriginalTransactionId(text)) => {
            Original::Transaction(id("original_transaction_id", text)?)
        }
        Some(Named::OriginalCheckId(check_id)) => Original::Check(check_id.clone()),
        None => return Err(Problem::invalid("original", "is required")),
    };
    let returned = message.returned.as_ref();
    let returned = returned.ok_or_else(|| Problem::invalid("returned", "is required"))?;
    let (returned, currency) = minor("returned", returned)?;
    Ok(Action::ReturnEarn(ReturnEarn {
        partner: till.partner,
        original,
        returned,
        currency,
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
        kind: Kind::Earn,
        original_request: original_request(&message.original_request_id)?,
        occurred_at: till.occurred_at,
        context: till.context,
    }))
}

/// The amounts of a check: all of them in the currency of `gross`.
pub(crate) fn amounts(
    message: Option<&pb::CheckAmounts>,
) -> Result<(CheckAmounts, Currency), Problem> {
    let message = message.ok_or_else(|| Problem::invalid("amounts", "is required"))?;
    let gross = message.gross.as_ref();
    let gross = gross.ok_or_else(|| Problem::invalid("amounts.gross", "is required"))?;
    let (gross, expected) = minor("amounts.gross", gross)?;
    let part = |field: &str, money: Option<&Money>| -> Result<Minor, Problem> {
        let Some(money) = money else {
            return Ok(Minor::ZERO);
        };
        match minor(field, money)? {
            (amount, currency) if currency == expected => Ok(amount),
            _ => Err(Problem::from(Refusal::CurrencyMismatch { expected }).blame(
                ErrorReason::CurrencyMismatch,
                format!("{field}.currency_code"),
            )),
        }
    };
    let amounts = CheckAmounts {
        gross,
        discounts: part("amounts.discounts", message.discounts.as_ref())?,
        tax: part("amounts.tax", message.tax.as_ref())?,
        tip: part("amounts.tip", message.tip.as_ref())?,
        gift_card: part("amounts.gift_card", message.gift_card.as_ref())?,
        paid_with_points: part(
            "amounts.paid_with_points",
            message.paid_with_points.as_ref(),
        )?,
    };
    Ok((amounts, expected))
}

#[cfg(test)]
mod tests {
    use coalition_ledger::ids::PartnerId;
    use coalition_ledger::transaction::Context;

    use super::*;

    fn euros(amount: i64) -> Money {
        money("EUR", amount)
    }

    fn money(code: &str, amount: i64) -> Money {
        Money {
            currency_code: code.to_owned(),
            amount,
        }
    }

    #[test]
    fn amounts_keep_their_places() {
        let message = pb::CheckAmounts {
            gross: Some(euros(1)),
            discounts: Some(euros(2)),
            tax: Some(euros(3)),
            tip: Some(euros(4)),
            gift_card: Some(euros(5)),
            paid_with_points: Some(euros(6)),
        };
        let (amounts, currency) = super::amounts(Some(&message)).expect("one currency");
        let kept = [
            amounts.gross,
            amounts.discounts,
            amounts.tax,
            amounts.tip,
            amounts.gift_card,
            amounts.paid_with_points,
        ];
        assert_eq!(kept.map(Minor::get), [1, 2, 3, 4, 5, 6]);
        assert_eq!(currency, Currency::EUR);
    }

    #[test]
    fn row_28_a_check_in_two_currencies_or_none_is_refused() {
        let mixed = pb::CheckAmounts {
            gross: Some(euros(1)),
            tip: Some(money("USD", 1)),
            ..pb::CheckAmounts::default()
        };
        let problem = super::amounts(Some(&mixed)).expect_err("two currencies");
        assert_eq!(problem.reason(), ErrorReason::CurrencyMismatch);
        let gold = pb::CheckAmounts {
            gross: Some(money("XAU", 1)),
            ..pb::CheckAmounts::default()
        };
        let problem = super::amounts(Some(&gold)).expect_err("no money of account");
        assert_eq!(problem.reason(), ErrorReason::InvalidArgument);
        assert!(problem.message().contains("amounts.gross.currency_code"));
    }

    #[test]
    fn an_original_is_named_by_id_or_by_check() {
        let mut message = pb::ReturnEarnRequest {
            returned: Some(euros(5)),
            original: Some(pb::return_earn_request::Original::OriginalCheckId(
                "R-1".to_owned(),
            )),
            ..pb::ReturnEarnRequest::default()
        };
        let till = Till {
            partner: PartnerId::from_uuid(uuid()),
            context: Context::default(),
            occurred_at: None,
        };
        let named = |message: &pb::ReturnEarnRequest| match return_earn(message, till.clone()) {
            Ok(Action::ReturnEarn(ret)) => Some(ret.original),
            _ => None,
        };
        assert_eq!(named(&message), Some(Original::Check("R-1".to_owned())));
        let id = coalition_ledger::ids::TransactionId::from_uuid(uuid());
        message.original = Some(pb::return_earn_request::Original::OriginalTransactionId(
            id.to_string(),
        ));
        assert_eq!(named(&message), Some(Original::Transaction(id)));
        message.original = None;
        assert_eq!(named(&message), None);
    }

    fn uuid() -> uuid::Uuid {
        uuid::Uuid::from_u128(7)
    }
}
