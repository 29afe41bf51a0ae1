//! The plain model of the domain, led through everything that was committed, in that order.
//!
//! Batches decide on what they read and write a little later. What a member's version guards is as
//! it was read; limits, funds and check numbers may have moved in between. So a decline is right if
//! the model would have said so at any moment between the batch's begin and its commit, or if the
//! batch found the check's number free, somebody took it, and something else spoke against the row
//! by then.
//!
//! What a batch posts may pass below a limit half way, as long as the batch as a whole does not; and
//! it may use a check's number that was taken meanwhile, if it frees it again. A refusal is right if
//! the model would have refused at any moment of the call, had the same request not been recorded
//! from another call meanwhile. Anything else must be to the point what the model says.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use coalition_ledger::command::{
    Action, Command, Earn, Redeem, RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::{MemberId, TransactionId};
use coalition_ledger::snapshot::Subject;
use coalition_ledger::transaction::{Decline, Kind, Transaction};
use uuid::Uuid;

use super::database::{Commit, Database};
use super::desk::Desk;
use super::model::{Answer, Limits, Model, Rules, Told, reversed_before_arrival};
use super::world::{START, World};

/// Rows about which the model is told what the batch saw.
type Excused = BTreeSet<TransactionId>;

/// A row that the model sees otherwise.
struct Mismatch {
    commit: usize,
    transaction: TransactionId,
    answer: Answer,
}

/// Something that a unit did, in the order done.
enum Deed<'a> {
    Swept(MemberId),
    Answered(&'a Command, Option<&'a Transaction>),
}

/// Leads the model through the log; what is wrong.
pub(crate) fn compare(world: &World, db: &Database, desk: &Desk) -> Vec<String> {
    let history = History { world, db, desk };
    let mut excused = Excused::new();
    loop {
        let mut refusals = Refusals::of(desk, db);
        let mut model = history.start();
        match history.run(&mut model, &excused, &mut refusals) {
            Ok(()) => {
                let mut wrong = refusals.unexplained(desk);
                wrong.extend(compare_sums(&model, db));
                return wrong;
            }
            Err(mismatch) => {
                if excused.contains(&mismatch.transaction)
                    || !history.is_excusable(&mismatch, &excused)
                {
                    return vec![history.describe(&mismatch)];
                }
                excused.insert(mismatch.transaction);
            }
        }
    }
}

struct History<'a> {
    world: &'a World,
    db: &'a Database,
    desk: &'a Desk,
}

impl<'a> History<'a> {
    fn start(&self) -> Model {
        let rows = self.world.first_terms.iter();
        let agreements = rows.filter_map(super::database::in_force).collect();
        let rules = Rules {
            face_values: self.world.face_values.clone(),
            partners: self.world.partners.clone(),
            agreements,
        };
        Model::new(rules, START)
    }

    fn run(
        &self,
        model: &mut Model,
        excused: &Excused,
        refusals: &mut Refusals,
    ) -> Result<(), Mismatch> {
        refusals.look(0, model);
        for (place, commit) in self.db.log.iter().enumerate() {
            self.step(model, place, excused, refusals)?;
            settle_down(model, commit);
            refusals.look(place as u64 + 1, model);
        }
        Ok(())
    }

    /// Leads the model through one commit.
    fn step(
        &self,
        model: &mut Model,
        place: usize,
        excused: &Excused,
        refusals: &mut Refusals,
    ) -> Result<(), Mismatch> {
        let commit = &self.db.log[place];
        model.now = commit.frame.clock.expect("a sandbox's clock").micros();
        for deed in self.deeds(commit) {
            let (command, row) = match deed {
                Deed::Swept(member) => {
                    sweep(model, member);
                    continue;
                }
                Deed::Answered(command, row) => (command, row),
            };
            let answer = match row.filter(|row| excused.contains(&row.id)) {
                Some(row) => excuse(model, command, row),
                None => model.decide(command),
            };
            if let Some(row) = row {
                if !says(&answer, row) {
                    return Err(Mismatch {
                        commit: place,
                        transaction: row.id,
                        answer,
                    });
                }
                if matches!(answer, Answer::Recorded(_, false)) {
                    model.name(row.id);
                }
            }
            refusals.look(place as u64 + 1, model);
        }
        Ok(())
    }

    /// What a commit did, in order.
    fn deeds(&self, commit: &'a Commit) -> Vec<Deed<'a>> {
        let rows = &commit.wrote.transactions;
        let places: HashMap<_, _> = rows
            .iter()
            .enumerate()
            .map(|(n, row)| (row.id, n))
            .collect();
        // Requests are written in the order of their keys, transactions in that of the commands. What
        // left no transaction of this batch, an enrolment say, came before what needed it.
        let mut records: Vec<_> = commit.wrote.requests.iter().collect();
        records.sort_by_key(|record| {
            let subject = TransactionId::from_uuid(record.subject_id);
            places.get(&subject).map(|place| place + 1)
        });
        let mut deeds = Vec::new();
        let mut done = 0;
        for record in records {
            let Some(asked) = self.desk.place((record.key, record.fingerprint)) else {
                continue;
            };
            let subject = TransactionId::from_uuid(record.subject_id);
            let place = match record.subject {
                Subject::Tombstone => continue,
                Subject::Transaction => places.get(&subject).copied().filter(|n| *n >= done),
                _ => None,
            };
            if let Some(place) = place {
                deeds.extend(rows[done..place].iter().filter_map(swept));
                done = place + 1;
            }
            let row = place.map(|place| &rows[place]);
            deeds.push(Deed::Answered(&self.desk.asked[asked].command, row));
        }
        deeds.extend(rows[done..].iter().filter_map(swept));
        deeds
    }

    /// Whether a batch may have seen what made it decide otherwise.
    fn is_excusable(&self, mismatch: &Mismatch, excused: &Excused) -> bool {
        let commit = &self.db.log[mismatch.commit];
        let began_after = usize::try_from(commit.began_after).expect("few");
        if began_after >= mismatch.commit {
            return false;
        }
        let rows = &commit.wrote.transactions;
        let row = rows
            .iter()
            .find(|row| row.id == mismatch.transaction)
            .expect("it is there");
        match (row.declined, &mismatch.answer) {
            // A batch whose parts take each other's place.
            (None, Answer::Recorded(told, false)) => {
                let limits = [Decline::LimitExceeded, Decline::FundsExceeded];
                let checks = [Decline::CheckAlreadyEarned, Decline::CheckAlreadyRedeemed];
                let undone = || self.undoes(commit, row.id);
                rows.len() > 1
                    && told.declined.is_some_and(|why| {
                        limits.contains(&why) || checks.contains(&why) && undone()
                    })
            }
            (None, _) => false,
            (Some(_), _) => {
                let was_taken = self.was_taken_within(row, began_after..mismatch.commit);
                (began_after..=mismatch.commit).any(|moment| {
                    self.would_decline(mismatch, moment, row, excused, false)
                        || was_taken && self.would_decline(mismatch, moment, row, excused, true)
                })
            }
        }
    }

    /// Whether a commit undid a transaction whole, which frees its check's number.
    fn undoes(&self, commit: &Commit, original: TransactionId) -> bool {
        let rows = self.db.tables.transactions.committed();
        let by = rows.get(&original).and_then(|row| row.open.reversed_by);
        by.is_some_and(|by| commit.wrote.transactions.iter().any(|row| row.id == by))
    }

    /// Whether one of these commits took the check's number that a row carries: a batch that found it
    /// free before then goes on to whatever else speaks against the row.
    fn was_taken_within(&self, row: &Transaction, commits: Range<usize>) -> bool {
        let mut rows = self.db.log[commits]
            .iter()
            .flat_map(|c| &c.wrote.transactions);
        row.context.check_id.is_some()
            && rows.any(|other| {
                other.declined.is_none()
                    && (other.partner, other.kind) == (row.partner, row.kind)
                    && other.context.check_id == row.context.check_id
            })
    }

    /// Whether the model, as of `moment`, declines as the row does; as if the row's check number were
    /// free, if `is_free`.
    fn would_decline(
        &self,
        mismatch: &Mismatch,
        moment: usize,
        row: &Transaction,
        excused: &Excused,
        is_free: bool,
    ) -> bool {
        let mut model = self.start();
        let mut nothing = Refusals::default();
        for (place, commit) in self.db.log[..moment].iter().enumerate() {
            if self.step(&mut model, place, excused, &mut nothing).is_err() {
                return false;
            }
            settle_down(&mut model, commit);
        }
        let commit = &self.db.log[mismatch.commit];
        model.now = commit.frame.clock.expect("a sandbox's clock").micros();
        for deed in self.deeds(commit) {
            match deed {
                Deed::Swept(member) => sweep(&mut model, member),
                Deed::Answered(command, own) => {
                    let is_row = own.is_some_and(|own| own.id == row.id);
                    let answer = if is_row && is_free {
                        model.decide(&without_check(command))
                    } else {
                        model.decide(command)
                    };
                    if is_row {
                        let declined = |told: &Told| told.declined == row.declined;
                        return matches!(&answer, Answer::Recorded(told, _) if declined(told));
                    }
                    if let (Some(own), Answer::Recorded(_, false)) = (own, answer) {
                        model.name(own.id);
                    }
                }
            }
        }
        false
    }

    fn describe(&self, mismatch: &Mismatch) -> String {
        let commit = &self.db.log[mismatch.commit];
        let number = mismatch.commit + 1;
        let rows = &commit.wrote.transactions;
        let row = rows.iter().find(|row| row.id == mismatch.transaction);
        format!(
            "commit {number}, begun after {}, holds {row:#?}, where the model says {:#?}",
            commit.began_after, mismatch.answer
        )
    }
}

/// The same command without a check's number.
fn without_check(command: &Command) -> Command {
    let mut command = command.clone();
    let context = match &mut command.action {
        Action::Earn(Earn { context, .. })
        | Action::Redeem(Redeem { context, .. })
        | Action::ReturnEarn(ReturnEarn { context, .. })
        | Action::RefundRedemption(RefundRedemption { context, .. })
        | Action::Reverse(Reverse { context, .. }) => context,
        Action::Enroll(_) | Action::Sweep(_) | Action::Fund(_) => return command,
    };
    context.check_id = None;
    command
}

fn swept<'a>(row: &Transaction) -> Option<Deed<'a>> {
    let is_sweep = matches!(row.kind, Kind::Mature | Kind::Expire);
    row.member.filter(|_| is_sweep).map(Deed::Swept)
}

/// What the commands after a commit find: new terms, another time.
fn settle_down(model: &mut Model, commit: &Commit) {
    model.agreements.extend(commit.wrote.accepted.clone());
    if let Some(now) = commit.wrote.clock {
        model.now = now.micros();
    }
}

fn sweep(model: &mut Model, member: MemberId) {
    model.decide(&Command {
        request: None,
        action: Action::Sweep(member),
    });
}

/// Has the model do what the row says: a decline it would not have given, or a charge it would not
/// have let pass.
fn excuse(model: &mut Model, command: &Command, row: &Transaction) -> Answer {
    let Some(why) = row.declined else {
        model.limits = Limits::Told(false);
        let answer = match model.clone().decide(command) {
            Answer::Recorded(told, false) if told.declined.is_some() => {
                model.decide(&without_check(command))
            }
            _ => model.decide(command),
        };
        model.limits = Limits::Computed;
        return answer;
    };
    let member = match &command.action {
        Action::Earn(earn) => Some(earn.member),
        Action::Redeem(redeem) => Some(redeem.member),
        _ => None,
    };
    let balance = member.map(|member| {
        sweep(model, member);
        model.holders[&member].balance()
    });
    model.decline(command, why, balance, None)
}

/// Whether the model says what the row says.
fn says(answer: &Answer, row: &Transaction) -> bool {
    let Answer::Recorded(told, _) = answer else {
        return false;
    };
    let points = if row.declined.is_none() {
        row.points.get()
    } else {
        0
    };
    told.kind == row.kind
        && told.declined == row.declined
        && told.points == points
        && told.forgiven == row.points_forgiven.get()
        && told.expired == row.points_expired.get()
        && told.balance.is_none_or(|balance| balance == row.balance)
}

/// A refusal that nothing explains yet.
struct Open {
    /// The command's place.
    place: usize,
    refusal: Refusal,
    /// Between which commits it was given.
    from: u64,
    to: u64,
    /// Whether the request was recorded meanwhile, from another call: who saw it as new before may
    /// have met afterwards what speaks against it.
    is_overtaken: bool,
}

/// Refusals leave no trace in the books: each must have been right at a moment of its call.
#[derive(Default)]
struct Refusals {
    open: Vec<Open>,
    commands: Vec<Command>,
}

impl Refusals {
    fn of(desk: &Desk, db: &Database) -> Self {
        let mut all = Self::default();
        let recorded: HashMap<RequestKey, u64> = (1..)
            .zip(&db.log)
            .flat_map(|(number, commit)| commit.wrote.requests.iter().map(move |r| (r.key, number)))
            .collect();
        for (place, asked) in desk.asked.iter().enumerate() {
            for told in &asked.told {
                let Decision::Refused(refusal) = &told.decision else {
                    continue;
                };
                // Whose an identifier is, the model does not know.
                if *refusal != Refusal::IdentifierTaken {
                    let refusal = without_name(refusal);
                    let (from, to) = (told.called_after, told.answered_after);
                    let key = asked.command.request.map(|(key, _)| key);
                    let number = key.and_then(|key| recorded.get(&key));
                    all.open.push(Open {
                        place,
                        refusal,
                        from,
                        to,
                        is_overtaken: number.is_some_and(|number| (from + 1..=to).contains(number)),
                    });
                }
            }
        }
        if !all.open.is_empty() {
            all.commands = desk
                .asked
                .iter()
                .map(|asked| asked.command.clone())
                .collect();
        }
        all
    }

    /// Crosses off what the model would refuse as well, as it stands after so many commits.
    fn look(&mut self, commits: u64, model: &Model) {
        let commands = &self.commands;
        self.open.retain(|open| {
            let is_now = (open.from..=open.to).contains(&commits);
            let same = |command: &Command| match model.clone().decide(command) {
                Answer::Refused(own) => without_name(&own) == open.refusal,
                _ => false,
            };
            let command = &commands[open.place];
            !(is_now && (same(command) || open.is_overtaken && same(&as_new(command))))
        });
    }

    fn unexplained(&self, desk: &Desk) -> Vec<String> {
        let describe = |open: &Open| {
            let Open {
                place,
                refusal,
                from,
                to,
                ..
            } = open;
            let command = &desk.asked[*place].command;
            format!("#{place} {command:?} was refused between commits {from} and {to}: {refusal}")
        };
        self.open.iter().map(describe).collect()
    }
}

/// The same command under an id that nobody used.
fn as_new(command: &Command) -> Command {
    let mut command = command.clone();
    if let Some((key, _)) = &mut command.request {
        key.id = Uuid::max();
    }
    command
}

fn without_name(refusal: &Refusal) -> Refusal {
    match refusal {
        Refusal::ReversedBeforeArrival { .. } => reversed_before_arrival(),
        other => other.clone(),
    }
}

/// The model's sums against the books'.
fn compare_sums(model: &Model, db: &Database) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, book) in db.tables.members.committed() {
        let balance = model.holders.get(id).map(super::model::Holder::balance);
        if balance != Some(book.balance()) {
            let own = book.balance();
            wrong.push(format!(
                "{id} has {own:?}, where the model says {balance:?}"
            ));
        }
    }
    for ((party, currency), position) in db.tables.positions.committed() {
        let own = model
            .accounts
            .get(&(*party, currency.code()))
            .copied()
            .unwrap_or_default();
        let model = [own.debits, own.credits, own.funds];
        let books = [position.debits, position.credits, position.funds];
        if books.map(|sum| i128::from(sum.get())) != model {
            wrong.push(format!(
                "{party} has {position:?}, where the model says {own:?}"
            ));
        }
    }
    wrong
}
