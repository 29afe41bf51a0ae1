//! Sending the journal: different members side by side, the rows of one member in order, the clock
//! moved on as soon as nothing that is still in hand would mind.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use coalition_ledger::Timestamp;
use coalition_ledger::ids::PartnerId;
use coalition_proto::common::{Money, PosContext};
use coalition_proto::earn::{
    CheckAmounts, EarnRequest, ReturnEarnRequest, earn_request, return_earn_request,
};
use coalition_proto::redeem::{
    RedeemRequest, RefundRedemptionRequest, redeem_request, refund_redemption_request,
};
use coalition_proto::settlement::{CutWindowRequest, Window};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use super::compare::Difference;
use super::journal::{Act, Deed, Journal, Visit};
use super::plan::{Batch, Plan};
use crate::client::setup::{Registrar, wire_time};
use crate::client::{CallError, Caller, Client, RequestIds, Who};

/// Rows taken from the journal and not answered yet, those behind another of their member included.
const ROWS_IN_HAND_MAX: usize = 4_096;

/// The longest latency that is told apart, in microseconds: a call with all its retries.
const LATENCY_MAX_US: u64 = 60_000_000;

/// What came of it.
pub(super) struct Driven {
    /// Rows that were not answered as a till expects.
    pub(super) differences: Vec<Difference>,
    /// The windows that were closed, in order.
    pub(super) windows: Vec<Window>,
    pub(super) speed: Speed,
}

/// How fast it went.
pub(super) struct Speed {
    calls: usize,
    elapsed: Duration,
    latency_us: Histogram<u64>,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate to show, of far fewer than 2^52 calls"
        )]
        let rate = self.calls as f64 / seconds.max(f64::EPSILON);
        let quantile =
            |q| Duration::from_micros(self.latency_us.value_at_quantile(q)).as_secs_f64();
        write!(
            f,
            "{} calls through the gateway in {seconds:.1} s: {rate:.0} calls/s, latency p50 {:.1} ms, p99 {:.1} ms",
            self.calls,
            quantile(0.5) * 1e3,
            quantile(0.99) * 1e3,
        )
    }
}

/// One answer.
struct Answered {
    row: usize,
    took: Duration,
    result: Result<(), CallError>,
}

/// Sends the rows of a journal.
pub(super) struct Driver {
    tills: Arc<Vec<Till>>,
    maker: Caller,
    journal: Arc<Journal>,
    members: Arc<Vec<String>>,
    ids: Arc<RequestIds>,
    in_flight: usize,
    plan: Plan,
    /// By member with a row in hand: the rows that wait for it.
    behind: HashMap<usize, VecDeque<usize>>,
    /// Rows that may be sent now.
    ready: VecDeque<usize>,
    calls: JoinSet<Answered>,
    /// Rows taken from the journal and not answered yet, by deadline.
    in_hand: BTreeSet<(Timestamp, usize)>,
    latency_us: Histogram<u64>,
    differences: Vec<Difference>,
    bar: ProgressBar,
}

struct Till {
    caller: Caller,
    currency_code: String,
}

impl Driver {
    pub(super) fn new(
        client: &Client,
        journal: Arc<Journal>,
        partners: &[PartnerId],
        members: Vec<String>,
        ids: Arc<RequestIds>,
        in_flight: usize,
    ) -> anyhow::Result<Self> {
        let tills = partners.iter().zip(&journal.partners).map(|(id, row)| {
            anyhow::Ok(Till {
                caller: client.caller(Who::Till(*id))?,
                currency_code: row.currency_code.clone(),
            })
        });
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {human_pos}/{human_len} rows, {rate}, {eta} left",
        )
        .context("the progress bar's template")?
        .with_key("rate", |state: &ProgressState, to: &mut dyn fmt::Write| {
            // Nothing is lost with a rate that cannot be shown.
            let _ = write!(to, "{:.0}/s", state.per_sec());
        });
        let rows = u64::try_from(journal.rows.len())?;
        Ok(Self {
            tills: Arc::new(tills.collect::<Result<_, _>>()?),
            maker: client.caller(Who::MAKER)?,
            plan: Plan::new(&journal),
            journal,
            members: Arc::new(members),
            ids,
            in_flight,
            behind: HashMap::new(),
            ready: VecDeque::new(),
            calls: JoinSet::new(),
            in_hand: BTreeSet::new(),
            latency_us: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
                .context("the histogram of latencies")?,
            differences: Vec::new(),
            bar: ProgressBar::new(rows).with_style(style.progress_chars("=> ")),
        })
    }

    /// Sends everything.
    pub(super) async fn run(mut self, clock: &Registrar) -> anyhow::Result<Driven> {
        let started = Instant::now();
        let mut windows = Vec::new();
        for batch in std::mem::take(&mut self.plan.batches) {
            match batch {
                Batch::Visits { clock: at, rows } => {
                    while self
                        .in_hand
                        .first()
                        .is_some_and(|(deadline, _)| *deadline <= at)
                    {
                        self.one_answer().await?;
                    }
                    clock.set_clock(at).await?;
                    self.bar.set_message(date(at));
                    for row in rows {
                        while self.in_hand.len() >= ROWS_IN_HAND_MAX {
                            self.one_answer().await?;
                        }
                        self.take(row);
                        self.send_what_may();
                    }
                }
                Batch::Cut { row } => {
                    while !self.in_hand.is_empty() {
                        self.one_answer().await?;
                    }
                    clock.set_clock(self.journal.rows[row].at).await?;
                    windows.push(self.cut(row).await?);
                }
            }
        }
        while !self.in_hand.is_empty() {
            self.one_answer().await?;
        }
        self.bar.finish_and_clear();
        let speed = Speed {
            calls: self.journal.rows.len(),
            elapsed: started.elapsed(),
            latency_us: self.latency_us,
        };
        let mut differences = self.differences;
        differences.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(Driven {
            differences,
            windows,
            speed,
        })
    }

    fn visit(&self, row: usize) -> Option<&Visit> {
        match &self.journal.rows[row].deed {
            Deed::Visit(visit) => Some(visit),
            Deed::Cut => None,
        }
    }

    /// Takes a row in hand; it goes out as soon as those of its member before it are answered.
    fn take(&mut self, row: usize) {
        let Some(member) = self.visit(row).map(|visit| visit.member) else {
            return;
        };
        self.in_hand.insert((self.plan.deadlines[row], row));
        if let Some(behind) = self.behind.get_mut(&member) {
            behind.push_back(row);
        } else {
            self.behind.insert(member, VecDeque::new());
            self.ready.push_back(row);
        }
    }

    fn send_what_may(&mut self) {
        while self.calls.len() < self.in_flight
            && let Some(row) = self.ready.pop_front()
        {
            let tills = Arc::clone(&self.tills);
            let journal = Arc::clone(&self.journal);
            let members = Arc::clone(&self.members);
            let ids = Arc::clone(&self.ids);
            self.calls.spawn(async move {
                let started = Instant::now();
                let result = match &journal.rows[row].deed {
                    Deed::Visit(visit) => send(&tills, &members, &ids, &journal, row, visit).await,
                    Deed::Cut => Ok(()),
                };
                Answered {
                    row,
                    took: started.elapsed(),
                    result,
                }
            });
        }
    }

    /// Waits for one answer, and sends what it was in the way of.
    async fn one_answer(&mut self) -> anyhow::Result<()> {
        self.send_what_may();
        let answered = self
            .calls
            .join_next()
            .await
            .context("rows in hand and none sent")?;
        let Answered { row, took, result } = answered.context("a call broke down")?;
        self.in_hand.remove(&(self.plan.deadlines[row], row));
        if let Some(member) = self.visit(row).map(|visit| visit.member) {
            match self.behind.get_mut(&member).and_then(VecDeque::pop_front) {
                Some(next) => self.ready.push_back(next),
                None => drop(self.behind.remove(&member)),
            }
        }
        self.note(row, took, result)?;
        self.send_what_may();
        Ok(())
    }

    fn note(
        &mut self,
        row: usize,
        took: Duration,
        result: Result<(), CallError>,
    ) -> anyhow::Result<()> {
        self.bar.inc(1);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.latency_us.saturating_record(took_us);
        let Err(error) = result else { return Ok(()) };
        let seq = self.journal.rows[row].seq;
        if !is_decision(error.code()) {
            return Err(error).with_context(|| format!("row {seq}"));
        }
        self.differences.push(Difference {
            place: format!("row {seq:>6}"),
            what: "answer",
            expected: "posted".to_owned(),
            found: error.to_string(),
        });
        Ok(())
    }

    async fn cut(&mut self, row: usize) -> anyhow::Result<Window> {
        let row = &self.journal.rows[row];
        let cut = CutWindowRequest {
            request_id: self.ids.id(&format!("row {}", row.seq), row.at),
            expected_window_id: String::new(),
        };
        let started = Instant::now();
        let cut = self
            .maker
            .call(cut)
            .await
            .with_context(|| format!("row {}", row.seq))?;
        let took = started.elapsed();
        self.bar.inc(1);
        let window = cut.closed.context("a cut without a window")?;
        self.bar.suspend(|| {
            eprintln!(
                "{}: window {} closed with {} postings, in {:.0} ms",
                date(row.at),
                window.number,
                window.postings,
                took.as_secs_f64() * 1e3
            );
        });
        Ok(window)
    }
}

/// Whether a code is the books' answer to a request, and not a failure to answer.
fn is_decision(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::NotFound
            | Code::OutOfRange
    )
}

fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.micros())
        .map(|at| at.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}

/// Makes the call that a visit is.
async fn send(
    tills: &[Till],
    members: &[String],
    ids: &RequestIds,
    journal: &Journal,
    row: usize,
    visit: &Visit,
) -> Result<(), CallError> {
    let row = &journal.rows[row];
    let till = &tills[visit.partner];
    let request_id = ids.id(&format!("row {}", row.seq), row.at);
    let member = members[visit.member].clone();
    let context = Some(PosContext {
        location: visit.location.clone(),
        occurred_at: Some(wire_time(row.at)),
        check_id: visit.check_id.clone(),
        ..PosContext::default()
    });
    let money = |amount: i64| {
        Some(Money {
            currency_code: till.currency_code.clone(),
            amount,
        })
    };
    let partner_id = String::new();
    let caller = &till.caller;
    match &visit.act {
        Act::Earn { amount_minor } => {
            let earn = EarnRequest {
                request_id,
                partner_id,
                member: Some(earn_request::Member::MemberId(member)),
                context,
                amounts: Some(CheckAmounts {
                    gross: money(*amount_minor),
                    ..CheckAmounts::default()
                }),
            };
            caller.call(earn).await.map(drop)
        }
        Act::Redeem { points } => {
            let redeem = RedeemRequest {
                request_id,
                partner_id,
                member: Some(redeem_request::Member::MemberId(member)),
                points: *points,
                context,
                check_total: None,
            };
            caller.call(redeem).await.map(drop)
        }
        Act::Return {
            amount_minor,
            check_id,
        } => {
            let original = return_earn_request::Original::OriginalCheckId(check_id.clone());
            let back = ReturnEarnRequest {
                request_id,
                partner_id,
                original: Some(original),
                returned: money(*amount_minor),
                context,
            };
            caller.call(back).await.map(drop)
        }
        Act::ReverseRedeem { points, check_id } => {
            let original = refund_redemption_request::Original::OriginalCheckId(check_id.clone());
            let refund = RefundRedemptionRequest {
                request_id,
                partner_id,
                original: Some(original),
                points: *points,
                context,
            };
            caller.call(refund).await.map(drop)
        }
    }
}
