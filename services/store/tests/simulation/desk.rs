//! What was asked and what was told: the memory of all callers of a run.

use std::collections::BTreeMap;

use coalition_ledger::command::{Command, Fingerprint, RequestKey};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::snapshot::Subject;
use coalition_ledger::transaction::{Open, Transaction};

use super::sim::{Sim, State};

/// An answer that a caller had.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) decision: Decision,
    /// How many commits there were when it called.
    pub(crate) called_after: u64,
    /// How many there were when it had its answer.
    pub(crate) answered_after: u64,
}

/// A command under a request id, with all its answers.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) told: Vec<Told>,
    /// Whether it may be stored without anybody having been told.
    in_doubt: bool,
    under_way: u32,
}

impl Asked {
    /// The transaction that somebody was told of.
    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.told.iter().find_map(|told| match &told.decision {
            Decision::Recorded { transaction, .. } => Some(&**transaction),
            _ => None,
        })
    }
}

/// Everything that was asked, in order.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) asked: Vec<Asked>,
    places: BTreeMap<(RequestKey, Fingerprint), usize>,
}

impl Desk {
    /// Remembers a command before it is sent; it has a request id.
    pub(crate) fn add(&mut self, command: Command) -> usize {
        let request = command.request.expect("a request id");
        let place = self.asked.len();
        self.asked.push(Asked {
            command,
            told: Vec::new(),
            in_doubt: false,
            under_way: 0,
        });
        self.places.insert(request, place);
        place
    }

    /// Where a request's command is.
    pub(crate) fn place(&self, request: (RequestKey, Fingerprint)) -> Option<usize> {
        self.places.get(&request).copied()
    }

    pub(crate) fn call(&mut self, places: &[usize]) {
        for place in places {
            self.asked[*place].under_way += 1;
        }
    }

    /// The calls ended without an answer.
    pub(crate) fn lost(&mut self, places: &[usize]) {
        for place in places {
            self.asked[*place].under_way -= 1;
            self.asked[*place].in_doubt = true;
        }
    }

    /// The calls were told that nothing was done: that must be so.
    pub(crate) fn undone(&mut self, places: &[usize], state: &mut State) {
        for place in places {
            let asked = &mut self.asked[*place];
            asked.under_way -= 1;
            let (key, fingerprint) = asked.command.request.expect("a request id");
            let known = state.db.tables.requests.committed().get(&key);
            let is_there = known.is_some_and(|record| {
                record.fingerprint == fingerprint && record.subject != Subject::Tombstone
            });
            let may_be_there = asked.in_doubt || asked.under_way > 0 || !asked.told.is_empty();
            if is_there && !may_be_there {
                state.violation(format!("{key:?} was done, and its caller told otherwise"));
            }
        }
    }

    /// The calls were answered.
    pub(crate) fn told(&mut self, places: &[usize], answers: Vec<Told>, sim: &Sim) {
        if answers.len() != places.len() {
            sim.violation(format!(
                "{} answers to {} commands",
                answers.len(),
                places.len()
            ));
        }
        for (place, told) in places.iter().zip(answers) {
            let asked = &mut self.asked[*place];
            asked.under_way -= 1;
            sim.trace(|| format!("#{place} is told {}", brief(&told.decision)));
            if let Some(what) = contradiction(asked, &told.decision) {
                sim.violation(format!("#{place}, {:?}: {what}", asked.command.action));
            }
            asked.told.push(told);
        }
    }
}

/// What a decision says otherwise than those before it.
fn contradiction(asked: &Asked, new: &Decision) -> Option<String> {
    // A refusal may have been on its way while another call was decided: the model judges it.
    let recorded = |decision: &&Decision| !matches!(decision, Decision::Refused(_));
    if !recorded(&new) {
        return None;
    }
    let mut before = asked
        .told
        .iter()
        .map(|told| &told.decision)
        .filter(recorded);
    let first = before.clone().next()?;
    let is_new = |decision: &Decision| {
        matches!(
            decision,
            Decision::Recorded {
                replayed: false,
                ..
            } | Decision::Enrolled {
                replayed: false,
                ..
            }
        )
    };
    if is_new(new) && before.any(is_new) {
        return Some(format!("done twice: {first:?}, then {new:?}"));
    }
    let is_same = match (first, new) {
        (Decision::Recorded { transaction: a, .. }, Decision::Recorded { transaction: b, .. }) => {
            as_told(a) == as_told(b)
        }
        (Decision::Enrolled { member: a, .. }, Decision::Enrolled { member: b, .. }) => a == b,
        _ => false,
    };
    (!is_same).then(|| format!("told {first:?}, then {new:?}"))
}

/// A transaction without what may change after it was told.
pub(crate) fn as_told(transaction: &Transaction) -> Transaction {
    Transaction {
        open: Open::default(),
        ..transaction.clone()
    }
}

/// A decision in a line.
pub(crate) fn brief(decision: &Decision) -> String {
    match decision {
        Decision::Recorded {
            transaction: t,
            replayed,
        } => {
            let again = if *replayed { " (again)" } else { "" };
            match t.declined {
                None => format!("{:?} {}: {} points{again}", t.kind, t.id, t.points),
                Some(why) => format!("{:?} {}: {why:?}{again}", t.kind, t.id),
            }
        }
        Decision::Enrolled { member, replayed } => format!("{member} enrolled ({replayed})"),
        Decision::Nothing => "nothing to do".to_owned(),
        Decision::Refused(Refusal::ReversedBeforeArrival { .. }) => "undone before".to_owned(),
        Decision::Refused(refusal) => format!("refused: {refusal}"),
    }
}
