//! A posting as bytes: what stands in `transactions.posting`.
//!
//! Nearly every id in a posting stands in the transaction's own row as well (its member, partner
//! and agreement) or was minted beside its id (its lots), so ids are written once, as their
//! difference from the transaction's id, and then named by place. An earn of two transfers takes
//! about 40 bytes.
//!
//! ```text
//! posting   = version(1) ids lots transfers
//! ids       = count id…                    places 0, 1, 2 are the row's member, partner, agreement;
//!                                           listed ids follow
//! id        = span bytes                   exclusive or with the transaction's id; `span` is
//!                                           start << 4 | length - 1 of the bytes that differ
//! lots      = count (id expiry)…           expiry: zigzag microseconds from the posting's time
//! transfers = count transfer…
//! transfer  = debit tag << 4 | credit tag, debit operands, credit operands, flags, amount,
//!             [currency, numeric], [lot, place], [agreement, place], [leg, index]
//! operands  = [member, place] [party, place + 1; 0 is the operator]
//! ```
//!
//! Numbers are LEB128. Reading never panics and never reserves more than a few times the length of
//! what it reads. An unknown version is damage.

use std::collections::HashMap;

use coalition_ledger::account::{Account, Capacity, LegRef, LotRef, Posting, Transfer};
use coalition_ledger::ids::{AgreementId, LotId, MemberId, PartnerId, Party};
use coalition_ledger::money::{Currency, Unit};
use coalition_ledger::time::Timestamp;
use uuid::Uuid;

use crate::error::StoreError;

/// The one version of the encoding so far.
const VERSION: u8 = 1;
/// Places of ids that stand in the transaction's row.
const ROW_PLACES: u64 = 3;
/// Fewest bytes that a transfer takes: tags, flags and amount, where neither side names anyone.
const MIN_TRANSFER_BYTES: usize = 3;

const HAS_LOT: u8 = 1;
const HAS_AGREEMENT: u8 = 2;
const HAS_LEG: u8 = 4;
const IS_REVERSAL: u8 = 8;
const IS_MONEY: u8 = 16;

/// What the transaction's row says already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    /// The transaction's id.
    pub(crate) id: Uuid,
    /// Its member, or nil.
    pub(crate) member: Uuid,
    /// Its partner, or nil.
    pub(crate) partner: Uuid,
    /// Its agreement, or nil.
    pub(crate) agreement: Uuid,
    /// When it was posted.
    pub(crate) posted_at: Timestamp,
}

/// The posting as bytes; `None` for one without transfers.
pub(crate) fn encode(posting: &Posting, base: &Base) -> Result<Option<Vec<u8>>, StoreError> {
    if posting.transfers.is_empty() {
        return Ok(None);
    }
    let mut writer = Writer::new(base);
    for transfer in &posting.transfers {
        writer.transfer(transfer)?;
    }
    Ok(Some(writer.finish(posting.transfers.len())))
}

/// The posting in these bytes.
pub(crate) fn decode(bytes: Option<&[u8]>, base: &Base) -> Result<Posting, StoreError> {
    let Some(bytes) = bytes else {
        return Ok(Posting::default());
    };
    let mut reader = Reader {
        bytes,
        ids: vec![base.member, base.partner, base.agreement],
    };
    let version = reader.byte()?;
    if version != VERSION {
        return Err(damaged(format!("unknown version {version}")));
    }
    for _ in 0..reader.number()? {
        let id = reader.id(base.id)?;
        reader.ids.push(id);
    }
    let mut lots = Vec::new();
    for _ in 0..reader.number()? {
        lots.push(reader.lot(base)?);
    }
    let count = usize::try_from(reader.number()?).map_err(|_| damaged("too many transfers"))?;
    if count > reader.bytes.len() / MIN_TRANSFER_BYTES {
        return Err(damaged("too few bytes"));
    }
    let mut transfers = Vec::with_capacity(count);
    for _ in 0..count {
        transfers.push(reader.transfer(&lots)?);
    }
    if !reader.bytes.is_empty() {
        return Err(damaged("bytes left over"));
    }
    Ok(Posting { transfers })
}

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("posting: {what}"))
}

struct Writer<'a> {
    base: &'a Base,
    ids: HashMap<Uuid, u64>,
    ids_out: Vec<u8>,
    lots: HashMap<LotRef, u64>,
    lots_out: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(base: &'a Base) -> Self {
        Self {
            base,
            ids: HashMap::new(),
            ids_out: Vec::new(),
            lots: HashMap::new(),
            lots_out: Vec::new(),
            out: Vec::new(),
        }
    }

    fn finish(self, transfers: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(
            self.ids_out
                .len()
                .saturating_add(self.lots_out.len())
                .saturating_add(self.out.len()),
        );
        all.push(VERSION);
        put_number(&mut all, self.ids.len() as u64);
        all.extend(self.ids_out);
        put_number(&mut all, self.lots.len() as u64);
        all.extend(self.lots_out);
        put_number(&mut all, transfers as u64);
        all.extend(self.out);
        all
    }

    /// The place of an id.
    fn place(&mut self, id: Uuid) -> u64 {
        let row = [self.base.member, self.base.partner, self.base.agreement];
        if let Some(place) = row.iter().position(|known| *known == id) {
            return place as u64;
        }
        let next = ROW_PLACES.saturating_add(self.ids.len() as u64);
        *self.ids.entry(id).or_insert_with(|| {
            put_id(&mut self.ids_out, self.base.id, id);
            next
        })
    }

    fn lot(&mut self, lot: LotRef) -> u64 {
        let next = self.lots.len() as u64;
        *self.lots.entry(lot).or_insert_with(|| {
            put_id(&mut self.lots_out, self.base.id, lot.id.uuid());
            let span = lot
                .expires_at
                .micros()
                .wrapping_sub(self.base.posted_at.micros());
            put_number(&mut self.lots_out, zigzag(span));
            next
        })
    }

    fn member(&mut self, member: MemberId) {
        let place = self.place(member.uuid());
        put_number(&mut self.out, place);
    }

    fn party(&mut self, party: Party) {
        let number = match party {
            Party::Operator => 0,
            Party::Partner(id) => self.place(id.uuid()).saturating_add(1),
        };
        put_number(&mut self.out, number);
    }

    fn operands(&mut self, account: Account) {
        match account {
            Account::Pending(member, issuer)
            | Account::Available(member, issuer)
            | Account::Held(member, issuer)
            | Account::Debt(member, issuer) => {
                self.member(member);
                self.party(issuer);
            }
            Account::Issued(party)
            | Account::Redeemed(party)
            | Account::Expired(party)
            | Account::Position(party, _)
            | Account::Funds(party) => self.party(party),
            Account::Operator => {}
        }
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), StoreError> {
        let amount = u64::try_from(transfer.amount)
            .ok()
            .filter(|&amount| amount > 0);
        let amount = amount.ok_or_else(|| damaged("an amount that is not positive"))?;
        self.out
            .push(tag(transfer.debit) << 4 | tag(transfer.credit));
        self.operands(transfer.debit);
        self.operands(transfer.credit);
        let mut flags = 0;
        flags |= if transfer.lot.is_some() { HAS_LOT } else { 0 };
        flags |= if transfer.agreement.is_some() {
            HAS_AGREEMENT
        } else {
            0
        };
        flags |= if transfer.leg.is_some() { HAS_LEG } else { 0 };
        flags |= if transfer.leg.is_some_and(|leg| leg.reversal) {
            IS_REVERSAL
        } else {
            0
        };
        flags |= if transfer.unit == Unit::Points {
            0
        } else {
            IS_MONEY
        };
        self.out.push(flags);
        put_number(&mut self.out, amount);
        if let Unit::Money(currency) = transfer.unit {
            put_number(&mut self.out, currency.numeric().into());
        }
        if let Some(lot) = transfer.lot {
            let place = self.lot(lot);
            put_number(&mut self.out, place);
        }
        if let Some(agreement) = transfer.agreement {
            let place = self.place(agreement.uuid());
            put_number(&mut self.out, place);
        }
        if let Some(leg) = transfer.leg {
            put_number(&mut self.out, leg.index.into());
        }
        Ok(())
    }
}

const fn tag(account: Account) -> u8 {
    match account {
        Account::Issued(_) => 1,
        Account::Pending(..) => 2,
        Account::Available(..) => 3,
        Account::Held(..) => 4,
        Account::Debt(..) => 5,
        Account::Redeemed(_) => 6,
        Account::Expired(_) => 7,
        Account::Position(_, Capacity::Issuer) => 8,
        Account::Position(_, Capacity::Redeemer) => 9,
        Account::Position(_, Capacity::Operator) => 10,
        Account::Position(_, Capacity::Named) => 11,
        Account::Funds(_) => 12,
        Account::Operator => 13,
    }
}

/// Writes a number in groups of seven bits, the least first.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let bits = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return out.push(bits);
        }
        out.push(bits | 0x80);
    }
}

/// Writes an id as its difference from `base`.
fn put_id(out: &mut Vec<u8>, base: Uuid, id: Uuid) {
    let difference = (base.as_u128() ^ id.as_u128()).to_be_bytes();
    let mut places = (0_u8..16).zip(difference).filter(|(_, byte)| *byte != 0);
    let (start, _) = places.next().unwrap_or((0, 0));
    let (end, _) = places.next_back().unwrap_or((start, 0));
    out.push(start << 4 | (end - start));
    out.extend_from_slice(&difference[usize::from(start)..=usize::from(end)]);
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

struct Reader<'a> {
    bytes: &'a [u8],
    ids: Vec<Uuid>,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, StoreError> {
        let (&byte, rest) = self
            .bytes
            .split_first()
            .ok_or_else(|| damaged("too few bytes"))?;
        self.bytes = rest;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number that is too large"))
    }

    fn id(&mut self, base: Uuid) -> Result<Uuid, StoreError> {
        let span = usize::from(self.byte()?);
        let (start, length) = (span >> 4, (span & 0x0f) + 1);
        let mut difference = [0; 16];
        let place = difference.get_mut(start..start + length);
        let (Some(place), Some(bytes)) = (place, self.bytes.get(..length)) else {
            return Err(damaged("an id that is cut short"));
        };
        place.copy_from_slice(bytes);
        self.bytes = self.bytes.get(length..).unwrap_or_default();
        Ok(Uuid::from_u128(
            base.as_u128() ^ u128::from_be_bytes(difference),
        ))
    }

    fn lot(&mut self, base: &Base) -> Result<LotRef, StoreError> {
        let id = LotId::from_uuid(self.id(base.id)?);
        let span = unzigzag(self.number()?);
        let expires_at = Timestamp::from_micros(base.posted_at.micros().wrapping_add(span));
        Ok(LotRef { id, expires_at })
    }

    fn placed(&self, place: u64) -> Result<Uuid, StoreError> {
        let id = usize::try_from(place)
            .ok()
            .and_then(|place| self.ids.get(place));
        id.copied()
            .ok_or_else(|| damaged("an id that is not listed"))
    }

    fn member(&mut self) -> Result<MemberId, StoreError> {
        let place = self.number()?;
        self.placed(place).map(MemberId::from_uuid)
    }

    fn party(&mut self) -> Result<Party, StoreError> {
        match self.number()?.checked_sub(1) {
            None => Ok(Party::Operator),
            Some(place) => self
                .placed(place)
                .map(|id| Party::Partner(PartnerId::from_uuid(id))),
        }
    }

    fn account(&mut self, tag: u8) -> Result<Account, StoreError> {
        Ok(match tag {
            1 => Account::Issued(self.party()?),
            2 => Account::Pending(self.member()?, self.party()?),
            3 => Account::Available(self.member()?, self.party()?),
            4 => Account::Held(self.member()?, self.party()?),
            5 => Account::Debt(self.member()?, self.party()?),
            6 => Account::Redeemed(self.party()?),
            7 => Account::Expired(self.party()?),
            8 => Account::Position(self.party()?, Capacity::Issuer),
            9 => Account::Position(self.party()?, Capacity::Redeemer),
            10 => Account::Position(self.party()?, Capacity::Operator),
            11 => Account::Position(self.party()?, Capacity::Named),
            12 => Account::Funds(self.party()?),
            13 => Account::Operator,
            _ => return Err(damaged(format!("unknown account {tag}"))),
        })
    }

    fn transfer(&mut self, lots: &[LotRef]) -> Result<Transfer, StoreError> {
        let tags = self.byte()?;
        let debit = self.account(tags >> 4)?;
        let credit = self.account(tags & 0x0f)?;
        let flags = self.byte()?;
        if flags & !(HAS_LOT | HAS_AGREEMENT | HAS_LEG | IS_REVERSAL | IS_MONEY) != 0 {
            return Err(damaged("unknown flags"));
        }
        let amount = i64::try_from(self.number()?)
            .ok()
            .filter(|&amount| amount > 0);
        let amount = amount.ok_or_else(|| damaged("an amount that is not positive"))?;
        let unit = if flags & IS_MONEY == 0 {
            Unit::Points
        } else {
            Unit::Money(self.currency()?)
        };
        let lot = if flags & HAS_LOT == 0 {
            None
        } else {
            Some(self.placed_lot(lots)?)
        };
        let agreement = if flags & HAS_AGREEMENT == 0 {
            None
        } else {
            let place = self.number()?;
            Some(AgreementId::from_uuid(self.placed(place)?))
        };
        let leg = if flags & HAS_LEG == 0 {
            None
        } else {
            let index = u16::try_from(self.number()?).map_err(|_| damaged("a leg out of range"))?;
            Some(LegRef {
                index,
                reversal: flags & IS_REVERSAL != 0,
            })
        };
        Ok(Transfer {
            debit,
            credit,
            amount,
            unit,
            lot,
            agreement,
            leg,
        })
    }

    fn currency(&mut self) -> Result<Currency, StoreError> {
        let numeric = u16::try_from(self.number()?)
            .ok()
            .and_then(Currency::from_numeric);
        numeric.ok_or_else(|| damaged("unknown currency"))
    }

    fn placed_lot(&mut self, lots: &[LotRef]) -> Result<LotRef, StoreError> {
        let place = usize::try_from(self.number()?).ok();
        let lot = place.and_then(|place| lots.get(place));
        lot.copied()
            .ok_or_else(|| damaged("a lot that is not listed"))
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::ids::IdMint;
    use proptest::prelude::*;

    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn base() -> Base {
        let mut mint = IdMint::new(*b"coalit");
        let mut minted = |at| mint.mint(Timestamp::from_micros(at));
        Base {
            partner: minted(1_700_000_000_000_000),
            agreement: minted(1_710_000_000_000_000),
            member: minted(1_720_000_000_000_000),
            id: minted(1_750_000_000_000_000),
            posted_at: Timestamp::from_micros(1_750_000_000_123_456),
        }
    }

    fn earn(base: &Base) -> Posting {
        let mut mint = IdMint::new(*b"coalit");
        mint.mint(base.posted_at);
        let lot = LotRef {
            id: LotId::from_uuid(mint.mint(Timestamp::from_micros(1_750_000_000_000_000))),
            expires_at: base.posted_at.saturating_add_micros(365 * DAY_US),
        };
        let partner = Party::Partner(PartnerId::from_uuid(base.partner));
        let agreement = Some(AgreementId::from_uuid(base.agreement));
        let points = Transfer {
            debit: Account::Issued(partner),
            credit: Account::Available(MemberId::from_uuid(base.member), partner),
            amount: 1_234,
            unit: Unit::Points,
            lot: Some(lot),
            agreement,
            leg: None,
        };
        let money = Transfer {
            debit: Account::Position(partner, Capacity::Issuer),
            credit: Account::Position(Party::Operator, Capacity::Operator),
            amount: 12_340_000,
            unit: Unit::Money(Currency::EUR),
            lot: Some(lot),
            agreement,
            leg: Some(LegRef {
                index: 0,
                reversal: false,
            }),
        };
        Posting {
            transfers: vec![points, money],
        }
    }

    #[test]
    fn an_earn_of_two_transfers_is_small() {
        let base = base();
        let bytes = encode(&earn(&base), &base)
            .expect("encodes")
            .expect("has transfers");
        assert!(bytes.len() <= 48, "{} bytes", bytes.len());
        assert_eq!(decode(Some(&bytes), &base).expect("decodes"), earn(&base));
    }

    #[test]
    fn the_shortest_transfer_is_read() {
        let base = base();
        let posting = Posting {
            transfers: vec![Transfer {
                debit: Account::Operator,
                credit: Account::Operator,
                amount: 1,
                unit: Unit::Points,
                lot: None,
                agreement: None,
                leg: None,
            }],
        };
        let bytes = encode(&posting, &base)
            .expect("encodes")
            .expect("has transfers");
        let header = 4; // version, no ids, no lots, one transfer
        assert_eq!(bytes.len(), header + MIN_TRANSFER_BYTES);
        assert_eq!(decode(Some(&bytes), &base).expect("decodes"), posting);
    }

    #[test]
    fn an_unknown_version_and_left_over_bytes_are_damage() {
        let base = base();
        let mut bytes = encode(&earn(&base), &base)
            .expect("encodes")
            .expect("has transfers");
        bytes.push(0);
        assert!(matches!(
            decode(Some(&bytes), &base),
            Err(StoreError::Damaged(_))
        ));
        bytes.pop();
        bytes[0] = 2;
        assert!(matches!(
            decode(Some(&bytes), &base),
            Err(StoreError::Damaged(_))
        ));
    }

    fn uuids() -> impl Strategy<Value = Uuid> {
        // Few different ones, so that places are used again; some of the row, some near its id.
        let base = base();
        prop_oneof![
            Just(base.member),
            Just(base.partner),
            Just(base.agreement),
            Just(base.id),
            (0..4_u128).prop_map(move |n| Uuid::from_u128(base.id.as_u128() ^ (n << 64))),
            (1..4_u128).prop_map(Uuid::from_u128),
            any::<u128>().prop_map(Uuid::from_u128),
        ]
    }

    fn parties() -> impl Strategy<Value = Party> {
        prop_oneof![
            Just(Party::Operator),
            uuids().prop_map(|id| Party::Partner(PartnerId::from_uuid(id))),
        ]
    }

    fn accounts() -> impl Strategy<Value = Account> {
        let held = (uuids().prop_map(MemberId::from_uuid), parties(), 0..4).prop_map(
            |(member, party, which)| match which {
                0 => Account::Pending(member, party),
                1 => Account::Available(member, party),
                2 => Account::Held(member, party),
                _ => Account::Debt(member, party),
            },
        );
        let shared = (parties(), 0..8).prop_map(|(party, which)| match which {
            0 => Account::Issued(party),
            1 => Account::Redeemed(party),
            2 => Account::Expired(party),
            3 => Account::Position(party, Capacity::Issuer),
            4 => Account::Position(party, Capacity::Redeemer),
            5 => Account::Position(party, Capacity::Operator),
            6 => Account::Position(party, Capacity::Named),
            _ => Account::Funds(party),
        });
        prop_oneof![held, shared, Just(Account::Operator)]
    }

    fn transfers() -> impl Strategy<Value = Transfer> {
        let lot = (uuids(), any::<i64>()).prop_map(|(id, at)| LotRef {
            id: LotId::from_uuid(id),
            expires_at: Timestamp::from_micros(at),
        });
        let leg = any::<(u16, bool)>().prop_map(|(index, reversal)| LegRef { index, reversal });
        let unit = prop_oneof![
            Just(Unit::Points),
            Just(Unit::Money(Currency::USD)),
            Just(Unit::Money(Currency::KWD)),
        ];
        let amount = prop_oneof![1..=200_i64, 1..=i64::MAX];
        let agreement = proptest::option::of(uuids().prop_map(AgreementId::from_uuid));
        let lot = proptest::option::of(lot);
        let leg = proptest::option::of(leg);
        (accounts(), accounts(), amount, unit, lot, agreement, leg).prop_map(
            |(debit, credit, amount, unit, lot, agreement, leg)| Transfer {
                debit,
                credit,
                amount,
                unit,
                lot,
                agreement,
                leg,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(transfers in proptest::collection::vec(transfers(), 0..24)) {
            let (base, posting) = (base(), Posting { transfers });
            let bytes = encode(&posting, &base).expect("encodes");
            prop_assert_eq!(decode(bytes.as_deref(), &base).expect("decodes"), posting);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let base = base();
            if let Ok(posting) = decode(Some(&bytes), &base) {
                let again = encode(&posting, &base).expect("encodes");
                prop_assert_eq!(decode(again.as_deref(), &base).expect("decodes"), posting);
            }
        }

        #[test]
        fn damaged_bytes_are_read_or_refused(
            transfers in proptest::collection::vec(transfers(), 1..8),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (base, posting) = (base(), Posting { transfers });
            let mut bytes = encode(&posting, &base).expect("encodes").expect("has transfers");
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = decode(Some(&bytes), &base);
            let _ = decode(Some(&bytes[..cut.index(bytes.len())]), &base);
        }

        #[test]
        fn zigzag_goes_both_ways(number in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(number)), number);
        }
    }
}
