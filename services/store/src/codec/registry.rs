//! Rows that change seldom: the network, partners, agreements, windows, settlements.

use coalition_ledger::agreement::{Agreement, Terms};
use coalition_ledger::ids::{AgreementId, PartnerId, SettlementId, TransactionId, WindowId};
use coalition_ledger::money::{Currency, Micros, Minor};
use coalition_ledger::rulebook::Partner;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Cell, Coded, Columns, cells};
use crate::error::StoreError;
use crate::model::{
    AgreementRow, Mode, Network, NetworkTerms, Obligation, PartnerRow, SettlementPosition,
    SettlementRow, Window,
};
use crate::traits::Frame;

pub(crate) fn network_row(network: &Network, now: coalition_ledger::Timestamp) -> [Cell; 5] {
    cells![
        network.id,
        network.terms.mode.number(),
        network.clock,
        network.rulebook_version,
        now,
    ]
}

/// The network; its face values are rows of their own.
pub(crate) fn read_network(columns: &mut Columns<'_>) -> Result<Network, StoreError> {
    let id = columns.uuid()?;
    let mode: Mode = columns.coded()?;
    let terms = NetworkTerms {
        mode,
        face_values: Vec::new(),
    };
    let clock = columns.maybe_instant()?;
    Ok(Network {
        id,
        terms,
        clock,
        rulebook_version: columns.big()?,
    })
}

/// The fingerprint of the key that identifiers are hashed with, once there is one.
pub(crate) fn read_identifier_key(
    columns: &mut Columns<'_>,
) -> Result<Option<Vec<u8>>, StoreError> {
    columns.maybe_bytes()
}

pub(crate) fn face_value_row((currency, value): &(Currency, Decimal)) -> [Cell; 2] {
    cells![currency.code(), value.to_string()]
}

pub(crate) fn read_face_value(
    columns: &mut Columns<'_>,
) -> Result<(Currency, Decimal), StoreError> {
    let currency = columns.currency()?;
    let value = columns.text()?;
    let exact = Decimal::from_str_exact(&value);
    Ok((
        currency,
        exact.map_err(|_| StoreError::Damaged(format!("face value {value:?}")))?,
    ))
}

/// What a unit stands in, and the first transaction of the open window.
pub(crate) fn read_frame(
    columns: &mut Columns<'_>,
) -> Result<(Frame, Option<TransactionId>), StoreError> {
    let frame = Frame {
        window: WindowId::from_uuid(columns.uuid()?),
        rulebook_version: columns.big()?,
        clock: columns.maybe_instant()?,
    };
    Ok((frame, columns.maybe_uuid()?.map(TransactionId::from_uuid)))
}

/// Between which ids the postings of a window lie, both included; `None`: there are none.
pub(crate) fn read_span(columns: &mut Columns<'_>) -> Result<Option<(Uuid, Uuid)>, StoreError> {
    let first = columns.maybe_uuid()?;
    let last = columns.maybe_uuid()?;
    let last = match columns.maybe_instant()? {
        // It goes on.
        None => Some(Uuid::max()),
        Some(_) => last,
    };
    Ok(first.zip(last))
}

pub(crate) fn partner_row(row: &PartnerRow) -> [Cell; 6] {
    cells![
        row.id.uuid(),
        row.code.as_str(),
        row.display_name.as_str(),
        row.kind,
        row.status.number(),
        row.created_at,
    ]
}

pub(crate) fn read_partner(columns: &mut Columns<'_>) -> Result<PartnerRow, StoreError> {
    Ok(PartnerRow {
        id: PartnerId::from_uuid(columns.uuid()?),
        code: columns.text()?,
        display_name: columns.text()?,
        kind: columns.small()?,
        status: columns.coded()?,
        created_at: columns.instant()?,
    })
}

/// A partner as far as the rulebook cares.
pub(crate) fn read_rulebook_partner(columns: &mut Columns<'_>) -> Result<Partner, StoreError> {
    Ok(Partner {
        id: PartnerId::from_uuid(columns.uuid()?),
        status: columns.coded()?,
    })
}

pub(crate) fn agreement_row(row: &AgreementRow) -> Result<[Cell; 14], StoreError> {
    let terms = serde_json::to_string(&row.terms)
        .map_err(|error| StoreError::Damaged(format!("terms of {}: {error}", row.id)))?;
    Ok(cells![
        row.id.uuid(),
        row.partner.uuid(),
        row.counterparty.map(PartnerId::uuid),
        row.version,
        row.state.number(),
        row.proposed_by.number(),
        row.proposer.as_str(),
        row.proposed_at,
        row.accepter.as_deref(),
        row.accepted_at,
        row.effective_at,
        row.counterparty_accepter.as_deref(),
        row.counterparty_accepted_at,
        terms,
    ])
}

/// What acceptance adds to an agreement version, after its key.
pub(crate) fn acceptance(row: &AgreementRow) -> [Cell; 7] {
    cells![
        row.id.uuid(),
        row.state.number(),
        row.accepter.as_deref(),
        row.accepted_at,
        row.effective_at,
        row.counterparty_accepter.as_deref(),
        row.counterparty_accepted_at,
    ]
}

pub(crate) fn read_agreement(columns: &mut Columns<'_>) -> Result<AgreementRow, StoreError> {
    let id = AgreementId::from_uuid(columns.uuid()?);
    Ok(AgreementRow {
        id,
        partner: PartnerId::from_uuid(columns.uuid()?),
        counterparty: columns.maybe_uuid()?.map(PartnerId::from_uuid),
        version: columns.integer()?,
        state: columns.coded()?,
        proposed_by: columns.coded()?,
        proposer: columns.text()?,
        proposed_at: columns.instant()?,
        accepter: columns.maybe_text()?,
        accepted_at: columns.maybe_instant()?,
        effective_at: columns.maybe_instant()?,
        counterparty_accepter: columns.maybe_text()?,
        counterparty_accepted_at: columns.maybe_instant()?,
        terms: terms(id, &columns.text()?)?,
    })
}

/// An accepted version as the rulebook holds it.
pub(crate) fn read_rulebook_agreement(columns: &mut Columns<'_>) -> Result<Agreement, StoreError> {
    let id = AgreementId::from_uuid(columns.uuid()?);
    Ok(Agreement {
        id,
        partner: PartnerId::from_uuid(columns.uuid()?),
        counterparty: columns.maybe_uuid()?.map(PartnerId::from_uuid),
        effective_at: columns.instant()?,
        terms: terms(id, &columns.text()?)?,
    })
}

fn terms(id: AgreementId, json: &str) -> Result<Terms, StoreError> {
    serde_json::from_str(json)
        .map_err(|error| StoreError::Damaged(format!("terms of {id}: {error}")))
}

pub(crate) fn window_row(window: &Window) -> [Cell; 7] {
    cells![
        window.id.uuid(),
        window.number,
        window.state.number(),
        window.opened_at,
        window.closed_at,
        window.last_transaction.map(TransactionId::uuid),
        window.totals_hash.clone(),
    ]
}

/// What closing adds to a window, after its key.
pub(crate) fn window_closing(window: &Window) -> [Cell; 4] {
    cells![
        window.id.uuid(),
        window.closed_at,
        window.last_transaction.map(TransactionId::uuid),
        window.totals_hash.clone(),
    ]
}

pub(crate) fn read_window(columns: &mut Columns<'_>) -> Result<Window, StoreError> {
    Ok(Window {
        id: WindowId::from_uuid(columns.uuid()?),
        number: columns.big()?,
        state: columns.coded()?,
        opened_at: columns.instant()?,
        closed_at: columns.maybe_instant()?,
        last_transaction: columns.maybe_uuid()?.map(TransactionId::from_uuid),
        totals_hash: columns.maybe_bytes()?,
    })
}

pub(crate) fn settlement_row(row: &SettlementRow) -> [Cell; 5] {
    cells![
        row.id.uuid(),
        row.state.number(),
        row.netting,
        row.computed_at,
        row.computed_by.as_str(),
    ]
}

/// A settlement; its windows, positions, obligations and sums are rows of their own.
pub(crate) fn read_settlement(columns: &mut Columns<'_>) -> Result<SettlementRow, StoreError> {
    Ok(SettlementRow {
        id: SettlementId::from_uuid(columns.uuid()?),
        state: columns.coded()?,
        netting: columns.small()?,
        computed_at: columns.instant()?,
        computed_by: columns.text()?,
        windows: Vec::new(),
        positions: Vec::new(),
        obligations: Vec::new(),
        gross: Vec::new(),
        rounding: Vec::new(),
    })
}

pub(crate) fn read_settlement_id(columns: &mut Columns<'_>) -> Result<SettlementId, StoreError> {
    columns.uuid().map(SettlementId::from_uuid)
}

pub(crate) fn settlement_window_row(id: SettlementId, place: i32, window: WindowId) -> [Cell; 3] {
    cells![id.uuid(), place, window.uuid()]
}

pub(crate) fn read_settlement_window(
    columns: &mut Columns<'_>,
) -> Result<(SettlementId, WindowId), StoreError> {
    Ok((
        SettlementId::from_uuid(columns.uuid()?),
        WindowId::from_uuid(columns.uuid()?),
    ))
}

pub(crate) fn settlement_position_row(id: SettlementId, row: &SettlementPosition) -> [Cell; 5] {
    cells![
        id.uuid(),
        row.currency.code(),
        row.party.uuid(),
        row.net.get(),
        row.net_minor.get()
    ]
}

pub(crate) fn read_settlement_position(
    columns: &mut Columns<'_>,
) -> Result<(SettlementId, SettlementPosition), StoreError> {
    let id = SettlementId::from_uuid(columns.uuid()?);
    let position = SettlementPosition {
        currency: columns.currency()?,
        party: columns.party()?,
        net: Micros::new(columns.big()?),
        net_minor: Minor::new(columns.big()?),
    };
    Ok((id, position))
}

pub(crate) fn obligation_row(id: SettlementId, row: &Obligation) -> [Cell; 5] {
    cells![
        id.uuid(),
        row.currency.code(),
        row.payer.uuid(),
        row.payee.uuid(),
        row.amount.get()
    ]
}

pub(crate) fn read_obligation(
    columns: &mut Columns<'_>,
) -> Result<(SettlementId, Obligation), StoreError> {
    let id = SettlementId::from_uuid(columns.uuid()?);
    let obligation = Obligation {
        currency: columns.currency()?,
        payer: columns.party()?,
        payee: columns.party()?,
        amount: Minor::new(columns.big()?),
    };
    Ok((id, obligation))
}

/// One row per currency that has a gross sum, a rounding difference, or both.
pub(crate) fn settlement_currency_rows(row: &SettlementRow) -> Vec<[Cell; 4]> {
    let mut currencies: Vec<Currency> = row
        .gross
        .iter()
        .chain(&row.rounding)
        .map(|(currency, _)| *currency)
        .collect();
    currencies.sort();
    currencies.dedup();
    let find = |sums: &[(Currency, Micros)], currency| {
        sums.iter()
            .find(|(c, _)| *c == currency)
            .map(|(_, sum)| sum.get())
    };
    currencies
        .into_iter()
        .map(|currency| {
            cells![
                row.id.uuid(),
                currency.code(),
                find(&row.gross, currency),
                find(&row.rounding, currency),
            ]
        })
        .collect()
}

/// A currency of a settlement, with its gross sum and its rounding difference.
pub(crate) type SettlementSums = (SettlementId, Currency, Option<Micros>, Option<Micros>);

pub(crate) fn read_settlement_currency(
    columns: &mut Columns<'_>,
) -> Result<SettlementSums, StoreError> {
    Ok((
        SettlementId::from_uuid(columns.uuid()?),
        columns.currency()?,
        columns.maybe_big()?.map(Micros::new),
        columns.maybe_big()?.map(Micros::new),
    ))
}
