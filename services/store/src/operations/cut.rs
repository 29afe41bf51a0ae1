//! The cut: everything that is due expires, the open window closes, the next one opens.
//!
//! The sweep runs through the poster first, in batches like any other postings, so that the window
//! is held alone only for what fell due in the last moments and for the turn itself.

use std::fmt::Write as _;

use coalition_ledger::Timestamp;
use coalition_ledger::command::{Action, Command};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::{MemberId, WindowId};
use coalition_ledger::snapshot::{Subject, TotalKey};
use sha2::{Digest, Sha256};

use super::{AsyncWork, Done, Objection, OperationError, OperationRequest, Operations};
use super::{earlier, now_in, remember, rulebook_in};
use crate::error::StoreError;
use crate::model::{Window, WindowState};
use crate::poster::{PostError, Timings, decide_within, setting};
use crate::traits::{Frame, Unit};

/// Members swept in one batch.
const SWEEP_MEMBERS: i64 = 256;
/// Batches of members that may fall due while the window is held alone; more are swept outside.
const LAST_MOMENT_BATCHES: usize = 4;

/// What a cut did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The window that was closed.
    pub closed: Window,
    /// The window that is open since.
    pub opened: Window,
}

struct Turn {
    request: OperationRequest,
    expected: Option<WindowId>,
}

impl Operations {
    /// Posts everything that has matured or expired by now; how many members had something due.
    pub async fn sweep(&self) -> Result<u64, OperationError> {
        let now = self.now().await?;
        let mut swept = 0;
        loop {
            let members = self.due_members(now).await?;
            if members.is_empty() {
                return Ok(swept);
            }
            swept += members.len() as u64;
            self.sweep_members(&members).await?;
        }
    }

    /// Posts what fell due for these members.
    async fn sweep_members(&self, members: &[MemberId]) -> Result<(), OperationError> {
        match self.poster.post_all(sweeps(members)).await {
            Ok(decisions) => check_swept(members, &decisions),
            // Too much for one batch, or for the books: one by one, to find out whose it is.
            Err(PostError::Failed(error)) if matches!(*error, StoreError::OutOfRange) => {
                let mut decisions = Vec::with_capacity(members.len());
                for member in members {
                    let sweep = sweeps(std::slice::from_ref(member));
                    decisions.extend(self.poster.post_all(sweep).await?);
                }
                check_swept(members, &decisions)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn due_members(&self, now: Timestamp) -> Result<Vec<MemberId>, StoreError> {
        self.store.reader().due_members(now, SWEEP_MEMBERS).await
    }

    /// Cuts the open window; `expected`, if given, must be the open one.
    pub async fn cut(
        &self,
        request: OperationRequest,
        expected: Option<WindowId>,
    ) -> Result<Done<Cut>, OperationError> {
        loop {
            // A request that was answered before gets that answer, whatever fell due since.
            if self.store.reader().request(request.key).await?.is_none() {
                self.sweep().await?;
            }
            if let Some(done) = self.run(Turn { request, expected }).await? {
                return Ok(done);
            }
        }
    }
}

#[async_trait::async_trait]
impl AsyncWork<Option<Done<Cut>>> for Turn {
    /// `None`: too much fell due in the last moments; sweep again first.
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Option<Done<Cut>>, OperationError> {
        if let Some(id) = earlier(unit, &self.request, Subject::Window).await? {
            let cut = cut_before(unit, WindowId::from_uuid(id)).await?;
            return Ok(Some(Done {
                result: cut,
                replayed: true,
            }));
        }
        if self
            .expected
            .is_some_and(|expected| expected != frame.window)
        {
            return Err(Objection::WindowStale { open: frame.window }.into());
        }
        let now = now_in(frame, operations.clock.as_ref());
        if !sweep_within(operations, unit, frame, now).await? {
            return Ok(None);
        }
        let mut closed = window(unit, frame.window).await?;
        let totals = unit.totals(&[closed.id]).await?;
        closed.state = WindowState::Closed;
        closed.closed_at = Some(now);
        closed.last_transaction = unit.last_transaction().await?;
        closed.totals_hash = Some(totals_hash(
            totals.iter().map(|(_, key, amount)| (key, *amount)),
        ));
        let opened = Window {
            id: WindowId::from_uuid(operations.mint().await),
            number: closed.number + 1,
            state: WindowState::Open,
            opened_at: now,
            closed_at: None,
            last_transaction: None,
            totals_hash: None,
        };
        unit.turn_window(&closed, &opened).await?;
        remember(unit, &self.request, Subject::Window, closed.id.uuid()).await?;
        Ok(Some(Done {
            result: Cut { closed, opened },
            replayed: false,
        }))
    }
}

/// Posts what fell due since the sweep; `false` if that is too much to hold the window for.
async fn sweep_within(
    operations: &Operations,
    unit: &mut dyn Unit,
    frame: &Frame,
    now: Timestamp,
) -> Result<bool, OperationError> {
    let mut due = unit.due_members(now, SWEEP_MEMBERS).await?;
    if due.is_empty() {
        return Ok(true);
    }
    let rulebook = rulebook_in(unit).await?;
    let mut setting = setting(frame, operations.clock.now());
    setting.now = now;
    for _ in 0..LAST_MOMENT_BATCHES {
        let mut mint = operations.mint.lock().await;
        let clock = operations.clock.as_ref();
        let timings = &mut Timings::start();
        let sweeps = sweeps(&due);
        let mint = &mut mint;
        let swept = decide_within(unit, &rulebook, &setting, clock, mint, &sweeps, timings).await;
        match swept {
            Ok((decisions, _)) => check_swept(&due, &decisions)?,
            // The sweep outside finds out whose it is.
            Err(StoreError::OutOfRange) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        due = unit.due_members(now, SWEEP_MEMBERS).await?;
        if due.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sweeps(members: &[MemberId]) -> Vec<Command> {
    let sweep = |member: &MemberId| Command {
        request: None,
        action: Action::Sweep(*member),
    };
    members.iter().map(sweep).collect()
}

/// Whether everything was posted: what is refused stays due, and asking again would never end.
fn check_swept(members: &[MemberId], decisions: &[Decision]) -> Result<(), OperationError> {
    for (member, decision) in members.iter().zip(decisions) {
        match decision {
            Decision::Refused(Refusal::OutOfRange) => {
                return Err(Objection::DueOutOfRange(*member).into());
            }
            Decision::Refused(refusal) => {
                let problem = format!("what fell due for {member} is refused: {refusal}");
                return Err(StoreError::Damaged(problem).into());
            }
            Decision::Recorded { .. } | Decision::Enrolled { .. } | Decision::Nothing => {}
        }
    }
    Ok(())
}

async fn window(unit: &mut dyn Unit, id: WindowId) -> Result<Window, OperationError> {
    let found = unit.windows(&[id]).await?.pop();
    found.ok_or_else(|| StoreError::Damaged(format!("window {id} is missing")).into())
}

/// The answer to a cut that was made before.
async fn cut_before(unit: &mut dyn Unit, id: WindowId) -> Result<Cut, OperationError> {
    let closed = window(unit, id).await?;
    let next = unit.window_by_number(closed.number + 1).await?;
    let mut opened = next.ok_or_else(|| StoreError::Damaged(format!("no window follows {id}")))?;
    // As it was then: the first answer, for ever.
    opened.state = WindowState::Open;
    opened.closed_at = None;
    opened.last_transaction = None;
    opened.totals_hash = None;
    Ok(Cut {
        closed: Window {
            state: WindowState::Closed,
            ..closed
        },
        opened,
    })
}

/// SHA-256 over a window's totals in the order of their keys, one line each.
#[must_use]
pub(crate) fn totals_hash<'a>(totals: impl Iterator<Item = (&'a TotalKey, i64)>) -> Vec<u8> {
    let mut text = String::new();
    for (key, amount) in totals.filter(|(_, amount)| *amount != 0) {
        let TotalKey {
            measure,
            party,
            counterparty,
            unit,
        } = key;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {party} {counterparty} {unit} {amount}",
            measure.code()
        );
    }
    Sha256::digest(text.as_bytes()).to_vec()
}
