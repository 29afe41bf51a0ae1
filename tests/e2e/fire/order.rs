//! The order in which the network decided.
//!
//! What orders decisions that touch the same thing is kept by the network: a member's transactions,
//! declined ones too, form a chain, each naming the one before; what undoes or stands in the way names
//! its original; the clock and the windows move only when nothing else does, so that instants are in
//! order. All that is left free are decisions about different members at the same instant, which share
//! nothing but headroom; there the ids, which are stamped when a batch is begun, say what was first.
//! With one poster that is exact. This one look is past the public interface, which does not show where
//! declines stand in the chain.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use coalition_ledger::ids::TransactionId;
use coalition_ledger::time::Timestamp;
use coalition_store::testing::Engine;
use uuid::Uuid;

use super::books::Books;
use super::calls::{Call, Draft, Shot};
use super::setting::Setting;
use super::world::World;

/// A decision in its place.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) id: TransactionId,
    pub(crate) posted_at: Timestamp,
    /// The calls that it answered, the first of them first; none for what the network does itself.
    pub(crate) shots: Vec<usize>,
    /// The member's transaction after this one.
    pub(crate) next_of_member: Option<TransactionId>,
}

/// What the books say of a transaction's place.
struct Row {
    posted_us: i64,
    previous: Option<Uuid>,
    original: Option<Uuid>,
    reversed_by: Option<Uuid>,
}

/// All decisions, in an order that explains them.
pub(crate) async fn of(
    setting: &Setting,
    world: &World,
    books: &Books,
    shots: &[Shot],
) -> Vec<Decided> {
    let rows = rows(setting).await;
    let recorded = rows.keys().map(|id| TransactionId::from_uuid(*id));
    let recorded: Vec<TransactionId> = recorded.collect();
    for id in books.postings.keys() {
        assert!(recorded.binary_search(id).is_ok(), "{id} is listed only");
    }
    let mut answered: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (place, shot) in shots.iter().enumerate() {
        if let Some(id) = shot.answer.record() {
            answered.entry(id.uuid()).or_default().push(place);
        }
    }
    for places in answered.values_mut() {
        // A reversal of what is reversed already is answered with the first one's record: whoever
        // asked first comes first, and whoever was not answered from memory before all others.
        places.sort_by_key(|place| {
            let shot = &shots[*place];
            (shot.answer.is_replayed(), shot.answered_us)
        });
    }
    let edges = edges(world, &rows, shots, &answered);
    let sorted = sorted(&rows, &edges);
    if setting.one_poster {
        // What a cut sweeps in its last moment is minted apart.
        let asked_for = sorted.iter().filter(|id| answered.contains_key(id));
        assert!(
            asked_for.is_sorted(),
            "one poster gives ids in the order of its decisions"
        );
    }
    let next: BTreeMap<Uuid, Uuid> = rows
        .iter()
        .filter_map(|(id, row)| Some((row.previous?, *id)))
        .collect();
    sorted
        .into_iter()
        .map(|id| Decided {
            id: TransactionId::from_uuid(id),
            posted_at: Timestamp::from_micros(rows[&id].posted_us),
            shots: answered.remove(&id).unwrap_or_default(),
            next_of_member: next.get(&id).copied().map(TransactionId::from_uuid),
        })
        .collect()
}

async fn rows(setting: &Setting) -> BTreeMap<Uuid, Row> {
    let text = |column: &str| match setting.network.engine {
        Engine::Sqlite => format!("coalesce(hex({column}), '')"),
        Engine::Postgres => format!("coalesce({column}::text, '')"),
    };
    let columns = ["id", "previous_id", "original_id", "reversed_by"].map(text);
    let query = format!(
        "select {}, posted_us from transactions",
        columns.join(" || '/' || ")
    );
    let found = setting.network.numbers(&query).await;
    let row = |(ids, posted_us): (String, i64)| {
        let mut ids = ids.split('/').map(|id| Uuid::parse_str(id).ok());
        let mut id = || ids.next().expect("four ids");
        let own = id().expect("every row has one");
        let row = Row {
            posted_us,
            previous: id(),
            original: id(),
            reversed_by: id(),
        };
        (own, row)
    };
    found.into_iter().map(row).collect()
}

/// Which decision must come before which.
fn edges(
    world: &World,
    rows: &BTreeMap<Uuid, Row>,
    shots: &[Shot],
    answered: &BTreeMap<Uuid, Vec<usize>>,
) -> Vec<(Uuid, Uuid)> {
    let mut edges = Vec::new();
    let mut used: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for (id, row) in rows {
        edges.extend(row.previous.map(|before| (before, *id)));
        edges.extend(row.original.map(|before| (before, *id)));
        let Some(shot) = answered.get(id).map(|places| &shots[places[0]]) else {
            continue;
        };
        // Whoever found a check used did so before that use was undone.
        let found_used = matches!(&shot.answer, super::calls::Answer::Refused(refusal)
            if refusal.reason.starts_with("CHECK_ALREADY_"));
        if found_used && let Some(original) = row.original {
            let undone = rows.get(&original).and_then(|row| row.reversed_by);
            edges.extend(undone.map(|undone| (*id, undone)));
        }
        if shot.answer.is_posted()
            && let Some(check) = check(world, &shot.draft)
        {
            used.entry(check).or_default().push(*id);
        }
    }
    // A check is used again only once its use before was undone.
    for mut uses in used.into_values().filter(|uses| uses.len() > 1) {
        uses.sort_by_key(|id| (rows[id].reversed_by.is_none(), rows[id].posted_us, *id));
        for pair in uses.windows(2) {
            let undone = rows[&pair[0]].reversed_by;
            let undone = undone.unwrap_or_else(|| panic!("a check was used twice: {pair:?}"));
            edges.push((undone, pair[1]));
        }
    }
    edges
}

fn check(world: &World, draft: &Draft) -> Option<String> {
    let (kind, context) = match &draft.call {
        Call::Earn(call) => ("earn", call.context.as_ref()),
        Call::Redeem(call) => ("redeem", call.context.as_ref()),
        Call::ReturnEarn(call) => ("return", call.context.as_ref()),
        Call::Refund(call) => ("refund", call.context.as_ref()),
        _ => return None,
    };
    let check = context.map(|context| context.check_id.as_str())?;
    let shop = &world.shops[draft.shop].text;
    (!check.is_empty()).then(|| format!("{shop} {kind} {check}"))
}

/// All of them, earliest instant and id first, as far as the edges allow.
fn sorted(rows: &BTreeMap<Uuid, Row>, edges: &[(Uuid, Uuid)]) -> Vec<Uuid> {
    let mut waits: BTreeMap<Uuid, usize> = rows.keys().map(|id| (*id, 0)).collect();
    let mut after: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for (before, id) in edges {
        *waits.get_mut(id).expect("a row") += 1;
        after.entry(*before).or_default().push(*id);
    }
    let entry = |id: Uuid| Reverse((rows[&id].posted_us, id));
    let free = waits.iter().filter(|(_, waits)| **waits == 0);
    let mut free: BinaryHeap<_> = free.map(|(id, _)| entry(*id)).collect();
    let mut sorted = Vec::with_capacity(rows.len());
    while let Some(Reverse((_, id))) = free.pop() {
        sorted.push(id);
        for next in after.remove(&id).unwrap_or_default() {
            let waits = waits.get_mut(&next).expect("a row");
            *waits -= 1;
            if *waits == 0 {
                free.push(entry(next));
            }
        }
    }
    assert_eq!(
        sorted.len(),
        rows.len(),
        "no order explains these decisions"
    );
    let instants = sorted.iter().map(|id| rows[id].posted_us);
    assert!(instants.is_sorted(), "the clock never moves back");
    sorted
}
