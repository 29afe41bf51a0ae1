//! Reading the fixtures, and what the network says, in the words of the fixtures.

use std::collections::BTreeMap;

use coalition_proto::common::LotSlice;
use coalition_proto::partner::Terms;
use coalition_proto::settlement::{
    AccountKind, ComputeSettlementRequest, GetHeadroomRequest, GetTrialBalanceRequest, Headroom,
    NettingMethod, Settlement,
};
use coalition_tests::figures::{micros, minor};
use coalition_tests::{Network, OPERATOR, Partner, request_id};
use serde_json::Value;

pub(super) async fn headroom(partner: &Partner) -> Headroom {
    let answer = partner.office.ask(GetHeadroomRequest::default()).await;
    answer.headroom.expect("the headroom")
}

pub(super) async fn compute(network: &Network, window: &str, method: NettingMethod) -> Settlement {
    let request = ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window.to_owned()],
        netting: method.into(),
        validate_only: true,
    };
    let answer = network.maker.ask(request).await;
    answer.settlement.expect("the settlement")
}

/// Points that members hold, by the trial balance.
pub(super) async fn held_by_members(network: &Network) -> i64 {
    let trial = network.viewer.ask(GetTrialBalanceRequest::default()).await;
    assert!(trial.balanced, "{:?}", trial.equations);
    let available = i32::from(AccountKind::Available);
    trial
        .accounts
        .iter()
        .filter(|row| row.kind == available)
        .map(|row| row.balance)
        .sum()
}

pub(super) async fn partners(
    network: &Network,
    codes: &Value,
    terms: &Terms,
) -> BTreeMap<String, Partner> {
    let mut partners = BTreeMap::new();
    for code in codes.as_array().expect("codes of partners") {
        let partner = network.partner(text(code), terms.clone()).await;
        partners.insert(text(code).to_owned(), partner);
    }
    partners
}

/// The partner that a step happens at.
pub(super) fn of<'a>(partners: &'a BTreeMap<String, Partner>, step: &Value) -> &'a Partner {
    &partners[text(&step["partner"])]
}

pub(super) fn code_of(partners: &BTreeMap<String, Partner>, party: &str) -> String {
    if party == OPERATOR {
        return "operator".to_owned();
    }
    let partner = partners.values().find(|partner| partner.id == party);
    partner
        .unwrap_or_else(|| panic!("{party} is no partner"))
        .code
        .clone()
}

/// Nets by code, in micro-units; whoever comes out even is left out.
pub(super) async fn nets(
    network: &Network,
    partners: &BTreeMap<String, Partner>,
    window: &str,
) -> BTreeMap<String, i64> {
    let nets = network.nets(window).await.into_iter();
    let nets = nets.map(|(party, net)| (code_of(partners, &party), net));
    nets.filter(|(_, net)| *net != 0).collect()
}

pub(super) fn expected_nets(nets: &Value) -> BTreeMap<String, i64> {
    let nets = nets.as_object().expect("nets by party").iter();
    let nets = nets.map(|(code, net)| (code.clone(), micros(text(net))));
    nets.filter(|(_, net)| *net != 0).collect()
}

pub(super) fn payments(
    settlement: &Settlement,
    partners: &BTreeMap<String, Partner>,
) -> Vec<(String, String, i64)> {
    let mut payments: Vec<(String, String, i64)> = settlement
        .obligations
        .iter()
        .map(|row| {
            let amount = row.amount.as_ref().expect("an amount").amount;
            (
                code_of(partners, &row.payer),
                code_of(partners, &row.payee),
                amount,
            )
        })
        .collect();
    payments.sort();
    payments
}

pub(super) fn expected_payments(payments: &Value) -> Vec<(String, String, i64)> {
    let mut payments: Vec<(String, String, i64)> = payments
        .as_array()
        .expect("payments")
        .iter()
        .map(|row| {
            (
                text(&row[0]).to_owned(),
                text(&row[1]).to_owned(),
                minor(text(&row[2])),
            )
        })
        .collect();
    payments.sort();
    payments
}

pub(super) fn by_issuer(
    slices: &[LotSlice],
    partners: &BTreeMap<String, Partner>,
) -> Vec<(String, i64)> {
    slices
        .iter()
        .map(|slice| (code_of(partners, &slice.issuer), slice.points))
        .collect()
}

/// Rows of a name and a number.
pub(super) fn pairs(rows: &Value) -> Vec<(String, i64)> {
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| (text(&row[0]).to_owned(), number(&row[1])))
        .collect()
}

/// A share as a weight: `1/5` next to other fifths is 1, `60%` next to other percents is 60.
pub(super) fn weight(share: &str) -> i32 {
    let digits = share
        .split_once('/')
        .map_or(share.trim_end_matches('%'), |(part, _)| part);
    digits
        .parse()
        .unwrap_or_else(|error| panic!("{share}: {error}"))
}

pub(super) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

pub(super) fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("{value} is no whole number"))
}
