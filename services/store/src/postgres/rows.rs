//! How rows go to PostgreSQL.
//!
//! A wide set of a batch, or the keys that every batch asks for, is one array of rows, of a type made for it
//! (`migrations/postgres`): the server unfolds it in one pass. It would unfold as many arrays as a row has
//! columns each by itself, and gather each of them first. Other sets are an array per column, and single
//! values come as they are.
//! Shapes are those of the binary protocol: an array's head, then each row as a count of columns, and
//! each column as its type, its length (-1 for null) and its value.

use sqlx::Arguments as _;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgBindIterExt as _, PgTypeInfo, Postgres};

use crate::codec::{Cell, Mismatch, Rows, Type};
use crate::error::StoreError;
use crate::statements::Statement;

/// What a statement is run with.
pub(super) fn arguments(statement: &Statement, rows: Rows) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    add_all(&mut arguments, statement, rows)?;
    Ok(arguments)
}

/// Adds what a statement is run with to what others before it are.
pub(super) fn add_all(
    arguments: &mut PgArguments,
    statement: &Statement,
    rows: Rows,
) -> Result<(), StoreError> {
    let is_set = statement.is_set();
    let (width, mut cells, last) = rows.into_parts();
    let (columns, rest) = statement
        .types()
        .split_at_checked(width)
        .ok_or_else(|| refused(Mismatch.into()))?;
    if let Some(name) = statement.row() {
        if !cells.is_empty() && !rest.is_empty() {
            return Err(refused(Mismatch.into()));
        }
        let columns = statement.types();
        let of = RowType { name, columns };
        let cells = &cells;
        return arguments.add(Set { of, cells }).map_err(refused);
    }
    for (place, kind) in columns.iter().enumerate() {
        let column = cells.iter_mut().skip(place).step_by(width);
        let column = column.map(|cell| std::mem::replace(cell, Cell::Null));
        add(arguments, *kind, column, is_set)?;
    }
    if let (Some(kind), Some(last)) = (rest.first(), last) {
        add(arguments, *kind, std::iter::once(last), false)?;
    }
    Ok(())
}

fn add(
    arguments: &mut PgArguments,
    kind: Type,
    cells: impl Iterator<Item = Cell>,
    is_set: bool,
) -> Result<(), StoreError> {
    macro_rules! add {
        ($kind:ty) => {{
            let values = cells
                .map(Option::<$kind>::try_from)
                .collect::<Result<Vec<_>, _>>();
            let mut values = values.map_err(|mismatch| refused(mismatch.into()))?;
            if is_set {
                arguments.add(values)
            } else {
                arguments.add(values.pop().flatten())
            }
        }};
    }
    let added = match kind {
        Type::Uuid => add!(uuid::Uuid),
        Type::Big => add!(i64),
        Type::Integer => add!(i32),
        Type::Small => add!(i16),
        Type::Boolean => add!(bool),
        Type::Text => add!(String),
        Type::Bytes => add!(Vec<u8>),
    };
    added.map_err(refused)
}

/// Adds a single value.
pub(super) fn add_single<'q, T>(arguments: &mut PgArguments, value: T) -> Result<(), StoreError>
where
    T: Encode<'q, Postgres> + sqlx::Type<Postgres>,
{
    arguments.add(value).map_err(refused)
}

fn refused(error: BoxDynError) -> StoreError {
    StoreError::Database(sqlx::Error::Encode(error))
}

/// A type that PostgreSQL has for rows.
#[derive(Clone, Copy)]
struct RowType {
    name: &'static str,
    columns: &'static [Type],
}

/// Rows of such a type, one after the other, as one array.
struct Set<'a> {
    of: RowType,
    cells: &'a [Cell],
}

/// One of them.
struct SetRow<'a> {
    of: RowType,
    cells: &'a [Cell],
}

impl sqlx::Type<Postgres> for Set<'_> {
    fn type_info() -> PgTypeInfo {
        SetRow::type_info()
    }
}

impl sqlx::Type<Postgres> for SetRow<'_> {
    fn type_info() -> PgTypeInfo {
        // Each row names its own; of no rows it is known that they would be rows, without a look into the
        // catalog.
        PgTypeInfo::with_oid(Oid(RECORD))
    }
}

impl Encode<'_, Postgres> for Set<'_> {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::array_of(self.of.name))
    }

    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let rows = self.cells.chunks(self.of.columns.len());
        let rows = rows.map(|cells| SetRow { of: self.of, cells });
        rows.bind_iter().encode(buffer)
    }
}

impl Encode<'_, Postgres> for SetRow<'_> {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_name(self.of.name))
    }

    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&i32::try_from(self.of.columns.len())?.to_be_bytes());
        for (kind, cell) in self.of.columns.iter().zip(self.cells) {
            buffer.extend_from_slice(&oid(*kind).to_be_bytes());
            match (kind, cell) {
                (_, Cell::Null) => buffer.extend_from_slice(&(-1_i32).to_be_bytes()),
                (Type::Uuid, Cell::Uuid(value)) => put(buffer, value.as_bytes())?,
                (Type::Big, Cell::Big(value)) => put(buffer, &value.to_be_bytes())?,
                (Type::Integer, Cell::Integer(value)) => put(buffer, &value.to_be_bytes())?,
                (Type::Small, Cell::Small(value)) => put(buffer, &value.to_be_bytes())?,
                (Type::Boolean, Cell::Boolean(value)) => put(buffer, &[u8::from(*value)])?,
                (Type::Text, Cell::Text(value)) => put(buffer, value.as_bytes())?,
                (Type::Bytes, Cell::Bytes(value)) => put(buffer, value)?,
                _ => return Err(Mismatch.into()),
            }
        }
        Ok(IsNull::No)
    }
}

fn put(buffer: &mut PgArgumentBuffer, value: &[u8]) -> Result<(), BoxDynError> {
    buffer.extend_from_slice(&i32::try_from(value.len())?.to_be_bytes());
    buffer.extend_from_slice(value);
    Ok(())
}

/// The number of what every type of rows is.
const RECORD: u32 = 2249;

/// The number of a built-in type (`pg_type.oid`), the same on every server.
const fn oid(kind: Type) -> u32 {
    match kind {
        Type::Boolean => 16,
        Type::Bytes => 17,
        Type::Big => 20,
        Type::Small => 21,
        Type::Integer => 23,
        Type::Text => 25,
        Type::Uuid => 2950,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::codec::cells;
    use crate::statements::{CHECKS, REQUESTS};

    #[test]
    fn rows_that_are_none_of_their_type_are_refused() {
        let fits = Rows::one(cells![Uuid::nil(), 1_i16, "receipt"]);
        assert!(arguments(&CHECKS, fits).is_ok());
        let swapped = Rows::one(cells!["receipt", 1_i16, Uuid::nil()]);
        assert!(arguments(&CHECKS, swapped).is_err());
        let one_and_a_half: Rows = (0..3).map(|_| cells![Uuid::nil()]).collect();
        assert!(arguments(&REQUESTS, one_and_a_half).is_err());
        let two_halves: Rows = (0..2).map(|_| cells![Uuid::nil()]).collect();
        assert!(arguments(&REQUESTS, two_halves).is_err());
        assert!(arguments(&REQUESTS, Rows::none()).is_ok());
    }
}
