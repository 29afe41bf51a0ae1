//! What must hold of the books after every commit.

use std::collections::BTreeMap;

use coalition_ledger::ids::{Party, WindowId};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Kind;
use coalition_store::model::{AgreementState, Window, WindowState};

use super::database::{Commit, Database};

/// What a commit found.
pub(crate) struct Before {
    is_open: bool,
    window: WindowId,
    strays: Vec<String>,
    /// What was left to each limited party whose position moves, where only charges move it.
    headroom: BTreeMap<Party, Micros>,
    moved: Vec<(Party, Currency)>,
    now: Timestamp,
    closed: Option<Window>,
    number: u64,
}

impl Before {
    pub(crate) fn of(db: &Database, commit: &Commit) -> Self {
        let (window, now) = (commit.frame.window, commit.frame.clock.unwrap_or_default());
        let wrote = &commit.wrote;
        let rows = db.tables.windows.committed();
        let strays = wrote.transactions.iter().filter(|row| row.window != window);
        let charges_only = wrote.transactions.iter().all(|row| {
            row.declined.is_some()
                || matches!(
                    row.kind,
                    Kind::Earn | Kind::Redeem | Kind::Deposit | Kind::Mature
                ) && row.points_expired.is_zero()
        });
        let moved: Vec<_> = if charges_only {
            wrote.moved.clone()
        } else {
            Vec::new()
        };
        let left = |(party, currency)| Some((party, headroom(db, party, currency, now)?));
        Self {
            is_open: rows
                .get(&window)
                .is_some_and(|row| row.state == WindowState::Open),
            window,
            strays: strays
                .map(|row| format!("{} is in {}", row.id, row.window))
                .collect(),
            headroom: moved.iter().copied().filter_map(left).collect(),
            moved,
            now,
            closed: wrote.closed.clone(),
            number: db.commits() + 1,
        }
    }
}

/// What is wrong after a commit.
pub(crate) fn after_commit(db: &Database, before: &Before) -> Vec<String> {
    let mut wrong = before.strays.clone();
    let number = before.number;
    if !before.is_open {
        wrong.push(format!(
            "commit {number} posts in window {}, which is closed",
            before.window
        ));
    }
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    for ((_, currency), position) in db.tables.positions.committed() {
        let net = i128::from(position.credits.get()) - i128::from(position.debits.get());
        *sums.entry(*currency).or_default() += net;
    }
    if sums.values().any(|sum| *sum != 0) {
        wrong.push(format!(
            "after commit {number} positions do not cancel: {sums:?}"
        ));
    }
    for (party, currency) in before.moved.iter().copied() {
        let was = before.headroom.get(&party).copied();
        let is = headroom(db, party, currency, before.now);
        if let (Some(was), Some(is)) = (was, is)
            && is < was.min(Micros::ZERO)
        {
            wrong.push(format!(
                "commit {number} takes the headroom of {party} from {was} to {is}"
            ));
        }
    }
    if let Some(closed) = &before.closed {
        let rows = db.tables.transactions.committed().values();
        let last = rows
            .filter(|row| row.declined.is_none())
            .map(|row| row.id)
            .max();
        if closed.last_transaction != last {
            let said = closed.last_transaction;
            wrong.push(format!(
                "the cut by commit {number} ends with {said:?}, not {last:?}"
            ));
        }
    }
    wrong
}

/// What is left to a party that has a limit.
fn headroom(db: &Database, party: Party, currency: Currency, now: Timestamp) -> Option<Micros> {
    let rows = db.tables.agreements.committed().values();
    let own = rows.filter(|row| {
        Some(row.partner) == party.partner()
            && row.counterparty.is_none()
            && row.state == AgreementState::Accepted
            && row.effective_at.is_some_and(|at| at <= now)
    });
    let terms = &own.max_by_key(|row| (row.effective_at, row.id))?.terms;
    let limit = terms.limit.filter(|_| terms.currency == currency)?;
    let position = db.tables.positions.committed().get(&(party, currency));
    let position = position.copied().unwrap_or_default();
    position.headroom(limit, terms.net_inbound).ok()
}
