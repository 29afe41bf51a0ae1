//! Callers that leave: who drops a call half way, hangs up on many, or does not wait long enough finds
//! out by asking again; nothing is doubled, nothing acknowledged is lost, and nobody else notices.
//!
//! Calls with deadlines are made by a client without a clock of its own, so that the answer is the
//! network's. The usual client drops a call when its own clock runs out, and calls that CANCELLED.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coalition_proto::earn::EarnRequest;
use coalition_proto::earn::earn_service_client::EarnServiceClient;
use coalition_proto::member::GetBalanceRequest;
use coalition_rpc::Upstream;
use coalition_store::testing::Engine;
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::{Caller, Partner, Refusal, terms};
use fastrand::Rng;
use futures::future::{join, join_all};
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use super::setting::Setting;
use super::{full, seed};

/// Calls that are not waited for, and how many with `COALITION_TEST_FULL=1`.
const CALLS: usize = 2_400;
const FULL_CALLS: usize = 10_000;
/// Callers who make them. Each asks again for the last of what it dropped before it goes on, so that
/// no more wait than these have dropped at a time.
const CALLERS: usize = 16;
/// Callers of the crowd that comes afterwards.
const CROWD: usize = 64;
/// Callers who wait for every answer meanwhile.
const STEADY: usize = 4;
/// Calls that are dropped together.
const BURST: usize = 32;
/// Longest that a caller waits before it leaves.
const PATIENCE: Duration = Duration::from_millis(40);
/// Deadlines that nobody keeps, in milliseconds.
const TOO_SHORT_MS: std::ops::RangeInclusive<u64> = 1..=50;
/// Deadlines that may be kept or not.
const SHORT_MS: std::ops::RangeInclusive<u64> = 100..=180;
/// Longest until all is quiet after everybody left.
const QUIET_MAX: Duration = Duration::from_secs(20);
/// How often a call is sent that is told to come back.
const ATTEMPTS: usize = 1_000;

#[test]
fn callers_leave_on_sqlite() {
    leave("SQLite", Setting::one_process(Engine::Sqlite));
}

#[test]
fn callers_leave_two_of_each() {
    leave("PostgreSQL, two of each", Setting::two_of_each());
}

/// A call that was not waited for, and what its caller still came to know.
struct Left {
    request: EarnRequest,
    /// The transaction that was acknowledged.
    told: Option<String>,
}

/// How many of each.
#[derive(Default)]
struct Counts {
    dropped: AtomicUsize,
    told: AtomicUsize,
    overtaken: AtomicUsize,
    kept: AtomicUsize,
}

fn leave(name: &str, setting: impl Future<Output = Option<Setting>>) {
    bounded(async {
        let Some(setting) = setting.await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let seed = seed();
        crate::told(&format!("callers leave on {name}: seed {seed}"));
        let network = &setting.network;
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let members = join_all((0..16).map(|_| network.member())).await;
        let before = network.verify().await.summary.postings;

        let hall = Hall {
            setting: &setting,
            cafe: &cafe,
            members: &members,
            counts: Counts::default(),
            over: AtomicBool::new(false),
        };
        let leaving = async {
            let callers = (0..CALLERS).map(|caller| hall.restless(caller, seed));
            let left: Vec<Left> = join_all(callers).await.into_iter().flatten().collect();
            hall.over.store(true, Ordering::SeqCst);
            left
        };
        let begun = Instant::now();
        let (left, steady) = join(leaving, join_all((0..STEADY).map(|n| hall.steady(n)))).await;
        let steady: usize = steady.into_iter().sum();
        let took = begun.elapsed();

        hall.is_quiet().await;
        let late = hall.settle(&left).await;
        let postings = network.assert_books_balance().await.summary.postings;
        let all = i64::try_from(left.len() + steady).expect("a count");
        assert_eq!(
            postings - before,
            all,
            "one posting for each request, seed {seed}"
        );
        hall.a_crowd_is_served().await;
        hall.is_quiet().await;
        network.assert_books_balance().await;
        let Counts {
            dropped,
            told,
            overtaken,
            kept,
        } = &hall.counts;
        crate::told(&format!(
            "callers leave on {name}: {} calls in {} ms: {dropped:?} dropped, {told:?} answered before \
             that, {overtaken:?} DEADLINE_EXCEEDED, {kept:?} in time; {late} posted only when asked \
             again; {steady} calls of others all answered",
            left.len(),
            took.as_millis(),
        ));
        setting.stop().await;
    });
}

/// How many calls each caller makes.
fn share() -> usize {
    let all = if full() { FULL_CALLS } else { CALLS };
    all / CALLERS
}

/// What all callers share.
struct Hall<'a> {
    setting: &'a Setting,
    cafe: &'a Partner,
    members: &'a [String],
    counts: Counts,
    over: AtomicBool,
}

impl Hall<'_> {
    fn door(&self, caller: usize) -> &str {
        let doors = &self.setting.doors;
        &doors[caller % doors.len()]
    }

    fn till(&self, caller: usize) -> Caller {
        self.setting
            .network
            .at(self.door(caller))
            .till(&self.cafe.id)
    }

    fn earning(&self, rng: &mut Rng, check: &str) -> EarnRequest {
        let member = &self.members[rng.usize(0..self.members.len())];
        self.cafe.earning(member, check, 10)
    }

    /// One who does not wait.
    async fn restless(&self, caller: usize, seed: u64) -> Vec<Left> {
        let mut rng = Rng::with_seed(seed.wrapping_add(u64::try_from(caller).expect("few")));
        let till = self.till(caller);
        let clockless = Upstream::remote([self.door(caller)]).expect("an address");
        let mut left: Vec<Left> = Vec::new();
        while left.len() < share() {
            let check = format!("{caller}-{}", left.len());
            match rng.u8(0..80) {
                // Many at once, dropped together.
                0 => {
                    let room = share() - left.len();
                    let requests = (0..BURST.min(room))
                        .map(|n| self.earning(&mut rng, &format!("{check}-{n}")))
                        .collect();
                    left.extend(self.drop_together(&till, &mut rng, requests).await);
                }
                // The same with the connection.
                1 => {
                    let room = share() - left.len();
                    let requests = (0..BURST.min(room))
                        .map(|n| self.earning(&mut rng, &format!("{check}-{n}")))
                        .collect();
                    let own = self.till(caller);
                    left.extend(self.drop_together(&own, &mut rng, requests).await);
                }
                2..14 => {
                    let request = self.earning(&mut rng, &check);
                    let span = Duration::from_millis(rng.u64(TOO_SHORT_MS));
                    let told = self.with_deadline(&clockless, &till, &request, span).await;
                    assert_eq!(told, None, "no time was left: {request:?}");
                    left.push(Left { request, told });
                }
                14..26 => {
                    let request = self.earning(&mut rng, &check);
                    let span = Duration::from_millis(rng.u64(SHORT_MS));
                    let told = self.with_deadline(&clockless, &till, &request, span).await;
                    left.push(Left { request, told });
                }
                _ => {
                    let request = self.earning(&mut rng, &check);
                    left.extend(self.drop_together(&till, &mut rng, vec![request]).await);
                }
            }
            if let Some(last) = left.last_mut() {
                let answer = answered(&till, &last.request).await;
                if let Some(told) = &last.told {
                    assert_eq!(&answer.transaction_id, told);
                }
                last.told = Some(answer.transaction_id);
            }
        }
        left
    }

    /// Sends these, and leaves before or after some of them are answered.
    async fn drop_together(
        &self,
        till: &Caller,
        rng: &mut Rng,
        requests: Vec<EarnRequest>,
    ) -> Vec<Left> {
        let patience = PATIENCE.mul_f64(rng.f64());
        let calls = requests.into_iter().map(|request| async move {
            let answer = timeout(patience, till.call(request.clone())).await;
            let told = match answer {
                Err(_) => {
                    self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Ok(Ok(answer)) => {
                    self.counts.told.fetch_add(1, Ordering::Relaxed);
                    Some(answer.transaction_id)
                }
                // A busy network may say so.
                Ok(Err(refusal)) => {
                    assert_passing(&refusal);
                    None
                }
            };
            Left { request, told }
        });
        join_all(calls).await
    }

    /// Sends this with a deadline, and waits for whatever the network says.
    async fn with_deadline(
        &self,
        way: &Upstream,
        till: &Caller,
        request: &EarnRequest,
        span: Duration,
    ) -> Option<String> {
        let mut call = till.request(request.clone());
        call.set_timeout(span);
        match EarnServiceClient::new(way.clone()).earn(call).await {
            Ok(answer) => {
                self.counts.kept.fetch_add(1, Ordering::Relaxed);
                Some(answer.into_inner().transaction_id)
            }
            Err(status) => {
                let refusal = Refusal::of("EarnService/Earn", &status);
                if refusal.code == Code::DeadlineExceeded {
                    refusal.assert(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
                    self.counts.overtaken.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert_passing(&refusal);
                }
                None
            }
        }
    }

    /// One who waits for every answer, and gets it; how many postings.
    async fn steady(&self, number: usize) -> usize {
        let till = self.till(number);
        let member = &self.members[number];
        let mut postings = 0;
        while !self.over.load(Ordering::SeqCst) {
            let check = format!("steady-{number}-{postings}");
            till.ask(self.cafe.earning(member, &check, 10)).await;
            till.ask(self.cafe.redeeming(member, &check, 5)).await;
            postings += 2;
        }
        postings
    }

    /// Waits until nothing is under way in the database, and no more connections are there than the
    /// processes may have.
    async fn is_quiet(&self) {
        if self.setting.network.engine == Engine::Sqlite {
            return;
        }
        let busy = "select count(*) from pg_stat_activity where datname = current_database() \
                    and application_name = 'coalition' and state <> 'idle'";
        let quiet = timeout(QUIET_MAX, async {
            let mut looks = interval(Duration::from_millis(50));
            while self.setting.network.number(busy).await > 0 {
                looks.tick().await;
            }
        });
        let quiet = quiet.await;
        assert!(
            quiet.is_ok(),
            "connections are left at work, or in a transaction"
        );
        let all = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'coalition'";
        let all = self.setting.network.number(all).await;
        assert!(all <= self.setting.connections_max(), "{all} connections");
    }

    /// Asks again for everything; how many are posted only now.
    async fn settle(&self, left: &[Left]) -> usize {
        let mut late = 0;
        let mut seen = std::collections::BTreeSet::new();
        let tills: Vec<Caller> = (0..8).map(|lane| self.till(lane)).collect();
        for (crowd, till) in left.chunks(CROWD).zip(tills.iter().cycle()) {
            let answers = crowd.iter().map(|left| answered(till, &left.request));
            for (left, answer) in crowd.iter().zip(join_all(answers).await) {
                late += usize::from(!answer.replayed);
                if let Some(told) = &left.told {
                    assert!(
                        answer.replayed,
                        "an acknowledged earn is gone: {:?}",
                        left.request
                    );
                    assert_eq!(&answer.transaction_id, told);
                }
                assert!(
                    seen.insert(answer.transaction_id),
                    "two requests, one posting"
                );
            }
        }
        late
    }

    /// A crowd of reads and writes, all of which succeed.
    async fn a_crowd_is_served(&self) {
        let tills: Vec<Caller> = (0..8).map(|lane| self.till(lane)).collect();
        let till = |place: usize| &tills[place % tills.len()];
        let before = self.setting.network.verify().await.summary.postings;
        let writes = join_all((0..CROWD).map(|place| async move {
            let member = &self.members[place % self.members.len()];
            let request = self.cafe.earning(member, &format!("crowd-{place}"), 10);
            answered(till(place), &request).await
        }));
        let reads = join_all((0..CROWD / 4).map(|place| async move {
            let asked = GetBalanceRequest {
                member_id: self.members[place % self.members.len()].clone(),
            };
            till(place).ask(asked).await
        }));
        let (writes, reads) = join(writes, reads).await;
        assert!(writes.iter().all(|answer| !answer.replayed));
        assert_eq!(reads.len(), CROWD / 4);
        let after = self.setting.network.verify().await.summary.postings;
        assert_eq!(after - before, i64::try_from(CROWD).expect("a count"));
    }
}

/// The only thing that may be said instead of an answer.
fn assert_passing(refusal: &Refusal) {
    assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
}

/// An earn, repeated while it is told to come back.
async fn answered(till: &Caller, request: &EarnRequest) -> coalition_proto::earn::EarnResponse {
    for _ in 0..ATTEMPTS {
        match till.call(request.clone()).await {
            Ok(answer) => return answer,
            Err(refusal) => assert_passing(&refusal),
        }
    }
    panic!("never answered: {request:?}");
}
