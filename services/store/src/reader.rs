//! Questions about what is committed, for both engines.
//!
//! An answer of one statement is consistent by itself; where it takes several, they run as of one
//! instant.

use async_trait::async_trait;
use coalition_ledger::command::{IdentifierHash, RequestKey};
use coalition_ledger::ids::{
    AgreementId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::Known;
use coalition_ledger::money::Currency;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{Measure, Position, RequestRecord, TotalKey};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use uuid::Uuid;

use crate::codec::{Rows, books, cells, registry};
use crate::error::StoreError;
use crate::model::{
    AgreementRow, MemberView, Network, PartnerRow, PostingFilter, PostingPage, SettlementRow,
    TrialSums, Window,
};
use crate::session::{Engine, Read, Session, fetch_one};
use crate::statements::{self as sql, Statement};
use crate::traits::Reader;
use crate::unit::{not_set_up, read_rulebook};

/// Transactions that are read at a time where only some of them are wanted.
const POSTINGS_AT_A_TIME: i64 = 1_000;

/// How often that is done for one answer: where those that are wanted are rare, it comes out short.
const POSTING_READS_MAX: usize = 16;

/// Asks one question with at most one row for an answer.
async fn ask_one<E: Engine, T: Send>(
    engine: &E,
    statement: &'static Statement,
    arguments: Rows,
    read: Read<T>,
) -> Result<Option<T>, StoreError> {
    Ok(ask(engine, statement, arguments, read)
        .await?
        .into_iter()
        .next())
}

/// Asks one question.
async fn ask<E: Engine, T: Send>(
    engine: &E,
    statement: &'static Statement,
    arguments: Rows,
    read: Read<T>,
) -> Result<Vec<T>, StoreError> {
    let mut session = engine.ask().await?;
    let answer = session.fetch(statement, arguments, read).await?;
    session.rollback().await?;
    Ok(answer)
}

/// A member's transactions before `before`, latest first: along the chain, from its end or from a
/// link of it.
async fn read_activity<S: Session>(
    session: &mut S,
    member: MemberId,
    partner: Option<PartnerId>,
    before: Option<TransactionId>,
    limit: i64,
) -> Result<Vec<Transaction>, StoreError> {
    let (statement, key) = match before {
        None => (&sql::LAST_OF_MEMBER, Rows::one(cells![member.uuid()])),
        Some(before) => {
            let key = cells![member.uuid(), before.uuid()];
            (&sql::PREVIOUS_OF_MEMBER, Rows::one(key))
        }
    };
    let from = fetch_one(session, statement, key, books::read_maybe_id).await?;
    let Some(from) = from.flatten() else {
        return Ok(Vec::new());
    };
    let arguments = cells![member.uuid(), from, partner.map(PartnerId::uuid), limit];
    session
        .fetch(
            &sql::ACTIVITY,
            Rows::one(arguments),
            books::read_transaction,
        )
        .await
}

/// A page of postings; see [`Reader::postings`].
async fn read_postings<S: Session>(
    session: &mut S,
    filter: PostingFilter,
    after: Option<TransactionId>,
    limit: i64,
) -> Result<PostingPage, StoreError> {
    let wanted = usize::try_from(limit).unwrap_or(0);
    let span = match filter.window {
        None => Some((Uuid::nil(), Uuid::max())),
        Some(window) => {
            let key = Rows::one(cells![window.uuid()]);
            let span = fetch_one(session, &sql::WINDOW_SPAN, key, registry::read_span);
            span.await?.flatten()
        }
    };
    let Some((first, to)) = span else {
        return Ok(PostingPage::default());
    };
    // The statement goes on after an id.
    let before = Uuid::from_u128(first.as_u128().saturating_sub(1));
    let mut from = after.map_or(before, |after| before.max(after.uuid()));
    let at_a_time = if filter.partner.is_some() {
        limit.max(POSTINGS_AT_A_TIME)
    } else {
        limit
    };
    let mut found = PostingPage::default();
    for _ in 0..POSTING_READS_MAX {
        let arguments = cells![
            from,
            to,
            filter.window.map(WindowId::uuid),
            filter.member.map(MemberId::uuid),
            at_a_time,
        ];
        let page = session.fetch(
            &sql::POSTING_PAGE,
            Rows::one(arguments),
            books::read_transaction,
        );
        let page = page.await?;
        let is_last = i64::try_from(page.len()).is_ok_and(|len| len < at_a_time);
        from = page.last().map_or(to, |last| last.id.uuid());
        let is_wanted = |posting: &Transaction| filter.partner.is_none_or(|p| concerns(posting, p));
        found.rows.extend(page.into_iter().filter(is_wanted));
        if is_last || found.rows.len() >= wanted {
            found.rows.truncate(wanted);
            return Ok(found);
        }
    }
    found.next = Some(TransactionId::from_uuid(from));
    Ok(found)
}

/// The network with its face values.
pub(crate) async fn read_network<S: Session>(
    session: &mut S,
) -> Result<Option<Network>, StoreError> {
    let network = fetch_one(session, &sql::NETWORK, Rows::none(), registry::read_network).await?;
    let Some(mut network) = network else {
        return Ok(None);
    };
    network.terms.face_values = session
        .fetch(&sql::FACE_VALUES, Rows::none(), registry::read_face_value)
        .await?;
    Ok(Some(network))
}

/// Adds to settlements what belongs to them.
async fn complete<S: Session>(
    session: &mut S,
    settlements: &mut [SettlementRow],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = settlements
        .iter()
        .map(|settlement| settlement.id.uuid())
        .collect();
    let keys = || ids.iter().map(|id| cells![*id]).collect::<Rows>();
    let windows = session.fetch(
        &sql::SETTLEMENT_WINDOWS,
        keys(),
        registry::read_settlement_window,
    );
    let windows = windows.await?;
    let positions = session.fetch(
        &sql::SETTLEMENT_POSITIONS,
        keys(),
        registry::read_settlement_position,
    );
    let positions = positions.await?;
    let obligations = session
        .fetch(
            &sql::SETTLEMENT_OBLIGATIONS,
            keys(),
            registry::read_obligation,
        )
        .await?;
    let sums = session.fetch(
        &sql::SETTLEMENT_CURRENCIES,
        keys(),
        registry::read_settlement_currency,
    );
    let sums = sums.await?;
    for settlement in settlements {
        let id = settlement.id;
        settlement
            .windows
            .extend(windows.iter().filter(|(of, _)| *of == id).map(|(_, w)| *w));
        settlement.positions.extend(
            positions
                .iter()
                .filter(|(of, _)| *of == id)
                .map(|(_, p)| *p),
        );
        let obligations = obligations.iter().filter(|(of, _)| *of == id);
        settlement
            .obligations
            .extend(obligations.map(|(_, obligation)| *obligation));
        for (_, currency, gross, rounding) in sums.iter().filter(|(of, ..)| *of == id) {
            settlement
                .gross
                .extend(gross.map(|gross| (*currency, gross)));
            settlement
                .rounding
                .extend(rounding.map(|rounding| (*currency, rounding)));
        }
    }
    Ok(())
}

/// A settlement with all that belongs to it.
pub(crate) async fn read_settlement<S: Session>(
    session: &mut S,
    id: SettlementId,
) -> Result<Option<SettlementRow>, StoreError> {
    let key = Rows::one(cells![id.uuid()]);
    let mut rows = session
        .fetch(&sql::SETTLEMENT, key, registry::read_settlement)
        .await?;
    complete(session, &mut rows).await?;
    Ok(rows.pop())
}

/// Whether a transaction was made by this partner, or moves its money or points.
fn concerns(transaction: &Transaction, partner: PartnerId) -> bool {
    use coalition_ledger::account::Account;
    let party = Party::Partner(partner);
    let names = |account| match account {
        Account::Issued(of)
        | Account::Pending(_, of)
        | Account::Available(_, of)
        | Account::Held(_, of)
        | Account::Debt(_, of)
        | Account::Redeemed(of)
        | Account::Expired(of)
        | Account::Position(of, _)
        | Account::Funds(of) => of == party,
        Account::Operator => false,
    };
    let moves = |transfer: &coalition_ledger::account::Transfer| {
        names(transfer.debit) || names(transfer.credit)
    };
    transaction.partner == party || transaction.posting.transfers.iter().any(moves)
}

#[async_trait]
impl<E: Engine> Reader for E {
    async fn due_members(&self, now: Timestamp, limit: i64) -> Result<Vec<MemberId>, StoreError> {
        ask(
            self,
            &sql::DUE_MEMBERS,
            Rows::one(cells![now, limit]),
            books::read_member_id,
        )
        .await
    }

    async fn network(&self) -> Result<Network, StoreError> {
        let mut session = self.snapshot().await?;
        let network = read_network(&mut session).await?;
        session.rollback().await?;
        network.ok_or_else(not_set_up)
    }

    async fn member_by_identifier(
        &self,
        hash: &IdentifierHash,
    ) -> Result<Option<MemberId>, StoreError> {
        let keys = std::iter::once(books::identifier_key(hash)).collect();
        let found = ask_one(self, &sql::IDENTIFIERS, keys, books::read_identifier).await?;
        Ok(found.map(|identifier| identifier.member))
    }

    async fn member(&self, id: MemberId) -> Result<Option<MemberView>, StoreError> {
        let keys = || std::iter::once(cells![id.uuid()]).collect::<Rows>();
        let mut session = self.snapshot().await?;
        let member = fetch_one(&mut session, &sql::MEMBERS, keys(), books::read_member).await?;
        let Some(member) = member else {
            session.rollback().await?;
            return Ok(None);
        };
        let mut book = member.book;
        let lots = session
            .fetch(&sql::MEMBER_LOTS, keys(), books::read_lot)
            .await?;
        let debts = session.fetch(&sql::DEBTS, keys(), books::read_debt).await?;
        let identifiers = session.fetch(&sql::MEMBER_IDENTIFIERS, keys(), books::read_identifier);
        let identifiers = identifiers.await?;
        session.rollback().await?;
        book.lots = lots.into_iter().map(|(_, lot)| (lot.id, lot)).collect();
        book.known = Known::All;
        book.debts = debts
            .into_iter()
            .map(|debt| (debt.issuer, debt.points))
            .collect();
        let identifiers = identifiers
            .into_iter()
            .map(|found| found.identifier)
            .collect();
        Ok(Some(MemberView { book, identifiers }))
    }

    async fn transaction(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        let keys = std::iter::once(cells![id.uuid()]).collect();
        ask_one(self, &sql::TRANSACTIONS, keys, books::read_transaction).await
    }

    async fn request(&self, key: RequestKey) -> Result<Option<RequestRecord>, StoreError> {
        let keys = std::iter::once(books::request_key(&key)).collect();
        ask_one(self, &sql::REQUESTS, keys, books::read_request).await
    }

    async fn activity(
        &self,
        member: MemberId,
        partner: Option<PartnerId>,
        before: Option<TransactionId>,
        limit: i64,
    ) -> Result<Vec<Transaction>, StoreError> {
        if limit <= 0 {
            return Ok(Vec::new());
        }
        let mut session = self.ask().await?;
        let found = read_activity(&mut session, member, partner, before, limit).await?;
        session.rollback().await?;
        Ok(found)
    }

    async fn open_window(&self) -> Result<Window, StoreError> {
        let window = ask_one(self, &sql::OPEN_WINDOW, Rows::none(), registry::read_window).await?;
        window.ok_or_else(not_set_up)
    }

    async fn window(&self, id: WindowId) -> Result<Option<Window>, StoreError> {
        let keys = std::iter::once(cells![id.uuid()]).collect();
        ask_one(self, &sql::WINDOWS, keys, registry::read_window).await
    }

    async fn windows(&self, below: Option<i64>, limit: i64) -> Result<Vec<Window>, StoreError> {
        ask(
            self,
            &sql::WINDOW_PAGE,
            Rows::one(cells![below, limit]),
            registry::read_window,
        )
        .await
    }

    async fn totals(&self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError> {
        let keys = std::iter::once(cells![window.uuid()]).collect();
        let totals = ask(self, &sql::TOTALS, keys, books::read_window_total).await?;
        let mut totals: Vec<_> = totals.into_iter().map(|(_, key, sum)| (key, sum)).collect();
        books::sort_totals(&mut totals);
        Ok(totals)
    }

    async fn posting_counts(
        &self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, i64)>, StoreError> {
        let keys = windows
            .iter()
            .map(|id| cells![id.uuid(), Measure::Postings.code()])
            .collect();
        let totals = ask(
            self,
            &sql::TOTALS_OF_MEASURE,
            keys,
            books::read_window_total,
        )
        .await?;
        Ok(totals
            .into_iter()
            .map(|(window, _, count)| (window, count))
            .collect())
    }

    async fn postings(
        &self,
        filter: PostingFilter,
        after: Option<TransactionId>,
        limit: i64,
    ) -> Result<PostingPage, StoreError> {
        let mut session = self.ask().await?;
        let found = read_postings(&mut session, filter, after, limit).await?;
        session.rollback().await?;
        Ok(found)
    }

    async fn positions(
        &self,
        party: Option<Party>,
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        let key = Rows::one(cells![party.map(Party::uuid)]);
        let mut positions = ask(self, &sql::POSITIONS_OF, key, books::read_position).await?;
        books::sort_positions(&mut positions);
        Ok(positions)
    }

    async fn rulebook(&self) -> Result<Rulebook, StoreError> {
        let mut session = self.snapshot().await?;
        let rulebook = read_rulebook(&mut session).await?;
        session.rollback().await?;
        Ok(rulebook)
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRow>, StoreError> {
        ask_one(
            self,
            &sql::PARTNER,
            Rows::one(cells![id.uuid()]),
            registry::read_partner,
        )
        .await
    }

    async fn partner_by_code(&self, code: &str) -> Result<Option<PartnerRow>, StoreError> {
        ask_one(
            self,
            &sql::PARTNER_BY_CODE,
            Rows::one(cells![code]),
            registry::read_partner,
        )
        .await
    }

    async fn partners(
        &self,
        after: Option<PartnerId>,
        limit: i64,
    ) -> Result<Vec<PartnerRow>, StoreError> {
        let arguments = Rows::one(cells![after.map_or(Uuid::nil(), PartnerId::uuid), limit]);
        ask(self, &sql::PARTNER_PAGE, arguments, registry::read_partner).await
    }

    async fn agreement(&self, id: AgreementId) -> Result<Option<AgreementRow>, StoreError> {
        ask_one(
            self,
            &sql::AGREEMENT,
            Rows::one(cells![id.uuid()]),
            registry::read_agreement,
        )
        .await
    }

    async fn agreements(
        &self,
        partner: Option<PartnerId>,
        before: Option<AgreementId>,
        limit: i64,
    ) -> Result<Vec<AgreementRow>, StoreError> {
        let before = before.map_or(Uuid::max(), AgreementId::uuid);
        let page = Rows::one(cells![before, partner.map(PartnerId::uuid), limit]);
        ask(self, &sql::AGREEMENT_PAGE, page, registry::read_agreement).await
    }

    async fn settlement(&self, id: SettlementId) -> Result<Option<SettlementRow>, StoreError> {
        let mut session = self.snapshot().await?;
        let settlement = read_settlement(&mut session, id).await?;
        session.rollback().await?;
        Ok(settlement)
    }

    async fn settlements(
        &self,
        before: Option<SettlementId>,
        limit: i64,
    ) -> Result<Vec<SettlementRow>, StoreError> {
        let page = Rows::one(cells![
            before.map_or(Uuid::max(), SettlementId::uuid),
            limit
        ]);
        let mut session = self.snapshot().await?;
        let mut rows = session
            .fetch(&sql::SETTLEMENT_PAGE, page, registry::read_settlement)
            .await?;
        complete(&mut session, &mut rows).await?;
        session.rollback().await?;
        Ok(rows)
    }

    async fn trial_sums(&self) -> Result<TrialSums, StoreError> {
        let mut session = self.snapshot().await?;
        let mut totals = session
            .fetch(&sql::ALL_TOTALS, Rows::none(), books::read_total)
            .await?;
        let mut holdings = session
            .fetch(&sql::HOLDINGS, Rows::none(), books::read_holding)
            .await?;
        let everybody = Rows::one(cells![None::<Uuid>]);
        let mut positions = session
            .fetch(&sql::POSITIONS_OF, everybody, books::read_position)
            .await?;
        session.rollback().await?;
        books::sort_totals(&mut totals);
        holdings.sort_by_key(|(party, _)| *party);
        books::sort_positions(&mut positions);
        Ok(TrialSums {
            totals,
            holdings,
            positions,
        })
    }
}
