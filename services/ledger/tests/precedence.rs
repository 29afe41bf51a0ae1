//! Tables of outcomes in documented precedence: which of several answers comes.
//!
//! Each table lists, for one kind of command, everything that can be wrong, in the order in which
//! it is looked at, with the answer. Every fault is tried alone, with each later one that can go
//! with it, and with all later ones at once: the first in the table always wins.

mod sales;
mod undoing;

use coalition_ledger::command::{Action, Command, Enroll, NewIdentifier, RequestKey};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::money::Currency;
use coalition_ledger::transaction::{Decline, Kind};
use uuid::Uuid;

use crate::model::reversed_before_arrival;
use crate::support::commands::{IntoAction, command, scope_of};
use crate::support::{
    Builder, Network, deposit, euros, member, partner, posted, reverse, sweep, terms, withdraw,
};

/// The partner that sends the commands.
const SHOP: u8 = 1;
/// Another one.
const OTHER: u8 = 2;
/// One that is not in the network.
const NOBODY: u8 = 99;

/// A network, and a command that would be posted in it.
struct Scene<C> {
    network: Network,
    command: C,
    key: RequestKey,
}

/// Something wrong.
struct Fault<C> {
    name: &'static str,
    /// Faults of one group do not go together; an empty name is no group.
    group: &'static str,
    spoil: fn(&mut Scene<C>),
    says: Says,
}

/// The answer that must come.
#[derive(Clone, Debug, PartialEq)]
enum Says {
    /// An answer given before.
    Replayed,
    Declined(Decline),
    Refused(Refusal),
}

impl<C: Clone + IntoAction> Scene<C> {
    fn new(network: Network, command: C) -> Self {
        let scope = scope_of(&command.clone().into_action());
        let key = RequestKey {
            id: Uuid::from_u128(0xfeed),
            scope,
        };
        Self {
            network,
            command,
            key,
        }
    }

    fn command(&self, digest: u8) -> Command {
        Command {
            request: Some((self.key, [digest; 16])),
            action: self.command.clone().into_action(),
        }
    }

    fn send(&mut self) -> Decision {
        let command = self.command(1);
        self.network.run_one(&command)
    }
}

/// Everything that can be wrong with a command, in the order in which it is looked at.
struct Table<C, S: Fn() -> Scene<C>> {
    scene: S,
    faults: Vec<Fault<C>>,
}

impl<C: Clone + IntoAction, S: Fn() -> Scene<C>> Table<C, S> {
    /// A table that begins as every one does: with the request's own id.
    fn new(scene: S) -> Self {
        let faults = Vec::new();
        Self { scene, faults }
            .fault("request", "answered before", Says::Replayed, |scene| {
                let command = scene.command(1);
                scene.network.run_one(&command);
            })
            .fault(
                "request",
                "the id of another request",
                Says::Refused(Refusal::RequestIdReused),
                |scene| {
                    let command = scene.command(2);
                    scene.network.run_one(&command);
                },
            )
            .fault(
                "request",
                "undone before it arrived",
                Says::Refused(reversed_before_arrival()),
                |scene| {
                    let undo = reverse(partner(SHOP), Kind::Earn, scene.key.id).into_action();
                    let undo = command(0xdead, scene.key.scope, undo);
                    scene.network.run_one(&undo);
                },
            )
    }

    /// The next thing that is looked at.
    fn fault(
        mut self,
        group: &'static str,
        name: &'static str,
        says: Says,
        spoil: fn(&mut Scene<C>),
    ) -> Self {
        self.faults.push(Fault {
            name,
            group,
            spoil,
            says,
        });
        self
    }

    /// Tries the table out.
    fn check(&self) {
        posted_or_enrolled(&(self.scene)().send());
        for (first, fault) in self.faults.iter().enumerate() {
            let later = &self.faults[first + 1..];
            self.try_out(&[fault]);
            for second in later.iter().filter(|later| goes_with(&[fault], later)) {
                self.try_out(&[fault, second]);
            }
            let mut all = vec![fault];
            for next in later {
                if goes_with(&all, next) {
                    all.push(next);
                }
            }
            self.try_out(&all);
        }
    }

    fn try_out(&self, faults: &[&Fault<C>]) {
        let mut scene = (self.scene)();
        for fault in faults {
            (fault.spoil)(&mut scene);
        }
        let before = scene.network.store.clone();
        let decision = scene.send();
        let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
        assert_eq!(
            says(&decision),
            faults[0].says,
            "with {names:?}: {decision:?}"
        );
        if let Decision::Refused(_) = decision {
            let after = &scene.network.store;
            assert_eq!(
                after.requests, before.requests,
                "a refusal is not remembered"
            );
            assert_eq!(after.checks, before.checks, "a refusal uses no check");
        }
        scene.network.assert_audited();
    }
}

fn goes_with<C>(faults: &[&Fault<C>], other: &Fault<C>) -> bool {
    other.group.is_empty() || faults.iter().all(|fault| fault.group != other.group)
}

fn says(decision: &Decision) -> Says {
    match decision {
        Decision::Refused(Refusal::ReversedBeforeArrival { .. }) => {
            Says::Refused(reversed_before_arrival())
        }
        Decision::Refused(refusal) => Says::Refused(refusal.clone()),
        Decision::Recorded { replayed: true, .. } | Decision::Enrolled { replayed: true, .. } => {
            Says::Replayed
        }
        Decision::Recorded { transaction, .. } if transaction.declined.is_some() => {
            Says::Declined(transaction.declined.expect("declined"))
        }
        other => panic!("neither refused nor declined nor a replay: {other:?}"),
    }
}

#[track_caller]
fn posted_or_enrolled(decision: &Decision) {
    match decision {
        Decision::Enrolled {
            replayed: false, ..
        } => {}
        other => assert!(posted(other).declined.is_none()),
    }
}

#[test]
fn withdrawals() {
    let scene = || {
        let mut network = Builder::new()
            .partner(partner(SHOP), terms(Vec::new()))
            .build();
        network.must_post(Action::Fund(deposit(partner(SHOP), euros("100.00"))));
        Scene::new(network, withdraw(partner(SHOP), euros("60.00")))
    };
    Table::new(scene)
        .fault(
            "partner",
            "an unknown partner",
            Says::Refused(Refusal::UnknownPartner(partner(NOBODY))),
            |scene| scene.command.partner = partner(NOBODY),
        )
        .fault(
            "",
            "another currency than agreed",
            Says::Refused(Refusal::CurrencyMismatch {
                expected: Currency::EUR,
            }),
            |scene| scene.command.currency = Currency::USD,
        )
        .fault(
            "amount",
            "nothing",
            Says::Refused(Refusal::OutOfRange),
            |scene| {
                scene.command.amount = euros("0.00");
            },
        )
        .fault(
            "amount",
            "beyond the books",
            Says::Refused(Refusal::OutOfRange),
            |scene| {
                scene.command.amount = coalition_ledger::money::Minor::new(i64::MAX);
            },
        )
        .fault(
            "amount",
            "more than there is",
            Says::Declined(Decline::FundsExceeded),
            |scene| {
                scene.command.amount = euros("100.01");
            },
        )
        .check();
}

#[test]
fn enrolments() {
    let identifier = |byte| NewIdentifier {
        hash: [byte; 32],
        kind: 1,
        masked: "••••".into(),
    };
    let scene = || {
        let mut network = Builder::new()
            .partner(partner(SHOP), terms(Vec::new()))
            .build();
        let taken = Enroll {
            member: member(1),
            identifiers: vec![identifier(1)],
        };
        network.send(Action::Enroll(taken));
        Scene::new(
            network,
            Enroll {
                member: member(2),
                identifiers: vec![identifier(2)],
            },
        )
    };
    Table::new(scene)
        .fault(
            "identifiers",
            "another member's identifier",
            Says::Refused(Refusal::IdentifierTaken),
            |scene| {
                scene.command.identifiers.push(NewIdentifier {
                    hash: [1; 32],
                    kind: 1,
                    masked: String::new(),
                });
            },
        )
        .fault(
            "identifiers",
            "an identifier named twice",
            Says::Refused(Refusal::IdentifierTaken),
            |scene| {
                let twice = scene.command.identifiers[0].clone();
                scene.command.identifiers.push(twice);
            },
        )
        .check();
}

#[test]
fn sweeps() {
    let mut network = Builder::new().build();
    let unknown = network.run_one(&sweep(member(1)));
    assert_eq!(unknown, Decision::Refused(Refusal::UnknownMember));
    network.enroll(member(1));
    assert_eq!(network.run_one(&sweep(member(1))), Decision::Nothing);
}
