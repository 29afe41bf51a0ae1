//! Enrolling a member: an opaque id, and the hashes of identifiers that lead to it.

use super::books::Books;
use super::{Decision, Stop};
use crate::command::{Command, Enroll};
use crate::decision::Refusal;
use crate::snapshot::{IdentifierRecord, Subject};

pub(super) fn decide(
    books: &mut Books<'_>,
    command: &Command,
    enroll: &Enroll,
) -> Result<Decision, Stop> {
    let member = enroll.member;
    for (place, identifier) in enroll.identifiers.iter().enumerate() {
        let named_before = enroll
            .identifiers
            .iter()
            .take(place)
            .any(|i| i.hash == identifier.hash);
        if named_before || books.snapshot.identifiers.contains_key(&identifier.hash) {
            return Err(Refusal::IdentifierTaken.into());
        }
    }
    let records = enroll
        .identifiers
        .iter()
        .map(|identifier| IdentifierRecord {
            member,
            identifier: identifier.clone(),
        })
        .collect();
    books.enroll(member, records);
    books.remember(command, Subject::Member, member.uuid(), Some(member));
    Ok(Decision::Enrolled {
        member,
        replayed: false,
    })
}
