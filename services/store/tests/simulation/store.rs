//! The database in memory as a process holds it: what the poster and the operations call a store.

use std::sync::Arc;

use async_trait::async_trait;
use coalition_ledger::command::{IdentifierHash, RequestKey};
use coalition_ledger::ids::{
    AgreementId, LotId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::MemberBook;
use coalition_ledger::money::Currency;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{DebtRecord, Position, RequestRecord, TotalKey};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use coalition_store::model::{
    AgreementRow, KeyFingerprint, MemberView, Network, NetworkTerms, PartnerRow, PostingFilter,
    PostingPage, ScannedLot, SettlementRow, TrialSums, Window,
};
use coalition_store::{Frame, Reader, Scan, Store, StoreError, Unit, WindowLock};

use super::database::Tables;
use super::sim::{Planted, Process, unavailable};
use super::unit::due;
use super::work::SimUnit;

/// What units of no number see: what is committed.
const NOBODY: u64 = 0;

/// A process's way to the database.
pub(crate) struct SimStore {
    pub(crate) process: Arc<Process>,
}

impl SimStore {
    async fn ask<T>(&self, what: &str, read: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        self.process.turn().await;
        let mut state = self.process.sim.state();
        let weather = state.weather;
        if state.chance(weather.refused) {
            state.note(|| format!("p{} asks for {what}: unavailable", self.process.number));
            return Err(unavailable());
        }
        Ok(read(&state.db.tables))
    }
}

#[async_trait]
impl Store for SimStore {
    async fn migrate(&self, _: &NetworkTerms, _: Timestamp) -> Result<Network, StoreError> {
        not_simulated()
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        not_simulated()
    }

    async fn attach(&self, _: &KeyFingerprint) -> Result<Network, StoreError> {
        not_simulated()
    }

    async fn begin(&self, lock: WindowLock) -> Result<(Box<dyn Unit>, Frame), StoreError> {
        let process = &self.process;
        process.turn().await;
        let (id, early) = {
            let mut state = process.sim.state();
            let weather = state.weather;
            if state.chance(weather.refused) {
                state.note(|| format!("p{} cannot begin", process.number));
                return Err(unavailable());
            }
            let early = state.db.tables.frame();
            let id = state.db.begin(process.number);
            (id, early)
        };
        // From here on the unit is ended wherever this stops.
        let mut unit = SimUnit::new(Arc::clone(process), id, early);
        if lock == WindowLock::Deferred
            && let Some(frame) = process.stood()
        {
            unit.defers(frame);
            return Ok((Box::new(unit), frame));
        }
        unit.take_window(lock).await;
        let is_early = process.sim.has(Planted::WindowBeforeLock);
        let frame = unit.stands(is_early.then_some(early));
        process.stand(frame, lock);
        Ok((Box::new(unit), frame))
    }

    fn reader(&self) -> &dyn Reader {
        self
    }

    async fn scan(&self) -> Result<Box<dyn Scan>, StoreError> {
        let tables = self.process.sim.state().db.tables.clone();
        Ok(Box::new(Picture(tables)))
    }

    async fn close(&self) {}
}

/// What the simulation has no use for.
fn not_simulated<T>() -> T {
    panic!("not simulated")
}

#[async_trait]
impl Reader for SimStore {
    async fn due_members(&self, now: Timestamp, limit: i64) -> Result<Vec<MemberId>, StoreError> {
        self.ask("due members", |tables| {
            due(tables.members.committed().values(), now, limit)
        })
        .await
    }

    async fn network(&self) -> Result<Network, StoreError> {
        self.ask("the network", |tables| tables.network().clone())
            .await
    }

    async fn member_by_identifier(
        &self,
        _: &IdentifierHash,
    ) -> Result<Option<MemberId>, StoreError> {
        not_simulated()
    }

    async fn member(&self, _: MemberId) -> Result<Option<MemberView>, StoreError> {
        not_simulated()
    }

    async fn transaction(&self, _: TransactionId) -> Result<Option<Transaction>, StoreError> {
        not_simulated()
    }

    async fn request(&self, key: RequestKey) -> Result<Option<RequestRecord>, StoreError> {
        self.ask("a request", |tables| {
            tables.requests.committed().get(&key).copied()
        })
        .await
    }

    async fn activity(
        &self,
        _: MemberId,
        _: Option<PartnerId>,
        _: Option<TransactionId>,
        _: i64,
    ) -> Result<Vec<Transaction>, StoreError> {
        not_simulated()
    }

    async fn open_window(&self) -> Result<Window, StoreError> {
        not_simulated()
    }

    async fn window(&self, _: WindowId) -> Result<Option<Window>, StoreError> {
        not_simulated()
    }

    async fn windows(&self, _: Option<i64>, _: i64) -> Result<Vec<Window>, StoreError> {
        not_simulated()
    }

    async fn totals(&self, _: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError> {
        not_simulated()
    }

    async fn posting_counts(&self, _: &[WindowId]) -> Result<Vec<(WindowId, i64)>, StoreError> {
        not_simulated()
    }

    async fn postings(
        &self,
        _: PostingFilter,
        _: Option<TransactionId>,
        _: i64,
    ) -> Result<PostingPage, StoreError> {
        not_simulated()
    }

    async fn positions(
        &self,
        _: Option<Party>,
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        not_simulated()
    }

    async fn rulebook(&self) -> Result<Rulebook, StoreError> {
        not_simulated()
    }

    async fn partner(&self, _: PartnerId) -> Result<Option<PartnerRow>, StoreError> {
        not_simulated()
    }

    async fn partner_by_code(&self, _: &str) -> Result<Option<PartnerRow>, StoreError> {
        not_simulated()
    }

    async fn partners(&self, _: Option<PartnerId>, _: i64) -> Result<Vec<PartnerRow>, StoreError> {
        not_simulated()
    }

    async fn agreement(&self, _: AgreementId) -> Result<Option<AgreementRow>, StoreError> {
        not_simulated()
    }

    async fn agreements(
        &self,
        _: Option<PartnerId>,
        _: Option<AgreementId>,
        _: i64,
    ) -> Result<Vec<AgreementRow>, StoreError> {
        not_simulated()
    }

    async fn settlement(&self, _: SettlementId) -> Result<Option<SettlementRow>, StoreError> {
        not_simulated()
    }

    async fn settlements(
        &self,
        _: Option<SettlementId>,
        _: i64,
    ) -> Result<Vec<SettlementRow>, StoreError> {
        not_simulated()
    }

    async fn trial_sums(&self) -> Result<TrialSums, StoreError> {
        not_simulated()
    }
}

/// Everything as of one instant.
struct Picture(Tables);

/// The rows of one page.
fn page<T>(rows: impl Iterator<Item = T>, limit: i64) -> Vec<T> {
    rows.take(usize::try_from(limit).unwrap_or(0)).collect()
}

#[async_trait]
impl Scan for Picture {
    async fn transaction_count(&mut self) -> Result<i64, StoreError> {
        let count = self.0.transactions.committed().len();
        Ok(i64::try_from(count).expect("few"))
    }

    async fn transactions(
        &mut self,
        after: Option<TransactionId>,
        limit: i64,
    ) -> Result<(Vec<Transaction>, Vec<TransactionId>), StoreError> {
        let rows = self.0.transactions.committed().iter();
        let rows = rows.filter(|(id, _)| after.is_none_or(|after| **id > after));
        Ok((page(rows.map(|(_, row)| row.clone()), limit), Vec::new()))
    }

    async fn lots(
        &mut self,
        after: Option<LotId>,
        limit: i64,
    ) -> Result<Vec<ScannedLot>, StoreError> {
        let rows = self.0.lots.committed().iter();
        let rows = rows.filter(|(id, _)| after.is_none_or(|after| **id > after));
        let scanned = rows.map(|(_, (member, lot))| ScannedLot {
            member: *member,
            lot: *lot,
        });
        Ok(page(scanned, limit))
    }

    async fn members(
        &mut self,
        after: Option<MemberId>,
        limit: i64,
    ) -> Result<Vec<MemberBook>, StoreError> {
        let rows = self.0.members.committed().iter();
        let rows = rows.filter(|(id, _)| after.is_none_or(|after| **id > after));
        Ok(page(rows.map(|(_, row)| row.clone()), limit))
    }

    async fn debts(&mut self) -> Result<Vec<DebtRecord>, StoreError> {
        let rows = self.0.debts.committed().iter();
        let owed = rows.filter(|(_, points)| points.is_positive());
        Ok(owed
            .map(|((member, issuer), points)| DebtRecord {
                member: *member,
                issuer: *issuer,
                points: *points,
            })
            .collect())
    }

    async fn windows(&mut self) -> Result<Vec<Window>, StoreError> {
        let mut rows: Vec<_> = self.0.windows.committed().values().cloned().collect();
        rows.sort_by_key(|window| window.number);
        Ok(rows)
    }

    async fn totals(&mut self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError> {
        let rows = self.0.totals.committed().iter();
        let own = rows.filter(|((of, _), _)| *of == window);
        Ok(own.map(|((_, key), amount)| (*key, *amount)).collect())
    }

    async fn positions(&mut self) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        let rows = self.0.positions.committed().iter();
        Ok(rows.map(|(key, position)| (*key, *position)).collect())
    }

    async fn rulebook(&mut self) -> Result<Rulebook, StoreError> {
        Ok(self.0.rulebook(NOBODY))
    }
}
