//! The registry of a network: partners and what was agreed with them, members, and the clock of a
//! sandbox.
//!
//! Translation only, as in the other services: [`partner`], [`member`] and [`sandbox`] each hold
//! one gRPC service, [`terms`] puts commercial terms into the ledger's words and back. Deliberately
//! absent: personal data (identifiers are hashed before they go anywhere) and anything that decides
//! about money.

pub mod member;
pub mod partner;
pub mod sandbox;
mod terms;

pub use member::MemberApi;
pub use partner::PartnerApi;
pub use sandbox::SandboxApi;
