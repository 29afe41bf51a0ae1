//! Tills and an operator: they call, leave, and come back with the same request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalition_ledger::command::{Action, Command, RequestKey};
use coalition_ledger::ids::AgreementId;
use coalition_ledger::time::Timestamp;
use coalition_store::StoreError;
use coalition_store::model::{AgreementRow, Side, Window};
use coalition_store::operations::{
    AcceptAgreement, OperationError, OperationRequest, Operations, ProposeAgreement,
};
use coalition_store::poster::PostError;
use uuid::Uuid;

use super::desk::{Desk, Told};
use super::pool::{Pool, Running};
use super::sim::{Sim, pass};
use super::till;
use super::world::{MEMBERS, PARTNERS, member, partner, terms};

/// How often a caller tries at most.
const TRIES: u32 = 12;
/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;
/// The request id of the operator's first request.
const FIRST_OPERATION: u128 = 0x0100_0000;

/// What callers share.
pub(crate) struct Callers {
    pub(crate) sim: Arc<Sim>,
    pub(crate) pool: Arc<Pool>,
    desk: Mutex<Desk>,
    /// What cuts were told, by request: each once.
    cuts: Mutex<Vec<Asked>>,
}

/// A cut that was asked for, and the windows that it was told to have closed and opened.
type Asked = (OperationRequest, Option<(Window, Window)>);

/// How a call ended.
enum Ending<T> {
    Done(T),
    /// Certainly nothing was done.
    Undone,
    /// Nobody knows.
    Lost,
}

impl Callers {
    pub(crate) fn new(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            sim: Arc::clone(&pool.sim),
            pool: Arc::clone(pool),
            desk: Mutex::default(),
            cuts: Mutex::default(),
        })
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Members enrol and partners pay in.
    pub(crate) async fn open(&self) {
        let places: Vec<usize> = {
            let mut desk = self.desk();
            let members =
                (0..MEMBERS).map(|n| till::enroll(n, 0x80 + u8::try_from(n).expect("few")));
            let funds = (0..PARTNERS).map(|n| till::deposit(n, 60));
            let actions: Vec<Action> = members.chain(funds).collect();
            let opening = actions.into_iter().enumerate().map(|(n, action)| {
                let id = Uuid::from_u128(0x0f00 + n as u128);
                let scope = Uuid::nil();
                till::add(&mut desk, RequestKey { id, scope }, action)
            });
            opening.collect()
        };
        let running = self.pool.pick();
        if !self.call(&running, &places, None).await {
            self.sim.violation("nobody could enrol");
        }
    }

    /// One till: so many calls, each until it is answered or given up.
    pub(crate) async fn till(self: Arc<Self>, calls: u32) {
        for _ in 0..calls {
            let (think_ms, sweeps, twice) = {
                let mut state = self.sim.state();
                (state.rng.u64(0..=6), state.chance(40), state.chance(50))
            };
            pass(think_ms).await;
            if sweeps {
                self.sweep().await;
            }
            let places = {
                let mut desk = self.desk();
                let mut state = self.sim.state();
                let now = state.db.now();
                till::next_call(&mut state.rng, &mut desk, now)
            };
            if twice {
                tokio::join!(self.persist(&places), self.persist(&places));
            } else {
                self.persist(&places).await;
            }
        }
    }

    /// Posts what time has done to a member.
    async fn sweep(&self) {
        let number = self.sim.state().rng.u32(0..MEMBERS);
        let sweep = Command {
            request: None,
            action: Action::Sweep(member(number)),
        };
        let running = self.pool.pick();
        tokio::select! {
            biased;
            () = running.process.death() => {}
            done = running.poster.post(sweep) => drop(self.ending(&running, done)),
        }
    }

    /// Sends commands together until they are answered, or the caller has enough.
    async fn persist(&self, places: &[usize]) {
        for _ in 0..TRIES {
            let (leaves_after_ms, pause_ms, gives_up) = {
                let mut state = self.sim.state();
                let weather = state.weather;
                let leaves = state.chance(weather.dropped).then(|| state.rng.u64(1..=40));
                (leaves, state.rng.u64(1..=10), state.chance(60))
            };
            let running = self.pool.pick();
            if self.call(&running, places, leaves_after_ms).await || gives_up {
                return;
            }
            pass(pause_ms).await;
        }
    }

    /// Sends commands together once; whether they were answered.
    pub(crate) async fn call(
        &self,
        running: &Running,
        places: &[usize],
        leaves_after_ms: Option<u64>,
    ) -> bool {
        let commands: Vec<Command> = {
            let mut desk = self.desk();
            desk.call(places);
            places
                .iter()
                .map(|place| desk.asked[*place].command.clone())
                .collect()
        };
        let called_after = self.sim.state().db.commits();
        let number = running.process.number;
        self.sim
            .trace(|| format!("p{number} is asked {places:?}: {commands:?}"));
        let patience = Duration::from_millis(leaves_after_ms.unwrap_or(u64::from(u32::MAX)));
        let ending = tokio::select! {
            biased;
            () = running.process.death() => Ending::Lost,
            done = tokio::time::timeout(patience, running.poster.post_all(commands)) => {
                done.map_or(Ending::Lost, |done| self.ending(running, done))
            }
        };
        match ending {
            Ending::Done(decisions) => {
                let answered_after = self.sim.state().db.commits();
                let told = decisions.into_iter().map(|decision| Told {
                    decision,
                    called_after,
                    answered_after,
                });
                self.desk().told(places, told.collect(), &self.sim);
                true
            }
            Ending::Undone => {
                let mut desk = self.desk();
                desk.undone(places, &mut self.sim.state());
                false
            }
            Ending::Lost => {
                self.sim.trace(|| format!("{places:?} without an answer"));
                self.desk().lost(places);
                false
            }
        }
    }

    /// How a call to the poster ended, and whether it may end so.
    fn ending<T>(&self, running: &Running, done: Result<T, PostError>) -> Ending<T> {
        let error = match done {
            Ok(done) => return Ending::Done(done),
            Err(error) => error,
        };
        self.sim
            .trace(|| format!("p{} answers {error:?}", running.process.number));
        let is_fair = self.sim.state().weather.is_fair();
        if !is_expected(&error, running, is_fair) {
            self.sim.violation(format!("a call ended with {error:?}"));
        }
        match error {
            PostError::Unknown(_) => Ending::Lost,
            _ => Ending::Undone,
        }
    }

    /// The operator: moves the clock, cuts, agrees new terms.
    pub(crate) async fn operator(self: Arc<Self>, operations: u32) {
        for number in 0..operations {
            let (think_ms, dice, micros) = {
                let mut state = self.sim.state();
                (
                    state.rng.u64(0..=20),
                    state.rng.u32(0..10),
                    state.rng.i64(0..=30 * HOUR),
                )
            };
            pass(think_ms).await;
            // Two requests per operation: terms are proposed and accepted.
            let request = |place: u32| {
                let id = FIRST_OPERATION + u128::from(2 * number + place);
                OperationRequest {
                    key: RequestKey {
                        id: Uuid::from_u128(id),
                        scope: Uuid::nil(),
                    },
                    fingerprint: id.to_be_bytes(),
                }
            };
            match dice {
                0..=3 => self.advance(request(0), micros).await,
                4..=6 => self.cut(request(0)).await,
                7 => self.agree(request(0), request(1)).await,
                _ => drop(self.repeat(async |o: &Operations| o.sweep().await).await),
            }
        }
    }

    async fn advance(&self, request: OperationRequest, micros: i64) {
        let run = async |o: &Operations| o.advance_clock(request, micros).await;
        let told: Option<Timestamp> = self.repeat(run).await.map(|done| done.result);
        self.sim.trace(|| format!("the clock stands at {told:?}"));
    }

    pub(crate) async fn cut(&self, request: OperationRequest) {
        let place = {
            let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
            let place = cuts.iter().position(|(known, _)| *known == request);
            place.unwrap_or_else(|| {
                cuts.push((request, None));
                cuts.len() - 1
            })
        };
        let Some(done) = self
            .repeat(async |o: &Operations| o.cut(request, None).await)
            .await
        else {
            return;
        };
        let told = (done.result.closed, done.result.opened);
        self.sim.trace(|| format!("window {} is cut", told.0.id));
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        match &cuts[place].1 {
            Some(first) if *first != told => {
                self.sim
                    .violation(format!("a cut was told as {first:?}, then as {told:?}"));
            }
            Some(_) => {}
            None => cuts[place].1 = Some(told),
        }
    }

    /// Asks for every cut again: each must be what it was.
    pub(crate) async fn cut_again(&self) {
        let requests: Vec<_> = {
            let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
            cuts.iter().map(|(request, _)| *request).collect()
        };
        for request in requests {
            self.cut(request).await;
        }
    }

    /// New terms for one of the partners.
    async fn agree(&self, propose: OperationRequest, accept: OperationRequest) {
        let proposal = {
            let mut state = self.sim.state();
            let number = state.rng.u32(0..PARTNERS);
            ProposeAgreement {
                request: propose,
                partner: partner(number),
                counterparty: None,
                effective_at: None,
                terms: terms(&mut state.rng, number),
                side: Side::Operator,
                proposer: "maker".to_owned(),
            }
        };
        let run = async |o: &Operations| o.propose_agreement(proposal.clone()).await;
        let Some(done) = self.repeat(run).await else {
            return;
        };
        let row: AgreementRow = done.result;
        let id: AgreementId = row.id;
        let acceptance = AcceptAgreement {
            request: accept,
            agreement: id,
            etag: row.etag(),
            partner: Some(row.partner),
            accepter: "taker".to_owned(),
        };
        let run = async |o: &Operations| o.accept_agreement(acceptance.clone()).await;
        let accepted = self.repeat(run).await;
        self.sim
            .trace(|| format!("terms {id} are agreed: {}", accepted.is_some()));
    }

    /// Runs an operation until it is done, or the operator has enough.
    async fn repeat<T>(
        &self,
        run: impl AsyncFn(&Operations) -> Result<T, OperationError>,
    ) -> Option<T> {
        for _ in 0..TRIES {
            let running = self.pool.pick();
            let done = tokio::select! {
                biased;
                () = running.process.death() => None,
                done = run(&running.operations) => Some(done),
            };
            match done {
                Some(Ok(done)) => return Some(done),
                Some(Err(error)) => self.judge(&running, &error),
                None => {}
            }
            let pause_ms = self.sim.state().rng.u64(1..=10);
            pass(pause_ms).await;
        }
        None
    }

    /// Whether an operation may end so.
    fn judge(&self, running: &Running, error: &OperationError) {
        let number = running.process.number;
        self.sim
            .trace(|| format!("p{number} answers the operator {error:?}"));
        let is_fair = self.sim.state().weather.is_fair();
        let is_expected = match error {
            // Its own statements find other writers of the same rows; it tries a few times.
            OperationError::Store(StoreError::Conflict) => true,
            OperationError::Store(
                StoreError::Unavailable(_) | StoreError::UnknownCommit(_) | StoreError::Database(_),
            ) => !is_fair,
            OperationError::Post(error) => is_expected(error, running, is_fair),
            _ => false,
        };
        if !is_expected {
            self.sim
                .violation(format!("an operation ended with {error:?}"));
        }
    }
}

/// Whether a call to the poster may end so: in fair weather only for a process that shuts down.
fn is_expected(error: &PostError, running: &Running, is_fair: bool) -> bool {
    match error {
        PostError::Failed(why) if matches!(**why, StoreError::Panicked(_)) => false,
        PostError::Unavailable(_) | PostError::Unknown(_) | PostError::Failed(_) => !is_fair,
        PostError::ShuttingDown => running.is_closing(),
        PostError::QueueFull | PostError::Stopped => false,
    }
}
