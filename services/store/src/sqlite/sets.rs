//! How sets of rows get into a text for SQLite: in chunks of a few sizes, filled up with nulls, so that
//! every text is prepared once and stays so.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Arguments as _, AssertSqlSafe};

use crate::codec::{Cell, Rows};
use crate::error::StoreError;
use crate::session::OnRows;
use crate::statements::{CHUNK_ROWS, Statement};

/// A text, and its arguments.
pub(super) struct Run {
    text: Arc<str>,
    arguments: SqliteArguments,
}

impl Run {
    /// A text without arguments.
    pub(super) fn plain(text: String) -> Self {
        Self {
            text: text.into(),
            arguments: SqliteArguments::default(),
        }
    }

    /// It as a query, which stays prepared.
    pub(super) fn query(self) -> Query<'static, Sqlite, SqliteArguments> {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
    }
}

/// How a statement runs: once, or once for each chunk of a set.
pub(super) fn runs(statement: &Statement, rows: Rows) -> Result<Vec<Run>, StoreError> {
    if !statement.is_set() {
        let (_, cells, _) = rows.into_parts();
        let mut arguments = SqliteArguments::default();
        add(&mut arguments, cells.into_iter())?;
        return Ok(vec![Run {
            text: statement.sqlite(0),
            arguments,
        }]);
    }
    let mut left = rows.len();
    let mut set = Set::of(rows);
    let mut runs = Vec::new();
    while left > 0 {
        let (chunk, size) = chunk_for(left);
        let mut arguments = SqliteArguments::default();
        set.add_chunk(size, &mut arguments)?;
        let text = statement.sqlite(chunk);
        runs.push(Run { text, arguments });
        left = left.saturating_sub(size);
    }
    Ok(runs)
}

/// Statements about sets as one text, which runs them in their order.
pub(super) fn joint(statements: Vec<OnRows>) -> Result<Run, StoreError> {
    joined(statements.into_iter().map(|part| (part, "")).collect())
}

/// A statement that fetches, and others of which it is only asked whether they find anything.
pub(super) fn asking(statement: OnRows, others: Vec<OnRows>) -> Result<Run, StoreError> {
    let others = others.into_iter().map(|part| (part, " limit 1"));
    joined(std::iter::once((statement, "")).chain(others).collect())
}

/// Statements, with what is added to each, as one text. All sets get the size of the largest, so that
/// there are few texts; none may be larger than `CHUNK_ROWS[0]`.
fn joined(statements: Vec<(OnRows, &str)>) -> Result<Run, StoreError> {
    let largest = statements.iter().map(|(part, _)| part.rows.len()).max();
    // A chunk of one row is always full: an empty set would not fit.
    let (chunk, size) = chunk_for(largest.unwrap_or(0).max(2));
    let mut text = String::new();
    let mut arguments = SqliteArguments::default();
    for (OnRows { statement, rows }, addition) in statements {
        debug_assert!(statement.is_set(), "single values are not numbered anew");
        debug_assert!(rows.len() <= size, "a set goes in one chunk");
        let mut set = Set::of(rows);
        debug_assert_eq!(set.width, statement.types().len(), "a value for each place");
        for part in [&statement.sqlite(chunk), addition, "; "] {
            text.push_str(part);
        }
        set.add_chunk(size, &mut arguments)?;
    }
    let text = text.into();
    Ok(Run { text, arguments })
}

/// The rows of a set that are still to go, and the value that comes after each chunk.
struct Set {
    width: usize,
    cells: std::vec::IntoIter<Cell>,
    last: Option<Cell>,
}

impl Set {
    fn of(rows: Rows) -> Self {
        let (width, cells, last) = rows.into_parts();
        let mut keys = cells.iter().step_by(width.max(1));
        debug_assert!(
            keys.all(|key| *key != Cell::Null),
            "rows without a key are what sets are filled up with"
        );
        Self {
            width,
            cells: cells.into_iter(),
            last,
        }
    }

    /// Adds the next so many rows, filled up with nulls.
    fn add_chunk(&mut self, size: usize, to: &mut SqliteArguments) -> Result<(), StoreError> {
        let filled = self.cells.by_ref().chain(std::iter::repeat(Cell::Null));
        let cells = filled.take(size.saturating_mul(self.width));
        add(to, cells.chain(self.last.clone()))
    }
}

/// The smallest chunk that takes so many rows, or else the largest; and its size.
fn chunk_for(rows: usize) -> (usize, usize) {
    let sizes = CHUNK_ROWS.into_iter().enumerate();
    let mut fitting = sizes.rev().skip_while(|(_, size)| *size < rows);
    fitting.next().unwrap_or((0, CHUNK_ROWS[0]))
}

fn add(
    arguments: &mut SqliteArguments,
    cells: impl Iterator<Item = Cell>,
) -> Result<(), StoreError> {
    arguments.reserve(cells.size_hint().0, 0);
    for cell in cells {
        let added = match cell {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Uuid(id) => arguments.add(id),
            Cell::Big(number) => arguments.add(number),
            Cell::Integer(number) => arguments.add(number),
            Cell::Small(number) => arguments.add(number),
            Cell::Boolean(value) => arguments.add(value),
            Cell::Text(text) => arguments.add(text),
            Cell::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(|error| StoreError::Database(sqlx::Error::Encode(error)))?;
    }
    Ok(())
}
