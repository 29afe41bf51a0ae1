//! What the model does when goods come back, redemptions are refunded and requests are reversed.

use coalition_ledger::agreement::{ReturnPolicy, Trigger};
use coalition_ledger::command::{
    CheckKey, Command, Original, RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::decision::Refusal;
use coalition_ledger::ids::PartnerId;
use coalition_ledger::transaction::{Decline, Kind};

use super::money::{shared, shared_within};
use super::{
    Deed, Model, Outcome, Parcel, Part, Quantity, Record, Stop, Subject, Told, check_key,
    empty_record, quiet,
};

impl Model {
    pub(super) fn return_earn(
        &mut self,
        command: &Command,
        ret: &ReturnEarn,
    ) -> Result<Outcome, Stop> {
        self.trading(ret.partner)?;
        let place = self.original(command, ret.partner, Kind::Earn, &ret.original)?;
        let slip = check_key(ret.partner, Kind::ReturnEarn, &ret.context);
        self.unused(slip.as_ref(), Decline::CheckAlreadyReturned, None)?;
        self.believed(ret.occurred_at)?;
        let agreement = self.records[place].agreement.expect("an earn has terms");
        let expected = self.agreement(agreement).terms.currency;
        if ret.currency != expected {
            return Err(Refusal::CurrencyMismatch { expected }.into());
        }
        let returned = ret.returned.get();
        if returned > self.records[place].open_amount {
            let left = self.records[place].left();
            return Err(Stop::TooMuch(Decline::ReturnExceedsCheck, left));
        }
        let told = self.take_back(place, returned)?;
        let record = empty_record(Kind::ReturnEarn, ret.partner.into());
        Ok(Outcome::Posted(Record {
            told,
            check: slip,
            ..record
        }))
    }

    pub(super) fn refund(
        &mut self,
        command: &Command,
        refund: &RefundRedemption,
    ) -> Result<Outcome, Stop> {
        self.trading(refund.partner)?;
        let place = self.original(command, refund.partner, Kind::Redeem, &refund.original)?;
        let slip = check_key(refund.partner, Kind::RefundRedemption, &refund.context);
        self.unused(slip.as_ref(), Decline::CheckAlreadyReturned, None)?;
        self.believed(refund.occurred_at)?;
        let points = refund.points.get();
        if points > self.records[place].open_points {
            let left = self.records[place].left();
            return Err(Stop::TooMuch(Decline::RefundExceedsRedemption, left));
        }
        let told = self.give_back(place, points)?;
        let record = empty_record(Kind::RefundRedemption, refund.partner.into());
        Ok(Outcome::Posted(Record {
            told,
            check: slip,
            ..record
        }))
    }

    pub(super) fn reverse(
        &mut self,
        command: &Command,
        reverse: &Reverse,
    ) -> Result<Outcome, Stop> {
        self.trading(reverse.partner)?;
        let Some((own, _)) = command.request else {
            return Err(Refusal::UnknownOriginal.into());
        };
        // The partner's own request, or one of whoever asks: an operator may undo both.
        let mut scopes = vec![reverse.partner.uuid(), own.scope];
        scopes.dedup();
        let id = reverse.original_request;
        let names = scopes.into_iter().map(|scope| RequestKey { id, scope });
        let names: Vec<RequestKey> = names.collect();
        if names.contains(&own) {
            return Err(Refusal::WrongKind.into());
        }
        let known = names.iter().find_map(|name| self.requests.get(name));
        let place = match known.map(|(_, subject)| *subject) {
            None => return Ok(Outcome::Unknown(names)),
            Some(Subject::Tombstone(place)) => return Ok(Outcome::Again(place)),
            Some(Subject::Member(_)) => return Err(Refusal::WrongKind.into()),
            Some(Subject::Record(place)) => place,
        };
        let original = &self.records[place];
        if original.partner != reverse.partner.into() {
            return Err(Refusal::UnknownOriginal.into());
        }
        if original.told.kind != reverse.kind {
            return Err(Refusal::WrongKind.into());
        }
        if original.told.declined.is_some() {
            return Err(Stop::Declined(Decline::OriginalWasDeclined, None));
        }
        if let Some(earlier) = original.reversed_by {
            return Ok(Outcome::Again(earlier));
        }
        if original.is_used_up() {
            return Err(Stop::Declined(Decline::AlreadyReversed, None));
        }
        self.believed(reverse.occurred_at)?;
        let (kind, told) = if reverse.kind == Kind::Earn {
            (
                Kind::ReturnEarn,
                self.take_back(place, self.records[place].open_amount)?,
            )
        } else {
            (
                Kind::RefundRedemption,
                self.give_back(place, self.records[place].open_points)?,
            )
        };
        self.records[place].reversed_by = Some(self.records.len());
        if let Some(check) = self.records[place].check.take() {
            self.checks.remove(&check);
        }
        Ok(Outcome::Posted(Record {
            told,
            ..empty_record(kind, reverse.partner.into())
        }))
    }

    fn original(
        &self,
        command: &Command,
        partner: PartnerId,
        kind: Kind,
        original: &Original,
    ) -> Result<usize, Stop> {
        let place = match original {
            Original::Transaction(id) => self.names.get(id).copied(),
            Original::Check(check_id) => {
                let key = CheckKey {
                    partner,
                    kind,
                    check_id: check_id.clone(),
                };
                self.checks.get(&key).copied()
            }
            Original::Request(id) => {
                let scope = command
                    .request
                    .map_or(uuid::Uuid::nil(), |(key, _)| key.scope);
                match self.requests.get(&RequestKey { id: *id, scope }) {
                    Some((_, Subject::Record(place))) => Some(*place),
                    _ => None,
                }
            }
        };
        let place = place.ok_or(Refusal::UnknownOriginal)?;
        let found = &self.records[place];
        if found.partner != partner.into() {
            return Err(Refusal::UnknownOriginal.into());
        }
        if found.told.kind != kind {
            return Err(Refusal::WrongKind.into());
        }
        if found.told.declined.is_some() {
            return Err(Stop::Declined(Decline::OriginalWasDeclined, None));
        }
        Ok(place)
    }

    /// Claws back what the returned part of a basis earned.
    fn take_back(&mut self, place: usize, returned: i64) -> Result<Told, Stop> {
        let original = self.records[place].clone();
        let member = original.member.expect("an earn has a member");
        self.settle(member)?;
        let Deed::Earn { parcels, .. } = &original.deed else {
            unreachable!("an earn")
        };
        let agreement = self
            .agreement(original.agreement.expect("an earn has terms"))
            .clone();
        let remaining = original.open_amount - returned;
        let left = self.exact.points_for(remaining, &agreement.terms);

        // The points that remain are split as the earn was, among the funders that got any.
        let holder = &self.holders[&member];
        let funders = agreement.terms.issuers(agreement.partner);
        let own = |funder| {
            parcels
                .iter()
                .find(|p| holder.parcels[**p].issuer == funder)
        };
        let places: Vec<Option<usize>> = funders
            .iter()
            .map(|funder| own(funder.party).copied())
            .collect();
        let weights: Vec<i64> = funders
            .iter()
            .map(|funder| i64::from(funder.weight))
            .collect();
        let standing: Vec<i64> = places
            .iter()
            .map(|place| place.map_or(0, |p| holder.parcels[p].standing))
            .collect();
        let keeps = shared_within(left, &weights, &standing);

        let issued: Vec<i64> = parcels.iter().map(|p| holder.parcels[*p].issued).collect();
        let baskets_before = shared(original.open_amount, &issued);
        let baskets_after = shared(remaining, &issued);
        let mut told = quiet(Kind::ReturnEarn);
        let mut moves = Vec::new();
        let mut whole = (
            Quantity {
                points: 0,
                basket: original.open_amount,
            },
            Quantity {
                points: 0,
                basket: remaining,
            },
        );
        for (nth, parcel_place) in parcels.iter().enumerate() {
            let funder = places
                .iter()
                .position(|found| found == &Some(*parcel_place));
            let keep = funder.map_or(0, |funder| keeps[funder]);
            let holder = self.holders.get_mut(&member).expect("settled");
            let parcel = &mut holder.parcels[*parcel_place];
            let before = Quantity {
                points: parcel.points(),
                basket: baskets_before[nth],
            };
            let taken = take(
                parcel,
                parcel.standing - keep,
                agreement.terms.return_policy,
            );
            let after = Quantity {
                points: parcel.points(),
                basket: baskets_after[nth],
            };
            let (issuer, pinned) = (parcel.issuer, parcel.pinned);
            *holder.debts.entry(issuer).or_default() += taken.to_debt;
            told.points += taken.from_lot + taken.to_debt;
            told.debt += taken.to_debt;
            told.forgiven += taken.forgiven;
            told.expired += taken.expired;
            whole.0.points += before.points;
            whole.1.points += after.points;
            let pinned = self.agreement(pinned);
            let parties = (Some(issuer), None);
            self.follow_change(&mut moves, pinned, Trigger::Earn, parties, (before, after));
        }
        self.follow_change(&mut moves, &agreement, Trigger::Earn, (None, None), whole);
        self.book(&moves);
        self.records[place].open_points = left;
        self.records[place].open_amount = remaining;
        told.left = Some(self.records[place].left());
        told.balance = Some(self.holders[&member].balance());
        Ok(told)
    }

    /// Gives points back to the parcels that they came from, last consumed first.
    fn give_back(&mut self, place: usize, refunded: i64) -> Result<Told, Stop> {
        let original = self.records[place].clone();
        let member = original.member.expect("a redemption has a member");
        self.settle(member)?;
        let Deed::Redeem { slices, basket } = &original.deed else {
            unreachable!("a redemption")
        };
        let before = original.open_points;
        let after = before - refunded;
        let partner = original.partner.partner().expect("a redeemer");
        let own = original.agreement.expect("a redemption has terms");
        let mut moves = self.redemption_moves(slices, *basket, before, after, partner, own);

        let mut told = Told {
            points: refunded,
            ..quiet(Kind::RefundRedemption)
        };
        let mut consumed = 0;
        for slice in slices {
            let open_before = (before - consumed).clamp(0, slice.points);
            let open_after = (after - consumed).clamp(0, slice.points);
            consumed += slice.points;
            let back = open_before - open_after;
            let holder = self.holders.get_mut(&member).expect("settled");
            let parcel = &mut holder.parcels[slice.parcel];
            parcel.spent -= back;
            if back > 0 {
                told.parts.push(Part {
                    issuer: parcel.issuer,
                    points: back,
                    expires_at: parcel.expires_at,
                });
            }
            if back > 0 && parcel.expires_at <= self.now {
                parcel.expired += back;
                told.expired += back;
                let (pinned, issuer) = (parcel.pinned, parcel.issuer);
                self.expire(&mut moves, pinned, issuer, back);
            } else {
                parcel.available += back;
            }
        }
        self.book(&moves);
        self.records[place].open_points = after;
        told.left = Some(self.records[place].left());
        // Last consumed, first given back.
        told.parts.reverse();
        told.balance = Some(self.holders[&member].balance());
        Ok(told)
    }
}

impl Record {
    /// What remains of it: points and amount.
    fn left(&self) -> (i64, i64) {
        (self.open_points, self.open_amount)
    }

    /// Whether there was something to undo and it is undone.
    fn is_used_up(&self) -> bool {
        match &self.deed {
            Deed::Earn { basis, .. } => *basis > 0 && self.open_amount == 0,
            Deed::Redeem { .. } => self.open_points == 0,
            Deed::Other => false,
        }
    }
}

struct Taken {
    from_lot: i64,
    to_debt: i64,
    forgiven: i64,
    expired: i64,
}

/// Takes `claim` points out of what a parcel stands for: from what rests in it first; what was
/// spent is owed or forgiven; what expired is neither.
fn take(parcel: &mut Parcel, claim: i64, policy: ReturnPolicy) -> Taken {
    let owed_already = (-parcel.spent).max(0);
    let resting = (parcel.pending + parcel.available - owed_already).max(0);
    let from_lot = claim.min(resting);
    let from_available = from_lot.min(parcel.available);
    parcel.available -= from_available;
    parcel.pending -= from_lot - from_available;
    let beyond = claim - from_lot;
    let unforgiven = (parcel.spent - parcel.forgiven).max(0);
    let was_spent = beyond.min(unforgiven);
    let (to_debt, forgiven) = match policy {
        ReturnPolicy::AllowNegative => (was_spent, 0),
        ReturnPolicy::WithinBalance => (0, was_spent),
    };
    parcel.spent -= to_debt;
    parcel.forgiven += forgiven;
    parcel.standing -= claim;
    Taken {
        from_lot,
        to_debt,
        forgiven,
        expired: beyond - was_spent,
    }
}
