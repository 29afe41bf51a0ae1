//! Books that grow: filled to a size, measured, filled further.
//!
//! Nobody but the process at work has the database open: a node while calls are measured, this
//! process while books are filled, `coalition verify` while they are verified.

use std::time::Duration;

use anyhow::Context as _;
use coalition_ledger::Clock as _;
use coalition_proto::settlement::{ComputeSettlementRequest, CutWindowRequest, NettingMethod};
use coalition_store::SystemClock;
use tokio::time::Instant;

use super::bars::Engine;
use super::fill::Crowd;
use super::furnish::{Empty, Town, fresh_id};
use super::ground::Ground;
use super::load::{Caller, Measured, closed_loop};
use super::process::{Node, Setup, Verified, verify};
use crate::client::{Client, Who};

/// Calls in flight unless it is said otherwise.
pub(super) const IN_FLIGHT: usize = 128;

/// How often figures that are compared take turns.
const ROUNDS: u32 = 3;

/// How often a start is measured.
const STARTS: usize = 5;

/// What filled books are like; fixed, so that runs are alike.
const SEED: u64 = 20_260_101;

/// Books, and who uses them.
pub(super) struct Stock {
    pub(super) engine: Engine,
    pub(super) setup: Setup,
    pub(super) town: Town,
    crowd: Crowd,
    /// Postings stored, and those since the last cut.
    pub(super) stored: u64,
    pub(super) in_window: u64,
    /// What the database took before the first posting.
    bytes_before: u64,
    /// What was filled in only.
    filled: u64,
}

/// What calls came to on books of some size.
#[derive(Clone, Debug)]
pub(super) struct Throughput {
    pub(super) earn: Measured,
    /// Empty calls, in turns with the earns.
    pub(super) empty: Measured,
    /// What an earn added to the database, on average.
    pub(super) bytes_per_earn: f64,
    /// The most memory that the node had.
    pub(super) memory_peak_mib: f64,
}

impl Throughput {
    /// How many earns there were for an empty call.
    pub(super) fn earn_over_empty(&self) -> f64 {
        self.earn.rate() / self.empty.rate()
    }
}

impl Stock {
    /// Takes in partners and members.
    pub(super) async fn found(
        ground: &Ground,
        engine: Engine,
        partners: usize,
        members: usize,
    ) -> anyhow::Result<Self> {
        ground.now(format!("{engine}: taking in {partners} partners"));
        let setup = ground.setup(engine)?;
        let node = Node::start(&setup).await?;
        let town = Town::furnish(&node.client(IN_FLIGHT)?, partners, 0).await?;
        node.stop().await?;
        let bar = ground.bar(&format!("{engine}: members"), members as u64)?;
        let crowd = Crowd::enroll(&setup, town.partners(), members, SEED, &bar).await;
        ground.done(&bar);
        let crowd = crowd?;
        let town = town.with_members(crowd.members());
        let bytes_before = setup.bytes()?;
        Ok(Self {
            engine,
            setup,
            town,
            crowd,
            stored: 0,
            in_window: 0,
            bytes_before,
            filled: 0,
        })
    }

    /// Fills up to so many postings; nothing where there are as many already.
    pub(super) async fn fill_to(&mut self, ground: &Ground, postings: u64) -> anyhow::Result<()> {
        let missing = postings.saturating_sub(self.stored);
        if missing == 0 {
            return Ok(());
        }
        let bar = ground.bar(&format!("{}: postings", self.engine), missing)?;
        let filled = self.crowd.fill(&self.setup, missing, &bar).await;
        ground.done(&bar);
        let filled = filled?;
        self.count(filled);
        self.filled += filled;
        Ok(())
    }

    /// Bytes that a posting takes, on average over all that are stored.
    pub(super) fn bytes_per_posting(&self) -> anyhow::Result<f64> {
        let bytes = self.setup.bytes()?.saturating_sub(self.bytes_before);
        Ok(ratio(bytes, self.stored))
    }

    fn count(&mut self, postings: u64) {
        self.stored += postings;
        self.in_window += postings;
    }

    /// Earns through a gateway, in turns with empty calls.
    pub(super) async fn throughput(&mut self, measured: Duration) -> anyhow::Result<Throughput> {
        let before = self.setup.bytes()?;
        let node = Node::start(&self.setup).await?;
        let town = self.town.through(&node.client(IN_FLIGHT)?);
        let earns = town.earns(town.partners().len(), town.members())?;
        let empty = Empty(node.client(IN_FLIGHT)?);
        let (empty, earn) = in_turns(&empty, &earns, IN_FLIGHT, measured).await?;
        let memory_peak_mib = node.memory_peak_mib()?;
        node.stop().await?;
        self.count(earn.made);
        let grown = self.setup.bytes()?.saturating_sub(before);
        Ok(Throughput {
            bytes_per_earn: ratio(grown, earn.made),
            earn,
            empty,
            memory_peak_mib,
        })
    }

    /// Cuts the window and computes its settlement, through a gateway: how many postings were in it,
    /// and how long both took.
    pub(super) async fn cut_and_compute(&mut self) -> anyhow::Result<(u64, Duration)> {
        let node = Node::start(&self.setup).await?;
        let took = cut_and_compute(&node.client(1)?).await?;
        node.stop().await?;
        Ok((std::mem::take(&mut self.in_window), took))
    }

    /// The shortest of several cuts, each of a window with so many postings.
    pub(super) async fn shorter_cut(
        &mut self,
        ground: &Ground,
        postings: u64,
        cuts: usize,
    ) -> anyhow::Result<(u64, Duration)> {
        let mut all = Vec::with_capacity(cuts);
        for _ in 0..cuts {
            self.fill_to(ground, self.stored + postings).await?;
            all.push(self.cut_and_compute().await?);
        }
        let shortest = all.into_iter().min_by_key(|(_, took)| *took);
        shortest.context("no cut")
    }

    /// Has a process of its own verify the books.
    pub(super) async fn verify(&self) -> anyhow::Result<Verified> {
        verify(&self.setup).await
    }

    /// How long a node takes to be ready: the median.
    pub(super) async fn start_to_ready(&self) -> anyhow::Result<Duration> {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            let node = Node::start(&self.setup).await?;
            starts.push(node.ready_after);
            node.stop().await?;
        }
        starts.sort();
        starts.get(STARTS / 2).copied().context("no start")
    }
}

/// How much of one there is per one of the other.
pub(super) fn ratio(of: u64, to: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes and postings, far below 2^52"
    )]
    let (of, to) = (of as f64, to.max(1) as f64);
    of / to
}

/// Two kinds of calls in turns.
pub(super) async fn in_turns(
    one: &impl Caller,
    other: &impl Caller,
    in_flight: usize,
    measured: Duration,
) -> anyhow::Result<(Measured, Measured)> {
    let part = measured / ROUNDS;
    let mut first = closed_loop(one, in_flight, part).await?;
    let mut second = closed_loop(other, in_flight, part).await?;
    for _ in 1..ROUNDS {
        first = first.and(&closed_loop(one, in_flight, part).await?)?;
        second = second.and(&closed_loop(other, in_flight, part).await?)?;
    }
    Ok((first, second))
}

/// Cuts the open window and computes its settlement: how long both took.
async fn cut_and_compute(client: &Client) -> anyhow::Result<Duration> {
    let maker = client.caller(Who::MAKER)?;
    let mut rng = fastrand::Rng::new();
    let mut id = || fresh_id(SystemClock.now(), &mut rng);
    // The first call of a client connects, which is not what is measured.
    client.health().await?;
    let started = Instant::now();
    let cut = CutWindowRequest {
        request_id: id(),
        expected_window_id: String::new(),
    };
    let window = maker.call_once(cut).await?.closed.unwrap_or_default();
    let compute = ComputeSettlementRequest {
        request_id: id(),
        window_ids: vec![window.window_id],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    maker.call_once(compute).await?;
    Ok(started.elapsed())
}
