//! A crowd of tills that never gives up: they earn, redeem, refund and take back, remember each
//! request until it is answered, ask again with the same id while it is not, and note all of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalition_proto::common::PosContext;
use coalition_proto::earn::{EarnRequest, EarnResponse, ReturnEarnRequest, ReturnEarnResponse};
use coalition_proto::redeem::{
    RedeemRequest, RedeemResponse, RefundRedemptionRequest, RefundRedemptionResponse,
};
use coalition_rpc::auth::dev::TokenRequest;
use futures::stream::{StreamExt as _, iter};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tonic::Code;

use crate::caller::{Caller, Refusal};
use crate::network::{Network, partner_id};
use crate::partner::Partner;

/// Tills at work.
pub const TILLS: usize = 24;

/// Guests that each till has to itself; one more is everybody's.
const GUESTS: usize = 2;

/// Pause before a request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Longest that the crowd may take to answer for what it was told to do.
const PATIENCE: Duration = Duration::from_mins(2);

/// Records that are asked for again at a time.
const CHECKS_AT_ONCE: usize = 16;

/// What a till asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Points for a check.
    Earn(EarnRequest),
    /// Goods came back.
    Return(ReturnEarnRequest),
    /// Points spent.
    Redeem(RedeemRequest),
    /// Points given back.
    Refund(RefundRedemptionRequest),
}

/// What it is told: the same for ever.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// An earn.
    Earned(EarnResponse),
    /// A return.
    Returned(ReturnEarnResponse),
    /// A redemption.
    Redeemed(RedeemResponse),
    /// A refund.
    Refunded(RefundRedemptionResponse),
    /// It was declined, on the record.
    Declined(Refusal),
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Record {
    /// The request.
    pub ask: Ask,
    /// The answer.
    pub told: Told,
    /// What came back instead, before it was answered.
    pub failures: Vec<Refusal>,
    /// Whether the answer came as one to an earlier request: an earlier try had been done.
    pub replayed: bool,
}

impl Record {
    /// Whether something was posted.
    pub fn is_posted(&self) -> bool {
        !matches!(self.told, Told::Declined(_))
    }
}

impl Ask {
    /// Sends it, once: the answer, and whether it was given before.
    ///
    /// # Errors
    ///
    /// There is no answer: it was refused for now, or the connection broke.
    async fn send(&self, till: &Caller) -> Result<(Told, bool), Refusal> {
        macro_rules! told {
            ($answer:expr, $told:path) => {
                $answer.map(|mut answer| {
                    let replayed = std::mem::take(&mut answer.replayed);
                    ($told(answer), replayed)
                })
            };
        }
        let told = match self {
            Self::Earn(request) => told!(till.call(request.clone()).await, Told::Earned),
            Self::Return(request) => told!(till.call(request.clone()).await, Told::Returned),
            Self::Redeem(request) => told!(till.call(request.clone()).await, Told::Redeemed),
            Self::Refund(request) => told!(till.call(request.clone()).await, Told::Refunded),
        };
        told.or_else(|mut refusal| {
            let on_record = refusal.metadata.contains_key("declined_transaction_id");
            let replayed = refusal.metadata.remove("replayed");
            refusal.details_bytes = 0;
            if on_record {
                Ok((Told::Declined(refusal), replayed.as_deref() == Some("true")))
            } else {
                Err(refusal)
            }
        })
    }

    async fn again(&self, till: &Caller) -> (Told, bool) {
        let mut pauses = interval(RETRY_PAUSE);
        loop {
            pauses.tick().await;
            if let Ok(told) = self.send(till).await {
                return told;
            }
        }
    }
}

/// Whether this says that the same request may be sent again, and nothing else: the network said
/// so, or there was no network to say anything.
fn is_worth_a_retry(refusal: &Refusal) -> bool {
    match refusal.domain.as_str() {
        "coalition" => matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded),
        // The client's own words for a connection that broke.
        _ => matches!(
            refusal.code,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        ),
    }
}

/// What the crowd shares with whoever watches it.
struct Shared {
    partners: Vec<Partner>,
    hot: String,
    answered: AtomicUsize,
    sent: watch::Sender<usize>,
    work: watch::Sender<Work>,
    idle: watch::Sender<usize>,
    records: Mutex<Vec<(usize, Record)>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    On,
    Pause,
    Over,
}

/// Tills at work, until they are told to stop.
pub struct Crowd {
    shared: Arc<Shared>,
    callers: Vec<Caller>,
    tills: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Begins: tills of these partners, each over a connection of its own.
    pub async fn begin(network: &Network, partners: &[&Partner], seed: u64) -> Self {
        let shared = Arc::new(Shared {
            partners: partners.iter().map(|&partner| partner.clone()).collect(),
            hot: network.member().await,
            answered: AtomicUsize::new(0),
            sent: watch::Sender::new(0),
            work: watch::Sender::new(Work::On),
            idle: watch::Sender::new(0),
            records: Mutex::new(Vec::new()),
        });
        let (mut callers, mut tills) = (Vec::new(), Vec::new());
        for number in 0..TILLS {
            let partner = number % partners.len();
            let of = &partners[partner].id;
            let token = TokenRequest::till(partner_id(of), format!("till {number}"));
            let caller = network.over_its_own_connection(&token);
            let mut guests = Vec::new();
            for _ in 0..GUESTS {
                guests.push(network.member().await);
            }
            callers.push(caller.clone());
            let till = Till {
                number,
                partner,
                caller,
                guests,
                rng: fastrand::Rng::with_seed(seed.wrapping_add(number as u64)),
                checks: 0,
                earned: Vec::new(),
                redeemed: Vec::new(),
            };
            tills.push(tokio::spawn(till.work(Arc::clone(&shared))));
        }
        Self {
            shared,
            callers,
            tills,
        }
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests have been answered.
    pub async fn until_answered(&self, more: usize) {
        let enough = self.answered() + more;
        let mut answered = self.shared.sent.subscribe();
        let waited = timeout(PATIENCE, answered.wait_for(|answered| *answered >= enough));
        waited
            .await
            .unwrap_or_else(|_| panic!("the crowd is stuck: {}", self.answered()))
            .expect("the crowd is there");
    }

    /// Stops for now: every request that was sent has been answered when this returns.
    pub async fn pause(&self) {
        self.shared.work.send_replace(Work::Pause);
        let mut idle = self.shared.idle.subscribe();
        let waited = timeout(PATIENCE, idle.wait_for(|idle| *idle == TILLS));
        let waited = waited.await;
        waited
            .expect("every request is answered in the end")
            .expect("the crowd is there");
    }

    /// Goes on.
    pub fn resume(&self) {
        self.shared.work.send_replace(Work::On);
    }

    /// Stops for good.
    pub async fn end(self) -> Vec<Record> {
        self.shared.work.send_replace(Work::Over);
        for till in self.tills {
            till.await.expect("a till comes to its end");
        }
        let records = std::mem::take(&mut *self.shared.records());
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// The records from this one on, in the order of their answers.
    pub fn records(&self, from: usize) -> Vec<Record> {
        let records = self.shared.records();
        records[from..]
            .iter()
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// How many answers say that something was posted.
    pub fn posted(&self) -> usize {
        let records = self.shared.records();
        records
            .iter()
            .filter(|(_, record)| record.is_posted())
            .count()
    }

    /// Asks again for every record from this one on: each is there, and the answer is the same.
    pub async fn assert_remembered(&self, from: usize) {
        let records: Vec<(usize, Record)> = self.shared.records()[from..].to_vec();
        let checks = iter(records).map(|(till, record)| {
            let caller = self.callers[till].clone();
            async move {
                let (told, replayed) = record.ask.again(&caller).await;
                assert!(
                    replayed,
                    "an answer that was given is gone: {record:?}, now {told:?}"
                );
                assert_eq!(told, record.told, "{:?}", record.ask);
            }
        });
        let checks = checks.buffer_unordered(CHECKS_AT_ONCE).collect::<Vec<()>>();
        timeout(PATIENCE, checks)
            .await
            .expect("they are answered in the end");
    }

    /// What came back instead of answers since this record, and how often each.
    pub fn failures(&self, from: usize) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for record in self.records(from) {
            for failure in record.failures {
                let text = failure
                    .message
                    .split(':')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let said = format!("{:?} {}: {text}", failure.code, failure.reason);
                *all.entry(said).or_default() += 1;
            }
        }
        all
    }
}

impl Shared {
    fn records(&self) -> MutexGuard<'_, Vec<(usize, Record)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_of(context: Option<&PosContext>) -> Option<String> {
    Some(context?.check_id.clone())
}

/// One of the crowd.
struct Till {
    number: usize,
    partner: usize,
    caller: Caller,
    guests: Vec<String>,
    rng: fastrand::Rng,
    checks: usize,
    earned: Vec<String>,
    redeemed: Vec<String>,
}

impl Till {
    async fn work(mut self, shared: Arc<Shared>) {
        let mut work = shared.work.subscribe();
        loop {
            let now = *work.borrow_and_update();
            match now {
                Work::Over => return,
                Work::Pause => {
                    shared.idle.send_modify(|idle| *idle += 1);
                    let changed = work.changed().await;
                    shared.idle.send_modify(|idle| *idle -= 1);
                    if changed.is_err() {
                        return;
                    }
                }
                Work::On => self.sell(&shared).await,
            }
        }
    }

    /// One request, until it is answered.
    async fn sell(&mut self, shared: &Shared) {
        let ask = self.next(shared);
        let mut failures = Vec::new();
        let mut pauses = interval(RETRY_PAUSE);
        let (told, replayed) = loop {
            pauses.tick().await;
            match ask.send(&self.caller).await {
                Ok(told) => break told,
                Err(refusal) => {
                    assert!(is_worth_a_retry(&refusal), "{refusal}: {ask:?}");
                    failures.push(refusal);
                }
            }
        };
        // What was done can be undone.
        match (&ask, &told) {
            (Ask::Earn(request), Told::Earned(_)) => {
                self.earned.extend(check_of(request.context.as_ref()));
            }
            (Ask::Redeem(request), Told::Redeemed(_)) => {
                self.redeemed.extend(check_of(request.context.as_ref()));
            }
            _ => {}
        }
        let record = Record {
            ask,
            told,
            failures,
            replayed,
        };
        shared.records().push((self.number, record));
        let answered = shared.answered.fetch_add(1, Ordering::SeqCst) + 1;
        shared.sent.send_modify(|sent| *sent = answered.max(*sent));
    }

    /// What is asked for next: mostly earns, so that there is something to spend.
    fn next(&mut self, shared: &Shared) -> Ask {
        let partner = &shared.partners[self.partner];
        self.checks += 1;
        let check = format!("{}-{}", self.number, self.checks);
        let guest = match self.rng.usize(..8) {
            0 => shared.hot.clone(),
            other => self.guests[other % GUESTS].clone(),
        };
        match self.rng.u8(..10) {
            0 if !self.earned.is_empty() => {
                let original = self.rng.usize(..self.earned.len());
                let returned = self.rng.i64(1..=40);
                Ask::Return(partner.returning(&self.earned.swap_remove(original), returned))
            }
            1 if !self.redeemed.is_empty() => {
                let original = self.rng.usize(..self.redeemed.len());
                let points = self.rng.i64(1..=40);
                Ask::Refund(partner.refunding(&self.redeemed.swap_remove(original), points))
            }
            2..5 => {
                let points = self.rng.i64(1..=60);
                Ask::Redeem(partner.redeeming(&guest, &check, points))
            }
            _ => {
                let gross = self.rng.i64(1..=100);
                Ask::Earn(partner.earning(&guest, &check, gross))
            }
        }
    }
}
