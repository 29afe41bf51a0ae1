//! The clients: what each does next, by chance.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};

use coalition_ledger::time::MICROS_PER_DAY;
use coalition_proto::member::GetBalanceRequest;
use coalition_proto::redeem;
use coalition_proto::settlement::{FundingDirection, RecordFundingRequest};
use coalition_tests::figures::money;
use fastrand::Rng;
use futures::future::{join, join_all};
use tokio::time::Instant;

use super::calls::{Aim, Answer, Call, Draft, Shot};
use super::memory::{Memory, enrolling, new_id, plain, reversal_of};
use super::world::{Lane, World};

/// Clients that fire at the same time.
pub(crate) const CLIENTS: usize = 64;
/// Members there are before the first shot.
const MEMBERS: usize = 24;
/// How often a call that the network did not get to is sent again, at most.
const ATTEMPTS: u32 = 1_000;
/// Requests that are sent once more after the run, at most.
const REPEATED: usize = 2_000;

/// Everything that clients share.
pub(crate) struct Field<'a> {
    pub(crate) world: &'a World,
    pub(crate) over: AtomicBool,
    /// The network's time, as last told, in microseconds.
    pub(crate) clock: AtomicI64,
    begun: Instant,
    memory: Mutex<Memory>,
}

impl<'a> Field<'a> {
    pub(crate) fn new(world: &'a World, clock: i64) -> Self {
        Self {
            world,
            over: AtomicBool::new(false),
            clock: AtomicI64::new(clock),
            begun: Instant::now(),
            memory: Mutex::default(),
        }
    }

    /// Microseconds since the run began.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("not so long a run")
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no client panics with it")
    }

    /// Sends a call until it is answered for good.
    async fn send(&self, lane: &Lane, draft: Draft) -> Shot {
        let sent_us = self.now_us();
        let mut attempts = 1;
        let answer = loop {
            let answer = draft.send(lane).await;
            if !answer.is_passing() {
                break answer;
            }
            assert!(attempts < ATTEMPTS, "never answered: {draft:?}: {answer:?}");
            attempts += 1;
            tokio::task::yield_now().await;
        };
        let shot = Shot {
            draft,
            answer,
            sent_us,
            answered_us: self.now_us(),
            attempts,
        };
        self.memory().note(&shot);
        shot
    }

    /// One client, until the run is over.
    pub(crate) async fn client(&self, number: usize, seed: u64) -> Vec<Shot> {
        let lanes = &self.world.lanes;
        let lane = &lanes[number % lanes.len()];
        let mut rng = Rng::with_seed(seed.wrapping_add(u64::try_from(number).expect("few")));
        let mut shots = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            match rng.u8(0..100) {
                0..6 => self.look(lane, &mut rng).await,
                // The same at several tills at once: of those with one id, one is posted.
                6..10 => {
                    let draft = self.next(&mut rng);
                    let others = (0..rng.usize(1..4)).map(|_| draft.clone());
                    let other = lanes.iter().cycle().skip(number + 1);
                    let others = others
                        .zip(other)
                        .map(|(draft, lane)| self.send(lane, draft));
                    let (own, others) =
                        join(self.send(lane, draft.clone()), join_all(others)).await;
                    shots.push(own);
                    shots.extend(others);
                }
                // A sale and its reversal, sent together.
                10..12 => {
                    let draft = self.next(&mut rng);
                    let Some(reversal) = reversal_of(&mut rng, &draft) else {
                        continue;
                    };
                    let other = &lanes[(number + 1) % lanes.len()];
                    let both = join(self.send(lane, draft), self.send(other, reversal)).await;
                    shots.extend([both.0, both.1]);
                }
                _ => {
                    let draft = self.next(&mut rng);
                    shots.push(self.send(lane, draft).await);
                }
            }
        }
        shots
    }

    /// Takes in the first members.
    pub(crate) async fn enroll(&self, seed: u64) -> Vec<Shot> {
        let mut rng = Rng::with_seed(!seed);
        let drafts: Vec<Draft> = (0..MEMBERS)
            .map(|_| {
                let card = self.memory().number();
                enrolling(&mut rng, &card)
            })
            .collect();
        let lane = &self.world.lanes[0];
        join_all(drafts.into_iter().map(|draft| self.send(lane, draft))).await
    }

    /// Reads, which must be of one piece.
    async fn look(&self, lane: &Lane, rng: &mut Rng) {
        let shop = rng.usize(0..self.world.shops.len());
        let member = self.memory().member(rng).text.clone();
        let till = &lane.tills[shop];
        if rng.bool() {
            let asked = GetBalanceRequest { member_id: member };
            // A busy network may say so; whatever it says instead must be whole.
            let Ok(has) = till.call(asked).await else {
                return;
            };
            let balance = has.balance.expect("a balance");
            let issuers = has.issuers.iter();
            let sum: i64 = issuers.map(|issuer| issuer.available - issuer.debt).sum();
            assert_eq!(balance.balance, sum, "the parts make the whole");
            let expiring: i64 = has.upcoming_expiries.iter().map(|row| row.points).sum();
            assert!(expiring <= balance.available && (expiring > 0) == (balance.available > 0));
        } else {
            let asked = redeem::QuoteRequest {
                member: Some(redeem::quote_request::Member::MemberId(member)),
                ..redeem::QuoteRequest::default()
            };
            let Ok(quote) = till.call(asked).await else {
                return;
            };
            let sum: i64 = quote.slices.iter().map(|slice| slice.points).sum();
            assert_eq!((sum, quote.max_points), (quote.points, quote.points));
            let balance = quote.balance.expect("a balance").balance;
            assert_eq!(quote.max_points, balance.max(0), "all of it may be spent");
        }
    }

    /// What a client does next.
    fn next(&self, rng: &mut Rng) -> Draft {
        let mut memory = self.memory();
        let shop = rng.usize(0..self.world.shops.len());
        let (own, other) = (self.currency(shop), self.other_currency(shop));
        let occurred_us = self.occurred(rng);
        let draft = match rng.u8(0..100) {
            0..28 => Some(memory.earning(rng, shop, own, occurred_us)),
            28..47 => Some(memory.redeeming(rng, shop, own)),
            47..57 => memory.returning(rng, |shop| self.currency(shop)),
            57..66 => memory.refunding(rng),
            66..72 => memory.reversing(rng),
            72..75 => Some(memory.reversing_a_ghost(rng, shop)),
            75..77 => memory.the_ghost_itself(rng, |shop| self.currency(shop)),
            77..83 => Some(self.funding(rng, shop)),
            83..86 => {
                let card = memory.card(rng);
                Some(enrolling(rng, &card))
            }
            86..91 => memory.again(rng),
            91..94 => memory.another_body(rng),
            94..96 => memory.same_check(rng, |shop| self.currency(shop)),
            96..97 => {
                let mut draft = memory.earning(rng, shop, other, None);
                draft.aim = Aim::WrongCurrency;
                Some(draft)
            }
            97..98 => {
                let days = if rng.bool() { 30 } else { -30 };
                let at = self.clock.load(Ordering::Relaxed) + days * MICROS_PER_DAY;
                let mut draft = memory.earning(rng, shop, own, Some(at));
                draft.aim = Aim::FarOff;
                Some(draft)
            }
            98..99 => Some(memory.a_stranger(rng, shop, own)),
            _ => memory.of_the_wrong_kind(rng),
        };
        draft.unwrap_or_else(|| memory.earning(rng, shop, own, None))
    }

    fn currency(&self, shop: usize) -> &'static str {
        self.world.shops[shop].currency
    }

    fn other_currency(&self, shop: usize) -> &'static str {
        if self.currency(shop) == "EUR" {
            "USD"
        } else {
            "EUR"
        }
    }

    /// When a check says that it happened: mostly nothing, sometimes up to a day ago.
    fn occurred(&self, rng: &mut Rng) -> Option<i64> {
        let now = self.clock.load(Ordering::Relaxed);
        (rng.u8(0..10) == 0).then(|| now - rng.i64(0..MICROS_PER_DAY))
    }

    fn funding(&self, rng: &mut Rng, shop: usize) -> Draft {
        let direction = if rng.u8(0..4) == 0 {
            FundingDirection::Withdrawal
        } else {
            FundingDirection::Deposit
        };
        let request_id = new_id(rng);
        let call = RecordFundingRequest {
            bank_reference: format!("bank {request_id}"),
            request_id,
            partner_id: self.world.shops[shop].text.clone(),
            amount: Some(money(self.currency(shop), rng.i64(100..1_500))),
            direction: direction.into(),
        };
        plain(shop, Call::Fund(call), None)
    }
}

/// Sends requests of before once more, when all is quiet: each must be answered as it was. How many.
pub(crate) async fn repeat(world: &World, shots: &[Shot], seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let mut chosen: Vec<&Shot> = shots
        .iter()
        .filter(|shot| shot.answer.record().is_some() || matches!(shot.answer, Answer::Enrolled(_)))
        .collect();
    rng.shuffle(&mut chosen);
    chosen.truncate(REPEATED);
    let lanes = world.lanes.iter().cycle();
    for (crowd, lane) in chosen.chunks(CLIENTS).zip(lanes) {
        let answers = join_all(crowd.iter().map(|shot| shot.draft.send(lane))).await;
        for (shot, answer) in crowd.iter().zip(answers) {
            assert!(answer.is_replayed(), "{:?}: {answer:?}", shot.draft);
            assert_eq!(answer.lasting(), shot.answer.lasting(), "{:?}", shot.draft);
        }
    }
    chosen.len()
}
