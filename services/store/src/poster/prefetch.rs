//! Finding out what a batch needs, and fetching it in a handful of statements.
//!
//! The order matters. Whatever a member's version guards (originals, what remains of them, lots, debts)
//! is read after the members' rows: whoever changes it later moves a version on, and this batch is
//! refused. Requests, checks and identifiers have their keys for that, positions their floors. So
//! commands that name an earlier transaction cost a first look, which finds out whose that is and
//! decides nothing. Identifiers are read before the requests: that one is taken is a refusal, of which
//! nothing is stored and no key is met, and it must not be told of a request that has just been done
//! elsewhere, which took it. Members lead to lots, lots to the issuers whose limits bind. A statement
//! whose set is empty is left out: a batch of plain earns runs on members, requests and checks alone; and
//! where the members' rows come with the word that none of the requests and checks is there, those are
//! not asked for.

use std::collections::{BTreeSet, HashMap, HashSet};

use coalition_ledger::Timestamp;
use coalition_ledger::command::{CheckKey, Command, Draws, Keys, RequestKey};
use coalition_ledger::decision::Shortage;
use coalition_ledger::ids::{LotId, MemberId, Party, TransactionId};
use coalition_ledger::member::{Known, MemberBook};
use coalition_ledger::money::{Currency, Points};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{CheckRecord, Position, RequestRecord, Snapshot, Subject};
use coalition_ledger::transaction::Transaction;

use crate::error::StoreError;
use crate::traits::{LotDemand, Traces, Unit};

/// Lots with available points to fetch at first of a member whose lots are needed at all: every row takes
/// time.
const FIRST_LOTS: i64 = 4;
/// How many more for each command that spends: about what one redemption draws on.
const LOTS_PER_DRAW: i64 = 4;
/// How many times as many are fetched where those do not suffice.
const LOOK_FURTHER: i64 = 8;
/// Members whose lots may run short one by one before the batch fetches everybody's.
const SHORT_MEMBERS: usize = 4;

/// What earlier attempts at deciding the batch found missing.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    all_lots: HashSet<MemberId>,
    positions: BTreeSet<(Party, &'static str)>,
}

impl Wanted {
    /// Asks for more next time.
    pub(crate) fn add(&mut self, shortage: Shortage) -> Result<(), StoreError> {
        let new = match shortage {
            Shortage::Lots(member) => self.all_lots.insert(member),
            Shortage::Position(party, currency) => self.positions.insert((party, currency.code())),
        };
        if new {
            return Ok(());
        }
        // It was fetched and is still missing: the rows do not fit together.
        Err(StoreError::Damaged(format!(
            "the books lack what a posting needs: {shortage:?}"
        )))
    }

    fn wants_all_lots(&self, member: MemberId) -> bool {
        self.all_lots.len() > SHORT_MEMBERS || self.all_lots.contains(&member)
    }
}

/// Fetches the snapshot that `commands` need at `now`.
pub(crate) async fn fetch(
    unit: &mut dyn Unit,
    rulebook: &Rulebook,
    now: Timestamp,
    commands: &[Command],
    wanted: &Wanted,
) -> Result<Snapshot, StoreError> {
    let keys = Keys::of(commands);
    let mut snapshot = Snapshot::default();
    if !keys.identifiers.is_empty() {
        let hashes: Vec<_> = keys.identifiers.iter().copied().collect();
        let taken = unit.identifiers(&hashes).await?;
        snapshot.identifiers.extend(taken);
    }
    let owners = owners_of_originals(unit, &keys).await?;
    let requests = keys.requests.union(&keys.original_requests);
    let requests: Vec<_> = requests.copied().collect();
    let checks = keys.checks.union(&keys.original_checks);
    let checks: Vec<_> = checks.cloned().collect();
    let (books, traces) = fetch_members(unit, &keys, owners, &requests, &checks).await?;
    let requests = if traces.requests { &requests[..] } else { &[] };
    let checks = if traces.checks { &checks[..] } else { &[] };
    let originals = fetch_records(unit, &keys, requests, checks, &mut snapshot).await?;
    let fetched: HashSet<MemberId> = books.iter().map(|book| book.id).collect();
    if owners_among(&originals, &snapshot.transactions).any(|owner| !fetched.contains(&owner)) {
        // Between the two looks somebody gave a name to another's transaction, or a first one.
        return Err(StoreError::Conflict);
    }
    fetch_lots(unit, &keys, now, wanted, &originals, books, &mut snapshot).await?;
    fetch_positions(unit, rulebook, now, &keys, wanted, &mut snapshot).await?;
    Ok(snapshot)
}

type Transactions = HashMap<TransactionId, Transaction>;

/// Whose these transactions are.
fn owners_among<'a>(
    ids: &'a BTreeSet<TransactionId>,
    transactions: &'a Transactions,
) -> impl Iterator<Item = MemberId> + 'a {
    let found = ids.iter().filter_map(|id| transactions.get(id));
    found.filter_map(|transaction| transaction.member)
}

/// The first look: whose the transactions are that commands name by id, request or check.
async fn owners_of_originals(
    unit: &mut dyn Unit,
    keys: &Keys,
) -> Result<BTreeSet<MemberId>, StoreError> {
    let (mut requests, mut checks) = (Vec::new(), Vec::new());
    if !keys.original_requests.is_empty() {
        let wanted: Vec<_> = keys.original_requests.iter().copied().collect();
        requests = unit.requests(&wanted).await?;
    }
    if !keys.original_checks.is_empty() {
        let wanted: Vec<_> = keys.original_checks.iter().cloned().collect();
        checks = unit.checks(&wanted).await?;
    }
    let ids: Vec<_> = originals(keys, &requests, &checks).into_iter().collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let found = unit.transactions(&ids).await?;
    Ok(found
        .into_iter()
        .filter_map(|transaction| transaction.member)
        .collect())
}

/// The transactions that commands name: by id, and by requests and checks as far as these lead to one.
fn originals(
    keys: &Keys,
    requests: &[RequestRecord],
    checks: &[CheckRecord],
) -> BTreeSet<TransactionId> {
    let requests = requests
        .iter()
        .filter(|record| keys.original_requests.contains(&record.key))
        .filter_map(posted_under);
    let checks = checks
        .iter()
        .filter(|record| keys.original_checks.contains(&record.key))
        .map(|record| record.transaction);
    let by_id = keys.transactions.iter().copied();
    by_id.chain(requests).chain(checks).collect()
}

/// The transaction that a request led to, if it led to one.
fn posted_under(record: &RequestRecord) -> Option<TransactionId> {
    matches!(record.subject, Subject::Transaction | Subject::Tombstone)
        .then(|| TransactionId::from_uuid(record.subject_id))
}

/// Requests, checks, and the transactions that they lead to; the ids of those that a command may undo.
async fn fetch_records(
    unit: &mut dyn Unit,
    keys: &Keys,
    wanted_requests: &[RequestKey],
    wanted_checks: &[CheckKey],
    snapshot: &mut Snapshot,
) -> Result<BTreeSet<TransactionId>, StoreError> {
    let (mut requests, mut checks) = (Vec::new(), Vec::new());
    if !wanted_requests.is_empty() {
        requests = unit.requests(wanted_requests).await?;
    }
    if !wanted_checks.is_empty() {
        checks = unit.checks(wanted_checks).await?;
    }
    let originals = originals(keys, &requests, &checks);
    // Those of replays too.
    let posted = requests.iter().filter_map(posted_under);
    let mut ids: Vec<_> = posted
        .collect::<BTreeSet<_>>()
        .union(&originals)
        .copied()
        .collect();
    snapshot
        .requests
        .extend(requests.into_iter().map(|record| (record.key, record)));
    snapshot.checks.extend(
        checks
            .into_iter()
            .map(|record| (record.key.clone(), record)),
    );
    while !ids.is_empty() {
        let found = unit.transactions(&ids).await?;
        // What undid them too: that is the answer to undoing them again.
        ids = found
            .iter()
            .filter_map(|transaction| transaction.open.reversed_by)
            .collect();
        snapshot
            .transactions
            .extend(found.into_iter().map(|found| (found.id, found)));
        ids.retain(|id| !snapshot.transactions.contains_key(id));
    }
    Ok(originals)
}

async fn fetch_members(
    unit: &mut dyn Unit,
    keys: &Keys,
    mut ids: BTreeSet<MemberId>,
    requests: &[RequestKey],
    checks: &[CheckKey],
) -> Result<(Vec<MemberBook>, Traces), StoreError> {
    ids.extend(keys.members.keys());
    if ids.is_empty() {
        return Ok((Vec::new(), Traces::UNKNOWN));
    }
    let ids: Vec<_> = ids.into_iter().collect();
    unit.members_asking(&ids, requests, checks).await
}

async fn fetch_lots(
    unit: &mut dyn Unit,
    keys: &Keys,
    now: Timestamp,
    wanted: &Wanted,
    originals: &BTreeSet<TransactionId>,
    books: Vec<MemberBook>,
    snapshot: &mut Snapshot,
) -> Result<(), StoreError> {
    let mut touched: HashMap<MemberId, Draws> = HashMap::new();
    let mut by_id: BTreeSet<(LotId, MemberId)> = BTreeSet::new();
    for id in originals {
        let Some(found) = snapshot.transactions.get(id) else {
            continue;
        };
        let Some(member) = found.member else { continue };
        let draws = touched.entry(member).or_insert_with(|| keys.draws(member));
        let (issued, spent) = (found.issued(), found.spent());
        if !issued.is_empty() {
            // They may be taken back.
            draws.add(found.points);
        }
        let lots = issued.into_iter().chain(spent);
        by_id.extend(lots.map(|slice| (slice.lot.id, member)));
    }

    let mut looks = Vec::new();
    let mut in_debt = Vec::new();
    let mut members: HashMap<MemberId, MemberBook> = HashMap::with_capacity(books.len());
    for book in books {
        let original = touched.get(&book.id);
        let draws = original.copied().unwrap_or_else(|| keys.draws(book.id));
        if wanted.wants_all_lots(book.id) {
            looks.push(Look::at_all(book.id));
        } else if draws.count > 0 || book.is_due(now) || original.is_some() {
            looks.push(Look::at_few(book.id, draws));
        }
        if !book.totals.debt.is_zero() {
            in_debt.push(book.id);
        }
        members.insert(book.id, book);
    }
    fetch_live_lots(unit, now, looks, &mut members).await?;
    by_id.retain(|(lot, member)| {
        members
            .get(member)
            .is_some_and(|book| !book.lots.contains_key(lot))
    });
    if !by_id.is_empty() {
        let ids: Vec<_> = by_id.into_iter().collect();
        for (member, lot) in unit.lots(&ids).await? {
            if let Some(book) = members.get_mut(&member) {
                book.lots.insert(lot.id, lot);
            }
        }
    }
    if !in_debt.is_empty() {
        for debt in unit.debts(&in_debt).await? {
            if let Some(book) = members.get_mut(&debt.member) {
                book.debts.insert(debt.issuer, debt.points);
            }
        }
    }
    snapshot.members = members;
    Ok(())
}

/// A look at a member's live lots.
struct Look {
    demand: LotDemand,
    /// The points that they must suffice for.
    points: Points,
}

impl Look {
    fn at_few(member: MemberId, draws: Draws) -> Self {
        let count = i64::try_from(draws.count).unwrap_or(i64::MAX);
        let limit = count.saturating_mul(LOTS_PER_DRAW);
        let limit = limit.saturating_add(FIRST_LOTS);
        let demand = LotDemand { member, limit };
        let points = draws.points;
        Self { demand, points }
    }

    fn at_all(member: MemberId) -> Self {
        let limit = i64::MAX;
        let demand = LotDemand { member, limit };
        let points = Points::ZERO;
        Self { demand, points }
    }
}

/// Fetches live lots, and more of those members for whom they do not suffice.
async fn fetch_live_lots(
    unit: &mut dyn Unit,
    now: Timestamp,
    mut looks: Vec<Look>,
    members: &mut HashMap<MemberId, MemberBook>,
) -> Result<(), StoreError> {
    while !looks.is_empty() {
        let demands: Vec<LotDemand> = looks.iter().map(|look| look.demand).collect();
        for (member, lot) in unit.live_lots(&demands).await? {
            if let Some(book) = members.get_mut(&member) {
                book.lots.insert(lot.id, lot);
            }
        }
        looks.retain(|look| {
            let book = members.get_mut(&look.demand.member);
            book.is_some_and(|book| {
                book.known = known(book, look.demand.limit);
                !book.suffices(now, look.points)
            })
        });
        // One limit for all of them: each takes a query.
        let largest = looks.iter().map(|look| look.demand.limit).max();
        let further = largest.unwrap_or_default().saturating_mul(LOOK_FURTHER);
        for look in &mut looks {
            look.demand.limit = further;
        }
    }
    Ok(())
}

/// Which lots are known after a demand for live lots with this limit, which is not zero.
fn known(book: &MemberBook, limit: i64) -> Known {
    let limited = book.spendable().into_iter();
    // Those with pending or held points come whatever the limit.
    let mut limited = limited.filter(|lot| lot.pending.is_zero() && lot.held.is_zero());
    let before_last = usize::try_from(limit.saturating_sub(1)).unwrap_or(usize::MAX);
    match limited.nth(before_last) {
        Some(last) => Known::UpTo(last.expires_at, last.id),
        None => Known::All,
    }
}

async fn fetch_positions(
    unit: &mut dyn Unit,
    rulebook: &Rulebook,
    now: Timestamp,
    keys: &Keys,
    wanted: &Wanted,
    snapshot: &mut Snapshot,
) -> Result<(), StoreError> {
    let mut parties: BTreeSet<(Party, &'static str)> = wanted.positions.clone();
    parties.extend(
        keys.positions
            .iter()
            .map(|(partner, code)| (Party::Partner(*partner), *code)),
    );
    let mut issuers: BTreeSet<Party> = keys.partners.iter().map(|id| Party::Partner(*id)).collect();
    for book in snapshot.members.values() {
        issuers.extend(book.lots.values().map(|lot| lot.issuer));
    }
    for issuer in issuers {
        for currency in rulebook.currencies() {
            if rulebook.limit(issuer, currency, now).is_some() {
                parties.insert((issuer, currency.code()));
            }
        }
    }
    let wanted: Vec<(Party, Currency)> = parties
        .into_iter()
        .filter_map(|(party, code)| Some((party, Currency::from_code(code)?)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    snapshot
        .positions
        .extend(wanted.iter().map(|key| (*key, Position::default())));
    snapshot.positions.extend(unit.positions(&wanted).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use coalition_ledger::ids::AgreementId;
    use coalition_ledger::member::Lot;
    use coalition_ledger::time::MICROS_PER_DAY;

    use super::*;
    use crate::session::mint;
    use crate::testing::{Parts as _, START, TestDb, for_each_engine};
    use crate::traits::WindowLock;

    fn day(days: i64) -> Timestamp {
        START.saturating_add_micros(days * MICROS_PER_DAY)
    }

    /// A lot of ten points that expires on a day.
    fn ten_points(expires_on: i64) -> Lot {
        let ten = Points::new(10);
        Lot {
            id: LotId::from_uuid(mint(START)),
            issuer: Party::Operator,
            agreement: AgreementId::from_uuid(mint(START)),
            earned_at: START,
            pending_until: START,
            expires_at: day(expires_on),
            points: ten,
            pending: Points::ZERO,
            available: ten,
            held: Points::ZERO,
            expired: Points::ZERO,
        }
    }

    /// The book of a member after a look at the lots, on a day, for a redemption of so many points.
    /// There is a lot for each of a hundred days, on the third of which two expire, and one with held
    /// points after all of them.
    async fn looked_at(db: &TestDb, now: Timestamp, points: i64) -> MemberBook {
        let mut book = MemberBook::new(MemberId::from_uuid(mint(START)));
        book.totals.available = Points::new(1_020);
        book.totals.held = Points::new(1);
        let id = book.id;
        let mut lots: Vec<Lot> = (1..=100).map(ten_points).collect();
        lots.push(ten_points(3));
        let mut held = ten_points(999);
        held.held = Points::new(1);
        lots.push(held);
        let (mut unit, _) = db.store.begin(WindowLock::Shared).await.expect("begins");
        let members = [book.clone()];
        unit.insert_members(&members, START).await.expect("enrols");
        let rows: Vec<_> = lots.iter().map(|lot| (id, *lot)).collect();
        unit.insert_lots(&rows).await.expect("inserts");
        let mut draws = Draws::default();
        draws.add(Points::new(points));
        let mut books = HashMap::from([(id, book)]);
        let looks = vec![Look::at_few(id, draws)];
        let fetching = fetch_live_lots(unit.as_mut(), now, looks, &mut books);
        fetching.await.expect("fetches");
        unit.rollback().await.expect("rolls back");
        books.remove(&id).expect("is there")
    }

    #[tokio::test]
    async fn as_many_lots_are_fetched_as_suffice() {
        // Eight, the last of which expires on the seventh day, then sixty-four; and the held one.
        let (few, more, all) = ((9, Some(day(7))), (65, Some(day(63))), (102, None));
        for_each_engine(async |db| {
            let known = async |now, points| {
                let book = looked_at(&db, now, points).await;
                let known = match book.known {
                    Known::UpTo(last, _) => Some(last),
                    Known::All => None,
                    Known::Nothing => panic!("looked at nothing"),
                };
                (book.lots.len(), known)
            };
            // The seven before the last suffice; or just so, but what expires next then?
            assert_eq!(known(START, 69).await, few);
            assert_eq!(known(START, 70).await, more);
            assert_eq!(known(START, 629).await, more);
            assert_eq!(known(START, 630).await, all);
            assert_eq!(known(START, 1_020).await, all);
            // That will be declined.
            assert_eq!(known(START, 1_021).await, few);
            assert_eq!(known(START, i64::MAX).await, few);
            // What has expired by then cannot be spent, and must be known.
            assert_eq!(known(day(3), 29).await, few);
            assert_eq!(known(day(3), 30).await, more);
            assert_eq!(known(day(8), 0).await, more);
        })
        .await;
    }
}
