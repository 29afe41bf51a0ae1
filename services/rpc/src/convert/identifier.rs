//! How tills name members: normalised, then hashed with the network's key. The value itself is
//! never kept, and never in a log.
//!
//! Normalised means: without spaces at either end; a telephone number by its digits alone, without
//! the `00` that some write for `+`; an e-mail address in lower case; everything else as it is.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use coalition_ledger::command::{IdentifierHash, MemberKey, NewIdentifier};
use coalition_proto::common::{Identifier, IdentifierType};

use crate::request;
use crate::status::Problem;

/// Characters at the end of an identifier that may be shown.
const SHOWN: usize = 4;

/// Shortest identifier of which something is shown: as much again stays hidden.
const SHOWN_FROM: usize = 2 * SHOWN;

/// How a call names a member.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// By id.
    Id(&'a str),
    /// By what the member shows.
    Identifier(&'a Identifier),
}

/// Hashes identifiers with the network's key, which is configuration and in no database.
#[derive(Clone)]
pub struct IdentifierKey {
    key: hmac::Key,
}

impl IdentifierKey {
    /// Hashes with this secret, which all processes of a network share, for ever: with another one no
    /// member is found again.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The key to look a member up by.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for what is no id, or no identifier.
    pub fn member(&self, named: Named<'_>) -> Result<MemberKey, Problem> {
        match named {
            Named::Id(id) => request::id("member_id", id).map(MemberKey::Id),
            Named::Identifier(identifier) => self
                .hash("identifier", identifier)
                .map(MemberKey::Identifier),
        }
    }

    /// An identifier to link. `field` is its path in the request.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for what is no identifier.
    pub fn new_identifier(
        &self,
        field: &str,
        identifier: &Identifier,
    ) -> Result<NewIdentifier, Problem> {
        let value = normalised(field, identifier)?;
        Ok(NewIdentifier {
            hash: self.hash(field, identifier)?,
            kind: i16::from(kind_byte(identifier)),
            masked: masked(identifier.r#type(), &value),
        })
    }

    /// Tells this key apart from others: no identifier has this hash, since none is of kind 0.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.sign(0, b"fingerprint")
    }

    /// HMAC-SHA256 over the kind, as one byte, and the normalised value.
    fn hash(&self, field: &str, identifier: &Identifier) -> Result<IdentifierHash, Problem> {
        let value = normalised(field, identifier)?;
        Ok(self.sign(kind_byte(identifier), value.as_bytes()))
    }

    fn sign(&self, kind: u8, value: &[u8]) -> IdentifierHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[kind]);
        context.update(value);
        let mut hash = IdentifierHash::default();
        hash.iter_mut()
            .zip(context.sign().as_ref())
            .for_each(|(to, from)| *to = *from);
        hash
    }
}

impl fmt::Debug for IdentifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentifierKey").finish_non_exhaustive()
    }
}

/// The kind's number; kinds are few, and the rules on the fields let no unknown one through.
fn kind_byte(identifier: &Identifier) -> u8 {
    u8::try_from(identifier.r#type).unwrap_or(u8::MAX)
}

fn normalised<'a>(field: &str, identifier: &'a Identifier) -> Result<Cow<'a, str>, Problem> {
    let trimmed = identifier.value.trim();
    let value = match identifier.r#type() {
        IdentifierType::Phone => {
            let digits: String = trimmed.chars().filter(char::is_ascii_digit).collect();
            match digits.strip_prefix("00") {
                Some(rest) if !trimmed.starts_with('+') => Cow::Owned(rest.to_owned()),
                _ => Cow::Owned(digits),
            }
        }
        IdentifierType::Email => Cow::Owned(trimmed.to_lowercase()),
        IdentifierType::Unspecified
        | IdentifierType::Card
        | IdentifierType::Qr
        | IdentifierType::External => Cow::Borrowed(trimmed),
    };
    if value.is_empty() {
        return Err(Problem::invalid(
            format!("{field}.value"),
            "must hold more than spaces, and a phone number digits",
        ));
    }
    Ok(value)
}

/// What may be shown: the last characters of a number; of an address and of a code nothing.
fn masked(kind: IdentifierType, value: &str) -> String {
    match kind {
        IdentifierType::Card | IdentifierType::Phone | IdentifierType::External => {
            let length = value.chars().count();
            if length < SHOWN_FROM {
                return String::new();
            }
            let shown = value.chars().skip(length.saturating_sub(SHOWN));
            std::iter::once('…').chain(shown).collect()
        }
        IdentifierType::Unspecified | IdentifierType::Email | IdentifierType::Qr => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(kind: IdentifierType, value: &str) -> Identifier {
        Identifier {
            r#type: kind.into(),
            value: value.to_owned(),
        }
    }

    fn hash(kind: IdentifierType, value: &str) -> IdentifierHash {
        let key = IdentifierKey::new(&[1; 32]);
        key.hash("identifier", &identifier(kind, value))
            .expect("an identifier")
    }

    #[test]
    fn one_person_is_found_however_the_identifier_is_written() {
        use IdentifierType::{Card, Email, Phone};
        for other in ["+49 30 / 123 456", "004930123456", " +4930123456 "] {
            assert_eq!(hash(Phone, other), hash(Phone, "+4930123456"), "{other}");
        }
        assert_eq!(
            hash(Email, " Ada@Example.ORG"),
            hash(Email, "ada@example.org")
        );
        assert_ne!(hash(Card, "4930123456"), hash(Phone, "4930123456"));
        assert_ne!(hash(Card, "ab"), hash(Card, "AB"));
        let other_key = IdentifierKey::new(&[2; 32]);
        let other = other_key.hash("identifier", &identifier(Card, "ab"));
        assert_ne!(other.ok(), Some(hash(Card, "ab")));
    }

    #[test]
    fn a_key_is_told_from_others_by_its_fingerprint() {
        let fingerprint = |secret| IdentifierKey::new(&[secret; 32]).fingerprint();
        assert_eq!(fingerprint(1), fingerprint(1));
        assert_ne!(fingerprint(1), fingerprint(2));
        // Databases hold it: it is the same in every version.
        assert_eq!(fingerprint(1)[..4], [0x1c, 0xbe, 0xcc, 0x06]);
        for kind in [IdentifierType::Card, IdentifierType::External] {
            assert_ne!(hash(kind, "fingerprint"), fingerprint(1));
        }
    }

    #[test]
    fn nothing_is_no_identifier() {
        let key = IdentifierKey::new(&[1; 32]);
        for (kind, value) in [
            (IdentifierType::Card, "  "),
            (IdentifierType::Phone, "+ ()"),
        ] {
            assert!(key.hash("identifier", &identifier(kind, value)).is_err());
        }
    }

    #[test]
    fn little_is_shown_and_of_short_or_spoken_ones_nothing() {
        assert_eq!(masked(IdentifierType::Card, "9781234567890"), "…7890");
        assert_eq!(masked(IdentifierType::Card, "1234567"), "");
        assert_eq!(masked(IdentifierType::External, "äöüß12345"), "…2345");
        assert_eq!(masked(IdentifierType::Email, "ada@example.org"), "");
    }
}
