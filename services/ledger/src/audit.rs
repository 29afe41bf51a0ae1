//! The audit: every stored figure, recomputed from the transfers alone.
//!
//! An [`Auditor`] is fed every transaction and every lot once, in any order, then every other stored
//! sum; it names each one that differs. One that only weighs lots ([`lots`]) needs a second audit to
//! name those that differ. It shares no running state with the code that wrote the sums. Source: domain,
//! "The books".

mod lots;

use std::collections::{BTreeMap, HashMap};

use self::lots::{Lots, Scales};
use crate::account::{Account, Transfer};
use crate::apply::{position_changes, totals_of};
use crate::ids::{LotId, MemberId, Party, TransactionId, WindowId};
use crate::member::{Lot, MemberBook, Totals};
use crate::money::{Currency, Micros, Minor, OutOfRange, Points, Unit};
use crate::snapshot::{DebtRecord, Measure, Position, TotalKey};
use crate::transaction::{Kind, Open, Slice, Transaction};

/// Something in the books that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a table's word and the row's id (`lot lot_01…`).
    pub place: String,
    /// Which figure.
    pub what: &'static str,
    /// What the transfers say.
    pub expected: String,
    /// What is stored.
    pub found: String,
}

/// How many of everything the audit saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions, declines included.
    pub transactions: u64,
    /// Postings.
    pub postings: u64,
    /// Transfers.
    pub transfers: u64,
    /// Lots.
    pub lots: u64,
    /// Members.
    pub members: u64,
    /// Windows.
    pub windows: u64,
}

/// The points of one issuer over all members. Source: domain, "The books", first equation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IssuerBook {
    /// Issued, less clawed back.
    pub issued: Points,
    /// Spent, less refunded.
    pub redeemed: Points,
    /// Expired.
    pub expired: Points,
    /// What members hold and owe.
    pub held: Totals,
}

impl IssuerBook {
    /// Whether issued = pending + available + held − debt + redeemed + expired.
    pub fn balances(&self) -> Result<bool, OutOfRange> {
        Ok(self.issued == self.accounted_for()?)
    }

    /// The right side of the equation.
    pub fn accounted_for(&self) -> Result<Points, OutOfRange> {
        let held = Points::sum([self.held.pending, self.held.available, self.held.held])?;
        Points::sum([held, self.redeemed, self.expired])?.minus(self.held.debt)
    }
}

/// Recomputes the books from transfers and compares.
#[derive(Debug)]
pub struct Auditor {
    counts: Counts,
    findings: Vec<Finding>,
    lots: Lots,
    members: HashMap<MemberId, Totals>,
    debts: HashMap<(MemberId, Party), Points>,
    issuers: BTreeMap<Party, IssuerBook>,
    windows: HashMap<WindowId, BTreeMap<TotalKey, i64>>,
    positions: BTreeMap<(Party, &'static str), Position>,
    undone: HashMap<TransactionId, (Points, Minor)>,
    reduced: HashMap<TransactionId, (Points, Minor, Open)>,
}

impl Auditor {
    /// An auditor that has seen nothing, and will know of lots only whether all agree, without remembering
    /// any. Where they do not, [`Auditor::naming`] says which. `key` is random, and used once.
    #[must_use]
    pub fn weighing(key: [u8; 16]) -> Self {
        Self::with(Lots::Weighed(Scales::new(key)))
    }

    /// An auditor that has seen nothing, and will know which lots do not agree.
    #[must_use]
    pub fn naming() -> Self {
        Self::with(Lots::Each(HashMap::new()))
    }

    fn with(lots: Lots) -> Self {
        Self {
            counts: Counts::default(),
            findings: Vec::new(),
            lots,
            members: HashMap::new(),
            debts: HashMap::new(),
            issuers: BTreeMap::new(),
            windows: HashMap::new(),
            positions: BTreeMap::new(),
            undone: HashMap::new(),
            reduced: HashMap::new(),
        }
    }

    /// How many of everything were seen.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What was found since the last call.
    pub fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// The issuers' books as recomputed, in the order of party.
    pub fn issuers(&self) -> impl Iterator<Item = (Party, IssuerBook)> {
        self.issuers.iter().map(|(party, book)| (*party, *book))
    }

    /// Adds a finding that somebody else made.
    pub fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn find(&mut self, place: String, what: &'static str, expected: String, found: String) {
        self.findings.push(Finding {
            place,
            what,
            expected,
            found,
        });
    }

    fn compare<T: PartialEq + std::fmt::Display>(
        &mut self,
        place: impl std::fmt::Display,
        what: &'static str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            self.find(
                place.to_string(),
                what,
                expected.to_string(),
                found.to_string(),
            );
        }
    }

    /// Takes one transaction in.
    pub fn transaction(&mut self, transaction: &Transaction) {
        self.counts.transactions = self.counts.transactions.saturating_add(1);
        if transaction.declined.is_some() {
            if !transaction.posting.transfers.is_empty() {
                let place = format!("transaction {}", transaction.id);
                self.find(
                    place,
                    "transfers of a decline",
                    "none".into(),
                    "some".into(),
                );
            }
            return;
        }
        self.counts.postings = self.counts.postings.saturating_add(1);
        if self.take(transaction).is_err() {
            let place = format!("transaction {}", transaction.id);
            self.find(place, "sums", "within range".into(), "out of range".into());
        }
    }

    fn take(&mut self, transaction: &Transaction) -> Result<(), OutOfRange> {
        for transfer in &transaction.posting.transfers {
            self.counts.transfers = self.counts.transfers.saturating_add(1);
            self.transfer(transaction, transfer)?;
        }
        let window = self.windows.entry(transaction.window).or_default();
        for (key, amount) in totals_of(&transaction.posting, transaction.partner)? {
            let sum = window.entry(key).or_default();
            *sum = sum.checked_add(amount).ok_or(OutOfRange)?;
        }
        self.figures_of(transaction)?;
        self.open_of(transaction)
    }

    fn transfer(&mut self, transaction: &Transaction, t: &Transfer) -> Result<(), OutOfRange> {
        if t.amount <= 0 || t.debit == t.credit {
            let place = format!("transaction {}", transaction.id);
            let found = format!(
                "{} of {} from {} to {}",
                t.amount, t.unit, t.debit, t.credit
            );
            self.find(
                place,
                "transfer",
                "a positive amount between two accounts".into(),
                found,
            );
        }
        for ((party, currency), change) in position_changes(t)? {
            let sum = self.positions.entry((party, currency.code())).or_default();
            *sum = sum.plus(&change)?;
        }
        if t.unit != Unit::Points {
            return Ok(());
        }
        if let Some(lot) = t.lot {
            self.lots.change(lot.id, |sums| sums.take(t))?;
        }
        let amount = Points::new(t.amount);
        for (account, amount) in [(t.debit, amount.negated()?), (t.credit, amount)] {
            self.points_account(account, amount)?;
        }
        Ok(())
    }

    fn points_account(&mut self, account: Account, amount: Points) -> Result<(), OutOfRange> {
        let (member, issuer) = match account {
            Account::Pending(member, issuer)
            | Account::Available(member, issuer)
            | Account::Held(member, issuer)
            | Account::Debt(member, issuer) => (Some(member), issuer),
            Account::Issued(issuer) | Account::Redeemed(issuer) | Account::Expired(issuer) => {
                (None, issuer)
            }
            Account::Position(..) | Account::Funds(_) | Account::Operator => return Ok(()),
        };
        let book = self.issuers.entry(issuer).or_default();
        let totals = member.map(|member| self.members.entry(member).or_default());
        let add = |sum: &mut Points, amount: Points| sum.plus(amount).map(|after| *sum = after);
        match account {
            Account::Issued(_) => add(&mut book.issued, amount.negated()?)?,
            Account::Redeemed(_) => add(&mut book.redeemed, amount)?,
            Account::Expired(_) => add(&mut book.expired, amount)?,
            Account::Pending(..) => {
                add(&mut book.held.pending, amount)?;
                totals.map_or(Ok(()), |totals| add(&mut totals.pending, amount))?;
            }
            Account::Available(..) => {
                add(&mut book.held.available, amount)?;
                totals.map_or(Ok(()), |totals| add(&mut totals.available, amount))?;
            }
            Account::Held(..) => {
                add(&mut book.held.held, amount)?;
                totals.map_or(Ok(()), |totals| add(&mut totals.held, amount))?;
            }
            Account::Debt(member, issuer) => {
                let owed = amount.negated()?;
                add(&mut book.held.debt, owed)?;
                totals.map_or(Ok(()), |totals| add(&mut totals.debt, owed))?;
                add(self.debts.entry((member, issuer)).or_default(), owed)?;
            }
            Account::Position(..) | Account::Funds(_) | Account::Operator => {}
        }
        Ok(())
    }

    /// The transaction's own figures against its transfers.
    fn figures_of(&mut self, transaction: &Transaction) -> Result<(), OutOfRange> {
        let place = format_args!("transaction {}", transaction.id);
        let points = match transaction.kind {
            Kind::Earn => Slice::sum(&transaction.issued())?,
            Kind::ReturnEarn => {
                let clawed_back = Slice::sum(&transaction.clawed_back())?;
                clawed_back.plus(Slice::sum(&transaction.indebted())?)?
            }
            Kind::Redeem => Slice::sum(&transaction.spent())?,
            Kind::RefundRedemption => Slice::sum(&transaction.restored())?,
            Kind::Expire => Slice::sum(&transaction.expired())?,
            Kind::Mature => Slice::sum(&transaction.matured())?,
            Kind::Deposit | Kind::Withdraw => return self.funds_of(transaction),
            Kind::Reverse => return Ok(()),
        };
        self.compare(place, "points", &points, &transaction.points);
        if matches!(transaction.kind, Kind::Earn | Kind::RefundRedemption) {
            let expired = Slice::sum(&transaction.expired())?;
            self.compare(
                place,
                "points expired",
                &expired,
                &transaction.points_expired,
            );
        }
        Ok(())
    }

    /// What was paid in or out against its transfers.
    fn funds_of(&mut self, transaction: &Transaction) -> Result<(), OutOfRange> {
        let moved = transaction.posting.transfers.iter();
        let moved = Micros::sum(moved.map(|transfer| Micros::new(transfer.amount)))?;
        let said = match transaction.amount {
            Some((amount, currency)) => amount.to_micros(currency)?,
            None => Micros::ZERO,
        };
        let place = format_args!("transaction {}", transaction.id);
        self.compare(place, "amount", &moved, &said);
        Ok(())
    }

    /// Remembers what was undone of which transaction, and what says it was reduced.
    fn open_of(&mut self, transaction: &Transaction) -> Result<(), OutOfRange> {
        let amount = transaction
            .amount
            .map(|(amount, _)| amount)
            .unwrap_or_default();
        match (transaction.kind, transaction.original) {
            (Kind::ReturnEarn, Some(original)) => {
                let (points, returned) = self.undone.entry(original).or_default();
                let undone = [
                    transaction.points,
                    transaction.points_forgiven,
                    transaction.points_expired,
                ];
                *points = points.plus(Points::sum(undone)?)?;
                *returned = returned.plus(amount)?;
            }
            (Kind::RefundRedemption, Some(original)) => {
                let (points, _) = self.undone.entry(original).or_default();
                *points = points.plus(transaction.points)?;
            }
            (Kind::Earn | Kind::Redeem, _) => {
                let open = transaction.open;
                if open.points != transaction.points || open.amount != amount {
                    self.reduced
                        .insert(transaction.id, (transaction.points, amount, open));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes one stored lot in.
    pub fn lot(&mut self, lot: &Lot) {
        self.counts.lots = self.counts.lots.saturating_add(1);
        if self.lots.change(lot.id, |sums| sums.less(lot)).is_err() {
            let place = format!("lot {}", lot.id);
            self.find(place, "sums", "within range".into(), "out of range".into());
        }
    }

    /// After every transaction and every lot was taken in: whether transfers and row agree of each lot.
    /// One that only weighs them is wrong by a chance of 2^-64, which nobody can better from outside.
    #[must_use]
    pub fn lots_agree(&self) -> bool {
        self.lots.agree()
    }

    /// After every transaction and every lot was taken in: lots that differ, in the order of id; none
    /// where they were only weighed.
    #[must_use]
    pub fn disputed_lots(&self) -> Vec<LotId> {
        self.lots.disputed()
    }

    /// Names what differs of a disputed lot, whose row this is.
    pub fn disputed_lot(&mut self, lot: &Lot) {
        let Some(more) = self.lots.settle(lot.id) else {
            return;
        };
        let place = format!("lot {}", lot.id);
        for (what, more, found) in [
            ("points", more.points, lot.points),
            ("pending", more.pending, lot.pending),
            ("available", more.available, lot.available),
            ("held", more.held, lot.held),
            ("expired", more.expired, lot.expired),
        ] {
            if let Ok(expected) = found.plus(more) {
                self.compare(&place, what, &expected, &found);
            } else {
                let found = found.to_string();
                self.find(place.clone(), what, "within range".into(), found);
            }
        }
    }

    /// Compares a stored member.
    pub fn member(&mut self, member: &MemberBook) {
        self.counts.members = self.counts.members.saturating_add(1);
        let sums = self.members.remove(&member.id).unwrap_or_default();
        let place = format_args!("member {}", member.id).to_string();
        self.compare(&place, "pending", &sums.pending, &member.totals.pending);
        self.compare(
            &place,
            "available",
            &sums.available,
            &member.totals.available,
        );
        self.compare(&place, "held", &sums.held, &member.totals.held);
        self.compare(&place, "debt", &sums.debt, &member.totals.debt);
    }

    /// Compares all stored debts.
    pub fn debts(&mut self, stored: &[DebtRecord]) {
        for debt in stored {
            let sum = self
                .debts
                .remove(&(debt.member, debt.issuer))
                .unwrap_or_default();
            let place = format!("debt {} to {}", debt.member, debt.issuer);
            self.compare(place, "points", &sum, &debt.points);
        }
        let missing: Vec<_> = self
            .debts
            .drain()
            .filter(|(_, owed)| !owed.is_zero())
            .collect();
        for ((member, issuer), owed) in missing {
            self.compare(
                format!("debt {member} to {issuer}"),
                "points",
                &owed,
                &Points::ZERO,
            );
        }
    }

    /// Compares a window's stored totals; Σ of the positions in it must be zero.
    pub fn window(&mut self, window: WindowId, stored: &[(TotalKey, i64)]) {
        self.counts.windows = self.counts.windows.saturating_add(1);
        let mut sums = self.windows.remove(&window).unwrap_or_default();
        for (key, found) in stored {
            let sum = sums.remove(key).unwrap_or_default();
            self.compare(place_of(window, key), name_of(key.measure), &sum, found);
        }
        for (key, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            self.compare(place_of(window, &key), name_of(key.measure), &sum, &0);
        }
    }

    /// Compares all stored positions, and their sum per currency with zero.
    pub fn positions(&mut self, stored: &[((Party, Currency), Position)]) {
        let mut nets: BTreeMap<&'static str, Micros> = BTreeMap::new();
        for ((party, currency), found) in stored {
            let sum = self
                .positions
                .remove(&(*party, currency.code()))
                .unwrap_or_default();
            let place = format!("position {party} in {}", currency.code());
            self.compare(&place, "debits", &sum.debits, &found.debits);
            self.compare(&place, "credits", &sum.credits, &found.credits);
            self.compare(&place, "funds", &sum.funds, &found.funds);
            let net = nets.entry(currency.code()).or_default();
            match found.net().and_then(|position| net.plus(position)) {
                Ok(sum) => *net = sum,
                Err(OutOfRange) => {
                    self.find(place, "net", "within range".into(), "out of range".into());
                }
            }
        }
        for (currency, net) in nets {
            self.compare(
                format!("positions in {currency}"),
                "sum",
                &Micros::ZERO,
                &net,
            );
        }
        let missing = std::mem::take(&mut self.positions);
        for ((party, currency), sum) in missing {
            if sum != Position::default() {
                let place = format!("position {party} in {currency}");
                self.find(place, "row", "present".into(), "missing".into());
            }
        }
    }

    /// After everything was taken in and compared: what no stored row answered for.
    pub fn finish(&mut self) {
        let disputed = self.disputed_lots();
        if disputed.is_empty() && !self.lots_agree() {
            let (expected, found) = ("what their transfers make of them", "not all of them");
            self.find("lots".into(), "sums", expected.into(), found.into());
        }
        for lot in disputed {
            self.lots.settle(lot);
            self.find(
                format!("lot {lot}"),
                "row",
                "present".into(),
                "missing".into(),
            );
        }
        let members: Vec<MemberId> = std::mem::take(&mut self.members).into_keys().collect();
        for member in members {
            self.find(
                format!("member {member}"),
                "row",
                "present".into(),
                "missing".into(),
            );
        }
        let windows: Vec<WindowId> = std::mem::take(&mut self.windows).into_keys().collect();
        for window in windows {
            self.find(
                format!("window {window}"),
                "row",
                "present".into(),
                "missing".into(),
            );
        }
        self.finish_opens();
        let issuers: Vec<(Party, IssuerBook)> = self.issuers().collect();
        for (party, book) in issuers {
            let place = format!("points of {party}");
            if let Ok(sum) = book.accounted_for() {
                self.compare(place, "issued", &sum, &book.issued);
            } else {
                let found = "out of range".into();
                self.find(place, "issued", "within range".into(), found);
            }
        }
    }

    fn finish_opens(&mut self) {
        let undone = std::mem::take(&mut self.undone);
        let mut reduced = std::mem::take(&mut self.reduced);
        for (id, (points, returned)) in undone {
            let Some((earned, amount, open)) = reduced.remove(&id) else {
                if !points.is_zero() || !returned.is_zero() {
                    let place = format!("transaction {id}");
                    self.find(place, "open points", "reduced".into(), "not reduced".into());
                }
                continue;
            };
            let place = format!("transaction {id}");
            match earned.minus(points) {
                Ok(left) => self.compare(&place, "open points", &left, &open.points),
                Err(OutOfRange) => {
                    self.find(
                        place.clone(),
                        "open points",
                        "within range".into(),
                        "not".into(),
                    );
                }
            }
            match amount.minus(returned) {
                Ok(left) => self.compare(&place, "open amount", &left, &open.amount),
                Err(OutOfRange) => {
                    self.find(place, "open amount", "within range".into(), "not".into());
                }
            }
        }
        for (id, _) in reduced {
            let place = format!("transaction {id}");
            self.find(place, "open points", "whole".into(), "reduced".into());
        }
    }
}

const fn name_of(measure: Measure) -> &'static str {
    match measure {
        Measure::Flow => "money moved",
        Measure::Issued => "points issued",
        Measure::ClawedBack => "points clawed back",
        Measure::Redeemed => "points redeemed",
        Measure::Refunded => "points refunded",
        Measure::Expired => "points expired",
        Measure::Funded => "funds",
        Measure::Postings => "postings",
    }
}

fn place_of(window: WindowId, key: &TotalKey) -> String {
    format!(
        "window {window}, {} to {}, {}",
        key.party, key.counterparty, key.unit
    )
}
