//! How the books become rows, and rows the books: one place for both engines.
//!
//! A row on its way into a database is a list of [`Cell`]s in the order of a statement's columns; a
//! row on its way out is read through [`Columns`], in the order of the select list. What a posting
//! looks like as bytes stands in [`posting`], what guards its row in [`digest`]; rows of the books in [`books`], rows of the registry,
//! windows and settlements in [`registry`]. Deliberately absent: SQL (see `statements`), and any
//! decision about what is read.

pub(crate) mod books;
mod digest;
pub(crate) mod posting;
pub(crate) mod registry;

use coalition_ledger::ids::Party;
use coalition_ledger::member::MemberStatus;
use coalition_ledger::money::{Currency, Unit};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::snapshot::{Measure, Subject};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::{Channel, Decline, Kind};
use uuid::Uuid;

use self::digest::{DIGEST_BYTES, DigestInput};
use crate::error::StoreError;
use crate::model::{AgreementState, Mode, SettlementState, Side, WindowState};

/// One value of a row to write, or to look up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing, in a column of any type.
    Null,
    /// `uuid`
    Uuid(Uuid),
    /// `bigint`
    Big(i64),
    /// `integer`
    Integer(i32),
    /// `smallint`
    Small(i16),
    /// `boolean`
    Boolean(bool),
    /// `text`
    Text(String),
    /// `bytea`
    Bytes(Vec<u8>),
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `uuid`
    Uuid,
    /// `bigint`
    Big,
    /// `integer`
    Integer,
    /// `smallint`
    Small,
    /// `boolean`
    Boolean,
    /// `text`
    Text,
    /// `bytea`
    Bytes,
}

impl Type {
    /// Its name on PostgreSQL.
    pub(crate) const fn postgres(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Big => "bigint",
            Self::Integer => "integer",
            Self::Small => "smallint",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Bytes => "bytea",
        }
    }
}

macro_rules! cell_from {
    ($($from:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$from> for Cell {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        })+
    };
}
cell_from! {
    Uuid => Uuid, i64 => Big, i32 => Integer, i16 => Small, bool => Boolean, String => Text,
    Vec<u8> => Bytes,
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Timestamp> for Cell {
    fn from(value: Timestamp) -> Self {
        Self::Big(value.micros())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Cell {
    /// A count that is stored as null where it is zero.
    pub(crate) const fn unless_zero(count: i64) -> Self {
        if count == 0 {
            Self::Null
        } else {
            Self::Big(count)
        }
    }
}

/// A row of [`Cell`]s.
macro_rules! cells {
    ($($value:expr),* $(,)?) => { [$($crate::codec::Cell::from($value)),*] };
}
pub(crate) use cells;

/// A cell of another type than its column: a mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of another type than its column")]
pub(crate) struct Mismatch;

macro_rules! from_cell {
    ($($variant:ident => $into:ty),+ $(,)?) => {
        $(impl TryFrom<Cell> for Option<$into> {
            type Error = Mismatch;

            fn try_from(cell: Cell) -> Result<Self, Mismatch> {
                match cell {
                    Cell::Null => Ok(None),
                    Cell::$variant(value) => Ok(Some(value)),
                    _ => Err(Mismatch),
                }
            }
        })+
    };
}
from_cell! {
    Uuid => Uuid, Big => i64, Integer => i32, Small => i16, Boolean => bool, Text => String,
    Bytes => Vec<u8>,
}

/// What a statement is run with: rows to write or to look up by, one after the other, or one row of
/// numbered arguments.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    width: usize,
    cells: Vec<Cell>,
    last: Option<Cell>,
}

impl<const WIDTH: usize> FromIterator<[Cell; WIDTH]> for Rows {
    fn from_iter<I: IntoIterator<Item = [Cell; WIDTH]>>(rows: I) -> Self {
        Self {
            width: WIDTH,
            cells: rows.into_iter().flatten().collect(),
            last: None,
        }
    }
}

impl Rows {
    /// No arguments.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// One row.
    pub(crate) fn one<const WIDTH: usize>(row: [Cell; WIDTH]) -> Self {
        std::iter::once(row).collect()
    }

    /// These rows, and one value for all of them: a statement's `{last}`.
    pub(crate) fn and_last(self, last: Cell) -> Self {
        Self {
            last: Some(last),
            ..self
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    /// How many cells a row has, all cells row by row, and the one value for all.
    pub(crate) fn into_parts(self) -> (usize, Vec<Cell>, Option<Cell>) {
        (self.width, self.cells, self.last)
    }
}

/// A row that an engine gave, by place; `None` is null.
pub(crate) trait Row {
    /// `uuid`
    fn uuid(&self, place: usize) -> Result<Option<Uuid>, sqlx::Error>;
    /// `bigint`
    fn big(&self, place: usize) -> Result<Option<i64>, sqlx::Error>;
    /// `integer`
    fn integer(&self, place: usize) -> Result<Option<i32>, sqlx::Error>;
    /// `smallint`
    fn small(&self, place: usize) -> Result<Option<i16>, sqlx::Error>;
    /// `boolean`
    fn boolean(&self, place: usize) -> Result<Option<bool>, sqlx::Error>;
    /// `text`
    fn text(&self, place: usize) -> Result<Option<String>, sqlx::Error>;
    /// `bytea`
    fn bytes(&self, place: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

/// Implements [`Row`] for an engine's row.
macro_rules! row {
    ($row:ty) => {
        impl $crate::codec::Row for $row {
            fn uuid(&self, place: usize) -> Result<Option<uuid::Uuid>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn big(&self, place: usize) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn integer(&self, place: usize) -> Result<Option<i32>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn small(&self, place: usize) -> Result<Option<i16>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn boolean(&self, place: usize) -> Result<Option<bool>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn text(&self, place: usize) -> Result<Option<String>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
            fn bytes(&self, place: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
                sqlx::Row::try_get(self, place)
            }
        }
    };
}
pub(crate) use row;

/// A row, read column by column in the order of the select list.
///
/// A null where there must be a value, a value of another type and a number that names nothing are
/// all damage: the schema forbids them.
pub(crate) struct Columns<'a> {
    row: &'a dyn Row,
    next: usize,
    /// What was read so far, where a digest is taken of it.
    gathered: Option<DigestInput>,
}

impl<'a> Columns<'a> {
    /// The columns of `row`, from the first.
    pub(crate) fn new(row: &'a dyn Row) -> Self {
        Self {
            row,
            next: 0,
            gathered: None,
        }
    }

    /// Has what is read from the first column on gathered for a digest.
    pub(crate) fn gather(&mut self) {
        self.gathered = Some(DigestInput::new());
    }

    /// The digest of what was read since the first column; no more is gathered.
    pub(crate) fn digest(&mut self) -> Option<[u8; DIGEST_BYTES]> {
        self.gathered.take().map(|input| input.digest())
    }

    fn take<T>(
        &mut self,
        get: impl Fn(&dyn Row, usize) -> Result<Option<T>, sqlx::Error>,
        note: impl Fn(&mut DigestInput, usize, &T),
    ) -> Result<Option<T>, StoreError> {
        let place = self.next;
        self.next = place.saturating_add(1);
        let value = get(self.row, place)
            .map_err(|error| StoreError::Damaged(format!("column {place}: {error}")))?;
        if let (Some(input), Some(value)) = (&mut self.gathered, &value) {
            note(input, place, value);
        }
        Ok(value)
    }

    fn must<T>(&self, value: Option<T>) -> Result<T, StoreError> {
        let place = self.next.saturating_sub(1);
        value.ok_or_else(|| StoreError::Damaged(format!("column {place}: null")))
    }

    pub(crate) fn maybe_uuid(&mut self) -> Result<Option<Uuid>, StoreError> {
        self.take(
            |row, place| row.uuid(place),
            |input, place, value| input.uuid(place, *value),
        )
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, StoreError> {
        let value = self.maybe_uuid()?;
        self.must(value)
    }

    pub(crate) fn maybe_big(&mut self) -> Result<Option<i64>, StoreError> {
        self.take(
            |row, place| row.big(place),
            |input, place, value| input.number(place, *value),
        )
    }

    pub(crate) fn big(&mut self) -> Result<i64, StoreError> {
        let value = self.maybe_big()?;
        self.must(value)
    }

    pub(crate) fn integer(&mut self) -> Result<i32, StoreError> {
        let value = self.take(
            |row, place| row.integer(place),
            |input, place, value| input.number(place, (*value).into()),
        )?;
        self.must(value)
    }

    pub(crate) fn maybe_small(&mut self) -> Result<Option<i16>, StoreError> {
        self.take(
            |row, place| row.small(place),
            |input, place, value| input.number(place, (*value).into()),
        )
    }

    pub(crate) fn small(&mut self) -> Result<i16, StoreError> {
        let value = self.maybe_small()?;
        self.must(value)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, StoreError> {
        let value = self.maybe_boolean()?;
        self.must(value)
    }

    pub(crate) fn maybe_boolean(&mut self) -> Result<Option<bool>, StoreError> {
        self.take(
            |row, place| row.boolean(place),
            |input, place, value| input.boolean(place, *value),
        )
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        self.take(
            |row, place| row.text(place),
            |input, place, value| input.text(place, value),
        )
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        let value = self.maybe_text()?;
        self.must(value)
    }

    pub(crate) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.take(
            |row, place| row.bytes(place),
            |input, place, value| input.bytes(place, value),
        )
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let value = self.maybe_bytes()?;
        self.must(value)
    }

    /// Bytes of a fixed length.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|bytes: Vec<u8>| {
            StoreError::Damaged(format!("{} bytes where {N} belong", bytes.len()))
        })
    }

    pub(crate) fn instant(&mut self) -> Result<Timestamp, StoreError> {
        self.big().map(Timestamp::from_micros)
    }

    pub(crate) fn maybe_instant(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_big()?.map(Timestamp::from_micros))
    }

    pub(crate) fn party(&mut self) -> Result<Party, StoreError> {
        self.uuid().map(Party::from_uuid)
    }

    pub(crate) fn currency(&mut self) -> Result<Currency, StoreError> {
        currency(&self.text()?)
    }

    pub(crate) fn unit(&mut self) -> Result<Unit, StoreError> {
        let code = self.text()?;
        Unit::from_code(&code).ok_or_else(|| StoreError::Damaged(format!("no unit {code:?}")))
    }

    /// A value that is stored under a number.
    pub(crate) fn coded<T: Coded>(&mut self) -> Result<T, StoreError> {
        let code = self.small()?;
        decoded(code)
    }

    /// A value that is stored under a number, if any.
    pub(crate) fn maybe_coded<T: Coded>(&mut self) -> Result<Option<T>, StoreError> {
        self.maybe_small()?.map(decoded).transpose()
    }
}

/// The currency with this code.
pub(crate) fn currency(code: &str) -> Result<Currency, StoreError> {
    Currency::from_code(code).ok_or_else(|| StoreError::Damaged(format!("no currency {code:?}")))
}

/// What is stored as a small number that is never given to another value.
pub(crate) trait Coded: Sized {
    /// What it is, for a report of damage.
    const WHAT: &'static str;
    /// The number.
    fn number(self) -> i16;
    /// The value with this number.
    fn from_number(number: i16) -> Option<Self>;
}

fn decoded<T: Coded>(code: i16) -> Result<T, StoreError> {
    T::from_number(code).ok_or_else(|| StoreError::Damaged(format!("no {} {code}", T::WHAT)))
}

/// Enums whose numbers stand with the enum, in the ledger.
macro_rules! ledger_coded {
    ($($name:ident, $what:literal;)+) => {
        $(impl Coded for $name {
            const WHAT: &'static str = $what;
            fn number(self) -> i16 {
                self.code()
            }
            fn from_number(number: i16) -> Option<Self> {
                Self::from_code(number)
            }
        })+
    };
}
ledger_coded! {
    Kind, "kind";
    Decline, "decline";
    Channel, "channel";
    Subject, "subject";
    Measure, "measure";
}

/// Enums whose numbers stand here.
macro_rules! coded {
    ($($name:ident, $what:literal { $($variant:ident = $code:literal),+ $(,)? })+) => {
        $(impl Coded for $name {
            const WHAT: &'static str = $what;
            fn number(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
            fn from_number(number: i16) -> Option<Self> {
                match number {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        })+
    };
}
coded! {
    Mode, "mode" { Sandbox = 1, Production = 2 }
    PartnerStatus, "partner status" { Active = 1, Suspended = 2 }
    MemberStatus, "member status" { Active = 1, Frozen = 2, Closed = 3 }
    AgreementState, "agreement state" { Proposed = 1, Accepted = 2 }
    Side, "side" { Operator = 1, Partner = 2, Counterparty = 3 }
    WindowState, "window state" { Open = 1, Closed = 2, Settling = 3, Settled = 4 }
    SettlementState, "settlement state" {
        Computed = 1, Approved = 2, Instructed = 3, Settled = 4, Aborted = 5,
    }
}
