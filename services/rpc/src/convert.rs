//! Between messages and the ledger's types: what the services share, so that each of them is only
//! its own calls.
//!
//! A handler's order is always the same: who calls ([`crate::request::identity`]), for whom
//! ([`crate::request::acting_partner`], [`pos::context`]), only then the rules on the fields
//! ([`crate::request::valid`]), then the translation; so a stranger learns nothing from an error.
//! What tills write is read so far by [`Till::of`].
//! Deliberately absent: arithmetic on points and money, and decisions.

pub mod books;
pub mod identifier;
pub mod money;
pub mod page;
pub mod pos;
pub mod receipt;
pub mod till;
pub mod time;
pub mod write;

pub use books::{balance, lot_slice, slices, transaction, transfer, worth};
pub use identifier::{IdentifierKey, Named};
pub use money::{currency, minor, money};
pub use page::Page;
pub use receipt::Receipt;
pub use till::{Till, original_request};
pub use time::{instant, timestamp};
pub use write::{asked, request_key};
