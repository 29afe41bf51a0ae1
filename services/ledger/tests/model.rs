//! A second ledger, plain and slow: one command at a time, everything in memory, no snapshots, no
//! batches, no shortages, no transfers.
//!
//! Written from `domain.md` and the documented precedence of [`coalition_ledger::apply`], sharing
//! nothing with the code under test but the words of commands and terms. Where the two disagree,
//! one of them has the domain wrong. What the domain leaves open, the model takes from the ledger's
//! documents: how a check's amount is shared among slices, and that a member's due points are
//! posted when a command reaches the member.
//!
//! The end-to-end tests (`tests/e2e/fire`) hold whole networks against the same model, so it stands
//! alone: it uses nothing of the tests around it.

#[path = "model/money.rs"]
mod money;
#[path = "model/undo.rs"]
mod undo;

use std::collections::BTreeMap;

use coalition_ledger::agreement::{Agreement, Trigger};
use coalition_ledger::command::{
    Action, CheckKey, Command, Earn, Fingerprint, Fund, Redeem, RequestKey,
};
use coalition_ledger::decision::Refusal;
use coalition_ledger::ids::{AgreementId, MemberId, PartnerId, Party, TransactionId};
use coalition_ledger::member::{Balance, MemberStatus, Totals, Upcoming};
use coalition_ledger::money::{Currency, Points};
use coalition_ledger::rulebook::{Partner, PartnerStatus};
use coalition_ledger::time::{MICROS_PER_DAY as DAY, Timestamp};
use coalition_ledger::transaction::{Context, Decline, Kind};
use rust_decimal::Decimal;

use money::Exact;
pub(crate) use money::shared;

const MINUTE: i64 = DAY / 24 / 60;

/// What a caller is told, as far as the model says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Recorded(Told, Replayed),
    Enrolled(MemberId, Replayed),
    Nothing,
    Refused(Refusal),
}

/// Whether an answer was given before.
pub(crate) type Replayed = bool;

/// The figures of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) declined: Option<Decline>,
    pub(crate) points: i64,
    pub(crate) forgiven: i64,
    pub(crate) expired: i64,
    /// `None`: the model does not say.
    pub(crate) balance: Option<Balance>,
    /// Of an earn, points that repaid a debt; of a return, points that became one.
    pub(crate) debt: i64,
    /// Of a return or refund, and of one declined for asking too much: points and amount that
    /// remain of its original.
    pub(crate) left: Option<(i64, i64)>,
    /// The lots that an earn filled, a redemption drew on or a refund filled again, in this order.
    pub(crate) parts: Vec<Part>,
}

/// Points of one lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) issuer: Party,
    pub(crate) points: i64,
    pub(crate) expires_at: i64,
}

/// What a network consists of besides its members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) face_values: Vec<(Currency, Decimal)>,
    pub(crate) partners: Vec<Partner>,
    pub(crate) agreements: Vec<Agreement>,
}

/// Who says whether a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The model's own sums.
    Computed,
    /// Whoever runs the model, because the order in which parties' sums moved is not known: this
    /// command is over a limit, or not. Nobody is over a limit that does not exist.
    Told(bool),
}

/// Points from one earn with one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) issuer: Party,
    pub(crate) pinned: AgreementId,
    pub(crate) pending_until: i64,
    pub(crate) expires_at: i64,
    /// As earned.
    pub(crate) issued: i64,
    /// Of these, what the check still stands for; returns lower it.
    pub(crate) standing: i64,
    pub(crate) pending: i64,
    pub(crate) available: i64,
    /// Below zero where points were clawed back as debt and their redemption refunded later.
    pub(crate) spent: i64,
    pub(crate) expired: i64,
    pub(crate) forgiven: i64,
}

impl Parcel {
    /// Issued, less clawed back.
    pub(crate) fn points(&self) -> i64 {
        self.pending + self.available + self.spent + self.expired
    }
}

/// What a member holds and owes. Parcels stay in the order of their making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holder {
    pub(crate) status: MemberStatus,
    pub(crate) parcels: Vec<Parcel>,
    pub(crate) debts: BTreeMap<Party, i64>,
}

impl Holder {
    pub(crate) fn balance(&self) -> Balance {
        let sum = |part: fn(&Parcel) -> i64| Points::new(self.parcels.iter().map(part).sum());
        let totals = Totals {
            pending: sum(|parcel| parcel.pending),
            available: sum(|parcel| parcel.available),
            held: Points::ZERO,
            debt: Points::new(self.debts.values().sum()),
        };
        let spendable = self.parcels.iter().filter(|parcel| parcel.available > 0);
        let next = spendable.clone().map(|parcel| parcel.expires_at).min();
        let next_expiry = next.map(|at| Upcoming {
            at: Timestamp::from_micros(at),
            points: Points::new(
                spendable
                    .filter(|p| p.expires_at == at)
                    .map(|parcel| parcel.available)
                    .sum(),
            ),
        });
        Balance {
            totals,
            next_expiry,
        }
    }

    /// The balance as the domain defines it, from the parcels' instants alone.
    pub(crate) fn balance_by_time(&self, now: i64) -> i64 {
        let live = |p: &&Parcel| p.pending_until <= now && now < p.expires_at;
        let available: i64 = self
            .parcels
            .iter()
            .filter(live)
            .map(|parcel| parcel.pending + parcel.available)
            .sum();
        available - self.debts.values().sum::<i64>()
    }

    /// Parcels with something to spend, earliest expiry first, ties by making.
    fn spendable(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.parcels.len())
            .filter(|place| self.parcels[*place].available > 0)
            .collect();
        places.sort_by_key(|place| self.parcels[*place].expires_at);
        places
    }
}

/// What the books say of a party in one currency, in micro-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) debits: i128,
    pub(crate) credits: i128,
    pub(crate) funds: i128,
}

/// Points or an amount, where a leg needs one of the two.
#[derive(Clone, Copy, Debug, Default)]
struct Quantity {
    points: i64,
    basket: i64,
}

/// Money that a leg moves; negative where it comes back.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: Party,
    to: Party,
    currency: &'static str,
    micros: i128,
}

/// One slice of a redemption.
#[derive(Clone, Debug)]
struct Slice {
    parcel: usize,
    issuer: Party,
    points: i64,
    governed_by: AgreementId,
}

/// What a posted transaction did, for whoever undoes it.
#[derive(Clone, Debug)]
enum Deed {
    Earn { parcels: Vec<usize>, basis: i64 },
    Redeem { slices: Vec<Slice>, basket: i64 },
    Other,
}

#[derive(Clone, Debug)]
struct Record {
    told: Told,
    partner: Party,
    member: Option<MemberId>,
    agreement: Option<AgreementId>,
    check: Option<CheckKey>,
    deed: Deed,
    open_points: i64,
    open_amount: i64,
    reversed_by: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Subject {
    Record(usize),
    Member(MemberId),
    Tombstone(usize),
}

enum Stop {
    Refused(Refusal),
    Declined(Decline, Option<Balance>),
    /// Declined because no more than this remains of the original: points and amount.
    TooMuch(Decline, (i64, i64)),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

enum Outcome {
    Posted(Record),
    /// A record of before is the answer.
    Again(usize),
    /// Declined, and the request that it names, in either scope, will be refused should it still
    /// arrive.
    Unknown(Vec<RequestKey>),
    Enrolled(MemberId),
    Swept(Option<Told>),
}

/// The whole network.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) now: i64,
    pub(crate) limits: Limits,
    /// What the last command would have taken from the headroom of parties that have a limit.
    pub(crate) asked: Vec<(Party, i128)>,
    exact: Exact,
    partners: Vec<Partner>,
    pub(crate) agreements: Vec<Agreement>,
    pub(crate) holders: BTreeMap<MemberId, Holder>,
    pub(crate) accounts: BTreeMap<(Party, &'static str), Account>,
    pub(crate) flows: BTreeMap<(Party, Party, &'static str), i128>,
    records: Vec<Record>,
    requests: BTreeMap<RequestKey, (Fingerprint, Subject)>,
    checks: BTreeMap<CheckKey, usize>,
    names: BTreeMap<TransactionId, usize>,
}

impl Model {
    pub(crate) fn new(rules: Rules, now: Timestamp) -> Self {
        Self {
            now: now.micros(),
            limits: Limits::Computed,
            asked: Vec::new(),
            exact: Exact::new(&rules.face_values),
            partners: rules.partners,
            agreements: rules.agreements,
            holders: BTreeMap::new(),
            accounts: BTreeMap::new(),
            flows: BTreeMap::new(),
            records: Vec::new(),
            requests: BTreeMap::new(),
            checks: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Tells the model under which id the ledger recorded the last new record.
    pub(crate) fn name(&mut self, id: TransactionId) {
        self.names.insert(id, self.records.len() - 1);
    }

    /// What remains of what a request led to: points and amount.
    pub(crate) fn open_of(&self, key: RequestKey) -> Option<(i64, i64)> {
        let (_, Subject::Record(place)) = self.requests.get(&key)? else {
            return None;
        };
        let record = &self.records[*place];
        Some((record.open_points, record.open_amount))
    }

    /// Decides one command.
    pub(crate) fn decide(&mut self, command: &Command) -> Answer {
        self.asked.clear();
        if let Some((key, fingerprint)) = &command.request
            && let Some((seen, subject)) = self.requests.get(key)
        {
            return match *subject {
                Subject::Tombstone(_) => Answer::Refused(reversed_before_arrival()),
                _ if seen != fingerprint => Answer::Refused(Refusal::RequestIdReused),
                Subject::Record(place) => Answer::Recorded(self.records[place].told.clone(), true),
                Subject::Member(member) => Answer::Enrolled(member, true),
            };
        }
        let outcome = match &command.action {
            Action::Enroll(enroll) => Ok(self.enroll(enroll.member)),
            Action::Sweep(member) => self.sweep(*member),
            Action::Earn(earn) => self.earn(earn),
            Action::Redeem(redeem) => self.redeem(redeem),
            Action::ReturnEarn(ret) => self.return_earn(command, ret),
            Action::RefundRedemption(refund) => self.refund(command, refund),
            Action::Reverse(reverse) => self.reverse(command, reverse),
            Action::Fund(fund) => self.fund(fund),
        };
        match outcome {
            Err(Stop::Refused(refusal)) => Answer::Refused(refusal),
            Err(Stop::Declined(decline, balance)) => self.decline(command, decline, balance, None),
            Err(Stop::TooMuch(decline, left)) => self.decline(command, decline, None, Some(left)),
            Ok(Outcome::Unknown(names)) => {
                let answer = self.decline(command, Decline::OriginalNotFound, None, None);
                let tombstone = Subject::Tombstone(self.records.len() - 1);
                for name in names {
                    self.requests
                        .insert(name, (Fingerprint::default(), tombstone));
                }
                answer
            }
            Ok(Outcome::Posted(record)) => {
                let told = record.told.clone();
                self.remember(command, Subject::Record(self.records.len()));
                if let Some(check) = &record.check {
                    self.checks.insert(check.clone(), self.records.len());
                }
                self.records.push(record);
                Answer::Recorded(told, false)
            }
            Ok(Outcome::Again(place)) => {
                self.remember(command, Subject::Record(place));
                Answer::Recorded(self.records[place].told.clone(), true)
            }
            Ok(Outcome::Enrolled(member)) => {
                self.remember(command, Subject::Member(member));
                Answer::Enrolled(member, false)
            }
            Ok(Outcome::Swept(None)) => Answer::Nothing,
            Ok(Outcome::Swept(Some(told))) => Answer::Recorded(told, false),
        }
    }

    /// Records a decline, whether or not the model itself would say so.
    pub(crate) fn decline(
        &mut self,
        command: &Command,
        why: Decline,
        balance: Option<Balance>,
        left: Option<(i64, i64)>,
    ) -> Answer {
        let (kind, partner) = match &command.action {
            Action::Earn(c) => (Kind::Earn, c.partner),
            Action::ReturnEarn(c) => (Kind::ReturnEarn, c.partner),
            Action::Redeem(c) => (Kind::Redeem, c.partner),
            Action::RefundRedemption(c) => (Kind::RefundRedemption, c.partner),
            Action::Reverse(c) => (Kind::Reverse, c.partner),
            Action::Fund(c) if c.withdrawal => (Kind::Withdraw, c.partner),
            Action::Fund(c) => (Kind::Deposit, c.partner),
            Action::Enroll(_) | Action::Sweep(_) => unreachable!("these are never declined"),
        };
        let told = Told {
            declined: Some(why),
            balance,
            left,
            ..quiet(kind)
        };
        self.remember(command, Subject::Record(self.records.len()));
        let record = Record {
            told: told.clone(),
            ..empty_record(kind, partner.into())
        };
        self.records.push(record);
        Answer::Recorded(told, false)
    }

    fn remember(&mut self, command: &Command, subject: Subject) {
        if let Some((key, fingerprint)) = command.request {
            self.requests.insert(key, (fingerprint, subject));
        }
    }

    fn enroll(&mut self, member: MemberId) -> Outcome {
        self.holders.insert(member, Holder::default());
        Outcome::Enrolled(member)
    }

    fn earn(&mut self, earn: &Earn) -> Result<Outcome, Stop> {
        self.trading(earn.partner)?;
        self.settle(earn.member)?;
        let before = self.holders[&earn.member].balance();
        let no = |decline| Stop::Declined(decline, Some(before));
        let check = check_key(earn.partner, Kind::Earn, &earn.context);
        self.unused(check.as_ref(), Decline::CheckAlreadyEarned, Some(before))?;
        self.allowed(earn.member)?;
        let earned_at = self.believed(earn.occurred_at)?;
        let agreement = self
            .own(earn.partner, earned_at)
            .ok_or(no(Decline::NoAgreementInForce))?;
        let terms = &agreement.terms;
        if terms.currency != earn.currency {
            return Err(Refusal::CurrencyMismatch {
                expected: terms.currency,
            }
            .into());
        }

        let amounts = &earn.amounts;
        let mut basis = amounts.gross.get() - amounts.discounts.get();
        basis -= amounts.paid_with_points.get();
        basis += if terms.include_tax {
            amounts.tax.get()
        } else {
            0
        };
        basis += if terms.include_tip {
            amounts.tip.get()
        } else {
            0
        };
        basis -= if terms.include_gift_cards {
            0
        } else {
            amounts.gift_card.get()
        };
        if basis < 0 {
            return Err(Refusal::NegativeBasis.into());
        }
        let points = self.exact.points_for(basis, terms);

        // One lot per issuer that gets anything, pinned to the issuer's own version.
        let funders = terms.issuers(earn.partner);
        let weights: Vec<i64> = funders
            .iter()
            .map(|funder| i64::from(funder.weight))
            .collect();
        let counts = shared(points, &weights);
        let baskets = if points > 0 {
            shared(basis, &counts)
        } else {
            Vec::new()
        };
        let mut moves = Vec::new();
        let mut parcels = Vec::new();
        for ((funder, count), basket) in funders.iter().zip(&counts).zip(baskets) {
            if *count == 0 {
                continue;
            }
            let pinned = match funder.party.partner() {
                Some(other) if other != earn.partner => self
                    .own(other, earned_at)
                    .ok_or(no(Decline::NoAgreementInForce))?,
                _ => agreement.clone(),
            };
            let now = Quantity {
                points: *count,
                basket,
            };
            self.follow(
                &mut moves,
                &pinned,
                Trigger::Earn,
                Some(funder.party),
                None,
                now,
            );
            let wait = i64::from(terms.pending_days) * DAY;
            parcels.push(Parcel {
                issuer: funder.party,
                pinned: pinned.id,
                pending_until: if wait == 0 {
                    earned_at.min(self.now)
                } else {
                    earned_at + wait
                },
                expires_at: earned_at + i64::from(terms.lot_lifetime_days) * DAY,
                issued: *count,
                standing: *count,
                pending: 0,
                available: 0,
                spent: 0,
                expired: 0,
                forgiven: 0,
            });
        }
        let whole = Quantity {
            points,
            basket: basis,
        };
        self.follow(&mut moves, &agreement, Trigger::Earn, None, None, whole);
        let mut late = Vec::new();
        let expired = self.fill(earn.member, &mut parcels, &mut late);
        moves.extend(late);
        let issuers: Vec<Party> = parcels.iter().map(|parcel| parcel.issuer).collect();
        if self.breaks_a_limit(&moves, &issuers) {
            return Err(no(Decline::LimitExceeded));
        }

        self.book(&moves);
        let now = self.now;
        let holder = self.holders.get_mut(&earn.member).expect("settled");
        for parcel in &parcels {
            if let Some(owed) = holder.debts.get_mut(&parcel.issuer) {
                *owed -= parcel.spent;
            }
        }
        let parts = parcels.iter().map(|parcel| Part {
            issuer: parcel.issuer,
            points: parcel.issued,
            expires_at: parcel.expires_at,
        });
        let parts = parts.collect();
        let debt = parcels.iter().map(|parcel| parcel.spent).sum();
        let first = holder.parcels.len();
        let places = (first..first + parcels.len()).collect();
        holder.parcels.extend(parcels);
        let balance = holder.balance();
        assert_eq!(
            spendable(&balance),
            holder.balance_by_time(now),
            "the domain's own formula"
        );
        Ok(Outcome::Posted(Record {
            told: Told {
                points,
                expired,
                balance: Some(balance),
                debt,
                parts,
                ..quiet(Kind::Earn)
            },
            member: Some(earn.member),
            agreement: Some(agreement.id),
            check,
            deed: Deed::Earn {
                parcels: places,
                basis,
            },
            open_points: points,
            open_amount: basis,
            ..empty_record(Kind::Earn, earn.partner.into())
        }))
    }

    /// New points repay debt of the same issuer first; the rest waits, can be spent, or came too
    /// late: how many of the last kind, with what expiry costs.
    fn fill(&self, member: MemberId, parcels: &mut [Parcel], moves: &mut Vec<Move>) -> i64 {
        let debts = &self.holders[&member].debts;
        let mut late = 0;
        for parcel in parcels {
            let owed = debts.get(&parcel.issuer).copied().unwrap_or_default();
            parcel.spent = parcel.issued.min(owed);
            let kept = parcel.issued - parcel.spent;
            if parcel.expires_at <= self.now {
                parcel.expired = kept;
                late += kept;
                self.expire(moves, parcel.pinned, parcel.issuer, kept);
            } else if parcel.pending_until > self.now {
                parcel.pending = kept;
            } else {
                parcel.available = kept;
            }
        }
        late
    }

    fn redeem(&mut self, redeem: &Redeem) -> Result<Outcome, Stop> {
        self.trading(redeem.partner)?;
        self.settle(redeem.member)?;
        let before = self.holders[&redeem.member].balance();
        let no = |decline| Stop::Declined(decline, Some(before));
        let check = check_key(redeem.partner, Kind::Redeem, &redeem.context);
        self.unused(check.as_ref(), Decline::CheckAlreadyRedeemed, Some(before))?;
        self.allowed(redeem.member)?;
        self.believed(redeem.occurred_at)?;
        let agreement = self
            .own(redeem.partner, self.now)
            .ok_or(no(Decline::NoAgreementInForce))?;
        let expected = agreement.terms.currency;
        if redeem
            .check_total
            .is_some_and(|(_, currency)| currency != expected)
        {
            return Err(Refusal::CurrencyMismatch { expected }.into());
        }
        let points = redeem.points.get();
        if points > spendable(&before) {
            return Err(no(Decline::InsufficientPoints));
        }

        let holder = &self.holders[&redeem.member];
        let mut left = points;
        let mut slices = Vec::new();
        for place in holder.spendable() {
            let parcel = &holder.parcels[place];
            let spent = left.min(parcel.available);
            if spent > 0 {
                slices.push(Slice {
                    parcel: place,
                    issuer: parcel.issuer,
                    points: spent,
                    governed_by: self.governing(parcel, redeem.partner),
                });
            }
            left -= spent;
        }
        let basket = redeem.check_total.map_or(0, |(total, _)| total.get());
        let moves = self.redemption_moves(&slices, basket, 0, points, redeem.partner, agreement.id);
        let issuers: Vec<Party> = slices.iter().map(|slice| slice.issuer).collect();
        if self.breaks_a_limit(&moves, &issuers) {
            return Err(no(Decline::LimitExceeded));
        }

        self.book(&moves);
        let holder = self.holders.get_mut(&redeem.member).expect("settled");
        let part = |slice: &Slice| Part {
            issuer: slice.issuer,
            points: slice.points,
            expires_at: holder.parcels[slice.parcel].expires_at,
        };
        let parts = slices.iter().map(part).collect();
        for slice in &slices {
            holder.parcels[slice.parcel].available -= slice.points;
            holder.parcels[slice.parcel].spent += slice.points;
        }
        let balance = holder.balance();
        assert_eq!(
            spendable(&balance),
            holder.balance_by_time(self.now),
            "the domain's own formula"
        );
        Ok(Outcome::Posted(Record {
            told: Told {
                points,
                balance: Some(balance),
                parts,
                ..quiet(Kind::Redeem)
            },
            member: Some(redeem.member),
            agreement: Some(agreement.id),
            check,
            deed: Deed::Redeem { slices, basket },
            open_points: points,
            open_amount: 0,
            ..empty_record(Kind::Redeem, redeem.partner.into())
        }))
    }

    fn fund(&mut self, fund: &Fund) -> Result<Outcome, Stop> {
        if !self
            .partners
            .iter()
            .any(|partner| partner.id == fund.partner)
        {
            return Err(Refusal::UnknownPartner(fund.partner).into());
        }
        let own = self.own(fund.partner, self.now);
        if let Some(expected) = own.as_ref().map(|own| own.terms.currency)
            && expected != fund.currency
        {
            return Err(Refusal::CurrencyMismatch { expected }.into());
        }
        let party = Party::from(fund.partner);
        let amount = money::micros_of(fund.amount.get(), fund.currency);
        let kind = if fund.withdrawal {
            Kind::Withdraw
        } else {
            Kind::Deposit
        };
        if fund.withdrawal {
            let funds = self.account(party, fund.currency.code()).funds;
            let headroom = own.and_then(|own| self.headroom(party, &own, &[]));
            self.asked.push((party, amount));
            let beyond = match self.limits {
                Limits::Computed => {
                    funds < amount || headroom.is_some_and(|headroom| headroom < amount)
                }
                Limits::Told(beyond) => beyond,
            };
            if beyond {
                return Err(Stop::Declined(Decline::FundsExceeded, None));
            }
        }
        let account = self
            .accounts
            .entry((party, fund.currency.code()))
            .or_default();
        account.funds += if fund.withdrawal { -amount } else { amount };
        Ok(Outcome::Posted(Record {
            told: quiet(kind),
            ..empty_record(kind, party)
        }))
    }

    fn sweep(&mut self, member: MemberId) -> Result<Outcome, Stop> {
        self.settle(member).map(Outcome::Swept)
    }

    /// Posts what time has done to a member's points; the last posting, if there was one.
    fn settle(&mut self, member: MemberId) -> Result<Option<Told>, Stop> {
        let now = self.now;
        let holder = self
            .holders
            .get_mut(&member)
            .ok_or(Refusal::UnknownMember)?;
        let mut matured = 0;
        for parcel in holder
            .parcels
            .iter_mut()
            .filter(|parcel| parcel.pending_until <= now)
        {
            matured += parcel.pending;
            parcel.available += std::mem::take(&mut parcel.pending);
        }
        let after_maturity = holder.balance();
        let mut gone = Vec::new();
        for parcel in holder
            .parcels
            .iter_mut()
            .filter(|parcel| parcel.expires_at <= now)
        {
            let expired = std::mem::take(&mut parcel.available);
            parcel.expired += expired;
            gone.push((parcel.pinned, parcel.issuer, expired));
        }
        let after_expiry = holder.balance();
        let mut moves = Vec::new();
        for (pinned, issuer, points) in &gone {
            self.expire(&mut moves, *pinned, *issuer, *points);
        }
        self.book(&moves);
        let expired: i64 = gone.iter().map(|(.., points)| points).sum();
        let told = |kind, points, balance| Told {
            points,
            balance: Some(balance),
            ..quiet(kind)
        };
        Ok(if expired > 0 {
            Some(told(Kind::Expire, expired, after_expiry))
        } else if matured > 0 {
            Some(told(Kind::Mature, matured, after_maturity))
        } else {
            None
        })
    }

    fn trading(&self, id: PartnerId) -> Result<(), Stop> {
        match self
            .partners
            .iter()
            .find(|partner| partner.id == id)
            .map(|found| found.status)
        {
            None => Err(Refusal::UnknownPartner(id).into()),
            Some(PartnerStatus::Suspended) => Err(Stop::Declined(Decline::PartnerSuspended, None)),
            Some(PartnerStatus::Active) => Ok(()),
        }
    }

    fn allowed(&self, member: MemberId) -> Result<(), Stop> {
        let holder = &self.holders[&member];
        let no = |decline| Err(Stop::Declined(decline, Some(holder.balance())));
        match holder.status {
            MemberStatus::Active => Ok(()),
            MemberStatus::Frozen => no(Decline::MemberFrozen),
            MemberStatus::Closed => no(Decline::MemberClosed),
        }
    }

    fn unused(
        &self,
        check: Option<&CheckKey>,
        otherwise: Decline,
        balance: Option<Balance>,
    ) -> Result<(), Stop> {
        match check.filter(|check| self.checks.contains_key(*check)) {
            Some(_) => Err(Stop::Declined(otherwise, balance)),
            None => Ok(()),
        }
    }

    /// When it happened: at most 5 minutes ahead and at most 7 days ago.
    fn believed(&self, said: Option<Timestamp>) -> Result<i64, Stop> {
        let at = said.map_or(self.now, Timestamp::micros);
        let ahead = at - self.now;
        if !(-7 * DAY..=5 * MINUTE).contains(&ahead) {
            return Err(Refusal::OccurredAtOutOfRange.into());
        }
        Ok(at)
    }

    /// The partner's own version in force.
    fn own(&self, partner: PartnerId, at: i64) -> Option<Agreement> {
        self.latest(
            |agreement| agreement.partner == partner && agreement.counterparty.is_none(),
            at,
        )
    }

    fn latest(&self, is_one: impl Fn(&Agreement) -> bool, at: i64) -> Option<Agreement> {
        let in_force = |agreement: &&Agreement| agreement.effective_at.micros() <= at;
        let all = self
            .agreements
            .iter()
            .filter(|agreement| is_one(agreement))
            .filter(in_force);
        all.max_by_key(|agreement| (agreement.effective_at, agreement.id))
            .cloned()
    }

    fn agreement(&self, id: AgreementId) -> &Agreement {
        self.agreements
            .iter()
            .find(|agreement| agreement.id == id)
            .expect("agreed")
    }

    /// The pair's version where there is one, else the parcel's.
    fn governing(&self, parcel: &Parcel, redeemer: PartnerId) -> AgreementId {
        let issuer = parcel.issuer.partner();
        let is_pair = |agreement: &Agreement| {
            Some(agreement.partner) == issuer && agreement.counterparty == Some(redeemer)
        };
        self.latest(is_pair, self.now)
            .map_or(parcel.pinned, |pair| pair.id)
    }

    fn breaks_a_limit(&mut self, moves: &[Move], issuers: &[Party]) -> bool {
        let mut beyond = false;
        for issuer in issuers {
            let own = issuer
                .partner()
                .and_then(|partner| self.own(partner, self.now));
            let headroom = |moves| {
                own.as_ref()
                    .and_then(|own| self.headroom(*issuer, own, moves))
            };
            if let (Some(before), Some(after)) = (headroom(&[]), headroom(moves))
                && after < before
            {
                beyond |= after < 0;
                if self.asked.iter().all(|(asked, _)| asked != issuer) {
                    self.asked.push((*issuer, before - after));
                }
            }
        }
        match self.limits {
            Limits::Computed => beyond,
            Limits::Told(beyond) => beyond && !self.asked.is_empty(),
        }
    }

    /// What is left to a partner by its own agreement in force, if that has a limit.
    pub(crate) fn room(&self, partner: PartnerId) -> Option<i128> {
        let own = self.own(partner, self.now)?;
        self.headroom(partner.into(), &own, &[])
    }

    /// What is left to a party that has a limit, once `moves` are booked.
    fn headroom(&self, party: Party, own: &Agreement, moves: &[Move]) -> Option<i128> {
        let currency = own.terms.currency.code();
        let mut account = self.account(party, currency);
        for moved in moves.iter().filter(|moved| moved.currency == currency) {
            account.debits += if moved.from == party { moved.micros } else { 0 };
            account.credits += if moved.to == party { moved.micros } else { 0 };
        }
        let limit = i128::from(own.terms.limit?.get());
        let inbound = if own.terms.net_inbound {
            account.credits
        } else {
            0
        };
        Some(limit + account.funds + inbound - account.debits)
    }

    fn account(&self, party: Party, currency: &'static str) -> Account {
        self.accounts
            .get(&(party, currency))
            .copied()
            .unwrap_or_default()
    }

    fn book(&mut self, moves: &[Move]) {
        for Move {
            from,
            to,
            currency,
            micros,
        } in moves.iter().copied()
        {
            *self.flows.entry((from, to, currency)).or_default() += micros;
            self.accounts.entry((from, currency)).or_default().debits += micros;
            self.accounts.entry((to, currency)).or_default().credits += micros;
        }
    }
}

/// What may be spent.
pub(crate) fn spendable(balance: &Balance) -> i64 {
    balance.totals.available.get() - balance.totals.debt.get()
}

fn check_key(partner: PartnerId, kind: Kind, context: &Context) -> Option<CheckKey> {
    let check_id = context.check_id.clone()?;
    Some(CheckKey {
        partner,
        kind,
        check_id,
    })
}

/// A refusal that names a transaction, without the name.
pub(crate) fn reversed_before_arrival() -> Refusal {
    Refusal::ReversedBeforeArrival {
        by: TransactionId::from_uuid(uuid::Uuid::nil()),
    }
}

fn quiet(kind: Kind) -> Told {
    Told {
        kind,
        declined: None,
        points: 0,
        forgiven: 0,
        expired: 0,
        balance: None,
        debt: 0,
        left: None,
        parts: Vec::new(),
    }
}

fn empty_record(kind: Kind, partner: Party) -> Record {
    Record {
        told: quiet(kind),
        partner,
        member: None,
        agreement: None,
        check: None,
        deed: Deed::Other,
        open_points: 0,
        open_amount: 0,
        reversed_by: None,
    }
}
