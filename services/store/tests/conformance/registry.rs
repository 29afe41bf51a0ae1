//! Partners, agreements, settlements, the clock.

use coalition_ledger::ids::{AgreementId, Party, SettlementId, WindowId};
use coalition_ledger::money::{Currency, Micros, Minor};
use coalition_store::model::{
    AgreementState, Obligation, SettlementPosition, SettlementRow, SettlementState, Side,
};
use coalition_store::testing::{START, TestDb};

use crate::fixtures::*;
use crate::windows::cut;

pub(crate) async fn partners_are_registered_once(db: &TestDb) {
    let mut rows = [partner("trattoria"), partner("salon"), partner("bäckerei")];
    rows[1].status = coalition_ledger::rulebook::PartnerStatus::Suspended;
    let mut unit = unit(db).await;
    for row in &rows {
        unit.insert_partner(row).await.expect("inserts");
    }
    assert_eq!(
        unit.partner_by_code("salon").await.expect("finds"),
        Some(rows[1].id)
    );
    assert_eq!(unit.partner_by_code("Salon").await.expect("finds"), None);
    assert_eq!(
        unit.partner(rows[2].id).await.expect("finds").as_ref(),
        Some(&rows[2])
    );
    assert_eq!(unit.partner(partner_id()).await.expect("finds"), None);
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    assert_conflict(unit.insert_partner(&partner("salon")).await);
    unit.rollback().await.expect("rolls back");
    let reader = db.store.reader();
    assert_eq!(reader.partners(None, 2).await.expect("reads"), rows[..2]);
    assert_eq!(
        reader.partners(Some(rows[1].id), 2).await.expect("reads"),
        rows[2..]
    );
    let by_code = reader.partner_by_code("bäckerei").await.expect("reads");
    assert_eq!(by_code.as_ref(), Some(&rows[2]));
    assert_eq!(
        reader.partner(rows[0].id).await.expect("reads").as_ref(),
        Some(&rows[0])
    );
}

pub(crate) async fn agreements_are_proposed_and_accepted(db: &TestDb) {
    let partner = partner("trattoria");
    let mut row = agreement(partner.id, 1);
    let mut unit = unit(db).await;
    unit.insert_partner(&partner).await.expect("inserts");
    unit.insert_agreement(&row).await.expect("proposes");
    assert_eq!(
        unit.agreement(row.id).await.expect("finds").as_ref(),
        Some(&row)
    );
    assert_eq!(
        unit.agreement(AgreementId::from_uuid(id()))
            .await
            .expect("finds"),
        None
    );
    row.state = AgreementState::Accepted;
    row.accepter = Some("owner@trattoria".to_owned());
    row.accepted_at = Some(day(1));
    row.effective_at = Some(day(2));
    unit.accept_agreement(&row).await.expect("accepts");
    assert_conflict(unit.accept_agreement(&row).await);
    unit.rollback().await.expect("rolls back");

    let mut unit = crate::fixtures::unit(db).await;
    unit.insert_partner(&partner).await.expect("inserts");
    unit.insert_agreement(&agreement_as_proposed(&row))
        .await
        .expect("proposes");
    unit.accept_agreement(&row).await.expect("accepts");
    commit(unit).await;
    let reader = db.store.reader();
    assert_eq!(
        reader.agreement(row.id).await.expect("reads").as_ref(),
        Some(&row)
    );
    assert_eq!(
        reader
            .agreements(Some(partner.id), None, 9)
            .await
            .expect("reads"),
        [row]
    );
}

fn agreement_as_proposed(
    row: &coalition_store::model::AgreementRow,
) -> coalition_store::model::AgreementRow {
    coalition_store::model::AgreementRow {
        state: AgreementState::Proposed,
        accepter: None,
        accepted_at: None,
        effective_at: None,
        ..row.clone()
    }
}

pub(crate) async fn agreements_of_pairs_count_their_own_versions(db: &TestDb) {
    let (one, two) = (partner("one"), partner("two"));
    let mut unit = unit(db).await;
    unit.insert_partner(&one).await.expect("inserts");
    unit.insert_partner(&two).await.expect("inserts");
    let own = [agreement(one.id, 1), agreement(one.id, 2)];
    let mut pair = agreement(one.id, 1);
    pair.counterparty = Some(two.id);
    pair.proposed_by = Side::Partner;
    for row in own.iter().chain([&pair]) {
        unit.insert_agreement(row).await.expect("proposes");
    }
    assert_eq!(
        unit.agreement_versions(one.id, None).await.expect("counts"),
        2
    );
    assert_eq!(
        unit.agreement_versions(one.id, Some(two.id))
            .await
            .expect("counts"),
        1
    );
    assert_eq!(
        unit.agreement_versions(two.id, None).await.expect("counts"),
        0
    );
    commit(unit).await;
    for mut taken in [agreement(one.id, 2), agreement(one.id, 1)] {
        taken.counterparty = (taken.version == 1).then_some(two.id);
        let mut unit = crate::fixtures::unit(db).await;
        assert_conflict(unit.insert_agreement(&taken).await);
        unit.rollback().await.expect("rolls back");
    }
    let reader = db.store.reader();
    assert_eq!(
        reader
            .agreements(Some(two.id), None, 9)
            .await
            .expect("reads"),
        [pair.clone()]
    );
    let [first, second] = own;
    let of_one = reader
        .agreements(Some(one.id), None, 2)
        .await
        .expect("reads");
    assert_eq!(of_one, [pair.clone(), second.clone()]);
    let of_one = reader
        .agreements(Some(one.id), Some(second.id), 2)
        .await
        .expect("reads");
    assert_eq!(of_one, std::slice::from_ref(&first));
    let of_all = reader.agreements(None, None, 9).await.expect("reads");
    assert_eq!(of_all, [pair, second, first]);
}

pub(crate) async fn the_rulebook_moves_with_every_change(db: &TestDb) {
    let partner = partner("trattoria");
    let mut row = agreement(partner.id, 1);
    let mut unit = unit(db).await;
    unit.insert_partner(&partner).await.expect("inserts");
    unit.insert_agreement(&row).await.expect("proposes");
    let rulebook = unit.rulebook().await.expect("reads");
    assert_eq!(rulebook.version, 2);
    assert!(rulebook.partner(partner.id).is_some());
    assert!(
        rulebook.in_force(partner.id, day(9)).is_none(),
        "it is only proposed"
    );
    row.state = AgreementState::Accepted;
    (row.accepter, row.accepted_at) = (Some("owner".to_owned()), Some(day(1)));
    row.effective_at = Some(day(2));
    unit.accept_agreement(&row).await.expect("accepts");
    commit(unit).await;

    let (unit, frame) = begin(db).await;
    unit.rollback().await.expect("rolls back");
    let rulebook = db.store.reader().rulebook().await.expect("reads");
    assert_eq!((frame.rulebook_version, rulebook.version), (3, 3));
    assert!(rulebook.in_force(partner.id, day(1)).is_none());
    let in_force = rulebook.in_force(partner.id, day(2)).expect("is in force");
    assert_eq!((in_force.id, &in_force.terms), (row.id, &row.terms));
    let mut currencies: Vec<_> = rulebook.currencies().map(|c| c.code()).collect();
    currencies.sort_unstable();
    assert_eq!(currencies, ["EUR", "USD"]);
}

fn settlement(windows: Vec<WindowId>) -> SettlementRow {
    let (a, b) = (Party::Partner(partner_id()), Party::Partner(partner_id()));
    let position = |currency, party, net, net_minor| SettlementPosition {
        currency,
        party,
        net: Micros::new(net),
        net_minor: Minor::new(net_minor),
    };
    let owed = |payer, payee, amount| Obligation {
        payer,
        payee,
        currency: Currency::EUR,
        amount: Minor::new(amount),
    };
    SettlementRow {
        id: SettlementId::from_uuid(id()),
        state: SettlementState::Computed,
        netting: 2,
        computed_at: START,
        computed_by: "maker".to_owned(),
        windows,
        positions: vec![
            position(Currency::EUR, Party::Operator, 5_001, 1),
            position(Currency::EUR, a, -1_005_001, -101),
            position(Currency::EUR, b, 1_000_000, 100),
            position(Currency::USD, a, 0, 0),
        ],
        obligations: vec![owed(a, Party::Operator, 101), owed(a, b, 7)],
        gross: vec![
            (Currency::EUR, Micros::new(9)),
            (Currency::USD, Micros::ZERO),
        ],
        rounding: vec![(Currency::EUR, Micros::new(-4_999))],
    }
}

pub(crate) async fn a_settlement_comes_back_as_written(db: &TestDb) {
    let (one, _) = cut(db.store.as_ref()).await.expect("cuts");
    let (two, _) = cut(db.store.as_ref()).await.expect("cuts");
    let row = settlement(vec![two.id, one.id]);
    let mut bare = settlement(Vec::new());
    bare.positions.clear();
    bare.obligations.clear();
    bare.gross.clear();
    bare.rounding.clear();
    let mut unit = unit(db).await;
    unit.insert_settlement(&row).await.expect("inserts");
    unit.insert_settlement(&bare).await.expect("inserts");
    assert_eq!(
        unit.settlement(row.id).await.expect("finds").as_ref(),
        Some(&row)
    );
    commit(unit).await;
    let reader = db.store.reader();
    assert_eq!(
        reader.settlement(row.id).await.expect("reads").as_ref(),
        Some(&row)
    );
    assert_eq!(reader.settlement(bare.id).await.expect("reads"), Some(bare));
    assert_eq!(
        reader
            .settlement(SettlementId::from_uuid(id()))
            .await
            .expect("reads"),
        None
    );
    let mut unit = crate::fixtures::unit(db).await;
    assert_conflict(unit.insert_settlement(&row).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn settlements_come_latest_first(db: &TestDb) {
    let rows = [(); 3].map(|()| settlement(Vec::new()));
    let mut unit = unit(db).await;
    for row in &rows {
        unit.insert_settlement(row).await.expect("inserts");
    }
    commit(unit).await;
    let [first, second, third] = rows;
    let reader = db.store.reader();
    let page = reader.settlements(None, 2).await.expect("reads");
    assert_eq!(page, [third, second.clone()]);
    assert_eq!(
        reader.settlements(Some(second.id), 2).await.expect("reads"),
        [first]
    );
}

pub(crate) async fn the_clock_of_a_sandbox_is_set(db: &TestDb) {
    let mut unit = unit(db).await;
    unit.set_clock(day(40)).await.expect("sets");
    commit(unit).await;
    let (unit, frame) = begin(db).await;
    unit.rollback().await.expect("rolls back");
    assert_eq!(frame.clock, Some(day(40)));
    assert_eq!(
        db.store.reader().network().await.expect("reads").clock,
        Some(day(40))
    );
}
