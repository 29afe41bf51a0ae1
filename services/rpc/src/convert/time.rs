//! Instants. The books count microseconds; what a message has beyond them is cut off.

use coalition_ledger::Timestamp;
use coalition_ledger::time::MICROS_PER_SECOND;

use crate::status::Problem;

const NANOS_PER_MICRO: i64 = 1_000;

/// The instant of a message. `field` is its path in the request.
///
/// # Errors
///
/// INVALID_ARGUMENT where it is none, which the rules on the fields find before.
pub fn instant(field: &str, time: &prost_types::Timestamp) -> Result<Timestamp, Problem> {
    let nanos = u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    let micros = nanos.and_then(|nanos| {
        time.seconds
            .checked_mul(MICROS_PER_SECOND)?
            .checked_add(i64::from(nanos) / NANOS_PER_MICRO)
    });
    micros
        .map(Timestamp::from_micros)
        .ok_or_else(|| Problem::invalid(field, "must be a time"))
}

/// An instant, if there is one. `field` is its path in the request.
///
/// # Errors
///
/// As [`instant`].
pub fn maybe_instant(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Problem> {
    time.map(|time| instant(field, time)).transpose()
}

/// The message of an instant.
#[must_use]
pub fn timestamp(instant: Timestamp) -> prost_types::Timestamp {
    let micros = instant.micros();
    // What remains of a second is below 10⁶ microseconds, so that it fits as nanoseconds.
    let nanos = micros.rem_euclid(MICROS_PER_SECOND) * NANOS_PER_MICRO;
    prost_types::Timestamp {
        seconds: micros.div_euclid(MICROS_PER_SECOND),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// The date of an instant in UTC, `YYYY-MM-DD`; `None` outside the years 1 to 9999.
#[must_use]
pub fn date(instant: Timestamp) -> Option<String> {
    let moment = jiff::Timestamp::from_microsecond(instant.micros()).ok()?;
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year() > 0).then(|| date.to_string())
}

/// An instant as RFC 3339 writes it; as microseconds where that cannot.
#[must_use]
pub fn rfc3339(instant: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(instant.micros()) {
        Ok(moment) => moment.to_string(),
        Err(_) => instant.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_survive_the_way_there_and_back_before_the_epoch_too() {
        for micros in [0, 1, -1, 1_795_305_600_123_456, -62_135_596_800_000_000] {
            let there = timestamp(Timestamp::from_micros(micros));
            assert!((0..1_000_000_000).contains(&there.nanos), "{there:?}");
            let back = instant("t", &there).expect("a time");
            assert_eq!(back.micros(), micros);
        }
    }

    #[test]
    fn row_33_what_is_no_time_is_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            let problem = instant("t", &prost_types::Timestamp { seconds, nanos });
            assert!(problem.is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn dates_are_those_of_utc() {
        let noon = Timestamp::from_micros(1_795_305_600_000_000);
        assert_eq!(date(noon).as_deref(), Some("2026-11-22"));
        assert_eq!(rfc3339(noon), "2026-11-22T00:00:00Z");
        assert_eq!(date(Timestamp::from_micros(i64::MAX)), None);
    }
}
