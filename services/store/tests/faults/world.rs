//! Small books, and batches that touch every table; everything follows from a batch's number, so
//! that a process that starts anew sends the same requests again.

use std::sync::Arc;

use coalition_ledger::agreement::{ReturnPolicy, Terms, settle_at_issue};
use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Enroll, Fund, NewIdentifier, Original, Redeem,
    RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{AgreementId, MemberId, PartnerId};
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::transaction::{Context, Kind, Open, Transaction};
use coalition_store::model::{AgreementRow, AgreementState, PartnerRow, Side};
use coalition_store::operations::{OperationRequest, Operations};
use coalition_store::poster::{Poster, PosterSettings};
use coalition_store::testing::{Database, START, sandbox};
use coalition_store::verify::{Listener, Report, verify};
use coalition_store::{Store, SystemClock, WindowLock};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Issues points, under a limit.
const CAFE: PartnerId = PartnerId::from_uuid(Uuid::from_u128(0xcafe));
/// Where they are spent.
const SALON: PartnerId = PartnerId::from_uuid(Uuid::from_u128(0x5a1c));
/// Is not there from the beginning.
const LATER: PartnerId = PartnerId::from_uuid(Uuid::from_u128(0x1a7e));
/// Earns and spends.
const GUEST: MemberId = MemberId::from_uuid(Uuid::from_u128(0x6e57));
/// Has spent what it returns: always in debt.
const DEBTOR: MemberId = MemberId::from_uuid(Uuid::from_u128(0xdeb7));

/// Lays down the network and what batches build on: partners, members, points. The first batch is
/// number 1.
pub(crate) async fn furnish(store: &Arc<dyn Store>) {
    store.migrate(&sandbox(), START).await.expect("migrates");
    let (mut unit, _) = store.begin(WindowLock::Exclusive).await.expect("begins");
    for (id, code) in [(CAFE, "cafe"), (SALON, "salon")] {
        unit.insert_partner(&partner(id, code))
            .await
            .expect("a partner");
        let mut agreement = agreement(id);
        unit.insert_agreement(&agreement).await.expect("proposes");
        agreement.state = AgreementState::Accepted;
        agreement.accepter = Some("owner".to_owned());
        agreement.accepted_at = Some(START);
        unit.accept_agreement(&agreement).await.expect("accepts");
    }
    unit.commit().await.expect("commits");

    let poster = poster(store);
    let first = [
        request(CAFE.uuid(), 0, 1, enroll(GUEST, 0)),
        request(CAFE.uuid(), 0, 2, enroll(DEBTOR, 1)),
        request(CAFE.uuid(), 0, 3, earn(GUEST, "e-0", 1_000_000)),
        request(CAFE.uuid(), 0, 4, earn(DEBTOR, "big", 1_000_000)),
        request(SALON.uuid(), 0, 5, redeem(DEBTOR, "all", 1_000_000)),
        request(SALON.uuid(), 0, 6, redeem(GUEST, "r-0", 10)),
    ];
    let decided = poster.post_all(first.to_vec()).await.expect("is posted");
    assert!(decided.iter().all(is_done), "{decided:?}");
    poster.shut_down().await;
}

/// A poster of its own, which knows nothing yet: it reads the rulebook first.
pub(crate) fn poster(store: &Arc<dyn Store>) -> Poster {
    poster_with(store, PosterSettings::default())
}

pub(crate) fn poster_with(store: &Arc<dyn Store>, settings: PosterSettings) -> Poster {
    let mut seed = [0; 6];
    seed.copy_from_slice(&Uuid::new_v4().as_bytes()[..6]);
    Poster::start(Arc::clone(store), Arc::new(SystemClock), seed, settings)
}

/// What operators do, on these books.
pub(crate) fn operations(store: &Arc<dyn Store>, poster: &Poster) -> Operations {
    let clock = Arc::new(SystemClock);
    Operations::new(Arc::clone(store), poster.clone(), clock, *b"operat")
}

/// The request for a cut.
pub(crate) fn cut(number: u32) -> OperationRequest {
    let id = request_id(number, 0xc);
    OperationRequest {
        key: RequestKey {
            id,
            scope: Uuid::nil(),
        },
        fingerprint: *id.as_bytes(),
    }
}

/// An earn, a deposit and a decline.
const PLAIN: [u128; 3] = [2, 8, 9];

/// One command of each kind, and a decline; none is refused.
pub(crate) fn commands(batch: u32) -> Vec<Command> {
    let (cafe, salon) = (CAFE.uuid(), SALON.uuid());
    let newcomer = MemberId::from_uuid(request_id(batch, 0xee));
    let before = batch - 1;
    // What the batch before sent as its second command; the furnishing, as its third.
    let (earned, redeemed) = match before {
        0 => (request_id(0, 3), request_id(0, 6)),
        _ => (request_id(before, 2), request_id(before, 3)),
    };
    let returned = ReturnEarn {
        partner: CAFE,
        original: Original::Check("big".to_owned()),
        returned: Minor::new(5),
        currency: Currency::EUR,
        occurred_at: None,
        context: on_check(&format!("t-{batch}")),
    };
    let refund = RefundRedemption {
        partner: SALON,
        original: Original::Request(redeemed),
        points: Points::new(3),
        occurred_at: None,
        context: Context::default(),
    };
    let reverse = Reverse {
        partner: CAFE,
        kind: Kind::Earn,
        original_request: earned,
        occurred_at: None,
        context: Context::default(),
    };
    let fund = Fund {
        partner: CAFE,
        withdrawal: false,
        amount: Minor::new(100),
        currency: Currency::EUR,
        bank_reference: format!("bank {batch}"),
    };
    vec![
        request(Uuid::nil(), batch, 1, enroll(newcomer, batch + 1)),
        request(cafe, batch, 2, earn(GUEST, &format!("e-{batch}"), 1_000)),
        request(salon, batch, 3, redeem(GUEST, &format!("r-{batch}"), 10)),
        request(cafe, batch, 4, earn(DEBTOR, &format!("d-{batch}"), 3)),
        request(cafe, batch, 5, Action::ReturnEarn(returned)),
        request(salon, batch, 6, Action::RefundRedemption(refund)),
        request(cafe, batch, 7, Action::Reverse(reverse)),
        request(Uuid::nil(), batch, 8, Action::Fund(fund)),
        request(
            salon,
            batch,
            9,
            redeem(GUEST, &format!("x-{batch}"), i64::MAX),
        ),
    ]
}

/// Commands of which no two write to one table in different ways: PostgreSQL writes and commits them in one go.
pub(crate) fn plain_commands(batch: u32) -> Vec<Command> {
    let mut commands = commands(batch);
    commands.retain(|command| {
        let (request, _) = command.request.expect("each has one");
        PLAIN.contains(&(request.id.as_u128() & 0xff))
    });
    commands
}

/// What another process posts meanwhile, for a member whom every batch changes.
pub(crate) fn rival(number: u32) -> Command {
    let earn = earn(GUEST, &format!("rival-{number}"), 100);
    request(CAFE.uuid(), number, 0x11, earn)
}

/// An earn at a partner who comes later.
pub(crate) fn early(number: u32) -> Command {
    let mut action = earn(GUEST, &format!("early-{number}"), 100);
    if let Action::Earn(earn) = &mut action {
        earn.partner = LATER;
    }
    request(LATER.uuid(), number, 0x12, action)
}

/// That partner comes.
pub(crate) async fn latecomer(store: &Arc<dyn Store>) {
    let (mut unit, _) = store.begin(WindowLock::Exclusive).await.expect("begins");
    let row = partner(LATER, "later");
    unit.insert_partner(&row).await.expect("is new");
    unit.commit().await.expect("commits");
}

fn request_id(batch: u32, number: u32) -> Uuid {
    Uuid::from_u128((1 << 100) + (u128::from(batch) << 32) + u128::from(number))
}

fn request(scope: Uuid, batch: u32, number: u32, action: Action) -> Command {
    let id = request_id(batch, number);
    Command {
        request: Some((RequestKey { id, scope }, *id.as_bytes())),
        action,
    }
}

fn enroll(member: MemberId, number: u32) -> Action {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Action::Enroll(Enroll {
        member,
        identifiers: vec![NewIdentifier {
            hash,
            kind: 1,
            masked: format!("•••• {number}"),
        }],
    })
}

fn earn(member: MemberId, check: &str, gross: i64) -> Action {
    Action::Earn(Earn {
        partner: CAFE,
        member,
        amounts: CheckAmounts {
            gross: Minor::new(gross),
            ..CheckAmounts::default()
        },
        currency: Currency::EUR,
        occurred_at: None,
        context: on_check(check),
    })
}

fn redeem(member: MemberId, check: &str, points: i64) -> Action {
    Action::Redeem(Redeem {
        partner: SALON,
        member,
        points: Points::new(points),
        check_total: None,
        occurred_at: None,
        context: on_check(check),
    })
}

fn on_check(check: &str) -> Context {
    Context {
        check_id: Some(check.to_owned()),
        ..Context::default()
    }
}

fn partner(id: PartnerId, code: &str) -> PartnerRow {
    PartnerRow {
        id,
        code: code.to_owned(),
        display_name: code.to_owned(),
        kind: 1,
        status: PartnerStatus::Active,
        created_at: START,
    }
}

/// A check of one minor unit earns one point.
fn agreement(partner: PartnerId) -> AgreementRow {
    let terms = Terms {
        currency: Currency::EUR,
        points_per_unit: Decimal::new(100, 0),
        lot_lifetime_days: 365,
        pending_days: 0,
        return_policy: ReturnPolicy::default(),
        include_tax: false,
        include_tip: false,
        include_gift_cards: false,
        funders: Vec::new(),
        limit: (partner == CAFE).then_some(Micros::new(1_000_000_000_000)),
        net_inbound: false,
        alert_below_points: None,
        legs: settle_at_issue(Decimal::new(1, 2), Decimal::new(8, 3)),
    };
    AgreementRow {
        id: AgreementId::from_uuid(Uuid::from_u128(partner.uuid().as_u128() << 32)),
        partner,
        counterparty: None,
        version: 1,
        state: AgreementState::Proposed,
        proposed_by: Side::Operator,
        proposer: "maker".to_owned(),
        proposed_at: START,
        accepter: None,
        counterparty_accepter: None,
        counterparty_accepted_at: None,
        accepted_at: None,
        effective_at: Some(START),
        terms,
    }
}

/// Posted, enrolled or declined: recorded, so that a retry finds it.
pub(crate) fn is_done(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::Recorded { .. } | Decision::Enrolled { .. }
    )
}

/// Whether this is the answer to an earlier request.
pub(crate) fn is_replay(decision: &Decision) -> bool {
    match decision {
        Decision::Recorded { replayed, .. } | Decision::Enrolled { replayed, .. } => *replayed,
        Decision::Refused(_) | Decision::Nothing => false,
    }
}

/// What two answers to one request have in common: everything but what remains to be undone, which
/// later requests change.
pub(crate) fn answer(decision: &Decision) -> (Option<Transaction>, Option<MemberId>) {
    match decision {
        Decision::Recorded { transaction, .. } => {
            let record = Transaction {
                open: Open::default(),
                ..transaction.as_ref().clone()
            };
            (Some(record), None)
        }
        Decision::Enrolled { member, .. } => (None, Some(*member)),
        Decision::Refused(_) | Decision::Nothing => (None, None),
    }
}

/// Rows and sums of every table that a batch writes: half a batch shows in one of them.
pub(crate) async fn census(database: &Database) -> Vec<(String, i64)> {
    let mut figures = vec![
        "select 'versions', cast(sum(version) as bigint) from members".to_owned(),
        "select 'points', cast(sum(available + debt) as bigint) from members".to_owned(),
        "select 'lot points', cast(sum(available) as bigint) from lots".to_owned(),
        "select 'totals', cast(sum(amount) as bigint) from window_totals".to_owned(),
        "select 'debits', cast(sum(debits) as bigint) from positions".to_owned(),
        "select 'undone', count(*) from transactions where reversed_by is not null".to_owned(),
    ];
    let tables = [
        "requests",
        "checks",
        "members",
        "identifiers",
        "transactions",
        "lots",
        "debts",
        "window_totals",
        "positions",
    ];
    figures.extend(tables.map(|table| format!("select '{table}', count(*) from {table}")));
    database.numbers(&figures.join(" union all ")).await
}

/// What the books lack that a batch writes together.
pub(crate) async fn halves(database: &Database) -> Vec<(String, i64)> {
    let halves = [
        "select 'requests without a transaction', count(*) from requests where subject = 1 and \
         not exists (select 1 from transactions where id = subject_id)",
        "select 'checks without a transaction', count(*) from checks where \
         not exists (select 1 from transactions where id = transaction_id)",
        "select 'transactions without a request', count(*) from transactions where \
         not exists (select 1 from requests where subject_id = transactions.id)",
        "select 'identifiers without a member', count(*) from identifiers where \
         not exists (select 1 from members where id = member_id)",
    ];
    let mut found = database.numbers(&halves.join(" union all ")).await;
    found.retain(|(_, count)| *count != 0);
    found
}

/// Has the books verified: they must balance.
pub(crate) async fn assert_books_balance(store: &dyn Store) {
    struct Findings(Vec<Report>);

    #[async_trait::async_trait]
    impl Listener for Findings {
        async fn hear(&mut self, report: Report) -> bool {
            if let Report::Finding(_) = report {
                self.0.push(report);
            }
            true
        }
    }

    let mut findings = Findings(Vec::new());
    verify(store, &mut findings).await.expect("can be read");
    assert!(findings.0.is_empty(), "{:#?}", findings.0);
}
