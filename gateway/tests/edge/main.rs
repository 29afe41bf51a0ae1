//! The edge over real sockets: gateway and services in one process, and in two.
//!
//! The services behind it are implementations of two of our protos that do what a test asks of
//! them: see [`peer`]. Tests named `row_NN` are the rows of the security table that live here; each
//! prints how many inputs it tried.

mod calls;
mod deadlines;
mod lifecycle;
mod peer;
mod support;
mod tokens;
mod transport;
mod upstreams;
