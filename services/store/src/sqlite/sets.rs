//! How sets of rows get into a text for SQLite: in chunks of a few sizes, filled up with nulls, so that
//! every text is prepared once and stays so.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Arguments as _, AssertSqlSafe};

use crate::codec::{Cell, Rows};
use crate::statements::{CHUNK_ROWS, Statement};

/// A text, and its arguments.
pub(super) struct Run {
    text: Arc<str>,
    cells: Vec<Cell>,
}

impl Run {
    /// A text without arguments.
    pub(super) fn plain(text: &str) -> Self {
        Self {
            text: text.into(),
            cells: Vec::new(),
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its arguments, from the first.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// It as a query of sqlx, which stays prepared.
    pub(super) fn query(self) -> Result<Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.cells.len(), 0);
        for cell in self.cells {
            add(&mut arguments, cell).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.text), arguments))
    }
}

/// How a statement runs: once, or once for each chunk of a set.
pub(super) fn runs(statement: &Statement, rows: Rows) -> Vec<Run> {
    if !statement.is_set() {
        let (_, cells, _) = rows.into_parts();
        let text = statement.sqlite(0);
        return vec![Run { text, cells }];
    }
    let mut left = rows.len();
    let mut set = Set::of(rows);
    let mut runs = Vec::new();
    while left > 0 {
        let (chunk, size) = chunk_for(left);
        let cells = set.chunk(size);
        let text = statement.sqlite(chunk);
        runs.push(Run { text, cells });
        left = left.saturating_sub(size);
    }
    runs
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

    /// The next so many rows, filled up with nulls.
    fn chunk(&mut self, size: usize) -> Vec<Cell> {
        let filled = self.cells.by_ref().chain(std::iter::repeat(Cell::Null));
        let cells = filled.take(size.saturating_mul(self.width));
        cells.chain(self.last.clone()).collect()
    }
}

/// The smallest chunk that takes so many rows, or else the largest; and its size.
fn chunk_for(rows: usize) -> (usize, usize) {
    let sizes = CHUNK_ROWS.into_iter().enumerate();
    let mut fitting = sizes.rev().skip_while(|(_, size)| *size < rows);
    fitting.next().unwrap_or((0, CHUNK_ROWS[0]))
}

fn add(arguments: &mut SqliteArguments, cell: Cell) -> Result<(), BoxDynError> {
    match cell {
        Cell::Null => arguments.add(None::<i64>),
        Cell::Uuid(id) => arguments.add(id),
        Cell::Big(number) => arguments.add(number),
        Cell::Integer(number) => arguments.add(number),
        Cell::Small(number) => arguments.add(number),
        Cell::Boolean(value) => arguments.add(value),
        Cell::Text(text) => arguments.add(text),
        Cell::Bytes(bytes) => arguments.add(bytes),
    }
}
