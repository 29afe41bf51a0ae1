//! Writing what a batch changed: which statements, in which order, and which of them in one go.
//!
//! A way to a database and back costs as much as what a small batch does there. So all that can go
//! together does, where the engine can. Statements to the same table (a member who enrols and earns, a
//! check that is freed and used again) go one after the other on PostgreSQL, where in one go neither
//! would see what the other wrote.

use coalition_ledger::ids::{MemberId, TransactionId, WindowId};
use coalition_ledger::member::MemberBook;
use coalition_ledger::snapshot::{Effects, MemberChange, PositionChange};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use tokio::time::Instant;

use super::{Held, Tail, Work};
use crate::caught::caught;
use crate::codec::{Cell, Rows, books, cells};
use crate::error::StoreError;
use crate::session::{OnRows, Session};
use crate::statements as sql;
use crate::store::Hold;
use crate::traits::Frame;

impl<S: Session> Work<S> {
    /// Writes all effects. Positions come last, so that a busy partner's row is held for as short as
    /// possible.
    pub(super) async fn write_effects(
        &mut self,
        window: WindowId,
        now: Timestamp,
        effects: &Effects,
    ) -> Result<(), StoreError> {
        let e = effects;
        let new_members = self.new_members(&e.new_members, now);
        let transactions = self.transactions_linked(&e.transactions).await?;
        let (staying, moving) = self.members_changed(&e.members);
        let totals = e.totals.iter();
        let totals = totals.map(|(key, amount)| books::total_row(window, key, *amount));
        let writes = vec![
            write(
                &sql::INSERT_REQUESTS,
                e.requests.iter().map(books::request_row),
            ),
            write(
                &sql::DELETE_CHECKS,
                e.released_checks.iter().map(books::check_key),
            ),
            write(&sql::INSERT_CHECKS, e.checks.iter().map(books::check_row)),
            new_members,
            write(
                &sql::INSERT_IDENTIFIERS,
                e.identifiers.iter().map(books::identifier_row),
            ),
            transactions,
            write(&sql::UPDATE_OPENS, e.opens.iter().map(books::open_change)),
            write(&sql::INSERT_LOTS, e.new_lots.iter().map(books::lot_row)),
            write(&sql::UPDATE_LOTS, e.lots.iter().map(books::lot_change)),
            // After the transactions: a member's row names the last of them.
            staying,
            moving,
            write(&sql::UPSERT_DEBTS, e.debts.iter().map(books::debt_row)),
            write(&sql::ADD_TOTALS, totals),
            write(
                &sql::MOVE_POSITIONS,
                e.positions.iter().map(books::position_change),
            ),
        ];
        let mut goes = goes::<S>(writes);
        if let Held::Deferred(frame, _) = self.held
            && let [_] = goes[..]
            && self.leaves_nothing()
            && let Some(go) = goes.pop()
        {
            return self.write_at_once(frame, go).await;
        }
        self.hold().await?;
        let positions: &sql::Statement = &sql::MOVE_POSITIONS;
        let mut positions_moved = 0;
        for go in goes {
            let asked = go.iter().map(|write| (write.statement, write.rows.len()));
            let asked: Vec<_> = asked.collect();
            let written = self.session.execute_all(go).await?;
            for ((statement, rows), written) in asked.into_iter().zip(written) {
                if std::ptr::eq(statement, positions) {
                    positions_moved = written;
                } else if written != rows as u64 {
                    return Err(StoreError::Conflict);
                }
            }
        }
        self.open_positions(&e.positions, positions_moved).await
    }

    /// Writes in one call of the database that takes the window, looks whether the frame still holds, and
    /// commits. A panic in it leaves open whether it is stored, like a lost connection.
    async fn write_at_once(&mut self, frame: Frame, go: Vec<OnRows>) -> Result<(), StoreError> {
        self.held = Held::Lost;
        let asked = Instant::now();
        let written = caught(self.session.write_at_once(&frame, go)).await;
        let written = written.unwrap_or_else(|panic| Err(StoreError::UnknownCommit(panic.into())));
        match &written {
            Ok(waited) => Hold::is_over(asked, *waited),
            // It may have waited all the time.
            Err(StoreError::Conflict) => Hold::is_over(asked, asked.elapsed()),
            Err(_) => {}
        }
        written?;
        self.held = Held::Before;
        Ok(())
    }

    fn new_members(&mut self, books: &[MemberBook], now: Timestamp) -> OnRows {
        for book in books {
            let tail = Tail {
                version: book.version,
                last: None,
                moved: false,
                due: book.due_at(),
            };
            self.tails.insert(book.id, tail);
        }
        let rows = books.iter().map(|book| books::member_row(book, now));
        write(&sql::INSERT_MEMBERS, rows)
    }

    /// Transactions, each with the one before it of its member.
    async fn transactions_linked(&mut self, rows: &[Transaction]) -> Result<OnRows, StoreError> {
        let previous = self.link(rows).await?;
        for row in rows {
            let earlier = self.firsts.get(&row.window);
            if earlier.is_none_or(|(first, _)| row.id < *first) {
                self.firsts.insert(row.window, (row.id, true));
            }
        }
        let rows = rows.iter().zip(previous);
        let rows = rows.map(|(row, previous)| books::transaction_row(row, previous));
        Ok(OnRows {
            statement: &sql::INSERT_TRANSACTIONS,
            rows: rows.collect::<Result<Rows, StoreError>>()?,
        })
    }

    /// Links transactions to the chains of their members: the transaction before each.
    async fn link(
        &mut self,
        rows: &[Transaction],
    ) -> Result<Vec<Option<TransactionId>>, StoreError> {
        let mut unknown: Vec<MemberId> = rows.iter().filter_map(|row| row.member).collect();
        unknown.retain(|member| !self.tails.contains_key(member));
        unknown.sort_unstable();
        unknown.dedup();
        self.fetch_members(unknown.iter().map(|member| cells![member.uuid()]).collect())
            .await?;
        let link = |row: &Transaction| {
            let tail = self.tails.get_mut(&row.member?)?;
            tail.moved = true;
            tail.last.replace(row.id)
        };
        Ok(rows.iter().map(link).collect())
    }

    /// Members' rows: those whose due time stays, where that is worth telling apart, and the others.
    fn members_changed(&mut self, changes: &[MemberChange]) -> (OnRows, OnRows) {
        let apart = S::UPDATE_MEMBERS_NOT_DUE;
        let (mut staying, mut moving) = (Vec::new(), Vec::new());
        for change in changes {
            let (mut last, mut stays) = (None, false);
            if let Some(tail) = self.tails.get_mut(&change.book.id) {
                let due = change.book.due_at();
                stays = std::mem::replace(&mut tail.due, due) == due;
                tail.version = change.expected_version.saturating_add(1);
                last = std::mem::take(&mut tail.moved)
                    .then_some(tail.last)
                    .flatten();
            }
            let rows = if stays && apart.is_some() {
                &mut staying
            } else {
                &mut moving
            };
            rows.push(books::member_change(change, last));
        }
        let staying = write(apart.unwrap_or(&sql::UPDATE_MEMBERS), staying);
        (staying, write(&sql::UPDATE_MEMBERS, moving))
    }

    /// Of positions some may have no row yet, or be held by their floor: those that have none get one
    /// and move; a floor then holds or it does not.
    async fn open_positions(
        &mut self,
        rows: &[PositionChange],
        moved: u64,
    ) -> Result<(), StoreError> {
        if moved == rows.len() as u64 {
            return Ok(());
        }
        let keys = rows.iter();
        let keys = keys.map(|row| books::position_key(&(row.party, row.currency)));
        let session = &mut self.session;
        let opened = session.fetch(
            &sql::OPEN_POSITIONS,
            keys.collect(),
            books::read_position_key,
        );
        let opened = opened.await?;
        let is_new = |row: &&PositionChange| opened.contains(&(row.party, row.currency));
        let rest = rows.iter().filter(is_new).map(books::position_change);
        let rest = session
            .execute(&sql::MOVE_POSITIONS, rest.collect())
            .await?;
        if moved.saturating_add(rest) == rows.len() as u64 {
            Ok(())
        } else {
            Err(StoreError::Conflict)
        }
    }
}

/// A statement and its rows.
fn write<const WIDTH: usize>(
    statement: &'static sql::Statement,
    rows: impl IntoIterator<Item = [Cell; WIDTH]>,
) -> OnRows {
    let rows = rows.into_iter().collect();
    OnRows { statement, rows }
}

/// Cuts a list of statements where one would write to a table that one before it in the same go writes
/// to, unless it sees what that one wrote.
fn goes<S: Session>(mut writes: Vec<OnRows>) -> Vec<Vec<OnRows>> {
    if S::IN_ORDER {
        return vec![writes];
    }
    writes.retain(|write| write.rows.len() > 0);
    let mut goes: Vec<Vec<OnRows>> = Vec::new();
    let mut tables = Vec::new();
    for write in writes {
        let table = write.statement.table();
        if tables.contains(&table) {
            tables.clear();
        }
        match goes.last_mut() {
            Some(go) if !tables.is_empty() => go.push(write),
            _ => goes.push(vec![write]),
        }
        tables.push(table);
    }
    goes
}
