//! What handlers ask of a request: who calls, for which partner, until when; ids, sizes, rules.
//!
//! Whose figures a call may touch is decided here once, so that no handler reads a partner from a
//! body by itself.

use std::str::FromStr;
use std::sync::Arc;

use coalition_ledger::ids::{NotAnId, PartnerId};
use coalition_proto::validate::{self, Validate};
use tonic::Request;
use uuid::Uuid;

use crate::auth::identity::Identity;
use crate::call::Call;
use crate::deadline::{CALL_MAX, Deadline};
use crate::status::Problem;

/// Entries of a page where the caller does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// Most entries of a page; a larger wish is answered with this many (AIP-158).
pub const PAGE_SIZE_MAX: u32 = 1_000;

/// Who is calling.
///
/// # Errors
///
/// INTERNAL if the call came in without a check of its token: a fault in the order of the layers.
pub fn identity<T>(request: &Request<T>) -> Result<&Arc<Identity>, Problem> {
    request
        .extensions()
        .get::<Call>()
        .and_then(Call::identity)
        .ok_or_else(|| Problem::internal("a handler was reached without an identity"))
}

/// When the caller stops waiting.
#[must_use]
pub fn deadline<T>(request: &Request<T>) -> Deadline {
    request
        .extensions()
        .get::<Call>()
        .and_then(Call::deadline)
        .unwrap_or_else(|| Deadline::after(CALL_MAX))
}

/// Holds a message against the rules that stand in its proto.
///
/// # Errors
///
/// INVALID_ARGUMENT with every field that breaks its rule.
pub fn valid<M: Validate>(message: &M) -> Result<(), Problem> {
    validate::check(message).map_err(Problem::from)
}

/// The partner that a call acts for: that of the token. Those who act for the network name one in
/// the request (`named`; empty where it is not set).
///
/// # Errors
///
/// PERMISSION_DENIED where a partner names another; INVALID_ARGUMENT where the network names none.
pub fn acting_partner(identity: &Identity, named: &str) -> Result<PartnerId, Problem> {
    match visible_partner(identity, named)? {
        Some(partner) => Ok(partner),
        None => Err(Problem::invalid(
            "partner_id",
            "is required of those who act for the network",
        )),
    }
}

/// The partner whose figures a reader is shown: that of the token. Those who act for the network
/// may name one in the request, or none (`None`: they see all).
///
/// # Errors
///
/// PERMISSION_DENIED where a partner names another, whether that one exists or not.
pub fn visible_partner(identity: &Identity, named: &str) -> Result<Option<PartnerId>, Problem> {
    match identity.partner() {
        // Compared by its text first: the common case costs no parsing.
        Some(own) if named.is_empty() => Ok(Some(own)),
        Some(own) => match named.parse::<PartnerId>() {
            Ok(named) if named == own => Ok(Some(own)),
            _ => Err(Problem::permission_denied()),
        },
        None if named.is_empty() => Ok(None),
        None => id("partner_id", named).map(Some),
    }
}

/// Where a till stands, its location or its terminal: what the token binds it to, or else what the
/// request names (`named`; empty where it is not set).
///
/// # Errors
///
/// PERMISSION_DENIED where a till names another place than its own.
pub fn place<'a>(bound: Option<&'a str>, named: &'a str) -> Result<&'a str, Problem> {
    match bound {
        None => Ok(named),
        Some(own) if named.is_empty() || named == own => Ok(own),
        Some(_) => Err(Problem::permission_denied()),
    }
}

/// An id in its text form. `field` is its path in the request.
///
/// # Errors
///
/// INVALID_ARGUMENT if it is not an id, or one of another kind.
pub fn id<T: FromStr<Err = NotAnId>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: NotAnId| Problem::invalid(field, error.to_string()))
}

/// The request id of a write.
///
/// # Errors
///
/// INVALID_ARGUMENT if it is missing, is no UUID in the usual form, or is the nil one.
pub fn request_id(text: &str) -> Result<Uuid, Problem> {
    // The hyphenated form alone: one request has one spelling.
    let parsed = (text.len() == uuid::fmt::Hyphenated::LENGTH)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
        .filter(|id| !id.is_nil());
    parsed.ok_or_else(|| Problem::invalid("request_id", "must be a UUID, and is required"))
}

/// How many entries a page has: `wished`, within bounds, or [`PAGE_SIZE_DEFAULT`] for 0.
///
/// # Errors
///
/// INVALID_ARGUMENT if it is negative.
pub fn page_size(wished: i32) -> Result<u32, Problem> {
    match u32::try_from(wished) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(wished) => Ok(wished.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Problem::invalid("page_size", "must not be negative")),
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::ids::{MemberId, TransactionId};
    use coalition_proto::common::ErrorReason;

    use super::*;

    #[test]
    fn a_till_stands_where_its_token_says() {
        assert_eq!(place(None, "").expect("free"), "");
        assert_eq!(place(None, "harbour").expect("free"), "harbour");
        assert_eq!(place(Some("harbour"), "").expect("bound"), "harbour");
        assert_eq!(place(Some("harbour"), "harbour").expect("bound"), "harbour");
        let elsewhere = place(Some("harbour"), "station").expect_err("bound");
        assert_eq!(elsewhere.reason(), ErrorReason::PermissionDenied);
    }

    #[test]
    fn ids_of_another_kind_are_invalid_not_missing() {
        let member = MemberId::from_uuid(Uuid::from_u128(7)).to_string();
        assert!(id::<MemberId>("member_id", &member).is_ok());
        for text in [
            member.as_str(),
            "",
            "txn_",
            "txn_7",
            "txn_00000000000000000000000007\n",
        ] {
            let problem = id::<TransactionId>("transaction_id", text).expect_err(text);
            assert_eq!(problem.reason(), ErrorReason::InvalidArgument, "{text:?}");
        }
    }

    #[test]
    fn row_23_a_request_id_is_a_uuid_and_has_one_spelling() {
        let good = "019aab5e-2c3b-7d11-9f60-0242ac120002";
        assert!(request_id(good).is_ok());
        for text in [
            "",
            "x",
            "019aab5e2c3b7d119f600242ac120002",
            "{019aab5e-2c3b-7d11-9f60-0242ac120002}",
            "urn:uuid:019aab5e-2c3b-7d11-9f60-0242ac120002",
            "00000000-0000-0000-0000-000000000000",
            "019aab5e-2c3b-7d11-9f60-0242ac12000g",
        ] {
            assert!(request_id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn row_41_page_sizes_are_bounded() {
        let sizes = [
            (0, 100),
            (1, 1),
            (1_000, 1_000),
            (1_001, 1_000),
            (i32::MAX, 1_000),
        ];
        for (wished, size) in sizes {
            assert_eq!(page_size(wished).expect("not negative"), size);
        }
        assert!(page_size(-1).is_err() && page_size(i32::MIN).is_err());
    }
}
