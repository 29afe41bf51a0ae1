//! Tests of the books as a whole.
//!
//! * [`precedence`]: which of several answers comes, per kind of command.
//! * [`properties`]: random networks and commands against the invariants of `domain.md`, and
//!   against a [`model`] of it.
//! * [`golden`]: the published figures.
//! * [`lots`], [`netting`], [`rulebook`], [`view`], [`audit`], [`keys`], [`limits`]: what each promises.
//! * [`extremes`]: the ends of every range, where nothing may panic.
//! * [`regressions`]: what went wrong once.

#[expect(
    dead_code,
    reason = "the end-to-end tests ask the model more than these"
)]
mod model;
mod support;
mod world;

mod audit;
mod extremes;
mod golden;
mod keys;
mod limits;
mod lots;
mod netting;
mod precedence;
mod properties;
mod regressions;
mod rulebook;
mod view;
