//! The field rules of the protos, checked: [`check`] says which fields of a request break the rule
//! annotated on them.
//!
//! The rules stand in the protos as protovalidate annotations, so that partners can check the same in
//! their own language; the checks here are written from them by the build script, without reflection
//! and without an expression engine. On a request that breaks nothing they allocate nothing, but for
//! lists whose items must differ. What the books refuse is not known here.

use std::collections::HashSet;

use prost_types::{Duration, Timestamp};

/// How many violations are reported at most; a caller corrects a few at a time, and error details stay
/// small.
pub const MAX_VIOLATIONS: usize = 16;

/// A field that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field from the request, for example `context.check_id` or `window_ids[3]`. For a
    /// oneof without any of its fields, the path of the oneof.
    pub field: String,
    /// What the rule asks for, in English, for developers, to be read after the path: `must be at least
    /// 1`. Never holds what was sent.
    pub description: String,
}

/// The violations found so far in one request, at most [`MAX_VIOLATIONS`].
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<FieldViolation>,
}

/// A message whose fields have rules. Implemented for every message that a request can hold.
pub trait Validate {
    /// Adds the fields that break a rule to `violations`, in the order of the message.
    fn validate(&self, violations: &mut Violations);
}

/// Checks every field of a request, at every depth.
///
/// # Errors
///
/// The fields that break a rule: at least one, at most [`MAX_VIOLATIONS`].
pub fn check<M: Validate>(request: &M) -> Result<(), Vec<FieldViolation>> {
    let mut violations = Violations::default();
    request.validate(&mut violations);
    if violations.found.is_empty() {
        Ok(())
    } else {
        Err(violations.found)
    }
}

impl Violations {
    /// Adds a violation of the field `field` of the message that is being looked at.
    pub fn add(&mut self, field: &str, description: &str) {
        self.push(field.to_owned(), description);
    }

    fn add_item(&mut self, field: &str, index: usize, description: &str) {
        self.push(format!("{field}[{index}]"), description);
    }

    fn push(&mut self, field: String, description: &str) {
        if self.found.len() < MAX_VIOLATIONS {
            self.found.push(FieldViolation {
                field,
                description: description.to_owned(),
            });
        }
    }

    /// Looks at the message in `field`. Paths are put together only if something is found.
    fn within(&mut self, field: &str, look: impl FnOnce(&mut Self)) {
        let before = self.found.len();
        look(self);
        for violation in &mut self.found[before..] {
            violation.field = format!("{field}.{}", violation.field);
        }
    }

    fn within_item(&mut self, field: &str, index: usize, look: impl FnOnce(&mut Self)) {
        let before = self.found.len();
        look(self);
        for violation in &mut self.found[before..] {
            violation.field = format!("{field}[{index}].{}", violation.field);
        }
    }
}

/// A pattern as an automaton: written by the build script, see `build/patterns.rs`.
struct Pattern {
    class_of: [u8; 256],
    /// Classes of bytes, and one more for the end of the text.
    classes: usize,
    /// Row by row, the state after each class.
    next: &'static [u8],
    start: u8,
}

impl Pattern {
    const DEAD: u8 = 0;
    const MATCHED: u8 = 1;

    fn matches(&self, text: &str) -> bool {
        let mut state = self.start;
        for byte in text.bytes() {
            let class = usize::from(self.class_of[usize::from(byte)]);
            state = self.next[usize::from(state) * self.classes + class];
            if state <= Self::MATCHED {
                return state == Self::MATCHED;
            }
        }
        self.next[usize::from(state) * self.classes + self.classes - 1] != Self::DEAD
    }
}

/// `8-4-4-4-12` hexadecimal digits, of any version and case.
fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Counts characters only where the bytes alone do not tell.
fn is_longer(text: &str, most: usize) -> bool {
    text.len() > most && text.chars().nth(most).is_some()
}

fn has_control_characters(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    }
}

fn has_repeats(items: &[String]) -> bool {
    let mut seen = HashSet::with_capacity(items.len());
    !items.iter().all(|item| seen.insert(item.as_str()))
}

/// `0001-01-01T00:00:00Z` to `9999-12-31T23:59:59.999999999Z`, as `timestamp.proto` has it.
fn is_timestamp(time: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.seconds)
        && (0..=999_999_999).contains(&time.nanos)
}

/// At most 10,000 years, seconds and nanos of one sign, as `duration.proto` has it.
fn is_duration(duration: &Duration) -> bool {
    (-315_576_000_000..=315_576_000_000).contains(&duration.seconds)
        && (-999_999_999..=999_999_999).contains(&duration.nanos)
        && (duration.seconds == 0
            || duration.nanos == 0
            || (duration.seconds < 0) == (duration.nanos < 0))
}

#[expect(
    clippy::collapsible_if,
    clippy::manual_range_patterns,
    clippy::unreadable_literal,
    reason = "generated code: read the protos instead"
)]
mod rules {
    use super::{
        Pattern, Validate, Violations, has_control_characters, has_repeats, is_duration, is_longer,
        is_timestamp, is_uuid,
    };

    include!(concat!(env!("OUT_DIR"), "/rules.rs"));
}
