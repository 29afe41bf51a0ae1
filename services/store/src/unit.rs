//! A unit of work, for both engines: one question, one statement; [`writing`] puts what a batch changed
//! into as few as it can.
//!
//! One thing here is not in the caller's words: the chain. Each transaction of a member names the
//! one before it, and the member's row names the last, so that a member's history can be read
//! latest first without an index that every posting would have to pay for. A unit learns the end of
//! a member's chain with the member's row, links new transactions to it, and moves it with the row;
//! what is left to move at the commit moves there, under the same version. Batches leave nothing: they
//! write the row of every member who has a new transaction, declined or not, all in one order.
//! Likewise the span of a window's ids: the first unit in a window writes where it begins.

mod writing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use coalition_ledger::command::{CheckKey, IdentifierHash, RequestKey};
use coalition_ledger::ids::{
    AgreementId, LotId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::money::Currency;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Effects, Measure, Position, RequestRecord, TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use tokio::time::Instant;

use crate::codec::books::StoredMember;
use crate::codec::{Coded, Rows, books, cells, registry};
use crate::durable::Durable;
use crate::error::StoreError;
use crate::model::{AgreementRow, AgreementState, PartnerRow, SettlementRow, Window, WindowState};
use crate::reader::read_settlement;
use crate::session::{OnRows, Session, fetch_one, write_all};
use crate::standing::{Standing, Stood};
use crate::statements as sql;
use crate::store::Hold;
use crate::traits::{Frame, LotDemand, Traces, Unit, WindowLock};

/// What this unit knows of a member's row: the end of the member's chain of transactions, and more.
#[derive(Debug)]
struct Tail {
    /// The version of the member's row, counted on with every change of this unit.
    version: i64,
    /// The member's last transaction.
    last: Option<TransactionId>,
    /// Whether the member's row does not say so yet.
    moved: bool,
    /// When the row says that the sweep has work.
    due: Option<Timestamp>,
}

/// How a unit stands to the open window.
enum Held {
    /// It holds the window, which is let go after the session has ended, or as it is dropped.
    Now { _hold: Hold },
    /// It has not begun its transaction, and takes this to be what it stands in.
    Deferred(Frame, Arc<Standing>),
    /// It held the window for one call of the database, which committed all that there was to write.
    Before,
    /// That call came to another end: there is nothing left to commit, whatever was.
    Lost,
}

/// A database transaction at work.
pub(crate) struct Work<S> {
    session: S,
    held: Held,
    tails: HashMap<MemberId, Tail>,
    /// Where the ids of windows begin, as the database has it or as this unit makes it; and whether
    /// the window's row does not say so yet.
    firsts: BTreeMap<WindowId, (TransactionId, bool)>,
}

impl<S: Session> Work<S> {
    /// Work by someone who holds the window.
    pub(crate) fn holding(session: S, hold: Hold, stood: Stood) -> Self {
        Self::new(session, Held::Now { _hold: hold }, stood)
    }

    /// Work by someone who takes this to be what it stands in until it writes, or asks.
    pub(crate) fn deferred(session: S, standing: Arc<Standing>, stood: Stood) -> Self {
        Self::new(session, Held::Deferred(stood.0, standing), stood)
    }

    fn new(session: S, held: Held, (frame, first): Stood) -> Self {
        let first = first.map(|first| (frame.window, (first, false)));
        Self {
            session,
            held,
            tails: HashMap::new(),
            firsts: first.into_iter().collect(),
        }
    }

    /// What it stands in by now, if that is what it was told.
    fn same(&mut self, found: Option<Stood>, told: Frame) -> Result<Stood, StoreError> {
        let found = found.ok_or_else(not_set_up)?;
        if let Held::Deferred(_, standing) = &self.held {
            standing.set(Some(found));
        }
        if found.0 == told {
            Ok(found)
        } else {
            Err(StoreError::Conflict)
        }
    }

    /// Takes the window after all, in a transaction, of someone who deferred that.
    async fn hold(&mut self) -> Result<(), StoreError> {
        let told = match self.held {
            Held::Now { .. } => return Ok(()),
            Held::Deferred(told, _) => told,
            // It can do nothing more under the window that it held.
            Held::Before | Held::Lost => return Err(StoreError::Conflict),
        };
        let asked = Instant::now();
        let found = self.session.hold_asking(&sql::FRAME, registry::read_frame);
        let found = found.await?;
        let hold = Hold::begin(WindowLock::Shared, asked);
        let (_, first) = self.same(found, told)?;
        self.held = Held::Now { _hold: hold };
        // A first transaction of the window may have come meanwhile.
        if let Some(first) = first {
            let known = self.firsts.get(&told.window);
            if known.is_none_or(|(known, _)| first <= *known) {
                self.firsts.insert(told.window, (first, false));
            }
        }
        Ok(())
    }

    /// Whether the unit would leave something to write beyond what its rows say.
    fn leaves_nothing(&self) -> bool {
        let all_moved = self.tails.values().all(|tail| !tail.moved);
        all_moved && self.firsts.values().all(|(_, is_new)| !is_new)
    }

    async fn fetch_members(&mut self, rows: Rows) -> Result<Vec<MemberBook>, StoreError> {
        let read = books::read_member;
        let members = self.session.fetch(&sql::MEMBERS, rows, read).await?;
        Ok(self.learn(members))
    }

    /// Keeps what is to be known of members' rows.
    fn learn(&mut self, members: Vec<StoredMember>) -> Vec<MemberBook> {
        let keep = |StoredMember { book, last }| {
            let tail = Tail {
                version: book.version,
                last,
                moved: false,
                due: book.due_at(),
            };
            // A unit that has linked to it since knows better.
            if !self.tails.get(&book.id).is_some_and(|known| known.moved) {
                self.tails.insert(book.id, tail);
            }
            book
        };
        members.into_iter().map(keep).collect()
    }

    /// Moves the ends of chains that no change of a member's row has moved.
    async fn move_tails(&mut self) -> Result<(), StoreError> {
        let mut moved: Vec<_> = self.tails.iter().filter(|(_, tail)| tail.moved).collect();
        moved.sort_unstable_by_key(|(member, _)| **member);
        let row =
            |(member, tail): (&MemberId, &Tail)| books::tail_row(*member, tail.version, tail.last);
        let rows = moved.into_iter().map(row).collect();
        write_all(&mut self.session, &sql::UPDATE_TAILS, rows).await
    }

    /// Widens the spans of windows to what was added; none but the first units of a window do. Last of
    /// all, so that they wait for each other with nothing left to do but the commit.
    async fn widen_spans(&mut self) -> Result<(), StoreError> {
        for (window, (first, is_new)) in &self.firsts {
            if *is_new {
                let span = Rows::one(cells![window.uuid(), first.uuid()]);
                // Nothing is written where another was earlier still.
                self.session.execute(&sql::BEGIN_SPAN, span).await?;
            }
        }
        Ok(())
    }

    async fn fetch_totals(
        &mut self,
        statement: &'static sql::Statement,
        rows: Rows,
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError> {
        let read = books::read_window_total;
        let mut totals = self.session.fetch(statement, rows, read).await?;
        totals.sort_by_key(|(window, key, _)| (*window, *key));
        Ok(totals)
    }

    async fn move_rulebook(&mut self) -> Result<(), StoreError> {
        write_one(&mut self.session, &sql::NEXT_EDITION, Rows::none()).await
    }
}

/// Runs a statement that must write exactly one row.
async fn write_one<S: Session>(
    session: &mut S,
    statement: &'static sql::Statement,
    arguments: Rows,
) -> Result<(), StoreError> {
    match session.execute(statement, arguments).await? {
        1 => Ok(()),
        _ => Err(StoreError::Conflict),
    }
}

/// The rulebook, read in one session so that its parts agree.
pub(crate) async fn read_rulebook<S: Session>(session: &mut S) -> Result<Rulebook, StoreError> {
    let frame = fetch_one(session, &sql::FRAME, Rows::none(), registry::read_frame).await?;
    let (frame, _) = frame.ok_or_else(not_set_up)?;
    let face_values = session
        .fetch(&sql::FACE_VALUES, Rows::none(), registry::read_face_value)
        .await?;
    let partners = session.fetch(
        &sql::RULEBOOK_PARTNERS,
        Rows::none(),
        registry::read_rulebook_partner,
    );
    let partners = partners.await?;
    let agreements = session.fetch(
        &sql::RULEBOOK_AGREEMENTS,
        Rows::none(),
        registry::read_rulebook_agreement,
    );
    Ok(Rulebook::new(
        frame.rulebook_version,
        face_values,
        partners,
        agreements.await?,
    ))
}

/// The answer where the network's row or its open window is missing.
pub(crate) fn not_set_up() -> StoreError {
    StoreError::Unsuitable("the database holds no network; run `coalition migrate`".into())
}

#[async_trait]
impl<S: Session> Unit for Work<S> {
    async fn confirm(&mut self) -> Result<(), StoreError> {
        let Held::Deferred(told, _) = self.held else {
            return Ok(());
        };
        let read = registry::read_frame;
        let found = fetch_one(&mut self.session, &sql::FRAME, Rows::none(), read).await?;
        self.same(found, told).map(|_| ())
    }

    async fn rulebook(&mut self) -> Result<Rulebook, StoreError> {
        // Its parts agree while nobody can change it.
        self.hold().await?;
        read_rulebook(&mut self.session).await
    }

    async fn requests(&mut self, keys: &[RequestKey]) -> Result<Vec<RequestRecord>, StoreError> {
        let rows = keys.iter().map(books::request_key).collect();
        self.session
            .fetch(&sql::REQUESTS, rows, books::read_request)
            .await
    }

    async fn checks(&mut self, keys: &[CheckKey]) -> Result<Vec<CheckRecord>, StoreError> {
        let rows = keys.iter().map(books::check_key).collect();
        self.session
            .fetch(&sql::CHECKS, rows, books::read_check)
            .await
    }

    async fn identifiers(
        &mut self,
        hashes: &[IdentifierHash],
    ) -> Result<Vec<(IdentifierHash, MemberId)>, StoreError> {
        let rows = hashes.iter().map(books::identifier_key).collect();
        let found = self
            .session
            .fetch(&sql::IDENTIFIERS, rows, books::read_identifier)
            .await?;
        Ok(found
            .into_iter()
            .map(|found| (found.identifier.hash, found.member))
            .collect())
    }

    async fn transactions(
        &mut self,
        ids: &[TransactionId],
    ) -> Result<Vec<Transaction>, StoreError> {
        let rows = ids.iter().map(|id| cells![id.uuid()]).collect();
        self.session
            .fetch(&sql::TRANSACTIONS, rows, books::read_transaction)
            .await
    }

    async fn members_asking(
        &mut self,
        ids: &[MemberId],
        requests: &[RequestKey],
        checks: &[CheckKey],
    ) -> Result<(Vec<MemberBook>, Traces), StoreError> {
        let rows = ids.iter().map(|id| cells![id.uuid()]).collect();
        let others = vec![
            OnRows {
                statement: &sql::REQUESTS,
                rows: requests.iter().map(books::request_key).collect(),
            },
            OnRows {
                statement: &sql::CHECKS,
                rows: checks.iter().map(books::check_key).collect(),
            },
        ];
        let read = books::read_member;
        let asked = self.session.fetch_asking(&sql::MEMBERS, rows, read, others);
        let (members, answers) = asked.await?;
        let traces = match answers[..] {
            [requests, checks] => Traces { requests, checks },
            _ => Traces::UNKNOWN,
        };
        Ok((self.learn(members), traces))
    }

    async fn live_lots(
        &mut self,
        demands: &[LotDemand],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError> {
        let mut limits: Vec<i64> = demands.iter().map(|demand| demand.limit).collect();
        limits.sort_unstable();
        limits.dedup();
        let mut lots = Vec::new();
        for limit in limits {
            let demands = demands.iter().filter(|demand| demand.limit == limit);
            let rows: Rows = demands.map(|demand| cells![demand.member.uuid()]).collect();
            let rows = rows.and_last(limit.max(0).into());
            lots.extend(
                self.session
                    .fetch(S::LIVE_LOTS, rows, books::read_lot)
                    .await?,
            );
        }
        Ok(lots)
    }

    async fn lots(
        &mut self,
        keys: &[(LotId, MemberId)],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError> {
        let rows = keys.iter().map(books::lot_key).collect();
        self.session.fetch(&sql::LOTS, rows, books::read_lot).await
    }

    async fn debts(&mut self, members: &[MemberId]) -> Result<Vec<DebtRecord>, StoreError> {
        let rows = members.iter().map(|member| cells![member.uuid()]).collect();
        self.session
            .fetch(&sql::DEBTS, rows, books::read_debt)
            .await
    }

    async fn positions(
        &mut self,
        keys: &[(Party, Currency)],
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        let rows = keys.iter().map(books::position_key).collect();
        self.session
            .fetch(&sql::POSITIONS, rows, books::read_position)
            .await
    }

    async fn due_members(
        &mut self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<MemberId>, StoreError> {
        let arguments = Rows::one(cells![now, limit]);
        self.session
            .fetch(&sql::DUE_MEMBERS, arguments, books::read_member_id)
            .await
    }

    async fn write(
        &mut self,
        window: WindowId,
        now: Timestamp,
        effects: &Effects,
    ) -> Result<(), StoreError> {
        self.write_effects(window, now, effects).await
    }

    async fn remember(&mut self, request: &RequestRecord) -> Result<(), StoreError> {
        self.hold().await?;
        let row = Rows::one(books::request_row(request));
        write_all(&mut self.session, &sql::INSERT_REQUESTS, row).await
    }

    async fn windows(&mut self, ids: &[WindowId]) -> Result<Vec<Window>, StoreError> {
        let rows = ids.iter().map(|id| cells![id.uuid()]).collect();
        self.session
            .fetch(&sql::WINDOWS, rows, registry::read_window)
            .await
    }

    async fn window_by_number(&mut self, number: i64) -> Result<Option<Window>, StoreError> {
        let key = Rows::one(cells![number]);
        fetch_one(
            &mut self.session,
            &sql::WINDOW_BY_NUMBER,
            key,
            registry::read_window,
        )
        .await
    }

    async fn totals(
        &mut self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError> {
        let rows = windows.iter().map(|id| cells![id.uuid()]).collect();
        self.fetch_totals(&sql::TOTALS, rows).await
    }

    async fn flows(
        &mut self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError> {
        let flow = Measure::Flow.code();
        let rows = windows.iter().map(|id| cells![id.uuid(), flow]).collect();
        self.fetch_totals(&sql::TOTALS_OF_MEASURE, rows).await
    }

    async fn last_transaction(&mut self) -> Result<Option<TransactionId>, StoreError> {
        let read = books::read_transaction_id;
        fetch_one(
            &mut self.session,
            &sql::LAST_TRANSACTION,
            Rows::none(),
            read,
        )
        .await
    }

    async fn turn_window(&mut self, closed: &Window, opened: &Window) -> Result<(), StoreError> {
        self.hold().await?;
        let closing = Rows::one(registry::window_closing(closed));
        write_one(&mut self.session, &sql::CLOSE_WINDOW, closing).await?;
        let opening = Rows::one(registry::window_row(opened));
        write_one(&mut self.session, &sql::INSERT_WINDOWS, opening).await
    }

    async fn move_windows(
        &mut self,
        ids: &[WindowId],
        from: WindowState,
        to: WindowState,
    ) -> Result<(), StoreError> {
        self.hold().await?;
        let rows = ids
            .iter()
            .map(|id| cells![id.uuid(), from.number(), to.number()])
            .collect();
        write_all(&mut self.session, &sql::MOVE_WINDOWS, rows).await
    }

    async fn insert_settlement(&mut self, row: &SettlementRow) -> Result<(), StoreError> {
        self.hold().await?;
        let session = &mut self.session;
        let settlement = Rows::one(registry::settlement_row(row));
        write_one(session, &sql::INSERT_SETTLEMENTS, settlement).await?;
        let windows = (0_i32..).zip(&row.windows);
        let windows =
            windows.map(|(place, id)| registry::settlement_window_row(row.id, place, *id));
        write_all(session, &sql::INSERT_SETTLEMENT_WINDOWS, windows.collect()).await?;
        let positions = row
            .positions
            .iter()
            .map(|p| registry::settlement_position_row(row.id, p));
        write_all(
            session,
            &sql::INSERT_SETTLEMENT_POSITIONS,
            positions.collect(),
        )
        .await?;
        let obligations = row
            .obligations
            .iter()
            .map(|o| registry::obligation_row(row.id, o));
        write_all(
            session,
            &sql::INSERT_SETTLEMENT_OBLIGATIONS,
            obligations.collect(),
        )
        .await?;
        let currencies = registry::settlement_currency_rows(row)
            .into_iter()
            .collect();
        write_all(session, &sql::INSERT_SETTLEMENT_CURRENCIES, currencies).await
    }

    async fn settlement_of(
        &mut self,
        window: WindowId,
    ) -> Result<Option<SettlementId>, StoreError> {
        let key = Rows::one(cells![window.uuid()]);
        fetch_one(
            &mut self.session,
            &sql::SETTLEMENT_OF,
            key,
            registry::read_settlement_id,
        )
        .await
    }

    async fn settlement(&mut self, id: SettlementId) -> Result<Option<SettlementRow>, StoreError> {
        read_settlement(&mut self.session, id).await
    }

    async fn partner(&mut self, id: PartnerId) -> Result<Option<PartnerRow>, StoreError> {
        let key = Rows::one(cells![id.uuid()]);
        fetch_one(
            &mut self.session,
            &sql::PARTNER,
            key,
            registry::read_partner,
        )
        .await
    }

    async fn insert_partner(&mut self, row: &PartnerRow) -> Result<(), StoreError> {
        self.hold().await?;
        let partner = Rows::one(registry::partner_row(row));
        write_one(&mut self.session, &sql::INSERT_PARTNERS, partner).await?;
        self.move_rulebook().await
    }

    async fn insert_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError> {
        self.hold().await?;
        let agreement = Rows::one(registry::agreement_row(row)?);
        write_one(&mut self.session, &sql::INSERT_AGREEMENTS, agreement).await
    }

    async fn accept_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError> {
        self.hold().await?;
        let acceptance = Rows::one(registry::acceptance(row));
        write_one(&mut self.session, &sql::ACCEPT_AGREEMENT, acceptance).await?;
        match row.state {
            AgreementState::Proposed => Ok(()),
            AgreementState::Accepted => self.move_rulebook().await,
        }
    }

    async fn agreement(&mut self, id: AgreementId) -> Result<Option<AgreementRow>, StoreError> {
        let key = Rows::one(cells![id.uuid()]);
        fetch_one(
            &mut self.session,
            &sql::AGREEMENT,
            key,
            registry::read_agreement,
        )
        .await
    }

    async fn agreement_versions(
        &mut self,
        partner: PartnerId,
        counterparty: Option<PartnerId>,
    ) -> Result<i32, StoreError> {
        let key = Rows::one(cells![partner.uuid(), counterparty.map(PartnerId::uuid)]);
        let read = books::read_count;
        let count = fetch_one(&mut self.session, &sql::AGREEMENT_VERSIONS, key, read).await?;
        i32::try_from(count.unwrap_or(0))
            .map_err(|_| StoreError::Damaged("more agreement versions than can be counted".into()))
    }

    async fn partner_by_code(&mut self, code: &str) -> Result<Option<PartnerId>, StoreError> {
        let key = Rows::one(cells![code]);
        let partner = fetch_one(
            &mut self.session,
            &sql::PARTNER_BY_CODE,
            key,
            registry::read_partner,
        );
        Ok(partner.await?.map(|partner| partner.id))
    }

    async fn set_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.hold().await?;
        write_one(&mut self.session, &sql::SET_CLOCK, Rows::one(cells![now])).await
    }

    async fn commit_ahead(mut self: Box<Self>) -> Result<Durable, StoreError> {
        match self.held {
            Held::Now { .. } => {}
            Held::Deferred(..) => {
                self.confirm().await?;
                return self.session.rollback().await.map(|()| Durable::already());
            }
            Held::Before => return Ok(Durable::already()),
            Held::Lost => {
                self.session.rollback().await?;
                return Err(StoreError::Conflict);
            }
        }
        let ended = match self.move_tails().await {
            Ok(()) => self.widen_spans().await,
            failed => failed,
        };
        if let Err(error) = ended {
            self.session.rollback().await?;
            return Err(error);
        }
        self.session.commit_ahead().await
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        self.session.rollback().await
    }
}
