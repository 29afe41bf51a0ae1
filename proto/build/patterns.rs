//! Turns the patterns of field rules into tables, so that checking one needs no regular expression
//! engine at run time.
//!
//! Part of the build script; a test includes this file too. A pattern becomes a deterministic automaton
//! over classes of bytes: `coalition_proto::validate` walks it, one look-up per byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, dfa};

/// The state that no match can follow.
const DEAD: usize = 0;
/// The state in which a match is certain, whatever follows.
const MATCHED: usize = 1;
/// States and classes are numbered in a byte.
const MOST_STATES: usize = 255;

/// The expression of a `validate::Pattern` that accepts what `pattern` finds a match in.
///
/// # Errors
///
/// Says why the pattern cannot be used: malformed, or too large for the tables.
pub(crate) fn render(pattern: &str) -> Result<String, String> {
    let automaton = dense::Builder::new()
        .configure(dense::Config::new().minimize(true))
        // Bytes, not Unicode tables: patterns are for codes and numbers.
        .syntax(syntax::Config::new().unicode(false))
        .build(pattern)
        .map_err(|error| format!("pattern {pattern:?}: {error}"))?;
    let table =
        Table::walk(&automaton).map_err(|problem| format!("pattern {pattern:?}: {problem}"))?;

    let mut source = String::new();
    let classes: Vec<_> = table.class_of.iter().map(u8::to_string).collect();
    let next: Vec<_> = table.next.iter().map(usize::to_string).collect();
    // Writing to a `String` cannot fail.
    let _ = write!(
        source,
        "Pattern {{ class_of: [{}], classes: {}, next: &[{}], start: {} }}",
        classes.join(", "),
        table.classes,
        next.join(", "),
        table.start,
    );
    Ok(source)
}

/// The automaton, renumbered. Row by row: the state after each class, the last being the end of the text.
struct Table {
    class_of: [u8; 256],
    classes: usize,
    next: Vec<usize>,
    start: usize,
}

impl Table {
    fn walk(automaton: &dense::DFA<Vec<u32>>) -> Result<Self, String> {
        let (class_of, samples) = classes(automaton);
        let start = automaton
            .start_state(&start::Config::new().anchored(Anchored::No))
            .map_err(|error: dfa::StartError| error.to_string())?;

        let mut numbers = BTreeMap::new();
        let mut waiting = Vec::new();
        let start = number(automaton, start, &mut numbers, &mut waiting);
        let width = samples.len() + 1;
        let mut rows = vec![vec![DEAD; width], vec![MATCHED; width]];
        while let Some(state) = waiting.pop() {
            let mut row: Vec<usize> = samples
                .iter()
                .map(|&byte| {
                    let after = automaton.next_state(state, byte);
                    number(automaton, after, &mut numbers, &mut waiting)
                })
                .collect();
            let end = automaton.next_eoi_state(state);
            row.push(if automaton.is_match_state(end) {
                MATCHED
            } else {
                DEAD
            });
            let at = numbers[&state];
            if rows.len() <= at {
                rows.resize(at + 1, Vec::new());
            }
            rows[at] = row;
        }
        if rows.len() > MOST_STATES {
            return Err(format!(
                "needs {} states, more than {MOST_STATES}",
                rows.len()
            ));
        }
        Ok(Self {
            class_of,
            classes: width,
            next: rows.concat(),
            start,
        })
    }
}

/// The number of a state, given out in the order of discovery.
fn number(
    automaton: &dense::DFA<Vec<u32>>,
    state: StateID,
    numbers: &mut BTreeMap<StateID, usize>,
    waiting: &mut Vec<StateID>,
) -> usize {
    if automaton.is_dead_state(state) {
        return DEAD;
    }
    // Match states come one byte late, and a match once found stays found.
    if automaton.is_match_state(state) {
        return MATCHED;
    }
    let next = numbers.len() + 2;
    *numbers.entry(state).or_insert_with(|| {
        waiting.push(state);
        next
    })
}

/// The class of every byte, and one byte of each class.
fn classes(automaton: &dense::DFA<Vec<u32>>) -> ([u8; 256], Vec<u8>) {
    let mut class_of = [0; 256];
    let mut numbers = BTreeMap::new();
    let mut samples = Vec::new();
    for byte in 0..=u8::MAX {
        let class = automaton.byte_classes().get(byte);
        let number = *numbers.entry(class).or_insert_with(|| {
            samples.push(byte);
            u8::try_from(samples.len() - 1).unwrap_or(u8::MAX)
        });
        class_of[usize::from(byte)] = number;
    }
    (class_of, samples)
}
