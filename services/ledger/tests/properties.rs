//! Random networks and commands against the invariants of `domain.md`.
//!
//! Three ledgers run every script: one in batches that fetch as little as they can, one command
//! by command with everything at hand, and the plain [`Model`]. After every batch all three agree
//! and every invariant holds.

mod invariants;
mod restoring;

use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::TransactionId;
use coalition_ledger::member::MemberStatus;
use coalition_ledger::transaction::{Decline, Kind, Open, Slice, Transaction};
use proptest::prelude::*;

use crate::model::{Answer, Model, Part, Told, reversed_before_arrival};
use crate::support::network::window;
use crate::support::store::assert_same_rows;
use crate::support::{Network, Thrift, member};
use crate::world::{Clerk, MEMBERS, Step, World, scripts, worlds};

/// How many random scripts each property runs. Nothing is kept of failures: what a failing script
/// teaches becomes a test of its own in [`crate::regressions`].
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn batches_single_commands_and_the_model_agree_and_every_invariant_holds(
        world in worlds(),
        script in scripts(),
        thrift in 0..=3_usize,
    ) {
        let mut run = Run::new(&world, Thrift::Few(thrift));
        for step in &script {
            run.step(step);
        }
        run.replay_everything();
    }
}

/// A network with a history.
pub(crate) fn history(world: &World, script: &[Step]) -> Network {
    let mut run = Run::new(world, Thrift::Few(1));
    for step in script {
        run.step(step);
    }
    run.batched.network
}

/// The three ledgers.
struct Run {
    clerk: Clerk,
    batched: Ledger,
    single: Ledger,
    model: Model,
    windows: u8,
}

/// One of them, with what it answered: one entry per command.
struct Ledger {
    network: Network,
    ids: Vec<Option<TransactionId>>,
    told: Vec<(coalition_ledger::command::Command, Decision)>,
}

impl Ledger {
    fn new(world: &World, thrift: Thrift) -> Self {
        let mut network = world.terms.clone().build();
        network.thrift = thrift;
        Self {
            network,
            ids: Vec::new(),
            told: Vec::new(),
        }
    }

    fn note(&mut self, command: &coalition_ledger::command::Command, decision: &Decision) {
        self.ids.push(match decision {
            Decision::Recorded { transaction, .. } => Some(transaction.id),
            _ => None,
        });
        self.told.push((command.clone(), decision.clone()));
    }
}

impl Run {
    fn new(world: &World, thrift: Thrift) -> Self {
        let mut run = Self {
            clerk: Clerk::new(world.clone()),
            batched: Ledger::new(world, thrift),
            single: Ledger::new(world, Thrift::All),
            model: Model::new(world.terms.rules(), crate::support::START),
            windows: 1,
        };
        for opening in run.clerk.opening() {
            run.batch(&opening);
        }
        let frozen = member(MEMBERS - 1);
        run.batched.network.set_status(frozen, MemberStatus::Frozen);
        run.single.network.set_status(frozen, MemberStatus::Frozen);
        run.model.holders.get_mut(&frozen).expect("enrolled").status = MemberStatus::Frozen;
        run
    }

    fn step(&mut self, step: &Step) {
        let now = self.single.network.now.saturating_add_micros(step.advance);
        self.windows += u8::from(step.cut);
        for network in [&mut self.batched.network, &mut self.single.network] {
            network.now = now;
            network.window = window(self.windows);
        }
        self.model.now = now.micros();
        let batch = self.clerk.batch(step, &self.model);
        self.batch(&batch);
        invariants::hold(&self.single.network);
        invariants::agree(&self.single.network, &self.model);
        let (batched, single) = (&self.batched.network.store, &self.single.network.store);
        assert_same_rows(&batched.renumbered(), &single.renumbered());
    }

    fn batch(&mut self, batch: &[crate::world::Draft]) {
        let commands: Vec<_> = batch
            .iter()
            .map(|draft| draft.with_ids(&self.batched.ids))
            .collect();
        let decisions = self.batched.network.run(&commands);
        assert_eq!(decisions.len(), commands.len(), "one decision per command");
        for (draft, decision) in batch.iter().zip(&decisions) {
            let command = draft.with_ids(&self.single.ids);
            let expected = self.model.decide(&command);
            let before = self.single.network.clone();
            let alone = self.single.network.run_one(&command);
            if let Decision::Recorded {
                transaction,
                replayed: false,
            } = &alone
            {
                if command.request.is_some() {
                    self.model.name(transaction.id);
                }
                invariants::within_limits(before, &self.single.network, transaction);
            }
            assert_eq!(answer(&alone, &expected), expected, "to {command:#?}");
            assert_eq!(
                answer(decision, &expected),
                expected,
                "in a batch, to {command:#?}"
            );
            self.single.note(&command, &alone);
        }
        for (command, decision) in commands.iter().zip(&decisions) {
            self.batched.note(command, decision);
        }
    }

    /// Sends everything that was recorded once more, all at once.
    fn replay_everything(mut self) {
        let told = std::mem::take(&mut self.batched.told);
        let recorded = |decision: &Decision| {
            matches!(
                decision,
                Decision::Recorded { .. } | Decision::Enrolled { .. }
            )
        };
        let known: Vec<_> = told
            .into_iter()
            .filter(|(command, decision)| command.request.is_some() && recorded(decision))
            .collect();
        let commands: Vec<_> = known.iter().map(|(command, _)| command.clone()).collect();
        let (decisions, effects) = self.batched.network.decide(&commands);
        assert!(effects.is_empty(), "replays wrote {effects:#?}");
        for ((_, first), again) in known.iter().zip(&decisions) {
            match (first, again) {
                (
                    Decision::Recorded {
                        transaction: first, ..
                    },
                    Decision::Recorded {
                        transaction: again,
                        replayed,
                    },
                ) => {
                    assert!(replayed);
                    assert_eq!(as_told(first), as_told(again));
                }
                (Decision::Enrolled { member: first, .. }, again) => {
                    assert_eq!(
                        again,
                        &Decision::Enrolled {
                            member: *first,
                            replayed: true
                        }
                    );
                }
                _ => panic!("{first:?} became {again:?}"),
            }
        }
    }
}

/// A transaction without what may change after it was told.
fn as_told(transaction: &Transaction) -> Transaction {
    Transaction {
        open: Open::default(),
        ..transaction.clone()
    }
}

/// A decision in the model's words; what the model leaves unsaid is taken as said.
fn answer(decision: &Decision, expected: &Answer) -> Answer {
    match decision {
        Decision::Enrolled { member, replayed } => Answer::Enrolled(*member, *replayed),
        Decision::Nothing => Answer::Nothing,
        Decision::Refused(Refusal::ReversedBeforeArrival { .. }) => {
            Answer::Refused(reversed_before_arrival())
        }
        Decision::Refused(refusal) => Answer::Refused(refusal.clone()),
        Decision::Recorded {
            transaction,
            replayed,
        } => {
            let says_balance = match expected {
                Answer::Recorded(told, _) => told.balance.is_some(),
                _ => true,
            };
            let posted = transaction.declined.is_none();
            let told = Told {
                kind: transaction.kind,
                declined: transaction.declined,
                points: if posted { transaction.points.get() } else { 0 },
                forgiven: transaction.points_forgiven.get(),
                expired: transaction.points_expired.get(),
                balance: says_balance.then_some(transaction.balance),
                debt: debt(transaction),
                left: left(transaction),
                parts: parts(transaction),
            };
            Answer::Recorded(told, *replayed)
        }
    }
}

/// Points that repaid a debt, or became one.
fn debt(transaction: &Transaction) -> i64 {
    let slices = match transaction.kind {
        Kind::Earn => transaction.repaid(),
        _ => transaction.indebted(),
    };
    Slice::sum(&slices).expect("in range").get()
}

/// What remains of the original, where the record is about that: of an earn points and amount, of a
/// redemption points.
fn left(transaction: &Transaction) -> Option<(i64, i64)> {
    let Open { points, amount, .. } = transaction.open;
    match (transaction.kind, transaction.declined) {
        (Kind::ReturnEarn, None) | (_, Some(Decline::ReturnExceedsCheck)) => {
            Some((points.get(), amount.get()))
        }
        (Kind::RefundRedemption, None) | (_, Some(Decline::RefundExceedsRedemption)) => {
            Some((points.get(), 0))
        }
        _ => None,
    }
}

/// The lots of an earn, a redemption or a refund.
fn parts(transaction: &Transaction) -> Vec<Part> {
    let slices = match transaction.kind {
        Kind::Earn => transaction.issued(),
        Kind::Redeem => transaction.spent(),
        Kind::RefundRedemption => transaction.restored(),
        _ => Vec::new(),
    };
    let slices = Slice::by_lot(slices).expect("in range");
    let part = |slice: &Slice| Part {
        issuer: slice.issuer,
        points: slice.points.get(),
        expires_at: slice.lot.expires_at.micros(),
    };
    slices.iter().map(part).collect()
}
