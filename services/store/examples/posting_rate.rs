//! How fast a store takes earns, through units of work alone: no ledger, no network.
//!
//! `cargo run --release -p coalition-store --example posting_rate -- [sqlite|postgres] [batches]
//! [earns per batch]`
//!
//! Prints the rate over time, and the bytes that an earn takes, indexes included. `INDEX=1` adds an
//! index by member to transactions first: what a history by index instead of by chain would cost.

use std::collections::BTreeMap;
use std::time::Duration;

use coalition_ledger::account::{Account, Capacity, LegRef, LotRef, Posting, Transfer};
use coalition_ledger::command::{CheckKey, RequestKey};
use coalition_ledger::ids::{
    AgreementId, IdMint, LotId, MemberId, PartnerId, Party, TransactionId,
};
use coalition_ledger::member::{Lot, MemberBook, Totals, Upcoming};
use coalition_ledger::money::{Currency, Micros, Minor, Points, Unit as Counted};
use coalition_ledger::snapshot::{
    CheckRecord, Effects, Measure, MemberChange, Position, PositionChange, RequestRecord, Subject,
    TotalKey,
};
use coalition_ledger::time::{MICROS_PER_DAY, Timestamp};
use coalition_ledger::transaction::{Context, Kind, Open, Transaction};
use coalition_store::testing::{Engine, Parts as _, START, TestDb};
use coalition_store::{Frame, Store, WindowLock};

const MEMBERS: usize = 20_000;
const PARTNERS: usize = 20;
/// Members whose balance and history are asked for at the end.
const QUESTIONS: usize = 500;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The books as the caller of a store would have decided them.
struct World {
    mint: IdMint,
    now: Timestamp,
    members: Vec<MemberBook>,
    partners: Vec<(PartnerId, AgreementId)>,
    earns: usize,
}

impl World {
    fn new() -> Self {
        let mut mint = IdMint::new(*b"rating");
        let members = (0..MEMBERS).map(|_| MemberBook::new(MemberId::from_uuid(mint.mint(START))));
        let members = members.collect();
        let partners = (0..PARTNERS).map(|_| {
            let partner = PartnerId::from_uuid(mint.mint(START));
            (partner, AgreementId::from_uuid(mint.mint(START)))
        });
        let partners = partners.collect();
        Self {
            mint,
            now: START,
            members,
            partners,
            earns: 0,
        }
    }
}

/// One earn to be written.
struct Earn {
    request: RequestRecord,
    check: CheckRecord,
    transaction: Transaction,
    lot: Lot,
    member: usize,
}

fn earn(world: &mut World, frame: &Frame) -> Outcome<Earn> {
    world.earns += 1;
    // A walk that meets everybody in an order that is not that of the ids.
    let member = world.earns.wrapping_mul(7_919) % MEMBERS;
    let (partner, agreement) = world.partners[world.earns % PARTNERS];
    let points = Points::new(i64::try_from(world.earns % 900)? + 100);
    let id = TransactionId::from_uuid(world.mint.mint(world.now));
    let lot = LotId::from_uuid(world.mint.mint(world.now));
    let expires_at = world.now.saturating_add_micros(365 * MICROS_PER_DAY);
    let book = &mut world.members[member];
    book.totals = Totals {
        available: book.totals.available.plus(points)?,
        ..book.totals
    };
    book.next_expiry.get_or_insert(Upcoming {
        at: expires_at,
        points,
    });
    let issuer = Party::Partner(partner);
    let lot_ref = Some(LotRef {
        id: lot,
        expires_at,
    });
    let points_moved = Transfer {
        debit: Account::Issued(issuer),
        credit: Account::Available(book.id, issuer),
        amount: points.get(),
        unit: Counted::Points,
        lot: lot_ref,
        agreement: Some(agreement),
        leg: None,
    };
    let money_moved = Transfer {
        debit: Account::Position(issuer, Capacity::Issuer),
        credit: Account::Position(Party::Operator, Capacity::Operator),
        amount: points.get() * 10_000,
        unit: Counted::Money(Currency::EUR),
        leg: Some(LegRef {
            index: 0,
            reversal: false,
        }),
        ..points_moved
    };
    let check_id = format!("{:010}", world.earns);
    let amount = Minor::new(points.get());
    let transaction = Transaction {
        id,
        kind: Kind::Earn,
        declined: None,
        member: Some(book.id),
        partner: issuer,
        original: None,
        context: Context {
            check_id: Some(check_id.clone()),
            location: Some("berlin-01".to_owned()),
            terminal: Some("pos-3".to_owned()),
            ..Context::default()
        },
        occurred_at: world.now.saturating_add_micros(-1_500_000),
        posted_at: world.now,
        window: frame.window,
        points,
        points_forgiven: Points::ZERO,
        points_expired: Points::ZERO,
        amount: Some((amount, Currency::EUR)),
        agreement: Some(agreement),
        balance: book.balance(),
        posting: Posting {
            transfers: vec![points_moved, money_moved],
        },
        open: Open {
            points,
            amount,
            reversed_by: None,
        },
    };
    let request = RequestRecord {
        key: RequestKey {
            id: world.mint.mint(world.now),
            scope: partner.uuid(),
        },
        fingerprint: *id.uuid().as_bytes(),
        subject: Subject::Transaction,
        subject_id: id.uuid(),
        member: Some(book.id),
    };
    let key = CheckKey {
        partner,
        kind: Kind::Earn,
        check_id,
    };
    let check = CheckRecord {
        key,
        transaction: id,
        member: book.id,
    };
    let lot = Lot {
        id: lot,
        issuer,
        agreement,
        earned_at: world.now,
        pending_until: world.now,
        expires_at,
        points,
        pending: Points::ZERO,
        available: points,
        held: Points::ZERO,
        expired: Points::ZERO,
    };
    Ok(Earn {
        request,
        check,
        transaction,
        lot,
        member,
    })
}

/// One batch: what the poster fetches and writes for plain earns.
async fn post(store: &dyn Store, world: &mut World, earns: usize) -> Outcome<()> {
    let (mut unit, frame) = store.begin(WindowLock::Shared).await?;
    world.now = world.now.saturating_add_micros(20_000);
    let versions: Vec<i64> = world.members.iter().map(|book| book.version).collect();
    let batch = (0..earns)
        .map(|_| earn(world, &frame))
        .collect::<Outcome<Vec<Earn>>>()?;
    let mut touched: Vec<usize> = batch.iter().map(|earn| earn.member).collect();
    touched.sort_unstable();
    touched.dedup();

    let requests: Vec<_> = batch.iter().map(|earn| earn.request.key).collect();
    let checks: Vec<_> = batch.iter().map(|earn| earn.check.key.clone()).collect();
    let ids: Vec<_> = touched
        .iter()
        .map(|&member| world.members[member].id)
        .collect();
    let (found, traces) = unit.members_asking(&ids, &requests, &checks).await?;
    assert_eq!(found.len(), ids.len());
    assert!(!traces.requests || unit.requests(&requests).await?.is_empty());
    assert!(!traces.checks || unit.checks(&checks).await?.is_empty());

    let change = |&member: &usize| MemberChange {
        expected_version: versions[member],
        book: world.members[member].clone(),
    };
    let members = touched.iter().map(change).collect();
    for member in touched {
        world.members[member].version += 1;
    }
    let mut totals = BTreeMap::new();
    let mut moved = BTreeMap::new();
    for earn in &batch {
        let (party, counterparty) = (earn.transaction.partner, earn.transaction.partner);
        let unit = Counted::Points;
        let key = TotalKey {
            measure: Measure::Issued,
            party,
            counterparty,
            unit,
        };
        *totals.entry(key).or_default() += earn.transaction.points.get();
        *moved.entry(party).or_default() += earn.transaction.points.get() * 10_000;
    }
    let change = |(party, debits): (Party, i64)| PositionChange {
        party,
        currency: Currency::EUR,
        change: Position {
            debits: Micros::new(debits),
            ..Position::default()
        },
        floor: None,
    };
    let mut effects = Effects {
        members,
        totals: totals.into_iter().collect(),
        positions: moved.into_iter().map(change).collect(),
        ..Effects::default()
    };
    for earn in batch {
        let member = world.members[earn.member].id;
        effects.requests.push(earn.request);
        effects.checks.push(earn.check);
        effects.transactions.push(earn.transaction);
        effects.new_lots.push((member, earn.lot));
    }
    unit.write(frame.window, world.now, &effects).await?;
    unit.commit().await?;
    Ok(())
}

/// How many a second, in whole ones.
fn per_second(count: usize, took: Duration) -> Outcome<u128> {
    Ok(u128::try_from(count)? * 1_000 / took.as_millis().max(1))
}

/// Bytes of every table and index.
async fn sizes(db: &TestDb) -> BTreeMap<String, i64> {
    let sizes = match db.engine {
        Engine::Sqlite => {
            db.sql("pragma wal_checkpoint(truncate)").await;
            db.numbers("select name, sum(pgsize) from dbstat group by name")
                .await
        }
        Engine::Postgres => {
            let all = "select relname::text, pg_relation_size(oid) from pg_class \
                       where relkind in ('r', 'i') and relnamespace = 'public'::regnamespace";
            db.numbers(all).await
        }
    };
    sizes.into_iter().collect()
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let engine = match arguments.next().as_deref() {
        Some("postgres") => Engine::Postgres,
        _ => Engine::Sqlite,
    };
    let batches: usize = arguments.next().map_or(Ok(400), |text| text.parse())?;
    let earns: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let db = TestDb::sandbox(engine)
        .await
        .ok_or("no PostgreSQL server binaries found")?;
    if std::env::var_os("INDEX").is_some() {
        db.sql("create index transactions_member on transactions (member_id, id)")
            .await;
    }
    let mut world = World::new();
    let (mut unit, _) = db.store.begin(WindowLock::Shared).await?;
    unit.insert_members(&world.members, START).await?;
    unit.commit().await?;
    let empty = sizes(&db).await;
    let start = tokio::time::Instant::now();
    let mut lap = start;
    for batch in 1..=batches {
        post(db.store.as_ref(), &mut world, earns).await?;
        if batch % 100 == 0 {
            let rate = per_second(earns * 100, lap.elapsed())?;
            println!(
                "{engine}: {:>9} earns stored, {rate:>6} earns/s",
                world.earns
            );
            lap = tokio::time::Instant::now();
        }
    }
    let rate = per_second(world.earns, start.elapsed())?;
    println!("{engine}: {rate} earns/s in batches of {earns}; bytes stored per earn:");
    let reader = db.store.reader();
    let lap = tokio::time::Instant::now();
    for book in world.members.iter().take(QUESTIONS) {
        let history = reader.activity(book.id, None, None, 50).await?;
        assert!(!history.is_empty() || world.earns < MEMBERS);
    }
    let history_us = lap.elapsed().as_micros() / u128::try_from(QUESTIONS)?;
    let lap = tokio::time::Instant::now();
    for book in world.members.iter().take(QUESTIONS) {
        assert!(reader.member(book.id).await?.is_some());
    }
    let member_us = lap.elapsed().as_micros() / u128::try_from(QUESTIONS)?;
    println!("  a member's balance in {member_us} us, latest activity in {history_us} us");
    let mut all = 0;
    for (name, size) in sizes(&db).await {
        let grown = size - empty.get(&name).copied().unwrap_or(0);
        let bytes = grown / i64::try_from(world.earns)?;
        all += grown;
        if bytes > 0 {
            println!("  {bytes:>4} {name}");
        }
    }
    println!("  {:>4} in all", all / i64::try_from(world.earns)?);
    db.remove().await;
    Ok(())
}
