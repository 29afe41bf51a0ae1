//! The state of the books: the trial balance, and `verify`.

use coalition_ledger::audit::Finding;
use coalition_ledger::ids::{TransactionId, WindowId};
use coalition_ledger::trial::{AccountKind, AccountTotal, Equation, Trial};
use coalition_proto::settlement as pb;
use coalition_proto::settlement::verify_response::Event;
use coalition_rpc::request::{identity, valid};
use coalition_rpc::status::Problem;
use coalition_store::model::PostingFilter;
use coalition_store::verify::{Listener, Report, verify};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::SettlementApi;

/// Postings read at a time for the trial balance of one window.
const POSTINGS_AT_A_TIME: i64 = 1_000;
/// News of a check that wait for a slow reader; then the check waits too.
const NEWS_WAITING: usize = 16;

impl SettlementApi {
    pub(crate) async fn trial_balance(
        &self,
        request: &Request<pb::GetTrialBalanceRequest>,
    ) -> Result<pb::GetTrialBalanceResponse, Problem> {
        identity(request)?;
        valid(request.get_ref())?;
        let trial = match request.get_ref().window_id.as_str() {
            "" => {
                let sums = self
                    .books
                    .reader()
                    .trial_sums()
                    .await
                    .map_err(Problem::because)?;
                Trial::of_books(&sums.totals, &sums.holdings, &sums.positions)?
            }
            named => {
                let window = self.window(named).await?;
                self.trial_of(window.id).await?
            }
        };
        let equations = trial.equations()?;
        Ok(pb::GetTrialBalanceResponse {
            accounts: trial.accounts()?.iter().map(account).collect(),
            balanced: equations.iter().all(Equation::holds),
            equations: equations.into_iter().map(equation).collect(),
        })
    }

    /// The trial balance of one window, from its postings.
    async fn trial_of(&self, window: WindowId) -> Result<Trial, Problem> {
        let filter = PostingFilter {
            window: Some(window),
            ..PostingFilter::default()
        };
        let mut trial = Trial::new();
        let mut after: Option<TransactionId> = None;
        loop {
            let page = self
                .books
                .reader()
                .postings(filter, after, POSTINGS_AT_A_TIME)
                .await;
            let page = page.map_err(Problem::because)?.rows;
            let Some(last) = page.last() else {
                return Ok(trial);
            };
            after = Some(last.id);
            for transfer in page.iter().flat_map(|posting| &posting.posting.transfers) {
                trial.transfer(transfer)?;
            }
        }
    }

    /// Verifies in a task of its own, which ends when nobody listens any more.
    pub(crate) fn verification(
        &self,
        request: &Request<pb::VerifyRequest>,
    ) -> Result<ReceiverStream<Result<pb::VerifyResponse, Status>>, Problem> {
        identity(request)?;
        valid(request.get_ref())?;
        let (news, waiting) = mpsc::channel(NEWS_WAITING);
        let store = self.books.store().clone();
        tokio::spawn(async move {
            let mut caller = Caller(news);
            if let Err(error) = verify(store.as_ref(), &mut caller).await {
                // Whoever left does not hear of it.
                let _ = caller.0.send(Err(Problem::because(error).into())).await;
            }
        });
        Ok(ReceiverStream::new(waiting))
    }
}

/// Whoever asked for a check, at the other end of a stream.
struct Caller(mpsc::Sender<Result<pb::VerifyResponse, Status>>);

#[tonic::async_trait]
impl Listener for Caller {
    async fn hear(&mut self, report: Report) -> bool {
        self.0.send(Ok(response(report))).await.is_ok()
    }
}

fn response(report: Report) -> pb::VerifyResponse {
    // Counts of rows are far below the range of i64.
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let event = match report {
        Report::Progress { done, total } => Event::Progress(pb::VerifyProgress {
            postings_checked: count(done),
            postings_total: count(total),
        }),
        Report::Finding(Finding {
            place,
            what,
            expected,
            found,
        }) => Event::Finding(pb::VerifyFinding {
            what: what.to_owned(),
            r#where: place,
            expected,
            found,
        }),
        Report::Summary { counts, findings } => Event::Summary(pb::VerifySummary {
            postings: count(counts.postings),
            transfers: count(counts.transfers),
            members: count(counts.members),
            lots: count(counts.lots),
            windows: count(counts.windows),
            balanced: findings == 0,
        }),
    };
    pb::VerifyResponse { event: Some(event) }
}

fn account(total: &AccountTotal) -> pb::AccountTotal {
    let kind = match total.kind {
        AccountKind::Issued => pb::AccountKind::Issued,
        AccountKind::Pending => pb::AccountKind::Pending,
        AccountKind::Available => pb::AccountKind::Available,
        AccountKind::Held => pb::AccountKind::Held,
        AccountKind::Debt => pb::AccountKind::Debt,
        AccountKind::Redeemed => pb::AccountKind::Redeemed,
        AccountKind::Expired => pb::AccountKind::Expired,
        AccountKind::Position => pb::AccountKind::Position,
        AccountKind::Funds => pb::AccountKind::Funds,
        AccountKind::Operator => pb::AccountKind::Operator,
    };
    pb::AccountTotal {
        kind: kind.into(),
        party: total
            .party
            .map_or_else(String::new, |party| party.to_string()),
        unit: total.unit.code().to_owned(),
        debit_total: total.debits,
        credit_total: total.credits,
        balance: total.balance,
    }
}

fn equation(equation: Equation) -> pb::Equation {
    let holds = equation.holds();
    pb::Equation {
        name: equation.name,
        left: equation.left,
        right: equation.right,
        holds,
    }
}
