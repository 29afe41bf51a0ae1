//! Windows and what they come to: every posting in exactly one, whatever cuts meet it; settlements
//! whose figures agree with the positions, however they are netted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use coalition_proto::common::{PosContext, TransactionKind};
use coalition_proto::earn::EarnRequest;
use coalition_proto::partner::Terms;
use coalition_proto::settlement::{
    ComputeSettlementRequest, CutWindowRequest, GetOpenWindowRequest, ListPostingsRequest,
    ListSettlementsRequest, ListWindowsRequest, NettingMethod, Posting, Settlement,
    SettlementState, Window, WindowState,
};
use coalition_tests::figures::time;
use coalition_tests::partner::on_check;
use coalition_tests::{Network, OPERATOR, Partner, both_engines, request_id, terms};
use futures::future::{join, join_all};
use tonic::Code;

both_engines!(
    every_posting_is_in_exactly_one_window,
    what_is_due_expires_before_the_cut,
    windows_turn_one_by_one,
    a_preview_is_what_is_computed,
    however_netted_it_comes_to_the_same,
);

/// Clients that post at the same time.
const CLIENTS: usize = 32;
/// Sales of each.
const SALES: usize = 6;
/// Cuts while they do, at most.
const CUTS_MAX: usize = 24;

async fn every_posting_is_in_exactly_one_window(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let salon = network.partner("salon", base).await;
    let posting = AtomicBool::new(true);
    let left = AtomicUsize::new(CLIENTS);

    let sales = join_all((0..CLIENTS).map(|client| {
        let (cafe, salon, posting, left) = (&cafe, &salon, &posting, &left);
        async move {
            let member = network.member().await;
            let mut told = Vec::new();
            for sale in 0..SALES {
                let check = format!("{client}-{sale}");
                let earned = cafe.earn(&member, &check, 100).await;
                told.push((earned.transaction_id, earned.window_id));
                let spent = salon.redeem(&member, &check, 60).await;
                told.push((spent.transaction_id, spent.window_id));
                let back = salon.refund(&check, 10).await;
                told.push((back.transaction_id, back.window_id));
            }
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                posting.store(false, Ordering::SeqCst);
            }
            told
        }
    }));
    let cuts = async {
        let mut windows = Vec::new();
        while posting.load(Ordering::SeqCst) && windows.len() < CUTS_MAX {
            let cut = network.cut().await;
            windows.push(cut.closed.expect("a window was closed"));
        }
        windows
    };
    let (told, mut windows) = join(sales, cuts).await;
    windows.push(network.cut().await.closed.expect("a window was closed"));
    assert!(
        windows.len() > 2,
        "only {} cuts met {CLIENTS} clients",
        windows.len()
    );

    // What each client was told, against what the windows list.
    let told: BTreeMap<String, String> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), CLIENTS * SALES * 3);
    let mut listed: BTreeMap<String, String> = BTreeMap::new();
    let (mut issued, mut spent, mut nets) = (0, 0, BTreeMap::<String, i64>::new());
    for window in &windows {
        let postings = postings(network, &window.window_id).await;
        assert_eq!(
            postings.len(),
            usize::try_from(window.postings).expect("a count")
        );
        let last = postings
            .last()
            .and_then(|posting| posting.transaction.as_ref());
        if let Some(last) = last {
            assert_eq!(window.last_transaction_id, last.transaction_id);
        }
        for posting in postings {
            let transaction = posting.transaction.expect("what it was for");
            assert_eq!(transaction.window_id, window.window_id);
            let twice = listed.insert(transaction.transaction_id, transaction.window_id);
            assert_eq!(twice, None, "a posting is in two windows");
        }
        for row in network.positions(&window.window_id).await {
            issued += row.points_issued;
            spent += row.points_redeemed_here;
            *nets.entry(row.party).or_default() += row.net_micros;
        }
    }
    assert_eq!(listed, told);
    let sales = i64::try_from(CLIENTS * SALES).expect("few");
    assert_eq!((issued, spent), (sales * 100, sales * 50));
    // A point costs the cafe a cent, and gives the salon four fifths of one.
    let expected = BTreeMap::from([
        (cafe.id.clone(), -sales * 100 * 10_000),
        (salon.id.clone(), sales * 50 * 8_000),
        (
            OPERATOR.to_owned(),
            sales * 100 * 10_000 - sales * 50 * 8_000,
        ),
    ]);
    assert_eq!(nets, expected);

    // One settlement over all of them comes to the same.
    let closed = windows.iter().map(|window| window.window_id.clone());
    let settlement = network
        .maker
        .ask(compute(closed, NettingMethod::Multilateral))
        .await
        .settlement;
    let settled: BTreeMap<String, i64> = settlement
        .expect("the settlement")
        .positions
        .into_iter()
        .map(|row| (row.party, row.net_micros))
        .collect();
    assert_eq!(settled, expected);
}

async fn what_is_due_expires_before_the_cut(network: &Network) {
    let short = |days: i32| Terms {
        lot_lifetime_days: days,
        ..terms::settle_at_issue("EUR", "0.01", "0.008")
    };
    let cafe = network.partner("cafe", short(5)).await;
    let salon = network.partner("salon", short(50)).await;
    // More members than are swept in one batch.
    let members = join_all((0..300).map(|_| network.member())).await;
    join_all(members.iter().enumerate().map(|(place, member)| {
        let cafe = &cafe;
        async move { cafe.earn(member, &format!("c-{place}"), 10).await }
    }))
    .await;
    salon.earn(&members[0], "s-1", 25).await;
    network.set_clock("2026-01-06T00:00:00Z").await;
    let cut = network.cut().await;
    assert_eq!(cut.expired_points, 3_000);
    let closed = cut.closed.expect("a window was closed");
    let postings = postings(network, &closed.window_id).await;
    let expiries: Vec<_> = postings
        .iter()
        .filter_map(|posting| posting.transaction.as_ref())
        .filter(|transaction| transaction.kind() == TransactionKind::Expire)
        .collect();
    assert_eq!(expiries.len(), 300);
    assert!(
        expiries
            .iter()
            .all(|row| row.points == 10 && row.partner_id.is_empty())
    );
    assert_eq!(
        expiries
            .iter()
            .map(|row| &row.member_id)
            .collect::<BTreeSet<_>>()
            .len(),
        300
    );
    let rows = network.positions(&closed.window_id).await;
    let at_cafe = rows
        .iter()
        .find(|row| row.party == cafe.id)
        .expect("the cafe moved");
    assert_eq!(
        (at_cafe.points_issued, at_cafe.points_expired),
        (3_000, 3_000)
    );
    // Breakage is theirs who issued: nothing is owed for it by these terms.
    assert_eq!(at_cafe.net_micros, -30_000_000);
    // Nothing is left to expire; what is not due is still there.
    let again = network.cut().await;
    assert_eq!(again.expired_points, 0);
    assert_eq!(salon.redeem(&members[0], "s-2", 25).await.points, 25);
    // What comes back past its expiry expires at once, and what was earned so long ago likewise: the
    // window counts them like any other.
    network.set_clock("2026-02-20T00:00:00Z").await;
    assert_eq!(salon.refund("s-2", 10).await.expired_on_return, 10);
    let late = EarnRequest {
        context: Some(PosContext {
            occurred_at: Some(time("2026-02-14")),
            ..on_check("late")
        }),
        ..cafe.earning(&members[1], "late", 7)
    };
    let late = cafe.till.ask(late).await;
    assert_eq!(
        (
            late.points_earned,
            late.balance.expect("a balance").available
        ),
        (7, 0)
    );
    assert_eq!(network.cut().await.expired_points, 17);
}

async fn windows_turn_one_by_one(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let open = open_window(network).await;
    assert_eq!(
        (open.number, open.state(), open.postings),
        (1, WindowState::Open, 0)
    );
    assert!(open.window_id.starts_with("win_"));
    assert_eq!((open.closed_at, open.totals_hash.as_str()), (None, ""));
    let earned = cafe.earn(&member, "c-1", 100).await;
    assert_eq!(earned.window_id, open.window_id);

    // Declined: on record, and no posting of the window.
    let declined = cafe.try_redeem(&member, "r-1", 1_000).await;
    declined
        .expect_err("more than there is")
        .assert_declined("INSUFFICIENT_POINTS");
    network.set_clock("2026-01-02").await;
    let naming = |window: &str| CutWindowRequest {
        request_id: request_id(),
        expected_window_id: window.to_owned(),
    };
    let cut = network.maker.ask(naming(&open.window_id)).await;
    let (closed, opened) = (
        cut.closed.expect("a closed one"),
        cut.opened.expect("an open one"),
    );
    assert_eq!(
        (closed.state(), opened.state()),
        (WindowState::Closed, WindowState::Open)
    );
    assert_eq!((closed.number, opened.number), (1, 2));
    assert_eq!(closed.window_id, open.window_id);
    assert_eq!(closed.closed_at, Some(time("2026-01-02")));
    assert_eq!(opened.opened_at, closed.closed_at);
    assert_eq!(
        (closed.postings, &closed.last_transaction_id),
        (1, &earned.transaction_id)
    );
    assert!(
        closed.totals_hash.len() == 64 && closed.totals_hash.bytes().all(|b| b.is_ascii_hexdigit())
    );
    assert_eq!(open_window(network).await.window_id, opened.window_id);

    // Whoever had the first one on the screen is told that it is gone.
    let refusal = network.maker.refused(naming(&open.window_id)).await;
    refusal.assert(Code::Aborted, "WINDOW_STALE");
    // An empty window may be cut; there is nothing to settle in it.
    let empty = network
        .maker
        .ask(naming(&opened.window_id))
        .await
        .closed
        .expect("a closed one");
    assert_eq!(
        (empty.postings, empty.last_transaction_id.as_str()),
        (0, "")
    );
    let nothing = compute([empty.window_id.clone()], NettingMethod::Multilateral);
    let nothing = network
        .maker
        .ask(nothing)
        .await
        .settlement
        .expect("the settlement");
    assert!(
        nothing.obligations.is_empty() && nothing.totals.is_empty(),
        "{nothing:?}"
    );
    // A cut changes nothing about what can be undone later: it is posted in the window open then.
    let back = cafe.take_back("c-1", 40).await;
    assert_eq!(back.window_id, open_window(network).await.window_id);
    assert_eq!(network.nets(&closed.window_id).await[&cafe.id], -1_000_000);
    assert_eq!(network.nets("").await[&cafe.id], 400_000);

    // Listed latest first, by state, and page by page.
    let list = |state: Option<WindowState>, size: i32, token: &str| ListWindowsRequest {
        state: state.map(Into::into),
        page_size: size,
        page_token: token.to_owned(),
    };
    let all = network.viewer.ask(list(None, 0, "")).await.windows;
    assert_eq!(
        all.iter().map(|window| window.number).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    let closed = network
        .viewer
        .ask(list(Some(WindowState::Closed), 0, ""))
        .await
        .windows;
    assert_eq!(
        closed
            .iter()
            .map(|window| window.number)
            .collect::<Vec<_>>(),
        [1]
    );
    let first = network.viewer.ask(list(None, 2, "")).await;
    let second = network
        .viewer
        .ask(list(None, 2, &first.next_page_token))
        .await;
    assert_eq!([first.windows, second.windows].concat(), all);
    assert_eq!(second.next_page_token, "");
    let unspecified = list(Some(WindowState::Unspecified), 0, "");
    network
        .viewer
        .refused(unspecified)
        .await
        .assert(Code::InvalidArgument, "INVALID_ARGUMENT");
}

async fn a_preview_is_what_is_computed(network: &Network) {
    let (_, window) = traffic(network).await;
    let open = open_window(network).await.window_id;
    let preview = |windows: &[&String]| ComputeSettlementRequest {
        validate_only: true,
        ..compute(
            windows.iter().copied().cloned(),
            NettingMethod::Multilateral,
        )
    };
    let seen = network
        .maker
        .ask(preview(&[&window]))
        .await
        .settlement
        .expect("the preview");
    assert_eq!((seen.settlement_id.as_str(), seen.etag.as_str()), ("", ""));
    let again = network
        .maker
        .ask(preview(&[&window]))
        .await
        .settlement
        .expect("the preview");
    assert_eq!(seen, again, "looking changes nothing");
    let request = compute([window.clone()], NettingMethod::Multilateral);
    let computed = network
        .maker
        .ask(request.clone())
        .await
        .settlement
        .expect("the settlement");
    assert!(computed.settlement_id.starts_with("stl_") && !computed.etag.is_empty());
    assert_eq!(computed.state(), SettlementState::Computed);
    assert_eq!(computed.window_ids, std::slice::from_ref(&window));
    let without_name = Settlement {
        settlement_id: String::new(),
        etag: String::new(),
        state: seen.state,
        ..computed.clone()
    };
    assert_eq!(without_name, seen);

    // Security row 66: a window settles once, and only when it is closed.
    let refusal = network.maker.refused(preview(&[&window])).await;
    refusal.assert(Code::FailedPrecondition, "WINDOW_ALREADY_SETTLING");
    assert!(
        refusal
            .metadata
            .values()
            .any(|fact| *fact == computed.settlement_id),
        "{refusal}"
    );
    let twice = compute([window.clone()], NettingMethod::Gross);
    network
        .maker
        .refused(twice)
        .await
        .assert(Code::FailedPrecondition, "WINDOW_ALREADY_SETTLING");
    let early = compute([open.clone()], NettingMethod::Multilateral);
    network
        .maker
        .refused(early)
        .await
        .assert(Code::FailedPrecondition, "WINDOW_NOT_CLOSED");
    let unknown = compute(
        [open.replace("win_0", "win_1")],
        NettingMethod::Multilateral,
    );
    network
        .maker
        .refused(unknown)
        .await
        .assert(Code::NotFound, "NOT_FOUND");
    let double = compute(
        [window.clone(), window.clone()],
        NettingMethod::Multilateral,
    );
    network
        .maker
        .refused(double)
        .await
        .assert(Code::InvalidArgument, "INVALID_ARGUMENT");
    let none = compute([], NettingMethod::Multilateral);
    network
        .maker
        .refused(none)
        .await
        .assert(Code::InvalidArgument, "INVALID_ARGUMENT");
    let replayed = network.maker.ask(request).await;
    assert!(replayed.replayed);
    assert_eq!(replayed.settlement, Some(computed.clone()));

    let listed = network
        .viewer
        .ask(ListSettlementsRequest::default())
        .await
        .settlements;
    assert_eq!(listed, [computed]);
    let window_now = network
        .viewer
        .ask(ListWindowsRequest::default())
        .await
        .windows;
    let window_now = window_now
        .iter()
        .find(|found| found.window_id == window)
        .expect("it is listed");
    assert_eq!(window_now.state(), WindowState::Settling);
    let settled = ListSettlementsRequest {
        state: Some(SettlementState::Settled.into()),
        ..Default::default()
    };
    assert!(network.viewer.ask(settled).await.settlements.is_empty());
}

async fn however_netted_it_comes_to_the_same(network: &Network) {
    let (partners, window) = traffic(network).await;
    let nets = network.nets(&window).await;
    for method in [
        NettingMethod::Multilateral,
        NettingMethod::Bilateral,
        NettingMethod::Gross,
    ] {
        let request = ComputeSettlementRequest {
            validate_only: true,
            ..compute([window.clone()], method)
        };
        let settlement = network
            .maker
            .ask(request)
            .await
            .settlement
            .expect("the preview");
        let mut minor: BTreeMap<&str, i64> = BTreeMap::new();
        let mut sum = 0;
        for row in &settlement.positions {
            assert_eq!(Some(&row.net_micros), nets.get(&row.party), "{method:?}");
            let net = row.net.as_ref().expect("what is paid").amount;
            sum += net;
            minor.insert(&row.party, net);
            if row.party != OPERATOR {
                assert_eq!(net, half_up(row.net_micros), "{method:?} {}", row.party);
            }
        }
        assert_eq!(sum, 0, "{method:?}: what one pays, others get");
        let operator = minor[OPERATOR] * 10_000 - nets[OPERATOR];
        assert_eq!(settlement.rounding[0].micros, operator, "{method:?}");
        // Paying every obligation leaves nobody with anything.
        let mut paid = 0;
        for row in &settlement.obligations {
            let amount = row.amount.as_ref().expect("an amount").amount;
            assert!(amount > 0 && row.payer != row.payee, "{method:?}: {row:?}");
            paid += amount;
            *minor.get_mut(row.payer.as_str()).expect("a party") += amount;
            *minor.get_mut(row.payee.as_str()).expect("a party") -= amount;
        }
        assert!(
            minor.values().all(|left| *left == 0),
            "{method:?}: {minor:?}"
        );
        assert_eq!(
            settlement.totals[0].paid.as_ref().expect("a total").amount,
            paid
        );
        if method == NettingMethod::Multilateral {
            assert!(
                settlement
                    .obligations
                    .iter()
                    .all(|row| row.payer == OPERATOR || row.payee == OPERATOR)
            );
            assert!(settlement.obligations.len() <= partners.len());
        }
    }
}

/// Half up, away from zero: from micro-units to cents.
fn half_up(micros: i64) -> i64 {
    micros.signum() * ((micros.abs() + 5_000) / 10_000)
}

/// Partners with prices that do not come out even, spending each other's points; the window is cut.
async fn traffic(network: &Network) -> (Vec<Partner>, String) {
    let rows = [
        terms::settle_at_issue("EUR", "0.010333", "0.00777"),
        terms::settle_at_redemption("EUR", "0.009111", "0.008333"),
        terms::bilateral("EUR", "0.0077777", "0.000333"),
        terms::settle_at_redemption("EUR", "0.01", "0.0099"),
    ];
    let mut partners = Vec::new();
    for (place, terms) in rows.into_iter().enumerate() {
        partners.push(network.partner(&format!("p-{place}"), terms).await);
    }
    let member = network.member().await;
    for (place, issuer) in partners.iter().enumerate() {
        issuer
            .earn(&member, "c", 1_000 + 7 * i64::try_from(place).expect("few"))
            .await;
    }
    for (place, redeemer) in partners.iter().enumerate() {
        let check = format!("r-{place}");
        redeemer
            .redeem(
                &member,
                &check,
                601 + 13 * i64::try_from(place).expect("few"),
            )
            .await;
        redeemer.refund(&check, 101).await;
    }
    let window = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;
    (partners, window)
}

async fn open_window(network: &Network) -> Window {
    let answer = network.viewer.ask(GetOpenWindowRequest {}).await;
    answer.window.expect("one is open")
}

fn compute(
    windows: impl IntoIterator<Item = String>,
    netting: NettingMethod,
) -> ComputeSettlementRequest {
    ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: windows.into_iter().collect(),
        netting: netting.into(),
        validate_only: false,
    }
}

/// All postings of a window, in order.
async fn postings(network: &Network, window: &str) -> Vec<Posting> {
    let mut all: Vec<Posting> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListPostingsRequest {
            window_id: window.to_owned(),
            page_size: 200,
            page_token,
            ..ListPostingsRequest::default()
        };
        let page = network.viewer.ask(request).await;
        all.extend(page.postings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let ids = all
        .iter()
        .filter_map(|posting| posting.transaction.as_ref());
    let ids: Vec<&str> = ids
        .map(|transaction| transaction.transaction_id.as_str())
        .collect();
    assert!(ids.is_sorted(), "in the order they were posted");
    all
}
