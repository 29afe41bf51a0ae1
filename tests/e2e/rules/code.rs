//! Rules on code: who makes statuses, who does arithmetic, who speaks SQL, and what nobody writes.

use super::sources::Source;
use super::tokens::{self, Token, places};

/// Statuses made anywhere but in `services/rpc/src/status.rs` and below it.
pub(super) fn statuses(sources: &[Source]) -> Vec<String> {
    let home = |path: &str| {
        path == "services/rpc/src/status.rs" || path.starts_with("services/rpc/src/status/")
    };
    let production = sources
        .iter()
        .filter(|source| source.is_production() && !home(&source.path));
    production
        .flat_map(|source| {
            found(source, |tokens| {
                let made = places(tokens, &["Status", "::"]).filter(|at| {
                    // `Status::from(problem)` turns what was made there.
                    tokens
                        .get(at + 2)
                        .is_some_and(|next| next.text != "from" && is_function(&next.text))
                        && tokens.get(at + 3).is_some_and(|next| next.text == "(")
                });
                made.map(|at| (at, "only rpc's `status` makes a status".to_owned()))
                    .collect()
            })
        })
        .collect()
}

/// The gateway naming the store or the books.
pub(super) fn gateway(sources: &[Source]) -> Vec<String> {
    let strangers = [
        "coalition_store",
        "coalition_ledger",
        "coalition_earn",
        "coalition_redeem",
        "coalition_settlement",
        "coalition_network",
        "coalition_node",
        "sqlx",
        "rusqlite",
    ];
    let gateway = sources
        .iter()
        .filter(|source| source.path.starts_with("gateway/") && source.is_production());
    gateway
        .flat_map(|source| {
            found(source, |tokens| {
                let named = tokens
                    .iter()
                    .enumerate()
                    .filter(|(_, token)| strangers.contains(&token.text.as_str()));
                named
                    .map(|(at, token)| (at, format!("the gateway must not know {}", token.text)))
                    .collect()
            })
        })
        .collect()
}

/// sqlx or rusqlite outside the store.
pub(super) fn sql(sources: &[Source]) -> Vec<String> {
    let others = sources
        .iter()
        .filter(|source| !source.path.starts_with("services/store/"));
    others
        .flat_map(|source| {
            found(source, |tokens| {
                let named = tokens
                    .iter()
                    .enumerate()
                    .filter(|(_, token)| ["sqlx", "rusqlite"].contains(&token.text.as_str()));
                named
                    .map(|(at, token)| (at, format!("only the store names {}", token.text)))
                    .collect()
            })
        })
        .collect()
}

/// Transactions begun by sqlx: dropped half way, its `begin` can give a connection back to the pool
/// inside the transaction (sqlx 0.9.0, issue 4385). Ours are begun by statements of our own.
pub(super) fn begins(sources: &[Source]) -> Vec<String> {
    let store = sources
        .iter()
        .filter(|source| source.is_production() && source.path.starts_with("services/store/"));
    store
        .flat_map(|source| {
            found(source, |tokens| {
                let begun = [
                    &[".", "begin", "(", ")"][..],
                    &[".", "try_begin", "("],
                    &[".", "begin_with", "("],
                    &[".", "try_begin_with", "("],
                    &[".", "transaction", "(", "|"],
                ];
                let begun = begun
                    .into_iter()
                    .flat_map(|row| places(tokens, row).collect::<Vec<_>>());
                begun
                    .map(|at| (at, "no transaction is begun by sqlx".to_owned()))
                    .collect()
            })
        })
        .collect()
}

/// Arithmetic on points and money outside the ledger: on what a newtype holds (`.get()`), or in what
/// one is made of (`Points::new(a + b)`).
pub(super) fn arithmetic(sources: &[Source]) -> Vec<String> {
    let others = sources
        .iter()
        .filter(|source| source.is_production() && !source.path.starts_with("services/ledger/"));
    others
        .flat_map(|source| {
            found(source, |tokens| {
                let held = places(tokens, &[".", "get", "(", ")"])
                    .filter(|at| after(tokens, at + 4) || before(tokens, *at));
                let made = ["Points", "Micros", "Minor"].into_iter().flat_map(|name| {
                    let calls: Vec<usize> = places(tokens, &[name, "::", "new", "("]).collect();
                    calls.into_iter().filter(|at| {
                        let inside = at + 4..tokens::after_group(tokens, at + 3);
                        inside.into_iter().any(|at| operator(tokens, at))
                    })
                });
                let why = "only the ledger does arithmetic on points and money";
                held.chain(made).map(|at| (at, why.to_owned())).collect()
            })
        })
        .collect()
}

/// What is not written here at all: escapes from the lints, tests that do not run, unfinished code,
/// and tests that wait for time to pass.
pub(super) fn unwanted(sources: &[Source]) -> Vec<String> {
    const ROWS: [(&[&str], &str); 7] = [
        (
            &["#", "[", "allow", "("],
            "`#[expect]` with a reason, never `#[allow]`",
        ),
        (
            &["#", "!", "[", "allow", "("],
            "`#![expect]` with a reason, never `#![allow]`",
        ),
        (&["#", "[", "ignore"], "no test is ignored"),
        (&["todo", "!"], "unfinished"),
        (&["unimplemented", "!"], "unfinished"),
        (&["dbg", "!"], "left over"),
        (&["unsafe", "{"], "no unsafe code"),
    ];
    let mut wrong = Vec::new();
    for source in sources {
        let all = tokens::all(&source.text);
        wrong.extend(report(source, &all, |tokens| {
            let rows = ROWS.iter().flat_map(|(row, why)| {
                places(tokens, row)
                    .map(|at| (at, (*why).to_owned()))
                    .collect::<Vec<_>>()
            });
            let mut rows: Vec<(usize, String)> = rows.collect();
            if !source.is_production() {
                rows.extend(
                    places(tokens, &["sleep", "("]).map(|at| (at, "tests do not sleep".to_owned())),
                );
            }
            rows
        }));
        let marks = ["TODO", "FIXME", "XXX", "HACK"];
        for (number, line) in source.text.lines().enumerate() {
            let comment = line
                .split_once("//")
                .map(|(_, comment)| comment)
                .unwrap_or_default();
            if marks.iter().any(|mark| comment.contains(mark)) {
                wrong.push(format!(
                    "{}:{}: unfinished: {}",
                    source.path,
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    wrong
}

/// Sources that do not say what they are for, and modules in the old place.
pub(super) fn modules(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Source { path, text } in sources {
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{path} does not begin by saying what it is for (`//!`)"
            ));
        }
        if path.ends_with("/mod.rs") {
            wrong.push(format!(
                "{path}: a module lies in `name.rs`, not in `name/mod.rs`"
            ));
        }
    }
    wrong
}

fn found(source: &Source, look: impl Fn(&[Token]) -> Vec<(usize, String)>) -> Vec<String> {
    report(source, &tokens::of_production(&source.text), look)
}

fn report(
    source: &Source,
    tokens: &Result<Vec<Token>, String>,
    look: impl Fn(&[Token]) -> Vec<(usize, String)>,
) -> Vec<String> {
    match tokens {
        Err(error) => vec![format!("{}: {error}", source.path)],
        Ok(tokens) => look(tokens)
            .into_iter()
            .map(|(at, why)| format!("{}:{}: {why}", source.path, tokens[at].line))
            .collect(),
    }
}

fn is_function(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Whether what ends before `at` is the left side of a sum or product.
fn after(tokens: &[Token], at: usize) -> bool {
    let checked = ["checked_", "saturating_", "wrapping_", "overflowing_"];
    match tokens.get(at).map(|token| token.text.as_str()) {
        Some(".") => tokens
            .get(at + 1)
            .is_some_and(|method| checked.iter().any(|prefix| method.text.starts_with(prefix))),
        _ => operator(tokens, at),
    }
}

/// Whether the chain of calls that `at` is part of is the right side of a sum or product.
fn before(tokens: &[Token], at: usize) -> bool {
    let mut start = at;
    while let Some(previous) = start.checked_sub(1) {
        match tokens[previous].text.as_str() {
            ")" | "]" => match opening(tokens, previous) {
                Some(open) => start = open,
                None => return false,
            },
            "." | "::" | "?" => start = previous,
            text if is_word(text) && !["return", "in", "if", "match", "else"].contains(&text) => {
                start = previous;
            }
            _ => return operator(tokens, previous),
        }
    }
    false
}

fn opening(tokens: &[Token], close: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in (0..=close).rev() {
        match tokens[at].text.as_str() {
            ")" | "]" | "}" => depth += 1,
            "(" | "[" | "{" => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether the token is an operator between two numbers, and not `->`, a reference or a sign.
fn operator(tokens: &[Token], at: usize) -> bool {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let symbol = tokens
        .get(at)
        .is_some_and(|token| ["+", "-", "*", "/", "%"].contains(&token.text.as_str()));
    let arrow = is(at, "-") && is(at + 1, ">");
    let left = at
        .checked_sub(1)
        .and_then(|left| tokens.get(left))
        .is_some_and(|left| {
            is_word(&left.text) && left.text != "return"
                || [")", "]", "?"].contains(&left.text.as_str())
        });
    symbol && !arrow && left
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}
