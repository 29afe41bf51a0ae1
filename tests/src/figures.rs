//! Figures as people write them, turned into what the wire carries. Whole numbers only: a test that
//! checks money does not compute it in floats.

use std::str::FromStr as _;

use coalition_proto::common::Money;

/// An amount in micro-units: `-910.00` is -910,000,000.
pub fn micros(major: &str) -> i64 {
    scaled(major, 6)
}

/// An amount in minor units of a currency with two decimals: `60.00` is 6,000.
pub fn minor(major: &str) -> i64 {
    scaled(major, 2)
}

/// Money, by its amount in minor units.
pub fn money(currency_code: &str, amount: i64) -> Money {
    Money {
        currency_code: currency_code.to_owned(),
        amount,
    }
}

/// An instant: `2027-05-31`, or `2027-05-31T09:30:00Z`.
pub fn time(text: &str) -> prost_types::Timestamp {
    let text = if text.contains('T') {
        text.to_owned()
    } else {
        format!("{text}T00:00:00Z")
    };
    prost_types::Timestamp::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The same instant so many seconds later.
pub fn later(time: &prost_types::Timestamp, seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.seconds + seconds,
        nanos: time.nanos,
    }
}

/// Seconds of a day.
pub const DAY_S: i64 = 86_400;

fn scaled(major: &str, places: usize) -> i64 {
    let (sign, digits) = match major.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, major),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(
        part.len() <= places,
        "{major} has more than {places} decimals"
    );
    let number = |text: &str| {
        text.parse::<i64>()
            .unwrap_or_else(|error| panic!("{major}: {error}"))
    };
    let part = number(&format!("{part:0<places$}"));
    sign * (number(whole) * 10_i64.pow(u32::try_from(places).expect("a few places")) + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_exact() {
        assert_eq!(micros("-910.00"), -910_000_000);
        assert_eq!(micros("0.0085"), 8_500);
        assert_eq!(minor("60.00"), 6_000);
        assert_eq!(minor("-0.5"), -50);
        assert_eq!(time("1970-01-02").seconds, DAY_S);
        assert_eq!(time("1970-01-01T00:01:00Z"), later(&time("1970-01-01"), 60));
    }
}
