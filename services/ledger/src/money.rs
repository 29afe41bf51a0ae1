//! Points, money and rates: the three kinds of number in the books.
//!
//! Points are whole, money is counted in micro-units of a currency's major unit, rates are exact
//! decimals. Sums are checked: an overflow is [`OutOfRange`], never a wrap. Source: domain,
//! "Units". Deliberately absent: floats, and any rounding but half up.

use std::fmt;

pub use iso_currency::Currency;
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

/// A sum, product or conversion left the range of 64-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount left the range that the books can hold")]
pub struct OutOfRange;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// This many.
            #[must_use]
            pub const fn new(count: i64) -> Self {
                Self(count)
            }

            /// How many.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }

            /// The sum.
            pub const fn plus(self, other: Self) -> Result<Self, OutOfRange> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Ok(Self(sum)),
                    None => Err(OutOfRange),
                }
            }

            /// The difference.
            pub const fn minus(self, other: Self) -> Result<Self, OutOfRange> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Ok(Self(difference)),
                    None => Err(OutOfRange),
                }
            }

            /// The same amount with the other sign.
            pub const fn negated(self) -> Result<Self, OutOfRange> {
                Self::ZERO.minus(self)
            }

            /// Whether this is more than nothing.
            #[must_use]
            pub const fn is_positive(self) -> bool {
                self.0 > 0
            }

            /// Whether this is less than nothing.
            #[must_use]
            pub const fn is_negative(self) -> bool {
                self.0 < 0
            }

            /// Whether this is nothing.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// The sum of all.
            pub fn sum(all: impl IntoIterator<Item = Self>) -> Result<Self, OutOfRange> {
                all.into_iter().try_fold(Self::ZERO, Self::plus)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity!(
    /// Whole points.
    Points
);
quantity!(
    /// Money in micro-units: 10⁻⁶ of the currency's major unit.
    Micros
);
quantity!(
    /// Money in the currency's minor units, as shops think (cents; yen; fils).
    Minor
);

/// How far a currency's minor unit lies below its major unit, in decimal places.
///
/// `None` for codes of ISO 4217 that are no money of account (gold, testing, "no currency").
#[must_use]
pub fn exponent(currency: Currency) -> Option<u32> {
    currency
        .exponent()
        .map(u32::from)
        .filter(|&places| places <= 4)
}

/// Micro-units in one minor unit of `currency`.
fn micros_per_minor(currency: Currency) -> Result<i64, OutOfRange> {
    let places = exponent(currency).ok_or(OutOfRange)?;
    10_i64
        .checked_pow(6_u32.saturating_sub(places))
        .ok_or(OutOfRange)
}

impl Minor {
    /// The same money in micro-units: exact.
    pub fn to_micros(self, currency: Currency) -> Result<Micros, OutOfRange> {
        self.0
            .checked_mul(micros_per_minor(currency)?)
            .map(Micros)
            .ok_or(OutOfRange)
    }

    /// The same money in major units: exact.
    pub fn to_major(self, currency: Currency) -> Result<Decimal, OutOfRange> {
        let places = exponent(currency).ok_or(OutOfRange)?;
        Decimal::try_new(self.0, places).map_err(|_| OutOfRange)
    }
}

impl Micros {
    /// The same money in minor units, half up.
    pub fn to_minor(self, currency: Currency) -> Result<Minor, OutOfRange> {
        let places = exponent(currency).ok_or(OutOfRange)?;
        let minor = half_up(self.to_major(), places)
            .checked_mul(Decimal::from(10_u64.checked_pow(places).ok_or(OutOfRange)?))
            .and_then(|minor| minor.to_i64());
        minor.map(Minor).ok_or(OutOfRange)
    }

    /// The same money in major units: exact.
    #[must_use]
    pub fn to_major(self) -> Decimal {
        // Six places are always within the 28 that a Decimal has.
        Decimal::new(self.0, 6)
    }

    /// Money given in major units, half up to a micro-unit.
    pub fn from_major(major: Decimal) -> Result<Self, OutOfRange> {
        half_up(major, 6)
            .checked_mul(Decimal::from(1_000_000))
            .and_then(|micros| micros.to_i64())
            .map(Self)
            .ok_or(OutOfRange)
    }
}

/// Rounds half away from zero to `places` decimal places.
#[must_use]
pub fn half_up(amount: Decimal, places: u32) -> Decimal {
    amount.round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero)
}

/// What a transfer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Whole points; in text `PTS`.
    Points,
    /// Micro-units of a currency; in text its ISO 4217 code.
    Money(Currency),
}

impl Unit {
    /// `PTS`, or the currency's ISO 4217 code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Points => "PTS",
            Self::Money(currency) => currency.code(),
        }
    }

    /// The unit with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        if code == "PTS" {
            return Some(Self::Points);
        }
        Currency::from_code(code).map(Self::Money)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_up_is_away_from_zero_on_both_sides() {
        let minor = |micros| Micros::new(micros).to_minor(Currency::USD).map(Minor::get);
        assert_eq!(minor(5_000), Ok(1));
        assert_eq!(minor(4_999), Ok(0));
        assert_eq!(minor(-5_000), Ok(-1));
        assert_eq!(minor(-4_999), Ok(0));
        assert_eq!(
            Micros::new(1_500_000).to_minor(Currency::JPY),
            Ok(Minor::new(2))
        );
        assert_eq!(
            Micros::new(1_500).to_minor(Currency::KWD),
            Ok(Minor::new(2))
        );
    }

    #[test]
    fn conversions_at_the_ends_of_the_range_are_errors_not_wraps() {
        assert_eq!(
            Minor::new(i64::MAX).to_micros(Currency::USD),
            Err(OutOfRange)
        );
        assert_eq!(Micros::new(i64::MAX).plus(Micros::new(1)), Err(OutOfRange));
        assert_eq!(Micros::from_major(Decimal::MAX), Err(OutOfRange));
        assert_eq!(Minor::new(1).to_micros(Currency::XAU), Err(OutOfRange));
        assert_eq!(Points::new(i64::MIN).negated(), Err(OutOfRange));
        assert!(Micros::new(i64::MAX).to_minor(Currency::USD).is_ok());
    }
}
