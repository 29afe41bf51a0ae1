//! The statements of a unit of work, on the database in memory.

use async_trait::async_trait;
use coalition_ledger::command::{CheckKey, IdentifierHash, RequestKey};
use coalition_ledger::ids::{
    AgreementId, LotId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::money::{Currency, Micros, Points};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Effects, IdentifierRecord, MemberChange, OpenChange, Position,
    PositionChange, RequestRecord, TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use coalition_store::model::{
    AgreementRow, AgreementState, PartnerRow, SettlementRow, Window, WindowState,
};
use coalition_store::{Durable, LotDemand, StoreError, Traces, Unit};

use super::database::{Tables, in_force};
use super::work::{Judged, SimUnit, row_of};

/// A row that must not be there yet.
fn new_row<V>(row: V) -> impl FnOnce(Option<&V>) -> Judged<V> {
    move |known| known.is_none().then_some(Some(row))
}

/// A row that must be there.
fn known_row<V>(change: impl FnOnce(&V) -> V) -> impl FnOnce(Option<&V>) -> Judged<V> {
    move |known| known.map(|row| Some(change(row)))
}

/// A position after a change, if its floor and its funds hold.
fn moved(change: &PositionChange, row: Option<&Position>) -> Judged<Position> {
    let after = row.copied().unwrap_or_default().plus(&change.change).ok()?;
    let holds = change.floor.is_none_or(|floor| {
        let left = after.headroom(floor.limit, floor.net_inbound);
        left.is_ok_and(|left| left >= floor.at_least)
    });
    (holds && after.funds >= Micros::ZERO).then_some(Some(after))
}

/// The first `limit` lots with available points, and those with pending or held ones.
pub(crate) fn live(mut lots: Vec<Lot>, limit: i64) -> Vec<Lot> {
    lots.retain(Lot::is_live);
    lots.sort_by_key(|lot| (lot.expires_at, lot.id));
    let mut left = limit;
    lots.retain(|lot| {
        if lot.pending.is_positive() || lot.held.is_positive() {
            return true;
        }
        left -= 1;
        left >= 0
    });
    lots
}

/// Members with something due, the longest due first.
pub(crate) fn due<'a>(
    members: impl Iterator<Item = &'a MemberBook>,
    now: Timestamp,
    limit: i64,
) -> Vec<MemberId> {
    let mut due: Vec<(Timestamp, MemberId)> = members
        .filter_map(|book| Some((book.due_at()?, book.id)))
        .filter(|(at, _)| *at <= now)
        .collect();
    due.sort_unstable();
    let limit = usize::try_from(limit).unwrap_or(0);
    due.into_iter().take(limit).map(|(_, id)| id).collect()
}

/// What the simulation has no use for.
fn not_simulated<T>(what: &str) -> T {
    panic!("{what} is not simulated")
}

/// What [`Unit::write`] writes, kind by kind: between any two, others may be at work.
impl SimUnit {
    async fn insert_requests(&mut self, rows: &[RequestRecord]) -> Result<(), StoreError> {
        self.call("insert_requests", true).await?;
        for row in rows {
            self.put(|t| &mut t.requests, row.key, new_row(*row))
                .await?;
            self.wrote.requests.push(*row);
        }
        Ok(())
    }

    async fn insert_checks(&mut self, rows: &[CheckRecord]) -> Result<(), StoreError> {
        self.call("insert_checks", true).await?;
        for row in rows {
            let key = row.key.clone();
            self.put(|t| &mut t.checks, key, new_row(row.clone()))
                .await?;
        }
        Ok(())
    }

    async fn delete_checks(&mut self, keys: &[CheckKey]) -> Result<(), StoreError> {
        self.call("delete_checks", true).await?;
        for key in keys {
            let delete = |row: Option<&CheckRecord>| row.map(|_| None);
            self.put(|t| &mut t.checks, key.clone(), delete).await?;
        }
        Ok(())
    }

    async fn insert_members(&mut self, rows: &[MemberBook]) -> Result<(), StoreError> {
        self.call("insert_members", true).await?;
        for book in rows {
            let row = row_of(book, book.version);
            self.tails.insert(book.id, (book.version, false));
            self.put(|t| &mut t.members, book.id, new_row(row)).await?;
        }
        Ok(())
    }

    async fn insert_identifiers(&mut self, rows: &[IdentifierRecord]) -> Result<(), StoreError> {
        self.call("insert_identifiers", true).await?;
        for row in rows {
            let (hash, member) = (row.identifier.hash, row.member);
            self.put(|t| &mut t.identifiers, hash, new_row(member))
                .await?;
        }
        Ok(())
    }

    async fn insert_transactions(&mut self, rows: &[Transaction]) -> Result<(), StoreError> {
        let members = rows.iter().filter_map(|row| row.member);
        let unknown: Vec<MemberId> = members.filter(|id| !self.tails.contains_key(id)).collect();
        if !unknown.is_empty() {
            self.members_asking(&unknown, &[], &[]).await?;
        }
        self.call("insert_transactions", true).await?;
        for row in rows {
            self.put(|t| &mut t.transactions, row.id, new_row(row.clone()))
                .await?;
            self.wrote.transactions.push(row.clone());
            if let Some((_, is_moved)) = row.member.and_then(|id| self.tails.get_mut(&id)) {
                *is_moved = true;
            }
        }
        Ok(())
    }

    async fn update_opens(&mut self, rows: &[OpenChange]) -> Result<(), StoreError> {
        self.call("update_opens", true).await?;
        for row in rows {
            let open = row.open;
            let reopen = known_row(move |known: &Transaction| Transaction {
                open,
                ..known.clone()
            });
            self.put(|t| &mut t.transactions, row.transaction, reopen)
                .await?;
        }
        Ok(())
    }

    async fn insert_lots(&mut self, rows: &[(MemberId, Lot)]) -> Result<(), StoreError> {
        self.call("insert_lots", true).await?;
        for row in rows {
            self.put(|t| &mut t.lots, row.1.id, new_row(*row)).await?;
        }
        Ok(())
    }

    async fn update_lots(&mut self, rows: &[(MemberId, Lot)]) -> Result<(), StoreError> {
        self.call("update_lots", true).await?;
        for row in rows {
            let row = *row;
            let change = known_row(move |_: &(MemberId, Lot)| row);
            self.put(|t| &mut t.lots, row.1.id, change).await?;
        }
        Ok(())
    }

    async fn upsert_debts(&mut self, rows: &[DebtRecord]) -> Result<(), StoreError> {
        self.call("upsert_debts", true).await?;
        for row in rows {
            let points = row.points;
            let set = move |_: Option<&Points>| Some(Some(points));
            self.put(|t| &mut t.debts, (row.member, row.issuer), set)
                .await?;
        }
        Ok(())
    }

    async fn update_members(&mut self, rows: &[MemberChange]) -> Result<(), StoreError> {
        self.call("update_members", true).await?;
        for change in rows {
            let id = change.book.id;
            self.move_member(id, change.expected_version, Some(&change.book))
                .await?;
            self.tails.insert(id, (change.expected_version + 1, false));
        }
        Ok(())
    }

    async fn add_totals(
        &mut self,
        window: WindowId,
        rows: &[(TotalKey, i64)],
    ) -> Result<(), StoreError> {
        self.call("add_totals", true).await?;
        for (key, amount) in rows {
            let amount = *amount;
            let add = move |sum: Option<&i64>| Some(Some(sum.copied().unwrap_or(0) + amount));
            self.put(|t| &mut t.totals, (window, *key), add).await?;
        }
        Ok(())
    }

    async fn move_positions(&mut self, rows: &[PositionChange]) -> Result<(), StoreError> {
        self.call("move_positions", true).await?;
        for row in rows {
            let key = (row.party, row.currency);
            self.put(|t| &mut t.positions, key, |known| moved(row, known))
                .await?;
            self.wrote.moved.push(key);
        }
        Ok(())
    }
}

#[async_trait]
impl Unit for SimUnit {
    async fn confirm(&mut self) -> Result<(), StoreError> {
        Self::confirm(self).await
    }

    async fn rulebook(&mut self) -> Result<Rulebook, StoreError> {
        self.hold().await?;
        self.read("rulebook", Tables::rulebook).await
    }

    async fn requests(&mut self, keys: &[RequestKey]) -> Result<Vec<RequestRecord>, StoreError> {
        self.read("requests", |tables, by| {
            let found = keys.iter().filter_map(|key| tables.requests.seen(by, key));
            found.copied().collect()
        })
        .await
    }

    async fn checks(&mut self, keys: &[CheckKey]) -> Result<Vec<CheckRecord>, StoreError> {
        self.read("checks", |tables, by| {
            let found = keys.iter().filter_map(|key| tables.checks.seen(by, key));
            found.cloned().collect()
        })
        .await
    }

    async fn identifiers(
        &mut self,
        hashes: &[IdentifierHash],
    ) -> Result<Vec<(IdentifierHash, MemberId)>, StoreError> {
        self.read("identifiers", |tables, by| {
            let found = |hash: &IdentifierHash| Some((*hash, *tables.identifiers.seen(by, hash)?));
            hashes.iter().filter_map(found).collect()
        })
        .await
    }

    async fn transactions(
        &mut self,
        ids: &[TransactionId],
    ) -> Result<Vec<Transaction>, StoreError> {
        self.read("transactions", |tables, by| {
            let found = ids.iter().filter_map(|id| tables.transactions.seen(by, id));
            found.cloned().collect()
        })
        .await
    }

    async fn members_asking(
        &mut self,
        ids: &[MemberId],
        requests: &[RequestKey],
        checks: &[CheckKey],
    ) -> Result<(Vec<MemberBook>, Traces), StoreError> {
        let (found, traces): (Vec<MemberBook>, Traces) = self
            .read("members and traces", |tables, by| {
                let found = ids.iter().filter_map(|id| tables.members.seen(by, id));
                let traces = Traces {
                    requests: requests
                        .iter()
                        .any(|key| tables.requests.seen(by, key).is_some()),
                    checks: checks
                        .iter()
                        .any(|key| tables.checks.seen(by, key).is_some()),
                };
                (found.cloned().collect(), traces)
            })
            .await?;
        for book in &found {
            self.tails.entry(book.id).or_insert((book.version, false));
        }
        Ok((found, traces))
    }

    async fn live_lots(
        &mut self,
        demands: &[LotDemand],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError> {
        self.read("live_lots", |tables, by| {
            let mut found = Vec::new();
            for LotDemand { member, limit } in demands {
                let rows = tables.lots.all_seen(by).map(|(_, row)| row);
                let own = rows.filter(|(holder, _)| holder == member);
                let own = live(own.map(|(_, lot)| *lot).collect(), *limit);
                found.extend(own.into_iter().map(|lot| (*member, lot)));
            }
            found
        })
        .await
    }

    async fn lots(
        &mut self,
        keys: &[(LotId, MemberId)],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError> {
        self.read("lots", |tables, by| {
            let found = keys.iter().filter_map(|(id, member)| {
                let row = tables.lots.seen(by, id);
                row.filter(|(holder, _)| holder == member)
            });
            found.copied().collect()
        })
        .await
    }

    async fn debts(&mut self, members: &[MemberId]) -> Result<Vec<DebtRecord>, StoreError> {
        self.read("debts", |tables, by| {
            let rows = tables.debts.all_seen(by);
            let own = rows
                .filter(|((member, _), points)| points.is_positive() && members.contains(member));
            let record = |(&(member, issuer), &points): (&(MemberId, Party), &Points)| DebtRecord {
                member,
                issuer,
                points,
            };
            own.map(record).collect()
        })
        .await
    }

    async fn positions(
        &mut self,
        keys: &[(Party, Currency)],
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError> {
        self.read("positions", |tables, by| {
            let found = |key: &(Party, Currency)| Some((*key, *tables.positions.seen(by, key)?));
            keys.iter().filter_map(found).collect()
        })
        .await
    }

    async fn due_members(
        &mut self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<MemberId>, StoreError> {
        self.read("due_members", |tables, by| {
            due(tables.members.all_seen(by).map(|(_, row)| row), now, limit)
        })
        .await
    }

    async fn write(
        &mut self,
        window: WindowId,
        _: Timestamp,
        effects: &Effects,
    ) -> Result<(), StoreError> {
        let was_deferred = self.hold().await?;
        // A set that is empty is no call.
        macro_rules! put {
            ($($kind:ident by $put:ident),+) => {
                $(if !effects.$kind.is_empty() {
                    self.$put(&effects.$kind).await?;
                })+
            };
        }
        put! {
            requests by insert_requests,
            released_checks by delete_checks,
            checks by insert_checks,
            new_members by insert_members,
            identifiers by insert_identifiers,
            transactions by insert_transactions,
            opens by update_opens,
            new_lots by insert_lots,
            lots by update_lots,
            members by update_members,
            debts by upsert_debts
        }
        if !effects.totals.is_empty() {
            self.add_totals(window, &effects.totals).await?;
        }
        put!(positions by move_positions);
        self.wrote_all(was_deferred).await
    }

    async fn remember(&mut self, request: &RequestRecord) -> Result<(), StoreError> {
        self.insert_requests(std::slice::from_ref(request)).await
    }

    async fn windows(&mut self, ids: &[WindowId]) -> Result<Vec<Window>, StoreError> {
        self.read("windows", |tables, by| {
            let found = ids.iter().filter_map(|id| tables.windows.seen(by, id));
            found.cloned().collect()
        })
        .await
    }

    async fn window_by_number(&mut self, number: i64) -> Result<Option<Window>, StoreError> {
        self.read("window_by_number", |tables, by| {
            let mut rows = tables.windows.all_seen(by).map(|(_, row)| row);
            rows.find(|row| row.number == number).cloned()
        })
        .await
    }

    async fn totals(
        &mut self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError> {
        self.read("totals", |tables, by| {
            let rows = tables.totals.all_seen(by);
            let own = rows.filter(|((window, _), _)| windows.contains(window));
            let mut own: Vec<_> = own
                .map(|((window, key), sum)| (*window, *key, *sum))
                .collect();
            own.sort_by_key(|(window, key, _)| (*window, *key));
            own
        })
        .await
    }

    async fn flows(
        &mut self,
        _: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError> {
        not_simulated("settling")
    }

    async fn last_transaction(&mut self) -> Result<Option<TransactionId>, StoreError> {
        self.read("last_transaction", |tables, by| {
            let rows = tables.transactions.all_seen(by);
            let posted = rows.filter(|(_, row)| row.declined.is_none());
            posted.map(|(id, _)| *id).max()
        })
        .await
    }

    async fn turn_window(&mut self, closed: &Window, opened: &Window) -> Result<(), StoreError> {
        self.call("turn_window", true).await?;
        let close = |known: Option<&Window>| {
            let is_open = known.is_some_and(|row| row.state == WindowState::Open);
            is_open.then(|| Some(closed.clone()))
        };
        self.put(|t| &mut t.windows, closed.id, close).await?;
        self.put(|t| &mut t.windows, opened.id, new_row(opened.clone()))
            .await?;
        self.wrote.closed = Some(closed.clone());
        Ok(())
    }

    async fn move_windows(
        &mut self,
        _: &[WindowId],
        _: WindowState,
        _: WindowState,
    ) -> Result<(), StoreError> {
        not_simulated("settling")
    }

    async fn insert_settlement(&mut self, _: &SettlementRow) -> Result<(), StoreError> {
        not_simulated("settling")
    }

    async fn settlement_of(&mut self, _: WindowId) -> Result<Option<SettlementId>, StoreError> {
        not_simulated("settling")
    }

    async fn settlement(&mut self, _: SettlementId) -> Result<Option<SettlementRow>, StoreError> {
        not_simulated("settling")
    }

    async fn partner(&mut self, _: PartnerId) -> Result<Option<PartnerRow>, StoreError> {
        not_simulated("registering partners")
    }

    async fn insert_partner(&mut self, _: &PartnerRow) -> Result<(), StoreError> {
        not_simulated("registering partners")
    }

    async fn insert_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError> {
        self.call("insert_agreement", true).await?;
        self.put(|t| &mut t.agreements, row.id, new_row(row.clone()))
            .await
    }

    async fn accept_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError> {
        self.call("accept_agreement", true).await?;
        let accept = |known: Option<&AgreementRow>| {
            let is_proposed = known.is_some_and(|known| known.state == AgreementState::Proposed);
            is_proposed.then(|| Some(row.clone()))
        };
        self.put(|t| &mut t.agreements, row.id, accept).await?;
        if row.state == AgreementState::Accepted {
            let next_edition = known_row(|known: &coalition_store::model::Network| {
                coalition_store::model::Network {
                    rulebook_version: known.rulebook_version + 1,
                    ..known.clone()
                }
            });
            self.put(|t| &mut t.network, (), next_edition).await?;
            self.wrote.accepted = in_force(row);
        }
        Ok(())
    }

    async fn agreement(&mut self, id: AgreementId) -> Result<Option<AgreementRow>, StoreError> {
        self.read("agreement", |tables, by| {
            tables.agreements.seen(by, &id).cloned()
        })
        .await
    }

    async fn agreement_versions(
        &mut self,
        partner: PartnerId,
        counterparty: Option<PartnerId>,
    ) -> Result<i32, StoreError> {
        self.read("agreement_versions", |tables, by| {
            let rows = tables.agreements.all_seen(by).map(|(_, row)| row);
            let own = rows.filter(|r| r.partner == partner && r.counterparty == counterparty);
            i32::try_from(own.count()).expect("few")
        })
        .await
    }

    async fn partner_by_code(&mut self, _: &str) -> Result<Option<PartnerId>, StoreError> {
        not_simulated("registering partners")
    }

    async fn set_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.call("set_clock", true).await?;
        let set = known_row(move |known: &coalition_store::model::Network| {
            coalition_store::model::Network {
                clock: Some(now),
                ..known.clone()
            }
        });
        self.wrote.clock = Some(now);
        self.put(|t| &mut t.network, (), set).await
    }

    async fn commit_ahead(mut self: Box<Self>) -> Result<Durable, StoreError> {
        if self.is_stored() {
            return Ok(Durable::already());
        }
        self.end_stored().await.map(|()| Durable::already())
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        self.process.turn().await;
        self.roll_back();
        Ok(())
    }
}
