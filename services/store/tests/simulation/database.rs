//! The database in memory: tables, row locks, the window's lock, and a log of what was committed.
//!
//! It keeps PostgreSQL's ways at "read committed": a statement sees what is committed at its moment
//! and what its own unit wrote; whoever writes a row holds it until its unit ends; whoever finds a
//! row held waits, and then judges the row as it is by then; waiting in a circle is a conflict. The
//! window's lock queues fairly.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coalition_ledger::agreement::Agreement;
use coalition_ledger::command::{CheckKey, IdentifierHash, RequestKey};
use coalition_ledger::ids::{LotId, MemberId, Party, TransactionId, WindowId};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::money::{Currency, Points};
use coalition_ledger::rulebook::{Partner, Rulebook};
use coalition_ledger::snapshot::{CheckRecord, Position, RequestRecord, TotalKey};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use coalition_store::model::{AgreementRow, AgreementState, Network, Window, WindowState};
use coalition_store::{Frame, WindowLock};
use tokio::sync::{Notify, oneshot};

use super::table::Table;

/// A unit of work: they count up.
pub(crate) type UnitId = u64;

/// All rows.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) requests: Table<RequestKey, RequestRecord>,
    pub(crate) checks: Table<CheckKey, CheckRecord>,
    pub(crate) identifiers: Table<IdentifierHash, MemberId>,
    pub(crate) transactions: Table<TransactionId, Transaction>,
    /// Members' rows, without lots and debts.
    pub(crate) members: Table<MemberId, MemberBook>,
    pub(crate) lots: Table<LotId, (MemberId, Lot)>,
    pub(crate) debts: Table<(MemberId, Party), Points>,
    pub(crate) totals: Table<(WindowId, TotalKey), i64>,
    pub(crate) positions: Table<(Party, Currency), Position>,
    pub(crate) windows: Table<WindowId, Window>,
    pub(crate) agreements: Table<coalition_ledger::ids::AgreementId, AgreementRow>,
    /// One row.
    pub(crate) network: Table<(), Network>,
    pub(crate) partners: Vec<Partner>,
}

impl Tables {
    /// A network with these partners, and its first window.
    pub(crate) fn new(network: Network, partners: Vec<Partner>, first: Window) -> Self {
        let mut tables = Self {
            requests: Table::default(),
            checks: Table::default(),
            identifiers: Table::default(),
            transactions: Table::default(),
            members: Table::default(),
            lots: Table::default(),
            debts: Table::default(),
            totals: Table::default(),
            positions: Table::default(),
            windows: Table::default(),
            agreements: Table::default(),
            network: Table::default(),
            partners,
        };
        tables.network.lay_down((), network);
        tables.windows.lay_down(first.id, first);
        tables
    }

    fn end(&mut self, unit: UnitId, commit: Option<u64>) {
        self.requests.end(unit, commit);
        self.checks.end(unit, commit);
        self.identifiers.end(unit, commit);
        self.transactions.end(unit, commit);
        self.members.end(unit, commit);
        self.lots.end(unit, commit);
        self.debts.end(unit, commit);
        self.totals.end(unit, commit);
        self.positions.end(unit, commit);
        self.windows.end(unit, commit);
        self.agreements.end(unit, commit);
        self.network.end(unit, commit);
    }

    /// The network's row as committed.
    pub(crate) fn network(&self) -> &Network {
        self.network.committed().get(&()).expect("laid down")
    }

    /// What a unit that begins now stands in.
    pub(crate) fn frame(&self) -> Frame {
        let windows = self.windows.committed().values();
        let mut open = windows.filter(|window| window.state == WindowState::Open);
        let network = self.network();
        Frame {
            window: open.next_back().expect("exactly one is open").id,
            rulebook_version: network.rulebook_version,
            clock: network.clock,
        }
    }

    /// The rulebook as a unit sees it.
    pub(crate) fn rulebook(&self, by: UnitId) -> Rulebook {
        let network = self.network.seen(by, &()).expect("laid down");
        let accepted = self.agreements.all_seen(by).map(|(_, row)| row);
        Rulebook::new(
            network.rulebook_version,
            network.terms.face_values.iter().copied(),
            self.partners.iter().cloned(),
            accepted.filter_map(in_force),
        )
    }
}

/// An accepted version as the rulebook has it.
pub(crate) fn in_force(row: &AgreementRow) -> Option<Agreement> {
    (row.state == AgreementState::Accepted).then(|| Agreement {
        id: row.id,
        partner: row.partner,
        counterparty: row.counterparty,
        effective_at: row.effective_at.expect("accepted versions say from when"),
        terms: row.terms.clone(),
    })
}

/// What a unit wrote that the checks want to know of, in the order written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrote {
    pub(crate) requests: Vec<RequestRecord>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) moved: Vec<(Party, Currency)>,
    pub(crate) closed: Option<Window>,
    pub(crate) accepted: Option<Agreement>,
    pub(crate) clock: Option<Timestamp>,
}

/// One unit that was committed.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) frame: Frame,
    /// How many commits there were when it began.
    pub(crate) began_after: u64,
    pub(crate) wrote: Wrote,
}

/// A unit at work.
#[derive(Debug)]
struct AtWork {
    process: u32,
    ended: Arc<Notify>,
    waits_for: Option<UnitId>,
}

/// Rows, locks and the log.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) tables: Tables,
    pub(crate) log: Vec<Commit>,
    units: BTreeMap<UnitId, AtWork>,
    begun: UnitId,
    window_holders: Vec<(UnitId, WindowLock)>,
    window_queue: VecDeque<(UnitId, WindowLock, oneshot::Sender<()>)>,
}

impl Database {
    pub(crate) fn new(tables: Tables) -> Self {
        Self {
            tables,
            log: Vec::new(),
            units: BTreeMap::new(),
            begun: 0,
            window_holders: Vec::new(),
            window_queue: VecDeque::new(),
        }
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> u64 {
        self.log.len() as u64
    }

    /// Begins a unit, which does not hold the window.
    pub(crate) fn begin(&mut self, process: u32) -> UnitId {
        self.begun += 1;
        let at_work = AtWork {
            process,
            ended: Arc::new(Notify::new()),
            waits_for: None,
        };
        self.units.insert(self.begun, at_work);
        self.begun
    }

    /// Has a unit queue for the window; the receiver hears when it has it.
    pub(crate) fn queue(&mut self, unit: UnitId, lock: WindowLock) -> oneshot::Receiver<()> {
        let (granted, grant) = oneshot::channel();
        self.window_queue.push_back((unit, lock, granted));
        self.grant_windows();
        grant
    }

    fn grant_windows(&mut self) {
        while let Some((_, lock, _)) = self.window_queue.front() {
            let shared = |(_, held): &(UnitId, WindowLock)| *held != WindowLock::Exclusive;
            let fits = match lock {
                WindowLock::Shared | WindowLock::Deferred => self.window_holders.iter().all(shared),
                WindowLock::Exclusive => self.window_holders.is_empty(),
            };
            if !fits {
                return;
            }
            if let Some((unit, lock, granted)) = self.window_queue.pop_front() {
                self.window_holders.push((unit, lock));
                // Whoever does not hear it any more was killed, and its unit is ended.
                let _ = granted.send(());
            }
        }
    }

    /// Whether a unit has not ended.
    pub(crate) fn is_at_work(&self, unit: UnitId) -> bool {
        self.units.contains_key(&unit)
    }

    /// Waits for the end of another unit; `None`: that one waits for this one.
    pub(crate) fn wait_for(&mut self, unit: UnitId, other: UnitId) -> Option<Arc<Notify>> {
        let mut next = Some(other);
        while let Some(at) = next {
            if at == unit {
                return None;
            }
            next = self.units.get(&at).and_then(|at_work| at_work.waits_for);
        }
        if let Some(own) = self.units.get_mut(&unit) {
            own.waits_for = Some(other);
        }
        Some(Arc::clone(
            &self.units.get(&other).expect("it holds rows").ended,
        ))
    }

    /// A unit waits no longer.
    pub(crate) fn goes_on(&mut self, unit: UnitId) {
        if let Some(own) = self.units.get_mut(&unit) {
            own.waits_for = None;
        }
    }

    /// Makes everything that a unit wrote durable.
    pub(crate) fn commit(&mut self, unit: UnitId, commit: Commit) {
        self.log.push(commit);
        let number = self.commits();
        self.end(unit, Some(number));
    }

    /// Gives up everything that a unit wrote; nothing if it has ended.
    pub(crate) fn roll_back(&mut self, unit: UnitId) {
        self.end(unit, None);
    }

    fn end(&mut self, unit: UnitId, commit: Option<u64>) {
        let Some(own) = self.units.remove(&unit) else {
            return;
        };
        self.tables.end(unit, commit);
        self.window_holders.retain(|(holder, _)| *holder != unit);
        self.window_queue.retain(|(waiting, ..)| *waiting != unit);
        self.grant_windows();
        own.ended.notify_waiters();
    }

    /// Ends all units of a process, as the server does when connections are lost.
    pub(crate) fn lose(&mut self, process: u32) {
        let own = self.units.iter().filter(|(_, at)| at.process == process);
        let own: Vec<UnitId> = own.map(|(unit, _)| *unit).collect();
        for unit in own {
            self.roll_back(unit);
        }
    }

    /// The network's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.tables.network().clock.expect("a sandbox's clock")
    }
}
