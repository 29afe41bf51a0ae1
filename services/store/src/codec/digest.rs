//! The digest of a transaction's row: over everything in it that never changes.
//!
//! Written with the row, and taken again from the row as it is read: whatever a hand in the database
//! changed, shows. What is hashed is the domain, then for each column that is not null its place,
//! type, length and bytes.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Cell;

/// Bytes of a digest: a prefix of SHA-256.
pub(crate) const DIGEST_BYTES: usize = 16;

/// What a digest begins with, so that it is of nothing else.
const DOMAIN: &[u8] = b"coalition.transaction.1";

/// Room for the usual row, so that gathering it allocates once.
const USUAL_BYTES: usize = 768;

/// What a digest is taken of, gathered column by column.
#[derive(Debug)]
pub(crate) struct DigestInput(Vec<u8>);

impl DigestInput {
    /// Nothing but the domain.
    pub(crate) fn new() -> Self {
        let mut input = Vec::with_capacity(USUAL_BYTES);
        input.extend_from_slice(DOMAIN);
        Self(input)
    }

    /// The cells of a row, from the first column.
    pub(crate) fn of(cells: &[Cell]) -> Self {
        let mut input = Self::new();
        for (place, cell) in cells.iter().enumerate() {
            match cell {
                Cell::Null => {}
                Cell::Uuid(id) => input.uuid(place, *id),
                Cell::Big(number) => input.number(place, *number),
                Cell::Integer(number) => input.number(place, (*number).into()),
                Cell::Small(number) => input.number(place, (*number).into()),
                Cell::Boolean(value) => input.boolean(place, *value),
                Cell::Text(text) => input.text(place, text),
                Cell::Bytes(bytes) => input.bytes(place, bytes),
            }
        }
        input
    }

    pub(crate) fn uuid(&mut self, place: usize, id: Uuid) {
        self.add(place, 1, id.as_bytes());
    }

    /// A number of any width.
    pub(crate) fn number(&mut self, place: usize, number: i64) {
        self.add(place, 2, &number.to_le_bytes());
    }

    pub(crate) fn boolean(&mut self, place: usize, value: bool) {
        self.add(place, 3, &[u8::from(value)]);
    }

    pub(crate) fn text(&mut self, place: usize, text: &str) {
        self.add(place, 4, text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, place: usize, bytes: &[u8]) {
        self.add(place, 5, bytes);
    }

    fn add(&mut self, place: usize, kind: u8, bytes: &[u8]) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a row has a few dozen columns"
        )]
        let place = place as u8;
        self.0.extend_from_slice(&[place, kind]);
        self.0
            .extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The digest.
    pub(crate) fn digest(&self) -> [u8; DIGEST_BYTES] {
        let hash = Sha256::digest(&self.0);
        std::array::from_fn(|place| hash[place])
    }
}
