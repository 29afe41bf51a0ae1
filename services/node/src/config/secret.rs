//! Settings that must not show: in logs, in errors, in `Debug`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A key of 32 bytes; written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; Secret::BYTES]);

impl Secret {
    /// How many bytes a key has.
    pub const BYTES: usize = 32;

    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The key in its text form; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != Self::BYTES * 2 {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            let both = value(*pair.first()?)? * 16 + value(*pair.last()?)?;
            *byte = u8::try_from(both).ok()?;
        }
        Some(Self(bytes))
    }

    /// The text form, for the key's own file and nothing else.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
        let digits = self
            .0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
        digits.collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The text itself must not get into the error, so serde's own errors will not do.
        String::deserialize(from)
            .ok()
            .and_then(|text| Self::from_hex(text.trim()))
            .ok_or_else(|| {
                de::Error::custom(
                    "expected 64 hexadecimal digits, as `openssl rand -hex 32` prints",
                )
            })
    }
}

/// Which database: `sqlite:<path>`, or `postgres://<user>:<password>@<host>:<port>/<database>`.
/// Shows without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole address, password and all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file, if this is SQLite.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("sqlite:")?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        Some(rest.split('?').next().unwrap_or(rest))
    }
}

impl<T: Into<String>> From<T> for DatabaseUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sqlite_path().is_some() {
            return f.write_str(&self.0);
        }
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("[redacted]");
        };
        // User and password stand before the last `@` of what precedes the query, and a query may
        // hold a password, too.
        let place = rest.split('?').next().unwrap_or_default();
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const SCHEMES: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];
        String::deserialize(from)
            .ok()
            .filter(|url| SCHEMES.iter().any(|scheme| url.starts_with(scheme)))
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom(
                    "expected sqlite:<path> or postgres://<user>@<host>:<port>/<database>",
                )
            })
    }
}
