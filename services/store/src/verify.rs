//! `verify`: every stored figure recomputed from the transfers, as of one instant.

use coalition_ledger::audit::{Auditor, Counts, Finding};
use coalition_ledger::ids::{LotId, MemberId, TransactionId};
use coalition_ledger::transaction::Transaction;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::error::StoreError;
use crate::model::{ScannedLot, WindowState};
use crate::operations::totals_hash;
use crate::traits::{Scan, Store};

/// Rows read at a time.
const PAGE: i64 = 2_048;

/// Pages that may wait for the auditor.
const PAGES_WAITING: usize = 4;

/// What `verify` tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How far it has come; from the beginning again where lots differ, and their names are wanted.
    Progress {
        /// Transactions read.
        done: u64,
        /// Transactions there are.
        total: u64,
    },
    /// Something is wrong.
    Finding(Finding),
    /// It is through.
    Summary {
        /// What it saw.
        counts: Counts,
        /// How many findings there were.
        findings: u64,
    },
}

/// Who hears of a verification.
#[async_trait::async_trait]
pub trait Listener: Send {
    /// Hears of progress, each finding, and at last the summary; answers whether to go on.
    async fn hear(&mut self, report: Report) -> bool;
}

#[async_trait::async_trait]
impl Listener for tokio::sync::mpsc::Sender<Report> {
    async fn hear(&mut self, report: Report) -> bool {
        self.send(report).await.is_ok()
    }
}

/// Who hears of a second reading: what was found in the rows is known by then.
struct Again<'a>(&'a mut dyn Listener);

#[async_trait::async_trait]
impl Listener for Again<'_> {
    async fn hear(&mut self, report: Report) -> bool {
        match report {
            Report::Finding(_) => true,
            report => self.0.hear(report).await,
        }
    }
}

/// Verifies the books; ends early where the listener has heard enough.
///
/// One task reads while another recomputes; pages between them are few. Lots are weighed first; where
/// they differ, all is read again for their names.
pub async fn verify(store: &dyn Store, listener: &mut dyn Listener) -> Result<(), StoreError> {
    let mut scan = store.scan().await?;
    let total = u64::try_from(scan.transaction_count().await?).unwrap_or_default();
    // All but six bits of it are random.
    let weighing = Auditor::weighing(Uuid::new_v4().into_bytes());
    let Some((mut auditor, forged)) = audit(scan.as_mut(), weighing, total, listener).await? else {
        return Ok(());
    };
    if !auditor.lots_agree() {
        let naming = Auditor::naming();
        let mut listener = Again(listener);
        let Some((named, _)) = audit(scan.as_mut(), naming, total, &mut listener).await? else {
            return Ok(());
        };
        auditor = named;
    }
    compare(scan.as_mut(), &mut auditor).await?;
    let mut findings = forged;
    for finding in auditor.findings() {
        findings += 1;
        if !listener.hear(Report::Finding(finding)).await {
            return Ok(());
        }
    }
    let counts = auditor.counts();
    listener.hear(Report::Summary { counts, findings }).await;
    Ok(())
}

/// What was read, on its way to the auditor.
enum Page {
    Transactions(Vec<Transaction>),
    Lots(Vec<ScannedLot>),
}

/// Has the auditor take in every transaction and every lot; with how many rows were not what was
/// written. None where the listener has heard enough.
async fn audit(
    scan: &mut dyn Scan,
    auditor: Auditor,
    total: u64,
    listener: &mut dyn Listener,
) -> Result<Option<(Auditor, u64)>, StoreError> {
    let (pages, received) = mpsc::channel(PAGES_WAITING);
    let auditor = tokio::spawn(recompute(auditor, received));
    let read = read_pages(scan, &pages, total, listener).await;
    drop(pages);
    let auditor = auditor
        .await
        .unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()));
    Ok(read?.map(|forged| (auditor, forged)))
}

/// Takes pages in until there are no more.
async fn recompute(mut auditor: Auditor, mut pages: mpsc::Receiver<Page>) -> Auditor {
    while let Some(page) = pages.recv().await {
        match page {
            Page::Transactions(page) => page.iter().for_each(|row| auditor.transaction(row)),
            Page::Lots(page) => page.iter().for_each(|row| auditor.lot(&row.lot)),
        }
    }
    auditor
}

/// Reads every transaction and every lot: how many rows were not what was written, or none where the
/// listener has heard enough. Lots come along with the transactions that made them: their ids were
/// minted together, and an auditor that names them remembers only what does not fit yet.
async fn read_pages(
    scan: &mut dyn Scan,
    pages: &mpsc::Sender<Page>,
    total: u64,
    listener: &mut dyn Listener,
) -> Result<Option<u64>, StoreError> {
    let (mut done, mut forged) = (0_u64, 0_u64);
    let mut transaction: Option<TransactionId> = None;
    let mut lot: Option<LotId> = None;
    loop {
        let (page, damaged) = scan.transactions(transaction, PAGE).await?;
        for id in damaged {
            forged += 1;
            if !listener.hear(Report::Finding(forgery(id))).await {
                return Ok(None);
            }
        }
        let read = page.len();
        done = done.saturating_add(read as u64);
        let last = page.last().map(|last| last.id);
        // The receiver ends only with the sender, or by a panic that the caller meets.
        let _ = pages.send(Page::Transactions(page)).await;
        let reached = last.map(TransactionId::uuid);
        while reached.is_none_or(|reached| lot.is_none_or(|lot| lot.uuid() < reached)) {
            let page = scan.lots(lot, PAGE).await?;
            let Some(last) = page.last() else { break };
            lot = Some(last.lot.id);
            let _ = pages.send(Page::Lots(page)).await;
        }
        if last.is_none() {
            return Ok(Some(forged));
        }
        transaction = last;
        if !listener.hear(Report::Progress { done, total }).await {
            return Ok(None);
        }
    }
}

fn forgery(id: TransactionId) -> Finding {
    Finding {
        place: format!("transaction {id}"),
        what: "row",
        expected: "as it was written".to_owned(),
        found: "changed since (its digest differs)".to_owned(),
    }
}

/// Holds every stored sum against the transfers.
async fn compare(scan: &mut dyn Scan, auditor: &mut Auditor) -> Result<(), StoreError> {
    for disputed in auditor.disputed_lots() {
        // The row itself, if there is one: the first after the id before.
        let before = disputed.uuid().as_u128().checked_sub(1);
        let before = before.map(|id| LotId::from_uuid(Uuid::from_u128(id)));
        for row in scan.lots(before, 1).await? {
            if row.lot.id == disputed {
                auditor.disputed_lot(&row.lot);
            }
        }
    }
    let mut after: Option<MemberId> = None;
    loop {
        let page = scan.members(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for member in &page {
            auditor.member(member);
        }
    }
    auditor.debts(&scan.debts().await?);
    for window in scan.windows().await? {
        let totals = scan.totals(window.id).await?;
        auditor.window(window.id, &totals);
        let hash = totals_hash(totals.iter().map(|(key, amount)| (key, *amount)));
        if window.state != WindowState::Open && window.totals_hash.as_ref() != Some(&hash) {
            auditor.report(Finding {
                place: format!("window {}", window.id),
                what: "totals hash",
                expected: hex(&hash),
                found: window.totals_hash.as_deref().map_or("none".to_owned(), hex),
            });
        }
    }
    auditor.positions(&scan.positions().await?);
    auditor.finish();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
