//! Instants and spans as the books count them: whole microseconds, UTC.
//!
//! Nothing here reads a clock; see [`crate::clock`] for where time comes from.

use std::fmt;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// Microseconds in a day of 86,400 seconds.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The last instant that a date with a year of four digits can say: what tells and keeps time beside
/// us (RFC 3339, `google.protobuf.Timestamp`) knows none after it.
pub const LAST: Timestamp = Timestamp(253_402_300_799_999_999);

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by `micros` microseconds (negative: back), held at the ends of the range.
    #[must_use]
    pub const fn saturating_add_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// This instant moved by whole days of 86,400 seconds; `None` past [`LAST`].
    #[must_use]
    pub fn checked_add_days(self, days: u32) -> Option<Self> {
        let span = i64::from(days).checked_mul(MICROS_PER_DAY)?;
        let moved = self.0.checked_add(span).map(Self)?;
        (moved <= LAST).then_some(moved)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}
