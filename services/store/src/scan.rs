//! Everything as of one instant, for both engines: what `verify` reads.

use async_trait::async_trait;
use coalition_ledger::ids::{LotId, MemberId, Party, TransactionId, WindowId};
use coalition_ledger::member::MemberBook;
use coalition_ledger::money::Currency;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{DebtRecord, Position, TotalKey};
use coalition_ledger::transaction::Transaction;
use uuid::Uuid;

use crate::codec::{Rows, books, cells, registry};
use crate::error::StoreError;
use crate::model::{ScannedLot, Window};
use crate::session::{Session, fetch_one};
use crate::statements as sql;
use crate::traits::Scan;
use crate::unit::read_rulebook;

/// A session that sees everything as of one instant.
pub(crate) struct Picture<S> {
    session: S,
    /// The last transaction that could be read, and the last that was passed: where rows at the end
    /// of a page cannot be read, the next page begins behind them all the same.
    passed: (Option<TransactionId>, Option<TransactionId>),
}

impl<S: Session> Picture<S> {
    pub(crate) fn new(session: S) -> Self {
        Self {
            session,
            passed: (None, None),
        }
    }
}

#[async_trait]
impl<S: Session> Scan for Picture<S> {
    async fn transaction_count(&mut self) -> Result<i64, StoreError> {
        let count = fetch_one(
            &mut self.session,
            &sql::TRANSACTION_COUNT,
            Rows::none(),
            books::read_count,
        );
        Ok(count.await?.unwrap_or(0))
    }

    async fn transactions(
        &mut self,
        after: Option<TransactionId>,
        limit: i64,
    ) -> Result<(Vec<Transaction>, Vec<TransactionId>), StoreError> {
        let mut from = if self.passed.0 == after {
            self.passed.1
        } else {
            after
        };
        let (mut transactions, mut damaged) = (Vec::new(), Vec::new());
        while transactions.is_empty() {
            let page = Rows::one(cells![from.map_or(Uuid::nil(), TransactionId::uuid), limit]);
            let read = books::read_scanned_transaction;
            let page = self
                .session
                .fetch(&sql::TRANSACTION_PAGE, page, read)
                .await?;
            let Some((last, _)) = page.last() else { break };
            from = Some(*last);
            for (id, stored) in page {
                let is_intact = stored.as_ref().and_then(|stored| stored.is_intact);
                if is_intact != Some(true) {
                    damaged.push(id);
                }
                transactions.extend(stored.map(|stored| stored.transaction));
            }
        }
        if let Some(last) = transactions
            .last()
            .map(|transaction: &Transaction| transaction.id)
        {
            self.passed = (Some(last), from);
        }
        Ok((transactions, damaged))
    }

    async fn lots(
        &mut self,
        after: Option<LotId>,
        limit: i64,
    ) -> Result<Vec<ScannedLot>, StoreError> {
        let page = Rows::one(cells![after.map_or(Uuid::nil(), LotId::uuid), limit]);
        self.session
            .fetch(&sql::LOT_PAGE, page, books::read_scanned_lot)
            .await
    }

    async fn members(
        &mut self,
        after: Option<MemberId>,
        limit: i64,
    ) -> Result<Vec<MemberBook>, StoreError> {
        let page = Rows::one(cells![after.map_or(Uuid::nil(), MemberId::uuid), limit]);
        let members = self
            .session
            .fetch(&sql::MEMBER_PAGE, page, books::read_member)
            .await?;
        Ok(members.into_iter().map(|member| member.book).collect())
    }

    async fn debts(&mut self) -> Result<Vec<DebtRecord>, StoreError> {
        self.session
            .fetch(&sql::ALL_DEBTS, Rows::none(), books::read_debt)
            .await
    }

    async fn windows(&mut self) -> Result<Vec<Window>, StoreError> {
        self.session
            .fetch(&sql::ALL_WINDOWS, Rows::none(), registry::read_window)
            .await
    }

    async fn totals(&mut self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError> {
        let keys = std::iter::once(cells![window.uuid()]).collect();
        let totals = self
            .session
            .fetch(&sql::TOTALS, keys, books::read_window_total)
            .await?;
        let mut totals: Vec<_> = totals.into_iter().map(|(_, key, sum)| (key, sum)).collect();
        books::sort_totals(&mut totals);
        Ok(totals)
    }

    async fn positions(&mut self) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        let all = Rows::one(cells![None::<Uuid>]);
        let mut positions = self
            .session
            .fetch(&sql::POSITIONS_OF, all, books::read_position)
            .await?;
        books::sort_positions(&mut positions);
        Ok(positions)
    }

    async fn rulebook(&mut self) -> Result<Rulebook, StoreError> {
        read_rulebook(&mut self.session).await
    }
}
