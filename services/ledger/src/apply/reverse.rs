//! Undoing a request whole, known only by its id: the till lost our answer. Source: domain,
//! "Redeem", reverse by reference.

use std::sync::Arc;

use super::books::Books;
use super::refund::give_back;
use super::return_earn::take_back;
use super::{Decision, No, Stop, declined, occurred, post, trading};
use crate::command::{Command, RequestKey, Reverse};
use crate::decision::Refusal;
use crate::ids::TransactionId;
use crate::snapshot::{RequestRecord, Subject};
use crate::transaction::{Decline, Kind, Open, Transaction};

pub(super) fn decide(
    books: &mut Books<'_>,
    command: &Command,
    reverse: &Reverse,
) -> Result<Decision, Stop> {
    trading(books, reverse.partner)?;
    let Some((own, _)) = command.request else {
        return Err(Refusal::UnknownOriginal.into());
    };
    let names = reverse.names(own.scope);
    if names.contains(&own) {
        return Err(Refusal::WrongKind.into());
    }
    let known = |name| books.snapshot.requests.get(name).copied();
    let Some(record) = names.iter().find_map(known) else {
        return Ok(remember_unknown(books, command, &names));
    };
    let subject = TransactionId::from_uuid(record.subject_id);
    match record.subject {
        Subject::Tombstone => return again(books, command, subject),
        Subject::Transaction => {}
        _ => return Err(Refusal::WrongKind.into()),
    }
    let original = books.transaction(subject)?.clone();
    if original.partner != reverse.partner.into() {
        return Err(Refusal::UnknownOriginal.into());
    }
    if original.kind != reverse.kind {
        return Err(Refusal::WrongKind.into());
    }
    if original.declined.is_some() {
        return Err(declined(Decline::OriginalWasDeclined, &original));
    }
    if let Some(earlier) = original.open.reversed_by {
        return again(books, command, earlier);
    }
    if is_used_up(&original) {
        return Err(declined(Decline::AlreadyReversed, &original));
    }
    undo(books, command, reverse, &original)
}

/// Whether there was something to undo, and all of it is undone.
fn is_used_up(original: &Transaction) -> bool {
    let basis = original.amount.map(|(basis, _)| basis).unwrap_or_default();
    match original.kind {
        Kind::Earn => !basis.is_zero() && original.open.amount.is_zero(),
        _ => original.open.points.is_zero(),
    }
}

fn undo(
    books: &mut Books<'_>,
    command: &Command,
    reverse: &Reverse,
    original: &Transaction,
) -> Result<Decision, Stop> {
    let occurred_at = occurred(books, reverse.occurred_at)?;
    let (partner, context) = (reverse.partner, reverse.context.clone());
    let mut plan = if original.kind == Kind::Earn {
        take_back(
            books,
            original,
            original.open.amount,
            partner,
            occurred_at,
            context,
        )?
    } else {
        give_back(
            books,
            original,
            original.open.points,
            partner,
            occurred_at,
            context,
        )?
    };
    // The number that a reversal carries is that of the check it undoes, not of a return slip.
    plan.uses_check = false;
    let left = plan.original.map(|(_, open)| open).unwrap_or_default();
    let decision = post(books, command, plan)?;
    if let Decision::Recorded { transaction, .. } = &decision {
        books.reopen(
            original.id,
            Open {
                reversed_by: Some(transaction.id),
                ..left
            },
        );
        books.release_check(original.id);
    }
    Ok(decision)
}

/// The original never arrived: remember it, so that it is declined if it still does.
fn remember_unknown(books: &mut Books<'_>, command: &Command, names: &[RequestKey]) -> Decision {
    let reason = Decline::OriginalNotFound;
    let decision = books.decline(
        command,
        &No {
            reason,
            original: None,
            member: None,
            open: Open::default(),
        },
    );
    if let Decision::Recorded { transaction, .. } = &decision {
        for key in names {
            books.remember_as(RequestRecord {
                key: *key,
                fingerprint: [0; 16],
                subject: Subject::Tombstone,
                subject_id: transaction.id.uuid(),
                member: None,
            });
        }
    }
    decision
}

/// It was undone before, under another id: the same answer.
fn again(
    books: &mut Books<'_>,
    command: &Command,
    earlier: TransactionId,
) -> Result<Decision, Stop> {
    let transaction = Arc::new(books.transaction(earlier)?.clone());
    let member = transaction.member;
    books.remember(command, Subject::Transaction, earlier.uuid(), member);
    Ok(Decision::Recorded {
        transaction,
        replayed: true,
    })
}
