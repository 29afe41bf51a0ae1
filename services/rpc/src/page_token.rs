//! Page tokens: where a list goes on, signed.
//!
//! A token holds the store's own cursor and a MAC over it, the method, the caller's partner and the
//! filter: a token that was changed, or taken to another list, another filter or another caller, is
//! refused. What the cursor holds can be read by whoever has the token, so it holds only ids that
//! were on the page before.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coalition_ledger::ids::PartnerId;
use coalition_proto::common::ErrorReason;

use crate::status::Problem;

/// Most bytes of a cursor.
pub const CURSOR_MAX_BYTES: usize = 256;

/// Bytes of the MAC that go into a token; 128 bits are beyond guessing.
const TAG_BYTES: usize = 16;

/// Counts the forms that tokens have had; another one is refused.
const VERSION: u8 = 1;

/// Signs page tokens, and opens them.
#[derive(Clone)]
pub struct PageTokens {
    key: hmac::Key,
}

/// The list that a token belongs to.
#[derive(Clone, Copy, Debug)]
pub struct PageScope<'a> {
    /// The method, as `/coalition.member.v1.MemberService/ListActivity`.
    pub method: &'a str,
    /// The caller's partner; `None` for those who act for the network.
    pub partner: Option<PartnerId>,
    /// The filter in any form in which the same filter has the same bytes.
    pub filter: &'a [u8],
}

impl PageTokens {
    /// Signs with this secret, which all processes of a network share.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The token for a page that begins after `cursor`.
    ///
    /// # Errors
    ///
    /// INTERNAL if the cursor is longer than [`CURSOR_MAX_BYTES`], which leaves room for a dozen ids.
    pub fn sign(&self, scope: &PageScope<'_>, cursor: &[u8]) -> Result<String, Problem> {
        if cursor.len() > CURSOR_MAX_BYTES {
            return Err(Problem::internal("a cursor is too long to be signed"));
        }
        let mut token = Vec::with_capacity(1 + cursor.len() + TAG_BYTES);
        token.push(VERSION);
        token.extend_from_slice(cursor);
        let tag = self.tag(scope, cursor);
        token.extend_from_slice(tag.as_ref().get(..TAG_BYTES).unwrap_or_default());
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The cursor in a token; `None` for an empty token, which asks for the first page.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT, reason PAGE_TOKEN_INVALID, for a token that was not signed for this list
    /// and this caller.
    pub fn open(&self, scope: &PageScope<'_>, token: &str) -> Result<Option<Vec<u8>>, Problem> {
        if token.is_empty() {
            return Ok(None);
        }
        self.cursor(scope, token).map(Some).ok_or_else(|| {
            Problem::new(
                ErrorReason::PageTokenInvalid,
                "not a page token of this list",
            )
            .with_violation("page_token", "start again without one")
        })
    }

    fn cursor(&self, scope: &PageScope<'_>, token: &str) -> Option<Vec<u8>> {
        // Four characters of text for three bytes; the bound is on what gets decoded at all.
        if token.len() > (1 + CURSOR_MAX_BYTES + TAG_BYTES).div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let (cursor, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let expected = self.tag(scope, cursor);
        let expected = expected.as_ref().get(..TAG_BYTES)?;
        let genuine = aws_lc_rs::constant_time::verify_slices_are_equal(expected, tag).is_ok();
        (version == VERSION && genuine).then(|| cursor.to_vec())
    }

    fn tag(&self, scope: &PageScope<'_>, cursor: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        let partner = scope.partner.map(|partner| partner.uuid().into_bytes());
        let partner = partner.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        // Each part after its length, so that no two scopes run into the same bytes.
        for part in [
            &[VERSION][..],
            scope.method.as_bytes(),
            partner,
            scope.filter,
            cursor,
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: PageScope<'static> = PageScope {
        method: "/a.B/List",
        partner: None,
        filter: b"f",
    };

    fn tokens() -> PageTokens {
        PageTokens::new(&[7; 32])
    }

    #[test]
    fn row_15_a_token_opens_only_its_own_list() {
        let partner = PartnerId::from_uuid(uuid::Uuid::from_u128(5));
        let token = tokens().sign(&LIST, b"cursor").expect("short");
        assert_eq!(
            tokens().open(&LIST, &token).expect("its own"),
            Some(b"cursor".to_vec())
        );
        assert_eq!(tokens().open(&LIST, "").expect("none"), None);

        let others = [
            PageScope {
                method: "/a.B/Lis",
                ..LIST
            },
            PageScope {
                partner: Some(partner),
                ..LIST
            },
            PageScope {
                filter: b"g",
                ..LIST
            },
            PageScope {
                method: "/a.B/Listf",
                filter: b"",
                ..LIST
            },
        ];
        for other in others {
            let problem = tokens().open(&other, &token).expect_err("another list");
            assert_eq!(problem.reason(), ErrorReason::PageTokenInvalid, "{other:?}");
        }
        assert!(
            PageTokens::new(&[8; 32]).open(&LIST, &token).is_err(),
            "another network"
        );
        assert!(
            tokens().open(&LIST, &"A".repeat(100_000)).is_err(),
            "too long"
        );
    }

    proptest! {
        #[test]
        fn row_15_an_altered_token_is_refused(
            cursor in prop::collection::vec(any::<u8>(), 0..CURSOR_MAX_BYTES),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let token = tokens().sign(&LIST, &cursor).expect("short");
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("our own");
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let altered = URL_SAFE_NO_PAD.encode(&bytes);
            prop_assert!(tokens().open(&LIST, &altered).is_err());
            prop_assert_eq!(tokens().open(&LIST, &token).expect("our own"), Some(cursor));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,400}") {
            let opened = tokens().open(&LIST, &text);
            prop_assert!(text.is_empty() || opened.is_err());
        }
    }
}
