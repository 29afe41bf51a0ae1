//! The gRPC plumbing that gateway and services share.
//!
//! What happens to a call between the socket and a handler, and between a gateway and a service:
//! [`server`] serves a [`stack`] of layers around services; [`upstream`] calls one, in this process
//! or in another. The layers, outermost first: [`panic`], [`content_type`], [`call`] (which method),
//! [`deadline`], [`limit`], [`authorize`] with [`auth`]. [`request`] and [`page_token`] are for
//! handlers; [`convert`] puts the ledger's types into messages and back; [`status`] makes every
//! status. Absent on purpose: any decision about points and money, and the store.

pub mod auth;
pub mod authorize;
mod body;
pub mod call;
pub mod content_type;
pub mod convert;
pub mod deadline;
pub mod health;
pub mod limit;
pub mod message_size;
pub mod page_token;
pub mod panic;
pub mod request;
pub mod server;
mod socket;
pub mod stack;
pub mod status;
pub mod upstream;

pub use auth::identity::Identity;
pub use auth::{AuthSettings, Authenticator};
pub use deadline::Deadline;
pub use health::Health;
pub use server::{ServerSettings, serve};
pub use stack::{Services, Stack, StackSettings};
pub use status::Problem;
pub use upstream::Upstream;
