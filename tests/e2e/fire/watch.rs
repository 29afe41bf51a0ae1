//! The run: clients fire, the clock moves, windows are cut, and the books are looked at meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coalition_proto::sandbox::{AdvanceClockRequest, GetClockRequest};
use coalition_proto::settlement::{
    CutWindowRequest, GetHeadroomRequest, GetTrialBalanceRequest, ListPositionsRequest,
};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, request_id};
use fastrand::Rng;
use futures::future::{join_all, join5};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Code;

use super::calls::Shot;
use super::clients::{CLIENTS, Field};
use super::setting::Setting;
use super::world::{World, instant};

/// Between two moves of the clock, at least and at most, in milliseconds.
const MOVE_EVERY_MS: std::ops::Range<u64> = 300..900;
/// How far it moves, in seconds.
const MOVE_S: std::ops::Range<i64> = 7_200..43_200;
/// Between two cuts.
const CUT_EVERY_MS: std::ops::Range<u64> = 100..900;
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(40);
/// Samples between two trial balances.
const TRIAL_EVERY: usize = 8;
/// How often an operator's call is sent until it is answered.
const ATTEMPTS: usize = 100;

/// What was looked at during the run.
#[derive(Default)]
pub(crate) struct Samples {
    positions: usize,
    rooms: usize,
    trials: usize,
    moves: usize,
    cuts: usize,
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cuts and {} moves of the clock under way; {} samples of positions, {} of headrooms, \
             {} trial balances",
            self.cuts, self.moves, self.positions, self.rooms, self.trials
        )
    }
}

/// Fires for this long. All calls, each answered, in no order; and what was looked at meanwhile.
pub(crate) async fn run(
    setting: &Setting,
    world: &World,
    seed: u64,
    lasting: Duration,
) -> (Vec<Shot>, Samples) {
    let clock = setting.network.viewer.ask(GetClockRequest {}).await;
    let clock = instant(&clock.time.expect("a time")).micros();
    let field = Field::new(world, clock);
    let mut shots = field.enroll(seed).await;
    let (end, ended) = watch::channel(());
    let clients = join_all((0..CLIENTS).map(|number| field.client(number, seed)));
    let ending = async {
        // Nothing is ever sent: this is how long the run lasts.
        let _ = timeout(lasting, end.closed()).await;
        field.over.store(true, Ordering::Relaxed);
        drop(end);
    };
    let operator = Operator {
        setting,
        world,
        field: &field,
    };
    let (fired, (), moves, cuts, mut samples) = join5(
        clients,
        ending,
        operator.move_the_clock(Rng::with_seed(seed ^ 1), ended.clone()),
        operator.cut(Rng::with_seed(seed ^ 2), ended.clone()),
        operator.sample(ended),
    )
    .await;
    shots.extend(fired.into_iter().flatten());
    (samples.moves, samples.cuts) = (moves, cuts);
    assert!(samples.positions > 0 && samples.cuts > 0 && samples.moves > 0);
    (shots, samples)
}

struct Operator<'a> {
    setting: &'a Setting,
    world: &'a World,
    field: &'a Field<'a>,
}

/// Waits this long; whether the run goes on.
async fn goes_on(ended: &mut watch::Receiver<()>, pause: Duration) -> bool {
    timeout(pause, ended.changed()).await.is_err()
}

/// A call that is repeated while the network does not get to it.
async fn done<R: Rpc>(caller: &Caller, request: R) -> R::Answer {
    for _ in 0..ATTEMPTS {
        match caller.call(request.clone()).await {
            Ok(answer) => return answer,
            Err(refusal) => assert_eq!(refusal.code, Code::Unavailable, "{refusal}"),
        }
    }
    panic!("{} was never answered", R::NAME);
}

impl Operator<'_> {
    /// The maker, at one of the gateways.
    fn maker(&self, rng: &mut Rng) -> &Caller {
        &self.world.lanes[rng.usize(0..self.world.lanes.len())].maker
    }

    async fn move_the_clock(&self, mut rng: Rng, mut ended: watch::Receiver<()>) -> usize {
        let mut moves = 0;
        while goes_on(&mut ended, Duration::from_millis(rng.u64(MOVE_EVERY_MS))).await {
            let request = AdvanceClockRequest {
                request_id: request_id(),
                duration: Some(prost_types::Duration {
                    seconds: rng.i64(MOVE_S),
                    nanos: 0,
                }),
            };
            let moved = done(self.maker(&mut rng), request).await;
            let now = instant(&moved.time.expect("a time")).micros();
            self.field.clock.store(now, Ordering::Relaxed);
            moves += 1;
        }
        moves
    }

    async fn cut(&self, mut rng: Rng, mut ended: watch::Receiver<()>) -> usize {
        let mut cuts = 0;
        while goes_on(&mut ended, Duration::from_millis(rng.u64(CUT_EVERY_MS))).await {
            let request = CutWindowRequest {
                request_id: request_id(),
                expected_window_id: String::new(),
            };
            done(self.maker(&mut rng), request).await;
            cuts += 1;
        }
        cuts
    }

    async fn sample(&self, mut ended: watch::Receiver<()>) -> Samples {
        let viewer = &self.setting.network.viewer;
        let mut samples = Samples::default();
        while goes_on(&mut ended, SAMPLE_EVERY).await {
            let page = ListPositionsRequest {
                page_size: 1_000,
                ..ListPositionsRequest::default()
            };
            let page = done(viewer, page).await;
            assert_eq!(page.next_page_token, "", "few parties");
            let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
            for row in &page.positions {
                *sums.entry(&row.currency_code).or_default() += row.net_micros;
            }
            assert!(sums.values().all(|sum| *sum == 0), "{sums:?}: {page:?}");
            assert!(page.sums.iter().all(|sum| sum.sum_micros == 0), "{page:?}");
            samples.positions += 1;

            let shop = &self.world.shops[samples.positions % self.world.shops.len()];
            let room = GetHeadroomRequest {
                partner_id: shop.text.clone(),
            };
            let room = done(viewer, room).await.headroom.expect("a headroom");
            // Where credits count, undoing them may take it below: what is undone is not limited.
            if let Some(left) = room.headroom_micros.filter(|_| !shop.net_inbound) {
                assert!(left >= 0, "{room:?}");
                samples.rooms += 1;
            }
            if samples.positions.is_multiple_of(TRIAL_EVERY) {
                let trial = done(viewer, GetTrialBalanceRequest::default()).await;
                assert!(trial.balanced, "{:?}", trial.equations);
                samples.trials += 1;
            }
        }
        samples
    }
}
