//! Every answer against the plain model, which is given the commands in the order in which the network
//! decided them.

use std::collections::BTreeMap;

use coalition_ledger::command::{Action, Command, RequestKey};
use coalition_ledger::ids::Party;
use coalition_ledger::member::Balance;
use coalition_ledger::transaction::{Decline, Kind};
use coalition_proto::common::{Balance as WireBalance, LotSlice, TransactionKind};
use coalition_tests::Refusal;

use super::books::{Books, Has, row};
use super::calls::{Aim, Answer, Call, Shot};
use super::model::{self, Limits, Model, Part, Told};
use super::order::Decided;
use super::rooms::{self, Move};
use super::setting::Setting;
use super::world::{World, instant};

/// The least time that the clock takes to move on by days, in microseconds.
const DAYS_TAKE_US: u64 = 3_000_000;

/// Runs the model, and holds every answer against it.
pub(crate) fn check(
    setting: &Setting,
    world: &World,
    books: &Books,
    shots: &[Shot],
    ordered: &[Decided],
) {
    let start = ordered.first().expect("something was decided").posted_at;
    let mut run = Run {
        setting,
        world,
        books,
        shots,
        model: Model::new(world.rules.clone(), start),
        moves: Vec::new(),
        recorded: BTreeMap::new(),
        late: Vec::new(),
    };
    run.enroll();
    for (place, decided) in ordered.iter().enumerate() {
        run.model.now = decided.posted_at.micros();
        match decided.shots.first() {
            Some(_) => run.decide(place, decided),
            None => run.sweep(decided),
        }
    }
    run.ask_again();
    run.refusals();
    run.what_is_left();
    if !setting.one_poster {
        let rules = &world.rules;
        let held = rooms::check(&run.moves, |party| {
            let limit = rules
                .agreements
                .iter()
                .find(|agreed| {
                    agreed.counterparty.is_none() && Party::from(agreed.partner) == party
                })
                .and_then(|agreed| agreed.terms.limit);
            limit.map_or(0, |limit| i128::from(limit.get()))
        });
        crate::told(&format!(
            "limits between processes: {} postings and {} declines, each true of some order",
            held.posted, held.declined
        ));
        assert!(held.posted > 0, "{held:?}");
    }
}

struct Run<'a> {
    setting: &'a Setting,
    world: &'a World,
    books: &'a Books,
    shots: &'a [Shot],
    model: Model,
    moves: Vec<Move>,
    /// Under which shot each request was recorded first.
    recorded: BTreeMap<RequestKey, usize>,
    /// Shots that were answered with the record of another request.
    late: Vec<usize>,
}

impl Run<'_> {
    fn enroll(&mut self) {
        let mut enrolled: Vec<(usize, &Shot)> = self.shots.iter().enumerate().collect();
        enrolled.retain(|(_, shot)| matches!(shot.answer, Answer::Enrolled(_)));
        // Whoever was answered from memory comes after whom the memory is of.
        enrolled.sort_by_key(|(_, shot)| shot.answer.is_replayed());
        for (place, shot) in enrolled {
            if let Answer::Enrolled(told) = &shot.answer {
                let mut draft = shot.draft.clone();
                draft.member = told.member_id.parse().ok();
                let answer = self.model.decide(&draft.command(&self.world.shops));
                match answer {
                    model::Answer::Enrolled(_, replayed) => {
                        assert!(!replayed || shot.answer.is_replayed(), "{shot:?}");
                    }
                    other => panic!("{other:?} to {shot:?}"),
                }
                self.recorded
                    .entry(draft.key(&self.world.shops))
                    .or_insert(place);
            }
        }
    }

    /// One decision, and all answers that tell of it.
    fn decide(&mut self, place: usize, decided: &Decided) {
        let shops = &self.world.shops;
        let first = &self.shots[decided.shots[0]];
        let command = first.draft.command(shops);
        if !self.setting.one_poster {
            let beyond = matches!(&first.answer, Answer::Refused(refusal)
                if refusal.reason == "LIMIT_EXCEEDED");
            self.model.limits = Limits::Told(beyond);
        }
        let before = self.rooms();
        let told = match self.model.decide(&command) {
            model::Answer::Recorded(told, false) => told,
            other => panic!("the model says {other:?} to {first:?}"),
        };
        self.model.name(decided.id);
        compare(first, &told);
        self.note_rooms(first, &before, decided, place);
        let key = first.draft.key(shops);
        self.recorded.insert(key, decided.shots[0]);
        let mut new = 0;
        for place in &decided.shots {
            let shot = &self.shots[*place];
            new += usize::from(!shot.answer.is_replayed());
            if shot.draft.key(shops) == key {
                assert_eq!(
                    shot.answer.lasting(),
                    first.answer.lasting(),
                    "{:?}",
                    shot.draft
                );
                assert_eq!(
                    shot.draft.fingerprint(),
                    first.draft.fingerprint(),
                    "{shot:?}"
                );
            } else {
                assert!(shot.answer.is_replayed(), "{shot:?}");
                self.late.push(*place);
            }
        }
        // None, where the first answer was lost on its way and the call was sent again.
        let sent_again = decided
            .shots
            .iter()
            .any(|place| self.shots[*place].attempts > 1);
        assert!(
            new == 1 || (new == 0 && sent_again),
            "{new} answers are not replays: {first:?}"
        );
    }

    /// What time has done to a member's points, posted by the network itself.
    fn sweep(&mut self, decided: &Decided) {
        let (_, posting) = self
            .books
            .postings
            .get(&decided.id)
            .unwrap_or_else(|| panic!("{} was recorded, and nobody was told", decided.id));
        let row = row(posting);
        let kind = match row.kind() {
            TransactionKind::Expire => Kind::Expire,
            TransactionKind::Mature => Kind::Mature,
            _ => panic!("nobody asked for {row:?}"),
        };
        // What matures and what expires at one instant is posted as two, and is one step of the model.
        let next = decided
            .next_of_member
            .and_then(|next| self.books.postings.get(&next));
        let halved = kind == Kind::Mature
            && next.is_some_and(|(_, next)| {
                let next = super::books::row(next);
                next.kind() == TransactionKind::Expire && next.posted_at == row.posted_at
            });
        if halved {
            return;
        }
        let sweep = Command {
            request: None,
            action: Action::Sweep(row.member_id.parse().expect("a member's id")),
        };
        match self.model.decide(&sweep) {
            model::Answer::Recorded(told, false) => {
                assert_eq!((told.kind, told.points), (kind, row.points), "{row:?}");
                let balance = told.balance.expect("a sweep has a balance");
                assert_balance(row.balance.as_ref(), &balance, row);
            }
            other => panic!("the model says {other:?} to {row:?}"),
        }
    }

    fn rooms(&self) -> Vec<Option<i128>> {
        let shops = self.world.shops.iter();
        shops.map(|shop| self.model.room(shop.id)).collect()
    }

    /// Notes what a decision did to headrooms, and wanted of them.
    fn note_rooms(
        &mut self,
        shot: &Shot,
        before: &[Option<i128>],
        decided: &Decided,
        place: usize,
    ) {
        let declined = matches!(&shot.answer, Answer::Refused(refusal)
            if refusal.reason == "LIMIT_EXCEEDED");
        let withdrawal = matches!(shot.draft.call, Call::Fund(_)) && declined;
        for ((shop, before), after) in self.world.shops.iter().zip(before).zip(self.rooms()) {
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            let party = Party::from(shop.id);
            let asked = self.model.asked.iter().find(|(asked, _)| *asked == party);
            let mut moved = Move::of(shot, party, decided.posted_at, place);
            moved.effect = after - before;
            // Also for want of funds, which is not a matter of headroom alone.
            moved.asked = asked.map(|(_, asked)| *asked).filter(|_| !withdrawal);
            moved.declined = declined;
            if moved.effect != 0 || moved.asked.is_some() {
                self.moves.push(moved);
            }
        }
    }

    /// Reversals of what was reversed already are answered with the record of the first.
    fn ask_again(&mut self) {
        for place in std::mem::take(&mut self.late) {
            let shot = &self.shots[place];
            assert!(
                matches!(
                    shot.draft.call,
                    Call::ReverseEarn(_) | Call::ReverseRedeem(_)
                ),
                "answered with another request's record: {shot:?}"
            );
            self.recorded
                .entry(shot.draft.key(&self.world.shops))
                .or_insert(place);
            match self.model.decide(&shot.draft.command(&self.world.shops)) {
                model::Answer::Recorded(told, true) => compare(shot, &told),
                other => panic!("the model says {other:?} to {shot:?}"),
            }
        }
    }

    /// What was refused left no record, and must be true of some moment between sending and answer.
    fn refusals(&self) {
        for shot in self.shots {
            let Some(refusal) = shot.answer.refusal() else {
                assert!(
                    matches!(shot.draft.aim, Aim::Anything),
                    "this must be refused: {shot:?}"
                );
                continue;
            };
            assert!(
                self.is_true(shot, refusal),
                "not true at any moment: {shot:?}"
            );
        }
    }

    fn is_true(&self, shot: &Shot, refusal: &Refusal) -> bool {
        let before = |other: &Shot| other.sent_us < shot.answered_us;
        match (refusal.reason.as_str(), shot.draft.aim) {
            ("CURRENCY_MISMATCH", Aim::WrongCurrency)
            | ("OCCURRED_AT_OUT_OF_RANGE", Aim::FarOff)
            | ("NOT_FOUND", Aim::Stranger)
            | ("INVALID_ARGUMENT", Aim::WrongKind) => true,
            // The clock moves on while a call is on its way; it takes a while to move so far.
            ("OCCURRED_AT_OUT_OF_RANGE", Aim::Anything) => {
                shot.answered_us - shot.sent_us > DAYS_TAKE_US
            }
            // The request that it names had arrived meanwhile, and was for a sale of the other kind.
            ("INVALID_ARGUMENT", Aim::Anything) => self.shots.iter().any(|other| {
                let calls = (&shot.draft.call, &other.draft.call);
                let mixed = matches!(
                    calls,
                    (Call::ReverseRedeem(_), Call::Earn(_))
                        | (Call::ReverseEarn(_), Call::Redeem(_))
                );
                mixed && undoes(shot, other) && other.answer.record().is_some() && before(other)
            }),
            // The id was used for something else.
            ("REQUEST_ID_REUSED", Aim::Anything) => {
                let key = shot.draft.key(&self.world.shops);
                self.recorded.get(&key).is_some_and(|first| {
                    let first = &self.shots[*first];
                    first.draft.fingerprint() != shot.draft.fingerprint() && before(first)
                })
            }
            // Somebody undid it, and was told that it was never there.
            ("REVERSED_BEFORE_ARRIVAL", Aim::Anything) => self.shots.iter().any(|other| {
                undoes(other, shot)
                    && before(other)
                    && matches!(&other.answer, Answer::Refused(refusal)
                            if refusal.reason == "ORIGINAL_NOT_FOUND")
            }),
            ("IDENTIFIER_TAKEN", Aim::Anything) => {
                let Call::Enroll(call) = &shot.draft.call else {
                    return false;
                };
                // By another request: the same one is told of its member.
                self.shots.iter().any(|other| {
                    matches!((&other.draft.call, &other.answer), (Call::Enroll(first), Answer::Enrolled(_))
                        if first.identifiers == call.identifiers && first.request_id != call.request_id)
                        && before(other)
                })
            }
            // The check that it names was undone by reference, which sets its number free.
            ("NOT_FOUND", Aim::Anything) => {
                let originals: Vec<&Shot> = self.earned_or_redeemed(shot).collect();
                let undone = |other: &&Shot| originals.iter().any(|sale| undoes(other, sale));
                let mut reversals = self.shots.iter().filter(undone);
                reversals.any(|other| other.answer.is_posted() && before(other))
            }
            _ => false,
        }
    }

    /// The sales whose check a return or refund names.
    fn earned_or_redeemed<'s>(&'s self, shot: &'s Shot) -> impl Iterator<Item = &'s Shot> {
        use coalition_proto::earn::return_earn_request::Original as Earned;
        use coalition_proto::redeem::refund_redemption_request::Original as Redeemed;
        let named = match &shot.draft.call {
            Call::ReturnEarn(call) => match &call.original {
                Some(Earned::OriginalCheckId(check)) => Some(check),
                _ => None,
            },
            Call::Refund(call) => match &call.original {
                Some(Redeemed::OriginalCheckId(check)) => Some(check),
                _ => None,
            },
            _ => None,
        };
        self.shots.iter().filter(move |other| {
            let context = match (&other.draft.call, &shot.draft.call) {
                (Call::Earn(call), Call::ReturnEarn(_)) => call.context.as_ref(),
                (Call::Redeem(call), Call::Refund(_)) => call.context.as_ref(),
                _ => return false,
            };
            let check = context.map(|context| &context.check_id);
            other.draft.shop == shot.draft.shop && other.answer.is_posted() && check == named
        })
    }

    /// At the end the model has what the books have.
    fn what_is_left(&self) {
        for (member, holder) in &self.model.holders {
            let mut expected: BTreeMap<String, Has> = BTreeMap::new();
            for parcel in &holder.parcels {
                let has = expected.entry(parcel.issuer.to_string()).or_default();
                has.available += parcel.available;
                has.pending += parcel.pending;
            }
            for (issuer, debt) in &holder.debts {
                expected.entry(issuer.to_string()).or_default().debt += debt;
            }
            expected.retain(|_, has| *has != Has::default());
            let member = member.to_string();
            let found = self.books.of(&member);
            let found: BTreeMap<String, Has> = found
                .map(|(issuer, has)| (issuer.to_owned(), has))
                .collect();
            assert_eq!(expected, found, "{member}: model, books");
        }
        let mut expected: BTreeMap<(String, String), (i128, i128)> = BTreeMap::new();
        for ((party, currency), account) in &self.model.accounts {
            let key = (party.to_string(), (*currency).to_owned());
            expected.insert(key, (account.credits - account.debits, account.funds));
        }
        let keys = self
            .books
            .nets
            .keys()
            .chain(self.books.funds.keys())
            .chain(expected.keys());
        for key in keys {
            let of = |sums: &BTreeMap<(String, String), i64>| {
                i128::from(sums.get(key).copied().unwrap_or_default())
            };
            let found = (of(&self.books.nets), of(&self.books.funds));
            let expected = expected.get(key).copied().unwrap_or_default();
            assert_eq!(expected, found, "{key:?}: model, books");
        }
    }
}

/// Whether `reversal` names the request of `sale`.
fn undoes(reversal: &Shot, sale: &Shot) -> bool {
    let named = match &reversal.draft.call {
        Call::ReverseEarn(call) => &call.original_request_id,
        Call::ReverseRedeem(call) => &call.original_request_id,
        _ => return false,
    };
    reversal.draft.shop == sale.draft.shop && named == sale.draft.request_id()
}

/// An answer, against what the model told.
fn compare(shot: &Shot, told: &Told) {
    let kind = |kind: Kind| assert_eq!((told.kind, told.declined), (kind, None), "{shot:?}");
    let taken = |points: i64, debt: i64, forgiven: i64, expired: i64| {
        kind(Kind::ReturnEarn);
        let expected = (told.points, told.debt, told.forgiven, told.expired);
        assert_eq!(
            (points + debt, debt, forgiven, expired),
            expected,
            "{shot:?}"
        );
    };
    let given = |points: i64, expired: i64, restored: &[LotSlice]| {
        kind(Kind::RefundRedemption);
        assert_eq!((points, expired), (told.points, told.expired), "{shot:?}");
        assert_parts(restored, &told.parts, shot);
    };
    let (points_left, amount_left) = told.left.unwrap_or_default();
    match &shot.answer {
        Answer::Earned(answer) => {
            kind(Kind::Earn);
            let answered = (answer.points_earned, answer.points_repaid_debt);
            assert_eq!(answered, (told.points, told.debt), "{shot:?}");
            assert_parts(&answer.lots, &told.parts, shot);
        }
        Answer::Returned(answer) => {
            let (clawed_back, debt) = (answer.points_clawed_back, answer.points_to_debt);
            taken(
                clawed_back,
                debt,
                answer.points_forgiven,
                answer.points_expired,
            );
            let remaining = answer.basis_remaining.as_ref().expect("what remains");
            assert_eq!(remaining.amount, amount_left, "{shot:?}");
        }
        Answer::EarnReversed(answer) => {
            let (clawed_back, debt) = (answer.points_clawed_back, answer.points_to_debt);
            taken(
                clawed_back,
                debt,
                answer.points_forgiven,
                answer.points_expired,
            );
        }
        Answer::Redeemed(answer) => {
            kind(Kind::Redeem);
            assert_eq!(answer.points, told.points, "{shot:?}");
            assert_parts(&answer.slices, &told.parts, shot);
        }
        Answer::Refunded(answer) => {
            given(
                answer.points_refunded,
                answer.expired_on_return,
                &answer.restored,
            );
            assert_eq!(answer.points_remaining, points_left, "{shot:?}");
        }
        Answer::RedeemReversed(answer) => {
            given(
                answer.points_refunded,
                answer.expired_on_return,
                &answer.restored,
            );
        }
        Answer::Funded(_) => {
            let funds = matches!(told.kind, Kind::Deposit | Kind::Withdraw);
            assert!(funds && told.declined.is_none(), "{told:?}: {shot:?}");
        }
        Answer::Refused(refusal) => compare_decline(shot, refusal, told),
        Answer::Enrolled(_) => panic!("no transaction: {shot:?}"),
    }
    if shot.answer.is_posted() && !matches!(shot.answer, Answer::Funded(_)) {
        let balance = told.balance.expect("a member has a balance");
        assert_balance(shot.answer.balance(), &balance, shot);
    }
}

fn compare_decline(shot: &Shot, refusal: &Refusal, told: &Told) {
    let nothing_left = told.left == Some((0, 0));
    let points_left = told.left.map_or(0, |(points, _)| points);
    let expected = match told.declined {
        None => panic!("the model posts this: {told:?}: {shot:?}"),
        Some(Decline::CheckAlreadyEarned) => "CHECK_ALREADY_EARNED",
        Some(Decline::CheckAlreadyRedeemed) => "CHECK_ALREADY_REDEEMED",
        Some(Decline::CheckAlreadyReturned) => "CHECK_ALREADY_RETURNED",
        Some(Decline::InsufficientPoints) => "INSUFFICIENT_POINTS",
        Some(Decline::LimitExceeded | Decline::FundsExceeded) => "LIMIT_EXCEEDED",
        Some(Decline::MemberClosed) => "MEMBER_CLOSED",
        Some(Decline::MemberFrozen) => "MEMBER_FROZEN",
        Some(Decline::PartnerSuspended) => "PARTNER_SUSPENDED",
        Some(Decline::NoAgreementInForce) => "NO_AGREEMENT_IN_FORCE",
        // Where nothing at all remains, asking for less is no remedy.
        Some(Decline::ReturnExceedsCheck) if nothing_left => "ALREADY_REVERSED",
        Some(Decline::RefundExceedsRedemption) if points_left == 0 => "ALREADY_REVERSED",
        Some(Decline::ReturnExceedsCheck) => "RETURN_EXCEEDS_CHECK",
        Some(Decline::RefundExceedsRedemption) => "REFUND_EXCEEDS_REDEMPTION",
        Some(Decline::AlreadyReversed) => "ALREADY_REVERSED",
        Some(Decline::OriginalNotFound) => "ORIGINAL_NOT_FOUND",
        Some(Decline::OriginalWasDeclined) => "ORIGINAL_WAS_DECLINED",
    };
    assert_eq!(refusal.reason, expected, "{told:?}: {shot:?}");
    let fact = |key: &str| {
        refusal
            .metadata
            .get(key)
            .and_then(|text| text.parse::<i64>().ok())
    };
    match expected {
        "INSUFFICIENT_POINTS" => {
            let balance = told.balance.as_ref().map(model::spendable);
            assert_eq!(fact("balance"), balance, "{shot:?}");
        }
        "RETURN_EXCEEDS_CHECK" => {
            let left = told.left.map(|(_, amount)| amount);
            assert_eq!(fact("amount_remaining_minor"), left, "{shot:?}");
        }
        "REFUND_EXCEEDS_REDEMPTION" => {
            assert_eq!(fact("points_remaining"), Some(points_left), "{shot:?}");
        }
        _ => {}
    }
}

fn assert_parts(found: &[LotSlice], expected: &[Part], what: &Shot) {
    let found: Vec<Part> = found
        .iter()
        .map(|slice| Part {
            issuer: slice.issuer.parse::<Party>().expect("a party"),
            points: slice.points,
            expires_at: instant(slice.expires_at.as_ref().expect("lots expire")).micros(),
        })
        .collect();
    assert_eq!(found, expected, "{what:?}");
}

fn assert_balance(found: Option<&WireBalance>, expected: &Balance, what: &impl std::fmt::Debug) {
    let found = found.unwrap_or_else(|| panic!("no balance: {what:?}"));
    let totals = &expected.totals;
    let next = expected.next_expiry.as_ref();
    let expected = (
        model::spendable(expected),
        totals.available.get(),
        totals.pending.get(),
        totals.held.get(),
        totals.debt.get(),
        next.map(|next| next.at.micros()),
        next.map_or(0, |next| next.points.get()),
    );
    let told = (
        found.balance,
        found.available,
        found.pending,
        found.held,
        found.debt,
        found
            .next_expiry_time
            .as_ref()
            .map(|at| instant(at).micros()),
        found.next_expiry_points,
    );
    assert_eq!(told, expected, "{what:?}");
}
