//! Rust sources as tokens, for rules that are textual but should not stumble over comments, strings
//! and line breaks.
//!
//! Deliberately no syntax tree: a rule here looks for a few tokens in a row, also inside macros.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One token and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Identifiers and punctuation as written, `::` as one; `"…"` for every literal of text.
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
}

/// The tokens of a source, without comments; what `#[cfg(test)]` stands on is left out.
///
/// # Errors
///
/// What the source breaks, where it is not made of Rust tokens.
pub(super) fn of_production(text: &str) -> Result<Vec<Token>, String> {
    all(text).map(|tokens| without_tests(&tokens))
}

/// The tokens of a source, without comments.
///
/// # Errors
///
/// What the source breaks, where it is not made of Rust tokens.
pub(super) fn all(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Ok(tokens)
}

/// Where these texts stand in a row: the index of the first, for every place.
pub(super) fn places<'a>(
    tokens: &'a [Token],
    row: &'a [&'a str],
) -> impl Iterator<Item = usize> + 'a {
    tokens
        .windows(row.len())
        .enumerate()
        .filter(move |(_, window)| {
            window
                .iter()
                .zip(row)
                .all(|(token, text)| token.text == *text)
        })
        .map(|(at, _)| at)
}

/// The index after the group that opens at `open`; the end, where it does not close.
pub(super) fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut stream = stream.into_iter().peekable();
    while let Some(tree) = stream.next() {
        let line = tree.span().start().line;
        let mut push = |text: String, line: usize| tokens.push(Token { text, line });
        match tree {
            TokenTree::Ident(ident) => push(ident.to_string(), line),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                push(
                    if text.contains('"') {
                        "\"…\"".to_owned()
                    } else {
                        text
                    },
                    line,
                );
            }
            TokenTree::Punct(punct) => {
                let colons = punct.as_char() == ':'
                    && punct.spacing() == Spacing::Joint
                    && matches!(stream.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                if colons {
                    stream.next();
                    push("::".to_owned(), line);
                } else {
                    push(punct.as_char().to_string(), line);
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), line);
                flatten(group.stream(), tokens);
                let line = group.span_close().end().line;
                tokens.push(Token {
                    text: close.to_owned(),
                    line,
                });
            }
        }
    }
}

/// Leaves out every item that `#[cfg(test)]` stands on: up to its `;`, or its braces.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].len() >= MARK.len()
            && tokens[at..]
                .iter()
                .zip(MARK)
                .all(|(token, text)| token.text == text);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                ";" => {
                    at += 1;
                    break;
                }
                "{" => {
                    at = after_group(tokens, at);
                    break;
                }
                "(" | "[" => at = after_group(tokens, at),
                _ => at += 1,
            }
        }
    }
    kept
}
