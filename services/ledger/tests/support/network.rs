//! A network in memory: terms, rows and a clock, and the loop that the poster runs.

use coalition_ledger::agreement::{Agreement, Terms};
use coalition_ledger::apply::{Setting, apply};
use coalition_ledger::command::{Command, Keys};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{AgreementId, IdMint, MemberId, PartnerId, Party, WindowId};
use coalition_ledger::member::{MemberBook, MemberStatus};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::netting::{Method, Netting, net};
use coalition_ledger::rulebook::{
    DEFAULT_STORE_AND_FORWARD_MICROS, Partner, PartnerStatus, Rulebook,
};
use coalition_ledger::snapshot::{Effects, Position};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::commands::{IntoAction, command, enroll, scope_of};
use super::store::{MemoryStore, Thrift, Wanted};
use super::words::{START, dec, posted};
use crate::model::Rules;

/// When the tests' ids are minted from, at first; ids take one more millisecond per attempt.
const FIRST_MINT: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);
const SEED: [u8; 6] = *b"ledger";

/// Builds a [`Network`].
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    pub(crate) face_values: Vec<(Currency, Decimal)>,
    pub(crate) partners: Vec<Partner>,
    pub(crate) agreements: Vec<Agreement>,
}

impl Builder {
    /// A network in euros, one point worth a cent, without partners.
    pub(crate) fn new() -> Self {
        Self {
            face_values: vec![(Currency::EUR, dec("0.01"))],
            partners: Vec::new(),
            agreements: Vec::new(),
        }
    }

    pub(crate) fn face_value(mut self, currency: Currency, value: &str) -> Self {
        self.face_values.push((currency, dec(value)));
        self
    }

    /// A partner with terms that have always been in force.
    pub(crate) fn partner(self, id: PartnerId, terms: Terms) -> Self {
        self.stranger(id)
            .version(id, Timestamp::from_micros(0), terms)
    }

    /// A partner without any agreement.
    pub(crate) fn stranger(mut self, id: PartnerId) -> Self {
        self.partners.push(Partner {
            id,
            status: PartnerStatus::Active,
        });
        self
    }

    /// A further version of a partner's agreement.
    pub(crate) fn version(self, id: PartnerId, effective_at: Timestamp, terms: Terms) -> Self {
        self.agreement(id, None, effective_at, terms)
    }

    /// An agreement of a pair that has always been in force.
    pub(crate) fn pair(self, issuer: PartnerId, redeemer: PartnerId, terms: Terms) -> Self {
        self.agreement(issuer, Some(redeemer), Timestamp::from_micros(0), terms)
    }

    pub(crate) fn agreement(
        mut self,
        partner: PartnerId,
        counterparty: Option<PartnerId>,
        effective_at: Timestamp,
        terms: Terms,
    ) -> Self {
        let number = 0x0c01 + u128::try_from(self.agreements.len()).expect("few");
        let id = AgreementId::from_uuid(Uuid::from_u128(number));
        self.agreements.push(Agreement {
            id,
            partner,
            counterparty,
            effective_at,
            terms,
        });
        self
    }

    /// The same for the model.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            face_values: self.face_values.clone(),
            partners: self.partners.clone(),
            agreements: self.agreements.clone(),
        }
    }

    pub(crate) fn rulebook(&self) -> Rulebook {
        Rulebook::new(
            1,
            self.face_values.iter().copied(),
            self.partners.iter().cloned(),
            self.agreements.iter().cloned(),
        )
    }

    pub(crate) fn build(self) -> Network {
        Network {
            rulebook: self.rulebook(),
            terms: self,
            store: MemoryStore::default(),
            now: START,
            window: window(1),
            thrift: Thrift::Few(1),
            minted_at: FIRST_MINT,
            requests: 0,
        }
    }
}

/// The window with this number.
pub(crate) fn window(number: u8) -> WindowId {
    WindowId::from_uuid(Uuid::from_u128(0x0d00 + u128::from(number)))
}

/// A network that runs.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) rulebook: Rulebook,
    /// What the rulebook was made of.
    pub(crate) terms: Builder,
    pub(crate) store: MemoryStore,
    pub(crate) now: Timestamp,
    pub(crate) window: WindowId,
    pub(crate) thrift: Thrift,
    minted_at: Timestamp,
    requests: u128,
}

impl Network {
    /// Runs a batch as the poster does: fetch, decide, fetch more where something is missing,
    /// write, answer.
    pub(crate) fn run(&mut self, commands: &[Command]) -> Vec<Decision> {
        let (decisions, effects) = self.decide(commands);
        let written = self.store.write(&effects, self.window);
        assert_eq!(written, Ok(()), "on {commands:#?}");
        decisions
    }

    /// Decides a batch without writing anything.
    pub(crate) fn decide(&mut self, commands: &[Command]) -> (Vec<Decision>, Effects) {
        let keys = Keys::of(commands);
        let mut wanted = Wanted::default();
        loop {
            self.minted_at = self.minted_at.saturating_add_micros(1_000);
            let setting = Setting {
                now: self.now,
                minted_at: self.minted_at,
                window: self.window,
                store_and_forward_micros: DEFAULT_STORE_AND_FORWARD_MICROS,
            };
            let snapshot = self.store.snapshot(&keys, self.now, self.thrift, &wanted);
            let mut mint = IdMint::new(SEED);
            match apply(&self.rulebook, snapshot, commands, &setting, &mut mint) {
                Ok(batch) => return (batch.decisions, batch.effects),
                Err(shortage) => wanted.add(shortage),
            }
        }
    }

    /// Runs a batch of one.
    pub(crate) fn run_one(&mut self, command: &Command) -> Decision {
        let mut decisions = self.run(std::slice::from_ref(command));
        decisions.pop().expect("one decision per command")
    }

    /// A command with a request id of its own.
    pub(crate) fn ask(&mut self, action: impl IntoAction) -> Command {
        let action = action.into_action();
        self.requests += 1;
        command(self.requests, scope_of(&action), action)
    }

    /// Runs an action under a request id of its own.
    pub(crate) fn send(&mut self, action: impl IntoAction) -> Decision {
        let command = self.ask(action);
        self.run_one(&command)
    }

    /// Enrols a member and gives back its id.
    pub(crate) fn enroll(&mut self, member: MemberId) -> MemberId {
        match self.send(enroll(member)) {
            Decision::Enrolled { member, .. } => member,
            other => panic!("not enrolled: {other:?}"),
        }
    }

    /// Sets a member's status, as an agent would.
    pub(crate) fn set_status(&mut self, member: MemberId, status: MemberStatus) {
        self.store
            .members
            .get_mut(&member)
            .expect("enrolled")
            .status = status;
    }

    /// Sets a partner's status, as an operator would.
    pub(crate) fn set_partner_status(&mut self, id: PartnerId, status: PartnerStatus) {
        let own = self
            .terms
            .partners
            .iter_mut()
            .filter(|partner| partner.id == id);
        own.for_each(|partner| partner.status = status);
        self.rulebook = self.terms.rulebook();
    }

    /// A member's book with all lots and debts.
    pub(crate) fn book(&self, member: MemberId) -> MemberBook {
        self.store.whole_book(member)
    }

    /// A party's position in euros.
    pub(crate) fn position(&self, party: impl Into<Party>) -> Position {
        let key = (party.into(), Currency::EUR);
        self.store.positions.get(&key).copied().unwrap_or_default()
    }

    /// A party's net in euros.
    pub(crate) fn net(&self, party: impl Into<Party>) -> Micros {
        self.position(party).net().expect("in range")
    }

    /// The open window, netted.
    pub(crate) fn netting(&self, method: Method) -> Netting {
        net(&self.store.totals_of(self.window), method).expect("in range")
    }

    /// Asserts that an audit of all rows finds nothing.
    #[track_caller]
    pub(crate) fn assert_audited(&self) {
        assert_eq!(self.store.audit(), Vec::new());
    }

    /// The transaction of an action that must be posted.
    #[track_caller]
    pub(crate) fn must_post(&mut self, action: impl IntoAction) -> Transaction {
        posted(&self.send(action))
    }
}
