//! Money: minor units and a currency code on the wire, a checked currency inside.

use coalition_ledger::money::{Currency, Minor, exponent};
use coalition_proto::common as pb;

use crate::status::Problem;

/// The currency with this code. `field` is the path of the code in the request.
///
/// # Errors
///
/// INVALID_ARGUMENT for a code that is no money of account of ISO 4217.
pub fn currency(field: &str, code: &str) -> Result<Currency, Problem> {
    Currency::from_code(code)
        .filter(|currency| exponent(*currency).is_some())
        .ok_or_else(|| Problem::invalid(field, "must be the ISO 4217 code of a money of account"))
}

/// An amount of money. `field` is its path in the request.
///
/// # Errors
///
/// As [`currency`].
pub fn minor(field: &str, money: &pb::Money) -> Result<(Minor, Currency), Problem> {
    // The path is put together only where it is needed.
    let currency = currency("", &money.currency_code)
        .or_else(|_| currency(&format!("{field}.currency_code"), &money.currency_code))?;
    Ok((Minor::new(money.amount), currency))
}

/// The message of an amount.
#[must_use]
pub fn money(amount: Minor, currency: Currency) -> pb::Money {
    pb::Money {
        currency_code: currency.code().to_owned(),
        amount: amount.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_28_only_money_of_account_is_a_currency() {
        for code in ["EUR", "JPY", "KWD"] {
            assert!(currency("c", code).is_ok(), "{code}");
        }
        for code in ["", "eur", "XXX", "XAU", "EURO", "ZZZ"] {
            assert!(currency("c", code).is_err(), "{code}");
        }
    }
}
