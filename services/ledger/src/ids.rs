//! Names of things: one newtype per kind, a type-prefixed text form, and how new ones are minted.
//!
//! The text form is a TypeID (`mem_01h…`): prefix, underscore, 26 characters of base 32, sortable
//! by creation. Inside, every id is a UUID of version 7. Deliberately absent: randomness and
//! clocks; [`IdMint`] is told the time and seeded by whoever owns it.

use std::fmt;
use std::str::FromStr;

use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

use crate::time::Timestamp;

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_…")]
pub struct NotAnId {
    /// The prefix that the text should have had, without the underscore.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $tag:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        #[derive(Default)]
        struct $tag;

        impl StaticType for $tag {
            const TYPE: &'static str = $prefix;
        }

        impl $name {
            /// The type prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// The id with this UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TypeSafeId::<$tag>::from_uuid(self.0).fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                TypeSafeId::<$tag>::from_str(text)
                    .map(|id| Self(id.uuid()))
                    .map_err(|_| NotAnId { prefix: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/** A partner: `ptr_…`. */ PartnerId, PartnerTag, "ptr");
id!(/** A member: `mem_…`. */ MemberId, MemberTag, "mem");
id!(/** A transaction, that is one posting or one remembered decline: `txn_…`. */ TransactionId, TransactionTag, "txn");
id!(/** A lot: `lot_…`. */ LotId, LotTag, "lot");
id!(/** One version of an agreement: `agr_…`. */ AgreementId, AgreementTag, "agr");
id!(/** A window: `win_…`. */ WindowId, WindowTag, "win");
id!(/** A settlement: `stl_…`. */ SettlementId, SettlementTag, "stl");

/// Who issues points, takes part in a leg or holds a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The network's operator; in text `OPERATOR`.
    Operator,
    /// A partner.
    Partner(PartnerId),
}

impl Party {
    /// The text form of the operator.
    pub const OPERATOR: &'static str = "OPERATOR";

    /// The UUID under which books are kept: the nil UUID for the operator.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Operator => Uuid::nil(),
            Self::Partner(id) => id.uuid(),
        }
    }

    /// The party with this UUID; nil is the operator.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        if uuid.is_nil() {
            Self::Operator
        } else {
            Self::Partner(PartnerId::from_uuid(uuid))
        }
    }

    /// The partner, unless this is the operator.
    #[must_use]
    pub const fn partner(self) -> Option<PartnerId> {
        match self {
            Self::Operator => None,
            Self::Partner(id) => Some(id),
        }
    }
}

impl From<PartnerId> for Party {
    fn from(id: PartnerId) -> Self {
        Self::Partner(id)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.pad(Self::OPERATOR),
            Self::Partner(id) => id.fmt(f),
        }
    }
}

impl FromStr for Party {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text == Self::OPERATOR {
            Ok(Self::Operator)
        } else {
            text.parse().map(Self::Partner)
        }
    }
}

impl serde::Serialize for Party {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Party {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Mints time-ordered ids (UUID version 7).
///
/// Ids of one mint ascend strictly, also within a millisecond and when the clock steps back, so
/// that "ties by lot creation" is the order of lot ids. 48 bits of seed keep the mints of several
/// processes apart.
#[derive(Debug)]
pub struct IdMint {
    millis: u64,
    count: u32,
    seed: [u8; 6],
}

/// Ids that one mint gives out within one millisecond before it borrows the next one.
const IDS_PER_MILLISECOND: u32 = 1 << 26;

impl IdMint {
    /// A mint with a seed that no other running mint has.
    #[must_use]
    pub const fn new(seed: [u8; 6]) -> Self {
        Self {
            millis: 0,
            count: 0,
            seed,
        }
    }

    /// The next id, stamped with `now` or, if that lies behind, with the last stamp given.
    pub fn mint(&mut self, now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        if millis > self.millis {
            self.millis = millis;
            self.count = 0;
        } else {
            self.count = self.count.saturating_add(1);
            if self.count >= IDS_PER_MILLISECOND {
                self.millis = self.millis.saturating_add(1);
                self.count = 0;
            }
        }
        // 12 bits of the count before the variant, 14 behind it: the layout of RFC 9562.
        let [_, _, a, b] = (self.count >> 14).to_be_bytes();
        let [_, _, c, d] = (self.count & 0x3fff).to_be_bytes();
        let [s0, s1, s2, s3, s4, s5] = self.seed;
        let tail = [a, b, c, d, s0, s1, s2, s3, s4, s5];
        uuid::Builder::from_unix_timestamp_millis(self.millis, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_mint_ascend_even_when_the_clock_steps_back() {
        let mut mint = IdMint::new([7; 6]);
        let times = [
            5_000_000, 5_000_000, 5_000_100, 9_000_000, 1_000_000, 9_000_000,
        ];
        let ids: Vec<Uuid> = times
            .iter()
            .map(|&t| mint.mint(Timestamp::from_micros(t)))
            .collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]), "{ids:?}");
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn a_wrong_prefix_is_not_an_id() {
        let id = MemberId::from_uuid(IdMint::new([1; 6]).mint(Timestamp::from_micros(1)));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            id.to_string().parse::<PartnerId>(),
            Err(NotAnId { prefix: "ptr" })
        );
        assert_eq!("OPERATOR".parse(), Ok(Party::Operator));
    }
}
