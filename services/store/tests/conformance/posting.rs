//! The poster on a real engine: within one batch, each command sees what the ones before it left.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use coalition_ledger::agreement::{Terms, settle_at_issue};
use coalition_ledger::command::{Action, CheckAmounts, Command, Earn, Enroll, Redeem, RequestKey};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{MemberId, PartnerId, Party};
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::transaction::{Context, Decline};
use coalition_ledger::{Clock, Timestamp};
use coalition_store::model::{AgreementRow, AgreementState};
use coalition_store::poster::{Poster, PosterSettings};
use coalition_store::testing::TestDb;
use coalition_store::verify::{Listener, Report, verify};
use rust_decimal::Decimal;

use crate::fixtures::*;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        day(10)
    }
}

/// A clock that moves on whenever it is looked at.
#[derive(Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        day(10).saturating_add_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn poster(db: &TestDb) -> Poster {
    poster_by(db, Arc::new(Still))
}

fn poster_by(db: &TestDb, clock: Arc<dyn Clock>) -> Poster {
    let settings = PosterSettings::default();
    Poster::start(Arc::clone(&db.store), clock, *b"poster", settings)
}

/// A partner that issues a point per euro and pays a euro for each.
async fn trading(db: &TestDb, code: &str, limit: Option<Micros>) -> PartnerId {
    let row = partner(code);
    let terms = Terms {
        points_per_unit: Decimal::ONE,
        limit,
        legs: settle_at_issue(Decimal::ONE, Decimal::ONE),
        ..terms()
    };
    let proposed = AgreementRow {
        terms,
        ..agreement(row.id, 1)
    };
    let accepted = AgreementRow {
        state: AgreementState::Accepted,
        accepter: Some("taker".to_owned()),
        accepted_at: Some(day(1)),
        ..proposed.clone()
    };
    let mut unit = unit(db).await;
    unit.insert_partner(&row).await.expect("registers");
    unit.insert_agreement(&proposed).await.expect("proposes");
    unit.accept_agreement(&accepted).await.expect("accepts");
    commit(unit).await;
    row.id
}

fn command(action: Action) -> Command {
    let (id, scope) = (id(), id());
    let fingerprint = *id.as_bytes();
    Command {
        request: Some((RequestKey { id, scope }, fingerprint)),
        action,
    }
}

/// A check of so many euros.
fn earn(partner: PartnerId, member: MemberId, euros: i64) -> Command {
    command(Action::Earn(Earn {
        partner,
        member,
        amounts: CheckAmounts {
            gross: Minor::new(euros * 100),
            ..CheckAmounts::default()
        },
        currency: Currency::EUR,
        occurred_at: None,
        context: Context::default(),
    }))
}

fn redeem(partner: PartnerId, member: MemberId, points: i64) -> Command {
    command(Action::Redeem(Redeem {
        partner,
        member,
        points: Points::new(points),
        check_total: None,
        occurred_at: None,
        context: Context::default(),
    }))
}

async fn enroll(poster: &Poster) -> MemberId {
    let enroll = Enroll {
        member: member_id(),
        identifiers: Vec::new(),
    };
    match poster.post(command(Action::Enroll(enroll))).await {
        Ok(Decision::Enrolled { member, .. }) => member,
        other => panic!("not enrolled: {other:?}"),
    }
}

/// Posts a batch: per command, why it was declined (if it was), and what is available then.
async fn outcomes(poster: &Poster, batch: Vec<Command>) -> Vec<(Option<Decline>, i64)> {
    let decisions = poster.post_all(batch).await.expect("decides");
    let outcome = |decision: Decision| match decision {
        Decision::Recorded { transaction, .. } => {
            let available = transaction.balance.totals.available;
            (transaction.declined, available.get())
        }
        other => panic!("not recorded: {other:?}"),
    };
    decisions.into_iter().map(outcome).collect()
}

pub(crate) async fn a_limit_shrinks_command_by_command(db: &TestDb) {
    let limit = Micros::new(100_000_000);
    let issuer = trading(db, "issuer", Some(limit)).await;
    let poster = poster(db);
    let member = enroll(&poster).await;
    let charges = |euros: &[i64]| euros.iter().map(|e| earn(issuer, member, *e)).collect();
    let exceeded = Some(Decline::LimitExceeded);

    let first = outcomes(&poster, charges(&[60, 60, 120])).await;
    assert_eq!(first, [(None, 60), (exceeded, 60), (exceeded, 60)]);
    // To the cent, and not a cent further.
    let second = outcomes(&poster, charges(&[41, 40, 1])).await;
    assert_eq!(second, [(exceeded, 60), (None, 100), (exceeded, 100)]);

    poster.shut_down().await;
    let party = Some(Party::Partner(issuer));
    let positions = db.store.reader().positions(party).await.expect("reads");
    let debits: Vec<Micros> = positions.iter().map(|(_, own)| own.debits).collect();
    assert_eq!(debits, [limit]);
}

pub(crate) async fn a_balance_shrinks_command_by_command(db: &TestDb) {
    let shop = trading(db, "shop", None).await;
    let poster = poster(db);
    let member = enroll(&poster).await;
    let earned = outcomes(&poster, vec![earn(shop, member, 100)]).await;
    assert_eq!(earned, [(None, 100)]);

    let batch = [70, 70, 30, 1].map(|points| redeem(shop, member, points));
    let spent = outcomes(&poster, batch.to_vec()).await;
    let short = Some(Decline::InsufficientPoints);
    assert_eq!(spent, [(None, 30), (short, 30), (None, 0), (short, 0)]);

    poster.shut_down().await;
    assert_eq!(fetched(db, member).await.totals.available, points(0));
}

/// However many lots a redemption takes, and whatever it leaves: two of each instant.
pub(crate) async fn points_of_many_lots_are_spent(db: &TestDb) {
    let shop = trading(db, "shop", None).await;
    let poster = poster_by(db, Arc::new(Ticking::default()));
    let member = enroll(&poster).await;
    for earned in (2..=200).step_by(2) {
        let earns = [1, 1].map(|euros| earn(shop, member, euros));
        let outcomes = outcomes(&poster, earns.to_vec()).await;
        assert_eq!(outcomes.last(), Some(&(None, earned)));
    }
    let instants = "select count(distinct expires_us) from lots";
    assert_eq!(db.number(instants).await, 100);

    for (points, left) in [(1, 199), (7, 192), (90, 102), (63, 39), (38, 1)] {
        let spent = outcomes(&poster, vec![redeem(shop, member, points)]).await;
        assert_eq!(spent, [(None, left)], "after {points}");
    }
    let more = [2, 1].map(|points| redeem(shop, member, points));
    let spent = outcomes(&poster, more.to_vec()).await;
    let short = Some(Decline::InsufficientPoints);
    assert_eq!(spent, [(short, 1), (None, 0)]);

    poster.shut_down().await;
    let book = fetched(db, member).await;
    assert_eq!((book.totals.available, book.next_expiry), (points(0), None));
    let told = verified(db).await;
    assert_eq!(told.places, Vec::<String>::new());
}

/// All that is told of a verification.
#[derive(Default)]
struct Told {
    done: Vec<u64>,
    places: Vec<String>,
    counted: Option<u64>,
}

#[async_trait::async_trait]
impl Listener for Told {
    async fn hear(&mut self, report: Report) -> bool {
        match report {
            Report::Progress { done, .. } => self.done.push(done),
            Report::Finding(finding) => self.places.push(finding.place),
            Report::Summary { findings, .. } => self.counted = Some(findings),
        }
        true
    }
}

async fn verified(db: &TestDb) -> Told {
    let mut told = Told::default();
    verify(db.store.as_ref(), &mut told).await.expect("reads");
    assert_eq!(told.counted, Some(told.places.len() as u64));
    told
}

pub(crate) async fn lots_that_are_wrong_are_named_and_nothing_is_told_twice(db: &TestDb) {
    let shop = trading(db, "shop", None).await;
    let poster = poster(db);
    let member = enroll(&poster).await;
    let earns = [10, 20, 30].map(|euros| earn(shop, member, euros));
    outcomes(&poster, earns.to_vec()).await;
    outcomes(&poster, vec![redeem(shop, member, 15)]).await;
    poster.shut_down().await;
    let sound = verified(db).await;
    assert_eq!((sound.done, sound.places), (vec![4], Vec::new()));

    // From lot to lot, so that every other sum is right still; and a word that digests guard.
    let moved = "update lots set available = available + case when points = 20 then 1 else -1 end \
                 where points in (20, 30)";
    assert_eq!(db.sql(moved).await, 2);
    let changed = "update transactions set location = 'elsewhere' where points = 10";
    assert_eq!(db.sql(changed).await, 1);
    let wrong = verified(db).await;
    assert_eq!(wrong.done, [4, 4], "all is read again for the names");
    let tables = wrong.places.iter().map(|place| place.split('_').next());
    assert_eq!(
        tables.collect::<Vec<_>>(),
        [Some("transaction txn"), Some("lot lot"), Some("lot lot")]
    );
}
