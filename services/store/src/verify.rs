//! `verify`: every stored figure recomputed from the transfers, as of one instant.

use coalition_ledger::audit::{Auditor, Counts, Finding};
use coalition_ledger::ids::{LotId, MemberId, TransactionId};

use crate::error::StoreError;
use crate::model::WindowState;
use crate::operations::totals_hash;
use crate::traits::{Scan, Store};

/// Rows read at a time.
const PAGE: i64 = 4_096;

/// What `verify` tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How far it has come.
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

/// Verifies the books; ends early where the listener has heard enough.
pub async fn verify(store: &dyn Store, listener: &mut dyn Listener) -> Result<(), StoreError> {
    let mut scan = store.scan().await?;
    let mut auditor = Auditor::new();
    let mut findings = 0_u64;
    let total = u64::try_from(scan.transaction_count().await?).unwrap_or_default();
    let mut after: Option<TransactionId> = None;
    loop {
        let (page, forged) = scan.transactions(after, PAGE).await?;
        for id in forged {
            findings += 1;
            if !listener.hear(Report::Finding(forgery(id))).await {
                return Ok(());
            }
        }
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for transaction in &page {
            auditor.transaction(transaction);
        }
        let done = auditor.counts().transactions;
        if !listener.hear(Report::Progress { done, total }).await {
            return Ok(());
        }
    }
    compare(scan.as_mut(), &mut auditor).await?;
    for finding in auditor.findings() {
        findings += 1;
        if !listener.hear(Report::Finding(finding)).await {
            return Ok(());
        }
    }
    listener
        .hear(Report::Summary {
            counts: auditor.counts(),
            findings,
        })
        .await;
    Ok(())
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
    let mut after: Option<LotId> = None;
    loop {
        let page = scan.lots(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.lot.id);
        for scanned in &page {
            auditor.lot(&scanned.lot);
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
