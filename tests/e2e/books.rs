//! The books, checked: `verify` finds nothing after all that can happen to them, and finds and names
//! every figure that a hand in the database changes.

use coalition_ledger::ids::{LotId, MemberId, PartnerId, TransactionId, WindowId};
use coalition_proto::partner::Terms;
use coalition_proto::settlement::{
    AccountKind, ComputeSettlementRequest, CutWindowRequest, FundingDirection,
    GetTrialBalanceRequest, NettingMethod, RecordFundingRequest,
};
use coalition_store::testing::Engine;
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::figures::money;
use coalition_tests::fleet::until_health;
use coalition_tests::process::Coalition;
use coalition_tests::{Network, both_engines, request_id, terms};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::split::COMMAND_MAX;

both_engines!(
    books_balance_after_everything,
    an_edited_figure_is_found_and_named,
    damaged_books_stop_posting_and_health_says_so
);

#[test]
fn the_command_line_names_an_edit_on_sqlite() {
    verified_by_command(Engine::Sqlite);
}

#[test]
fn the_command_line_names_an_edit_on_postgres() {
    verified_by_command(Engine::Postgres);
}

/// `coalition verify` looks into the database itself: its exit code tells, and its table names.
fn verified_by_command(engine: Engine) {
    bounded(async {
        let Some(network) = Network::start(engine).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let busy = busy(&network).await;
        let (database, folder) = network.close().await;
        let verify = || {
            Coalition::new(["verify", "--database-url", &database.url])
                .env("COALITION_DATA_DIR", folder.path())
                .run(COMMAND_MAX)
        };
        verify().await.assert_code(0);
        assert_eq!(
            database
                .sql("update positions set debits = debits + 1 where currency = 'EUR'")
                .await,
            4
        );
        verify().await.assert_code(1).assert_says(&busy.partner);
        database
            .sql("update positions set debits = debits - 1 where currency = 'EUR'")
            .await;
        verify().await.assert_code(0);
        database.remove().await;
    });
}

/// What the scenario's rows are called.
struct Busy {
    /// A lot with points left.
    lot: String,
    /// A member who holds points, and one who owes some.
    member: String,
    debtor: String,
    /// A partner whose position moved.
    partner: String,
    /// An earn of which goods came back.
    earned: String,
    /// A window that was cut.
    window: String,
}

/// A bit of everything: every kind of posting, declines, a cut, a settlement.
async fn busy(network: &Network) -> Busy {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network
        .partner(
            "cafe",
            Terms {
                lot_lifetime_days: 20,
                ..base.clone()
            },
        )
        .await;
    let salon = network
        .partner(
            "salon",
            Terms {
                pending_days: 3,
                ..base
            },
        )
        .await;
    let bistro = network
        .partner("bistro", terms::bilateral("EUR", "0.009", "0.001"))
        .await;
    let member = network.member().await;
    let debtor = network.member().await;
    let earned = cafe.earn(&member, "c-1", 1_000).await;
    bistro.earn(&member, "b-1", 500).await;
    salon.earn(&member, "s-1", 300).await;
    bistro.redeem(&member, "r-1", 700).await;
    bistro.refund("r-1", 100).await;
    cafe.take_back("c-1", 200).await;
    cafe.try_redeem(&member, "r-2", 1_000_000)
        .await
        .expect_err("more than there is");
    bistro.earn(&debtor, "b-2", 100).await;
    salon.earn(&debtor, "s-2", 40).await;
    bistro.redeem(&debtor, "r-3", 80).await;
    let owed = bistro.take_back("b-2", 100).await;
    assert_eq!(owed.points_to_debt, 80);
    let deposit = RecordFundingRequest {
        request_id: request_id(),
        partner_id: cafe.id.clone(),
        amount: Some(money("EUR", 12_345)),
        direction: FundingDirection::Deposit.into(),
        bank_reference: "SEPA-1".to_owned(),
    };
    network.maker.ask(deposit).await;
    network.set_clock("2026-01-05").await;
    let window = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;
    let compute = ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window.clone()],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    network.maker.ask(compute).await;
    // The cafe's lots run out; what it spent of them comes back, and expires at once.
    network.set_clock("2026-02-01").await;
    network.cut().await;
    let late = bistro.refund("r-1", 500).await;
    assert!(late.expired_on_return > 0);
    let fresh = bistro.earn(&member, "b-3", 250).await;
    Busy {
        lot: fresh.lots[0].lot_id.clone(),
        member,
        debtor,
        partner: bistro.id,
        earned: earned.transaction_id,
        window,
    }
}

async fn books_balance_after_everything(network: &Network) {
    busy(network).await;
    let books = network.assert_books_balance().await;
    assert!(books.progress > 0, "progress is told");
    let summary = books.summary;
    // 7 earns, 3 redemptions less the declined one, 2 returns, 2 refunds, funds, and what the sweep did.
    assert!(summary.postings >= 14, "{summary:?}");
    assert!(summary.transfers > summary.postings, "{summary:?}");
    assert_eq!((summary.members, summary.windows), (2, 3));
    assert_eq!(summary.lots, 6);

    // The trial balance says the same in sums, for all time and for one window.
    let trial = network.viewer.ask(GetTrialBalanceRequest::default()).await;
    assert!(trial.balanced, "{:?}", trial.equations);
    assert!(!trial.equations.is_empty());
    for equation in &trial.equations {
        assert!(
            equation.holds && equation.left == equation.right,
            "{equation:?}"
        );
    }
    for row in &trial.accounts {
        assert_eq!(row.balance, row.credit_total - row.debit_total, "{row:?}");
    }
    let positions = trial
        .accounts
        .iter()
        .filter(|row| row.kind() == AccountKind::Position);
    assert_eq!(positions.map(|row| row.balance).sum::<i64>(), 0);
    let funds = trial
        .accounts
        .iter()
        .find(|row| row.kind() == AccountKind::Funds);
    assert_eq!(funds.expect("funds came in").balance, 123_450_000);
    for unit in ["PTS", "EUR"] {
        let rows = trial.accounts.iter().filter(|row| row.unit == unit);
        let (debit, credit) = rows.fold((0, 0), |(debit, credit), row| {
            (debit + row.debit_total, credit + row.credit_total)
        });
        assert_eq!(debit, credit, "every transfer in {unit} has two sides");
    }
    let window = GetTrialBalanceRequest {
        window_id: network
            .cut()
            .await
            .closed
            .expect("a window was closed")
            .window_id,
    };
    assert!(network.viewer.ask(window).await.balanced);
}

async fn an_edited_figure_is_found_and_named(network: &Network) {
    let busy = busy(network).await;
    network.assert_books_balance().await;
    let key = |hex: String| match network.engine {
        Engine::Sqlite => format!("x'{hex}'"),
        Engine::Postgres => format!("'{hex}'"),
    };
    macro_rules! row {
        ($kind:ty, $text:expr) => {
            key($text
                .parse::<$kind>()
                .expect("an id")
                .uuid()
                .simple()
                .to_string())
        };
    }
    let lot = format!("id = {}", row!(LotId, busy.lot));
    let member = format!("id = {}", row!(MemberId, busy.member));
    let debtor = format!("member_id = {}", row!(MemberId, busy.debtor));
    let earned = format!("id = {}", row!(TransactionId, busy.earned));
    let party = format!(
        "party = {} and currency = 'EUR'",
        row!(PartnerId, busy.partner)
    );
    let window = row!(WindowId, busy.window);
    let total = format!(
        "window_id = {window} and measure = 2 and party = {}",
        row!(PartnerId, busy.partner)
    );
    let closed = format!("id = {window}");
    // The table, the row, what is set (nothing: the row is deleted), and what the finding names.
    let rows = [
        ("lots", &lot, "available = available + 1", &busy.lot),
        (
            "lots",
            &lot,
            "available = available - 1, expired = 1",
            &busy.lot,
        ),
        ("lots", &lot, "points = points + 1", &busy.lot),
        ("lots", &lot, "", &busy.lot),
        (
            "members",
            &member,
            "available = available + 1",
            &busy.member,
        ),
        ("members", &member, "pending = pending + 1", &busy.member),
        ("members", &member, "", &busy.member),
        ("debts", &debtor, "points = points - 1", &busy.debtor),
        ("debts", &debtor, "", &busy.debtor),
        ("transactions", &earned, "points = points + 1", &busy.earned),
        (
            "transactions",
            &earned,
            "amount_minor = amount_minor + 1",
            &busy.earned,
        ),
        (
            "transactions",
            &earned,
            "balance_available = balance_available + 1",
            &busy.earned,
        ),
        (
            "transactions",
            &earned,
            "posted_us = posted_us + 1",
            &busy.earned,
        ),
        ("transactions", &earned, "check_id = 'c-9'", &busy.earned),
        ("transactions", &earned, "posting = null", &busy.earned),
        (
            "transactions",
            &earned,
            "open_points = open_points - 1",
            &busy.earned,
        ),
        (
            "transactions",
            &earned,
            "open_amount_minor = open_amount_minor + 1",
            &busy.earned,
        ),
        ("transactions", &earned, "", &busy.member),
        ("window_totals", &total, "amount = amount + 1", &busy.window),
        ("window_totals", &total, "", &busy.window),
        ("windows", &closed, "totals_hash = null", &busy.window),
        ("positions", &party, "debits = debits + 1", &busy.partner),
        (
            "positions",
            &party,
            "credits = credits + 1, debits = debits + 1",
            &busy.partner,
        ),
        ("positions", &party, "funds = funds + 1", &busy.partner),
        ("positions", &party, "", &busy.partner),
    ];
    let count = rows.len();
    for (table, row, change, named) in rows {
        let what = format!("{table}: {change}");
        network
            .edit(&format!(
                "create table kept as select * from {table} where {row}"
            ))
            .await;
        assert_eq!(
            network.number("select count(*) from kept").await,
            1,
            "{what}"
        );
        let edit = if change.is_empty() {
            format!("delete from {table} where {row}")
        } else {
            format!("update {table} set {change} where {row}")
        };
        assert_eq!(network.edit(&edit).await, 1, "{what}");

        let books = network.verify().await;
        assert!(!books.summary.balanced, "{what} is not found");
        let places: Vec<&str> = books
            .findings
            .iter()
            .map(|finding| finding.r#where.as_str())
            .collect();
        assert!(
            places.iter().any(|place| place.contains(named.as_str())),
            "{what}: {places:?}"
        );
        for finding in &books.findings {
            assert!(
                !finding.what.is_empty() && finding.expected != finding.found,
                "{finding:?}"
            );
        }

        let back = if change.is_empty() {
            format!("insert into {table} select * from kept")
        } else {
            let columns = change
                .split(", ")
                .map(|set| set.split(' ').next().unwrap_or_default());
            let columns = columns.map(|name| format!("{name} = (select {name} from kept)"));
            let columns = columns.collect::<Vec<_>>().join(", ");
            format!("update {table} set {columns} where {row}")
        };
        assert_eq!(network.edit(&back).await, 1, "{what}");
        network.edit("drop table kept").await;
        network.assert_books_balance().await;
    }
    crate::told(&format!(
        "edits of the books on {}: {count} inputs tried, 0 wrong",
        network.engine
    ));
}

/// What a posting needs cannot be read: nothing is posted any more, by anybody, until somebody has
/// looked and started the process again; whoever watches its health is told. Questions are answered.
async fn damaged_books_stop_posting_and_health_says_so(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    let earning = cafe.earning(&member, "c-1", 1_000);
    cafe.till.ask(earning.clone()).await;
    let services = [
        coalition_proto::earn::earn_service_server::SERVICE_NAME,
        coalition_proto::redeem::redeem_service_server::SERVICE_NAME,
        coalition_proto::settlement::settlement_service_server::SERVICE_NAME,
        "",
    ];
    for service in services {
        until_health(network.endpoint(), service, ServingStatus::Serving).await;
    }

    let damage = "update requests set subject = 99 where subject = 1";
    assert_eq!(network.edit(damage).await, 1);
    let refusal = cafe.till.refused(earning.clone()).await;
    refusal.assert(Code::Unavailable, "BOOKS_NOT_BALANCED");
    for service in services {
        until_health(network.endpoint(), service, ServingStatus::NotServing).await;
    }
    let refusal = cafe.till.refused(cafe.earning(&member, "c-2", 10)).await;
    refusal.assert(Code::Unavailable, "BOOKS_NOT_BALANCED");
    let cut = CutWindowRequest {
        request_id: request_id(),
        expected_window_id: String::new(),
    };
    let refusal = network.maker.refused(cut).await;
    refusal.assert(Code::Unavailable, "BOOKS_NOT_BALANCED");
    network.positions("").await;

    // Mended, and yet: it is for whoever mended it to say so, by starting it again.
    network
        .edit("update requests set subject = 1 where subject = 99")
        .await;
    let refusal = cafe.till.refused(earning).await;
    refusal.assert(Code::Unavailable, "BOOKS_NOT_BALANCED");
}
