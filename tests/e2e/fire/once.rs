//! One request from a thousand callers at once, and more redemptions than a balance allows.

use coalition_proto::common::{Identifier, IdentifierType};
use coalition_proto::earn::{EarnRequest, EarnResponse};
use coalition_proto::member::{EnrollRequest, GetBalanceRequest};
use coalition_store::testing::Engine;
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, Partner, Refusal, request_id, terms};
use fastrand::Rng;
use futures::future::join_all;
use tonic::Code;

use super::seed;
use super::setting::Setting;

/// Callers of one request.
const CALLERS: usize = 1_000;
/// Members who enrol, and how many callers ask for each at once.
const ENROLLED: usize = 60;
const ENROLLING: usize = 32;
/// Redemptions that race for one balance.
const RACERS: usize = 200;
/// Connections that they share: what one connection may have open is bounded.
const CONNECTIONS_PER_DOOR: usize = 8;
/// How often a call is sent that is told to come back.
const ATTEMPTS: usize = 1_000;

#[test]
fn a_thousand_at_once_on_sqlite() {
    at_once("SQLite", Setting::one_process(Engine::Sqlite));
}

#[test]
fn a_thousand_at_once_on_postgres() {
    at_once("PostgreSQL", Setting::one_process(Engine::Postgres));
}

#[test]
fn a_thousand_at_once_on_two_of_each() {
    at_once("PostgreSQL, two of each", Setting::two_of_each());
}

fn at_once(name: &str, setting: impl Future<Output = Option<Setting>>) {
    bounded(async {
        let Some(setting) = setting.await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let cafe = setting
            .network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let tills = tills(&setting, &cafe);
        let member = setting.network.member().await;
        let again = one_request_is_posted_once(&setting, &cafe, &tills, &member).await;
        one_of_two_bodies_is_posted(&setting, &cafe, &tills, &member).await;
        one_enrolment_is_made_once(&tills).await;
        let spent = redemptions_race(&setting, &cafe, &tills).await;
        setting.network.assert_books_balance().await;
        crate::told(&format!(
            "{name}: {CALLERS} times one request, sent again {again} times, 1 posting; {spent}"
        ));
        setting.stop().await;
    });
}

/// Tills of the shop over several connections to each gateway, neighbours at different ones.
fn tills(setting: &Setting, shop: &Partner) -> Vec<Caller> {
    let doors = setting.doors.iter().cycle();
    doors
        .take(setting.doors.len() * CONNECTIONS_PER_DOOR)
        .map(|door| setting.network.at(door).till(&shop.id))
        .collect()
}

/// A call, repeated while it is told to come back; how often it was sent.
async fn answered<R: Rpc>(till: &Caller, request: R) -> (Result<R::Answer, Refusal>, usize) {
    for attempt in 1..=ATTEMPTS {
        match till.call(request.clone()).await {
            Err(refusal) if refusal.code == Code::Unavailable => tokio::task::yield_now().await,
            answer => return (answer, attempt),
        }
    }
    panic!("{} was never answered", R::NAME);
}

async fn postings(setting: &Setting) -> i64 {
    setting.network.verify().await.summary.postings
}

async fn one_request_is_posted_once(
    setting: &Setting,
    cafe: &Partner,
    tills: &[Caller],
    member: &str,
) -> usize {
    let before = postings(setting).await;
    let request = cafe.earning(member, "once", 100);
    let calls = tills.iter().cycle().take(CALLERS);
    let answers = join_all(calls.map(|till| answered(till, request.clone()))).await;
    let again: usize = answers.iter().map(|(_, attempts)| attempts - 1).sum();
    let answers: Vec<EarnResponse> = answers
        .into_iter()
        .map(|(answer, _)| answer.unwrap_or_else(|refusal| panic!("{refusal}")))
        .collect();
    let replayed = answers.iter().filter(|answer| answer.replayed).count();
    assert_eq!(replayed, CALLERS - 1, "all but one are replays");
    let lasting = |answer: &EarnResponse| EarnResponse {
        replayed: false,
        ..answer.clone()
    };
    let first = lasting(&answers[0]);
    assert!(
        answers.iter().all(|answer| lasting(answer) == first),
        "all are equal"
    );
    assert_eq!(postings(setting).await, before + 1);
    again
}

async fn one_of_two_bodies_is_posted(
    setting: &Setting,
    cafe: &Partner,
    tills: &[Caller],
    member: &str,
) {
    let before = postings(setting).await;
    let one = cafe.earning(member, "two", 100);
    let other = EarnRequest {
        request_id: one.request_id.clone(),
        ..cafe.earning(member, "two", 101)
    };
    let bodies = [one, other];
    let calls = tills
        .iter()
        .cycle()
        .zip(bodies.iter().cycle().take(CALLERS));
    let calls = calls.map(|(till, request)| answered(till, request.clone()));
    let answers = join_all(calls).await;
    let (mut done, mut reused): (Vec<EarnResponse>, usize) = (Vec::new(), 0);
    for (answer, _) in answers {
        match answer {
            Ok(answer) => done.push(answer),
            Err(refusal) => {
                refusal.assert(Code::AlreadyExists, "REQUEST_ID_REUSED");
                reused += 1;
            }
        }
    }
    assert_eq!((done.len(), reused), (CALLERS / 2, CALLERS / 2));
    assert_eq!(done.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(
        done.iter()
            .all(|answer| answer.points_earned == done[0].points_earned)
    );
    assert_eq!(postings(setting).await, before + 1);
}

/// Whoever enrols somebody, and asks again before there is an answer, is told of that member, not that
/// the card is taken.
async fn one_enrolment_is_made_once(tills: &[Caller]) {
    for number in 0..ENROLLED {
        let card = Identifier {
            r#type: IdentifierType::Card.into(),
            value: format!("97812345{number:05}"),
        };
        let request = EnrollRequest {
            request_id: request_id(),
            identifiers: vec![card],
        };
        let calls = tills.iter().cycle().take(ENROLLING);
        let answers = join_all(calls.map(|till| answered(till, request.clone()))).await;
        let members: Vec<_> = answers
            .into_iter()
            .map(|(answer, _)| answer.unwrap_or_else(|refusal| panic!("{refusal}")))
            .collect();
        let made = members.iter().filter(|answer| !answer.replayed).count();
        assert_eq!(made, 1, "all but one are replays");
        let first = &members[0].member_id;
        assert!(members.iter().all(|answer| answer.member_id == *first));
    }
}

/// Redemptions of different sizes race for one balance: what is posted fits into it, and each decline
/// tells a balance that was there, and too small.
async fn redemptions_race(setting: &Setting, cafe: &Partner, tills: &[Caller]) -> String {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let member = setting.network.member().await;
    let has = 1_000;
    cafe.earn(&member, "start", has).await;
    let wishes: Vec<i64> = (0..RACERS).map(|_| rng.i64(1..40)).collect();
    let calls = tills.iter().cycle().zip(wishes.iter().enumerate());
    let calls = calls.map(|(till, (place, points))| {
        answered(
            till,
            cafe.redeeming(&member, &format!("r-{place}"), *points),
        )
    });
    let answers = join_all(calls).await;
    let (mut spent, mut declined) = (0, Vec::new());
    let mut balances = vec![has];
    for ((answer, _), points) in answers.into_iter().zip(&wishes) {
        match answer {
            Ok(answer) => {
                assert_eq!(answer.points, *points);
                let left = answer.balance.expect("a balance").balance;
                assert!(left >= 0, "never negative");
                balances.push(left);
                spent += points;
            }
            Err(refusal) => declined.push((refusal, *points)),
        }
    }
    // Each redemption left the balance that the next one found.
    balances.sort_unstable_by_key(|left| -left);
    assert_eq!(balances.last(), Some(&(has - spent)), "seed {seed}");
    for (refusal, points) in &declined {
        refusal.assert_declined("INSUFFICIENT_POINTS");
        let told: i64 = refusal.fact("balance").parse().expect("a number");
        assert!(
            told < *points && balances.contains(&told),
            "seed {seed}: {refusal}"
        );
        assert!(
            has - spent < *points,
            "there was enough: seed {seed}: {refusal}"
        );
    }
    assert!(
        !declined.is_empty(),
        "seed {seed}: they asked for {}",
        wishes.iter().sum::<i64>()
    );
    let asked = GetBalanceRequest { member_id: member };
    let left = setting
        .network
        .support
        .ask(asked)
        .await
        .balance
        .expect("a balance");
    assert_eq!(left.balance, has - spent);
    format!(
        "{RACERS} redemptions of 1 to 39 points on {has}: {} posted, {spent} points, {} declined",
        RACERS - declined.len(),
        declined.len()
    )
}
