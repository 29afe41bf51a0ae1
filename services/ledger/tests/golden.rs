//! The published figures, through `apply`. The scenarios stand in `tests/fixtures/golden`.

use coalition_ledger::agreement::{
    Funder, Leg, Terms, bilateral, settle_at_issue, settle_at_redemption,
};
use coalition_ledger::command::Original;
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::member::MemberBook;
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::netting::{Method, Payment};
use coalition_ledger::time::{MICROS_PER_DAY, Timestamp};
use coalition_ledger::transaction::{Decline, Slice};
use coalition_ledger::view::headroom;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::support::{
    Builder, Network, START, Thrift, dec, declined, deposit, earn, instant, member, partner,
    posted, redeem, refund, return_earn, terms,
};

/// One scenario.
struct Scenario(Value);

impl Scenario {
    fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a scenario"))
    }

    fn given(&self, name: &str) -> &Value {
        &self.0["given"][name]
    }

    fn agreed(&self, name: &str) -> Decimal {
        dec(text(&self.given("agreement")[name]))
    }

    fn steps(&self) -> &[Value] {
        list(&self.0["steps"])
    }

    fn expect(&self, name: &str) -> &Value {
        &self.0["expect"][name]
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn count(value: &Value) -> i64 {
    value.as_i64().expect("a whole number")
}

/// Money in major units.
fn micros(value: &Value) -> Micros {
    Micros::from_major(dec(text(value))).expect("in range")
}

/// Money in cents.
fn cents(value: &Value) -> Minor {
    micros(value).to_minor(Currency::EUR).expect("in range")
}

/// So many points are earned for a check of so many euros.
fn euros_for(points: i64) -> Minor {
    Minor::new(points * 100)
}

/// Partners by the names that a scenario gives them.
struct Names(Vec<String>);

impl Names {
    fn of<'a>(names: impl IntoIterator<Item = &'a Value>) -> Self {
        Self(
            names
                .into_iter()
                .map(|name| text(name).to_owned())
                .collect(),
        )
    }

    fn partner(&self, name: &str) -> PartnerId {
        let place = self
            .0
            .iter()
            .position(|known| known == name)
            .expect("a partner");
        partner(u8::try_from(place).expect("few"))
    }

    fn party(&self, name: &str) -> Party {
        if name == "operator" {
            Party::Operator
        } else {
            self.partner(name).into()
        }
    }

    fn name(&self, party: Party) -> &str {
        let is_it = |name: &&String| self.party(name) == party;
        self.0.iter().find(is_it).map_or("operator", String::as_str)
    }

    /// A network in which each partner has the same terms.
    fn network(&self, terms: &Terms) -> Network {
        let builder = self.0.iter().fold(Builder::new(), |builder, name| {
            builder.partner(self.partner(name), terms.clone())
        });
        builder.build()
    }

    #[track_caller]
    fn assert_nets(&self, network: &Network, expected: &Value) {
        for (name, net) in expected.as_object().expect("nets by name") {
            assert_eq!(network.net(self.party(name)), micros(net), "{name}");
        }
    }
}

fn paid(payments: &[Payment]) -> Minor {
    Minor::sum(payments.iter().map(|payment| payment.amount)).expect("in range")
}

#[test]
fn month_four_partners() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/month_four_partners.json"
    ));
    let legs = settle_at_issue(
        scenario.agreed("issue_price_per_point"),
        scenario.agreed("reimbursement_per_point"),
    );
    let names = Names::of(list(scenario.given("partners")));
    let mut network = names.network(&terms(legs));
    let buyer = network.enroll(member(1));
    for step in scenario.steps() {
        let shop = names.partner(text(&step["partner"]));
        let issued = euros_for(count(&step["issued"]));
        let check = network.must_post(earn(shop, buyer, issued));
        let clawed_back = count(&step["clawed_back"]);
        if clawed_back > 0 {
            let original = Original::Transaction(check.id);
            let back = network.must_post(return_earn(shop, original, euros_for(clawed_back)));
            assert_eq!(back.points, Points::new(clawed_back));
        }
    }
    for step in scenario.steps() {
        let shop = names.partner(text(&step["partner"]));
        let spent = network.must_post(redeem(shop, buyer, count(&step["redeemed_here"])));
        let refunded = count(&step["redemptions_refunded"]);
        if refunded > 0 {
            network.must_post(refund(shop, Original::Transaction(spent.id), refunded));
        }
    }

    names.assert_nets(&network, scenario.expect("net"));
    let netting = network.netting(Method::Multilateral);
    let mut payments: Vec<(&str, &str, Minor)> = (netting.payments.iter())
        .map(|payment| {
            (
                names.name(payment.payer),
                names.name(payment.payee),
                payment.amount,
            )
        })
        .collect();
    payments.sort_unstable();
    let mut expected: Vec<(&str, &str, Minor)> = (list(scenario.expect("payments")).iter())
        .map(|payment| (text(&payment[0]), text(&payment[1]), cents(&payment[2])))
        .collect();
    expected.sort_unstable();
    assert_eq!(payments, expected);
    assert_eq!(
        netting.gross,
        [(Currency::EUR, micros(scenario.expect("gross_legs")))]
    );
    assert_eq!(paid(&netting.payments), cents(scenario.expect("paid")));
    assert_eq!(
        network.netting(Method::Gross).payments.len(),
        8,
        "eight become four"
    );
    let outstanding = network.book(buyer).totals.balance();
    assert_eq!(
        outstanding,
        Ok(Points::new(count(scenario.expect("points_outstanding"))))
    );
    network.assert_audited();
}

#[test]
fn six_transfers() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/six_transfers.json"
    ));
    assert_eq!(scenario.given("agreement")["price"], "face value");
    let face_value = dec(text(scenario.given("face_value_per_point")));
    let legs = bilateral(face_value, scenario.agreed("fee_per_point"));
    let names = Names::of(list(scenario.given("partners")));
    let mut network = names.network(&terms(legs));
    for (number, step) in (1..).zip(scenario.steps()) {
        let buyer = network.enroll(member(number));
        let points = cents(&step["amount"]).get();
        network.must_post(earn(
            names.partner(text(&step["issuer"])),
            buyer,
            euros_for(points),
        ));
        network.must_post(redeem(
            names.partner(text(&step["redeemer"])),
            buyer,
            points,
        ));
    }
    names.assert_nets(&network, scenario.expect("net"));
    let multilateral = network.netting(Method::Multilateral);
    assert_eq!(
        multilateral.gross,
        [(Currency::EUR, micros(scenario.expect("gross")))]
    );
    // The operator passes on what it is paid; the scenario counts it once.
    let (paid_in, paid_out): (Vec<Payment>, Vec<Payment>) = multilateral
        .payments
        .iter()
        .partition(|payment| payment.payee == Party::Operator);
    let expected = cents(scenario.expect("multilateral_paid"));
    assert_eq!((paid(&paid_in), paid(&paid_out)), (expected, expected));
    for net in &multilateral.nets {
        let expected = &scenario.expect("net")[names.name(net.party)];
        assert_eq!(
            (net.net, net.net_minor),
            (micros(expected), cents(expected))
        );
    }
}

#[test]
fn three_issuers_one_check() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/three_issuers_one_check.json"
    ));
    let legs = settle_at_redemption(
        scenario.agreed("redemption_price_per_point"),
        scenario.agreed("reimbursement_per_point"),
    );
    let lots = list(scenario.given("lots"));
    let nails = &scenario.steps()[0]["redeem"]["partner"];
    let names = Names::of(lots.iter().map(|lot| &lot["issuer"]).chain([nails]));
    let mut builder = Builder::new().partner(names.partner(text(nails)), terms(legs.clone()));
    for lot in lots {
        let life = instant(text(&lot["expires"])).micros() - START.micros();
        let lot_lifetime_days = u32::try_from(life / MICROS_PER_DAY).expect("days");
        let shop = names.partner(text(&lot["issuer"]));
        builder = builder.partner(
            shop,
            Terms {
                lot_lifetime_days,
                ..terms(legs.clone())
            },
        );
    }
    let mut network = builder.build();
    let buyer = network.enroll(member(1));
    for lot in lots {
        let shop = names.partner(text(&lot["issuer"]));
        network.must_post(earn(shop, buyer, euros_for(count(&lot["points"]))));
    }

    network.now = instant(text(&scenario.steps()[0]["at"]));
    let points = count(&scenario.steps()[0]["redeem"]["points"]);
    let spent = network.must_post(redeem(names.partner(text(nails)), buyer, points));
    let expected = scenario.expect("after_redeem");
    let slices: Vec<(&str, i64)> = spent
        .spent()
        .iter()
        .map(|slice| (names.name(slice.issuer), slice.points.get()))
        .collect();
    assert_eq!(slices, pairs(&expected["slices"]));
    names.assert_nets(&network, &expected["net"]);

    network.now = instant(text(&scenario.steps()[1]["at"]));
    let points = count(&scenario.steps()[1]["refund"]["points"]);
    let original = Original::Transaction(spent.id);
    let back = network.must_post(refund(names.partner(text(nails)), original, points));
    let expected = scenario.expect("after_refund");
    let told = |slice: &Slice| -> (String, i64, Timestamp) {
        let name = names.name(slice.issuer).to_owned();
        (name, slice.points.get(), slice.lot.expires_at)
    };
    let restored: Vec<_> = back.restored().iter().map(told).collect();
    let lots: Vec<_> = (list(&expected["restored"]).iter())
        .map(|lot| {
            (
                text(&lot[0]).to_owned(),
                count(&lot[1]),
                instant(text(&lot[2])),
            )
        })
        .collect();
    assert_eq!(restored, lots);
    names.assert_nets(&network, &expected["net"]);
    network.assert_audited();
}

fn pairs(value: &Value) -> Vec<(&str, i64)> {
    list(value)
        .iter()
        .map(|pair| (text(&pair[0]), count(&pair[1])))
        .collect()
}

#[test]
fn prepaid_block() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/prepaid_block.json"
    ));
    let agreed = scenario.given("agreement");
    let nails = Names::of([&agreed["partner"]]).partner(text(&agreed["partner"]));
    let prepaid = Terms {
        limit: Some(micros(&agreed["limit"])),
        alert_below_points: Some(Points::new(count(&agreed["alert_below_points"]))),
        ..terms(settle_at_issue(
            scenario.agreed("issue_price_per_point"),
            Decimal::ZERO,
        ))
    };
    let mut network = Builder::new().partner(nails, prepaid.clone()).build();
    let buyer = network.enroll(member(1));
    network.must_post(deposit(nails, cents(scenario.given("funding"))));
    for step in scenario.steps() {
        let decision = network.send(earn(nails, buyer, euros_for(count(&step["earn_points"]))));
        let expected = &step["expect"];
        if expected["declined"].is_null() {
            posted(&decision);
        } else {
            assert_eq!(expected["declined"], "LIMIT_EXCEEDED");
            assert_eq!(declined(&decision), Decline::LimitExceeded);
        }
        let now = headroom(network.position(nails), &prepaid).expect("in range");
        if !expected["headroom"].is_null() {
            assert_eq!(now.left, Some(micros(&expected["headroom"])));
        }
        if let Some(alert) = expected["alert"].as_bool() {
            assert_eq!(now.below_alert_points, alert, "{step}");
        }
    }
    network.assert_audited();
}

#[test]
fn limit_within_a_batch() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/limit_within_a_batch.json"
    ));
    let (issuer, redeemer) = (partner(1), partner(2));
    let legs = bilateral(
        dec(text(scenario.given("face_value_per_point"))),
        Decimal::ZERO,
    );
    let limited = Terms {
        limit: Some(micros(scenario.given("limit"))),
        ..terms(legs.clone())
    };
    let mut network = Builder::new()
        .partner(issuer, limited)
        .partner(redeemer, terms(legs))
        .build();
    let buyer = network.enroll(member(1));
    network.must_post(earn(issuer, buyer, euros_for(100_000)));
    assert_eq!(scenario.given("funds"), "0.00");
    let spend = |step: &Value| redeem(redeemer, buyer, cents(&step["redeem_of_issuer"]).get());
    let says = |decision: &Decision| match decision {
        Decision::Recorded { transaction, .. } if transaction.declined.is_none() => "POSTED",
        decision => {
            assert_eq!(declined(decision), Decline::LimitExceeded);
            "LIMIT_EXCEEDED"
        }
    };
    let expected: Vec<&str> = scenario
        .steps()
        .iter()
        .map(|step| text(&step["expect"]))
        .collect();
    let position = micros(scenario.expect("position"));

    for thrift in [Thrift::Few(0), Thrift::Few(1), Thrift::All] {
        network.thrift = thrift;
        let mut at_once = network.clone();
        let batch: Vec<_> = scenario
            .steps()
            .iter()
            .map(|step| at_once.ask(spend(step)))
            .collect();
        let answers = at_once.run(&batch);
        assert_eq!(
            answers.iter().map(says).collect::<Vec<_>>(),
            expected,
            "at once"
        );
        assert_eq!(at_once.net(issuer), position);

        let mut singly = network.clone();
        for (step, expected) in scenario.steps().iter().zip(&expected) {
            assert_eq!(says(&singly.send(spend(step))), *expected, "one by one");
        }
        assert_eq!(singly.net(issuer), position);

        let mut with_refund = network.clone();
        let first = with_refund.ask(spend(&scenario.steps()[0]));
        let (key, _) = first.request.expect("a request");
        let points = cents(&scenario.steps()[0]["redeem_of_issuer"]).get();
        let back = with_refund.ask(refund(redeemer, Original::Request(key.id), points));
        let second = with_refund.ask(spend(&scenario.steps()[1]));
        let answers = with_refund.run(&[first, back, second]);
        assert_eq!(answers.iter().map(says).collect::<Vec<_>>(), ["POSTED"; 3]);
        assert_eq!(with_refund.net(issuer), position);
    }
}

#[test]
fn spend_across_issuers() {
    let scenario = Scenario::parse(include_str!(
        "../../../tests/fixtures/golden/spend_across_issuers.json"
    ));
    for case in list(&scenario.0["cases"]) {
        let lots = pairs(&case["lots"]);
        let names = Names(lots.iter().map(|(name, _)| (*name).to_owned()).collect());
        let mut network = names.network(&terms(Vec::<Leg>::new()));
        let buyer = network.enroll(member(1));
        for (name, points) in &lots {
            network.must_post(earn(names.partner(name), buyer, euros_for(*points)));
        }
        let before = network.book(buyer);
        let decision = network.send(redeem(names.partner("a"), buyer, count(&case["redeem"])));
        if case["expect"].is_array() {
            let slices = posted(&decision).spent();
            let spent: Vec<(&str, i64)> = slices
                .iter()
                .map(|slice| (names.name(slice.issuer), slice.points.get()))
                .collect();
            assert_eq!(spent, pairs(&case["expect"]));
        } else {
            assert_eq!(case["expect"], "INSUFFICIENT_POINTS, nothing moved");
            assert_eq!(declined(&decision), Decline::InsufficientPoints);
            // But for the version: the history has one more transaction.
            let version = before.version;
            let after = network.book(buyer);
            assert_eq!(MemberBook { version, ..after }, before);
        }
    }
}

#[test]
fn shares() {
    let scenario = Scenario::parse(include_str!("../../../tests/fixtures/golden/shares.json"));
    for case in list(&scenario.0["cases"]) {
        let parties: Vec<PartnerId> = (1..)
            .map(partner)
            .take(list(&case["shares"]).len())
            .collect();
        let funders: Vec<Funder> = list(&case["shares"])
            .iter()
            .zip(&parties)
            .map(|(share, party)| Funder {
                party: (*party).into(),
                weight: weight(text(share)),
            })
            .collect();
        let plain = terms(Vec::new());
        let mut builder = Builder::new().partner(
            parties[0],
            Terms {
                funders,
                ..plain.clone()
            },
        );
        for party in &parties[1..] {
            builder = builder.partner(*party, plain.clone());
        }
        let mut network = builder.build();
        let buyer = network.enroll(member(1));
        let check = network.must_post(earn(parties[0], buyer, euros_for(count(&case["points"]))));
        let issued = check.issued();
        let share_of = |party: &PartnerId| {
            let own = issued
                .iter()
                .find(|slice| slice.issuer == Party::from(*party));
            own.map_or(0, |slice| slice.points.get())
        };
        let shares: Vec<i64> = parties.iter().map(share_of).collect();
        let expected: Vec<i64> = list(&case["expect"]).iter().map(count).collect();
        assert_eq!(shares, expected, "{case}");
    }
}

/// The weight of `1/5` or `60%` beside others with the same denominator.
fn weight(share: &str) -> u32 {
    let digits = share.split(['/', '%']).next().expect("a number");
    digits.parse().expect("a whole number")
}
