//! The measurements, one after the other.
//!
//! Figures that a ratio compares are taken in turns, several times each, so that a machine that gets
//! slower or faster meanwhile does so for both.

use std::time::Duration;

use anyhow::{Context as _, bail};
use coalition_ledger::Clock as _;
use coalition_proto::settlement::verify_response::Event;
use coalition_proto::settlement::{ComputeSettlementRequest, CutWindowRequest, NettingMethod};
use coalition_store::SystemClock;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use indicatif::ProgressBar;
use tempfile::TempDir;
use tokio::time::Instant;

use super::Sizes;
use super::bars::{
    BYTES, CUT, EARN_OVER_EMPTY, Engine, GROUP_COMMIT, GROWN, HOT_MEMBER, MEMORY_IDLE, MEMORY_LOAD,
    Machine, ONE_PARTNER, P99, REDEEM_OVER_EARN, Report, START, VERIFY,
};
use super::furnish::{Empty, FUNDERS, Town, fresh_id};
use super::load::{self, Measured, all_of, closed_loop, open_loop};
use super::process::{Node, Setup, bytes_below};
use crate::client::{Client, Who};

/// Calls in flight unless a bar says otherwise.
const IN_FLIGHT: usize = 128;

/// Calls in flight for the hottest member.
const IN_FLIGHT_HOT: usize = 1_000;

/// Calls in flight while each has a transaction of its own.
const IN_FLIGHT_SINGLE: usize = 8;

/// How often figures that are compared take turns.
const ROUNDS: u32 = 3;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

/// Partners in the window that is cut.
const PARTNERS_CUT: usize = 1_000;

/// Members in the window that is cut.
const MEMBERS_CUT: usize = 2_000;

/// Time after which a node that has nothing to do has come to rest.
const REST: Duration = Duration::from_secs(1);

/// Calls that a node gets before it is measured where not time but calls are counted.
const WARM_UP_CALLS: usize = 1_000;

/// How often a start is measured.
const STARTS: usize = 5;

/// Runs the measurements.
pub(super) struct Bench {
    sizes: Sizes,
    only: Vec<String>,
    postgres_url: Option<String>,
    place: TempDir,
    report: Report,
    progress: ProgressBar,
}

impl Bench {
    pub(super) fn new(
        sizes: Sizes,
        only: Vec<String>,
        postgres_url: Option<String>,
    ) -> anyhow::Result<Self> {
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_millis(100));
        let machine = Machine::this(sizes.measured.as_secs(), sizes.members);
        Ok(Self {
            sizes,
            only,
            postgres_url,
            place: TempDir::with_prefix("coalition-bench-")?,
            report: Report::new(machine),
            progress,
        })
    }

    pub(super) fn into_report(self) -> Report {
        self.progress.finish_and_clear();
        self.report
    }

    /// Measures what is wanted.
    pub(super) async fn run(&mut self, engines: &[Engine]) -> anyhow::Result<()> {
        self.idle().await?;
        for engine in engines {
            self.calls(*engine).await?;
        }
        self.storage().await?;
        self.windows().await
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn now_measuring(&self, what: impl Into<String>) {
        self.progress.set_message(what.into());
    }

    fn setup(&self, engine: Engine, name: &str) -> anyhow::Result<Setup> {
        let data_dir = self.place.path().join(name);
        let database_url = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(self.postgres_url.clone().context("no PostgreSQL")?),
        };
        Ok(Setup {
            data_dir,
            database_url,
            batch_commands: None,
        })
    }

    /// What a node takes that has nothing to do.
    async fn idle(&mut self) -> anyhow::Result<()> {
        if !self.wants(MEMORY_IDLE) {
            return Ok(());
        }
        self.now_measuring("a node at rest");
        let node = Node::start(&self.setup(Engine::Sqlite, "idle")?).await?;
        tokio::time::sleep(REST).await;
        let idle = node.memory_mib()?;
        node.stop().await?;
        let detail = "resident, freshly started".to_owned();
        self.report.note(MEMORY_IDLE, idle, detail);
        Ok(())
    }

    /// What calls cost.
    async fn calls(&mut self, engine: Engine) -> anyhow::Result<()> {
        let figures = [
            engine.of(EARN_OVER_EMPTY),
            engine.of(REDEEM_OVER_EARN),
            engine.of(GROUP_COMMIT),
            engine.of(P99),
            engine.of(HOT_MEMBER),
            engine.of(ONE_PARTNER),
            // Memory is looked at on one engine only.
            engine.of([MEMORY_LOAD, EARN_OVER_EMPTY[1]]),
        ];
        if !figures.iter().any(|name| self.wants(name)) {
            return Ok(());
        }
        self.now_measuring(format!(
            "{engine}: taking in {} members",
            self.sizes.members
        ));
        let setup = self.setup(engine, &engine.to_string())?;
        let node = Node::start(&setup).await?;
        let client = node.client(IN_FLIGHT)?;
        let town = Town::furnish(&client, PARTNERS, self.sizes.members).await?;

        let earn = self.earns(engine, &node, &client, &town).await?;
        if self.wants(engine.of(ONE_PARTNER)) {
            self.one_partner(engine, &town).await?;
        }
        if self.wants(engine.of(HOT_MEMBER)) {
            self.hot_member(engine, &node, &town).await?;
        }
        if self.wants(engine.of(REDEEM_OVER_EARN)) {
            self.redemptions(engine, &town, &earn).await?;
        }
        node.stop().await?;
        if self.wants(engine.of(GROUP_COMMIT)) {
            self.single(engine, &setup, &town, &earn).await?;
        }
        Ok(())
    }

    /// Earns: at full speed beside empty calls, and at half of it.
    async fn earns(
        &mut self,
        engine: Engine,
        node: &Node,
        client: &Client,
        town: &Town,
    ) -> anyhow::Result<Measured> {
        self.now_measuring(format!("{engine}: empty calls and earns"));
        let spread = town.earns(PARTNERS, town.members())?;
        let empty = Empty(client.clone());
        let (empty, earn) = self.in_turns(&empty, &spread, IN_FLIGHT).await?;
        if engine == Engine::Sqlite && self.wants(MEMORY_LOAD) {
            let peak = node.memory_peak_mib()?;
            let detail = format!("at most, under {IN_FLIGHT} earns in flight");
            self.report.note(MEMORY_LOAD, peak, detail);
        }
        let name = engine.of(EARN_OVER_EMPTY);
        if self.wants(name) {
            let detail = format!(
                "{earn} earns (p50 {:.1} ms, p99 {:.1} ms), {empty} empty",
                earn.latency_ms(0.5),
                earn.latency_ms(0.99)
            );
            let ratio = earn.rate() / empty.rate();
            self.report.note(name, ratio, detail);
        }
        let name = engine.of(P99);
        if self.wants(name) {
            let half = earn.rate() / 2.0;
            self.now_measuring(format!("{engine}: {half:.0} earns a second"));
            let calm = open_loop(&spread, half, self.sizes.measured).await?;
            let detail = format!("{calm} earns, p50 {:.1} ms", calm.latency_ms(0.5));
            self.report.note(name, calm.latency_ms(0.99), detail);
        }
        Ok(earn)
    }

    /// Earns at a single partner beside earns at all.
    async fn one_partner(&mut self, engine: Engine, town: &Town) -> anyhow::Result<()> {
        self.now_measuring(format!("{engine}: earns at one partner"));
        let one = town.earns(1, town.members())?;
        let all = town.earns(PARTNERS, town.members())?;
        let (one, all) = self.in_turns(&one, &all, IN_FLIGHT).await?;
        let detail = format!("{one} at one, {all} over {PARTNERS}");
        let ratio = one.rate() / all.rate();
        self.report.note(engine.of(ONE_PARTNER), ratio, detail);
        Ok(())
    }

    /// Earns by a single member beside earns by all, with a crowd of calls in flight.
    async fn hot_member(&mut self, engine: Engine, node: &Node, town: &Town) -> anyhow::Result<()> {
        self.now_measuring(format!("{engine}: earns by one member"));
        let town = town.through(&node.client(IN_FLIGHT_HOT)?);
        let hot = town.earns(PARTNERS, 1)?;
        let all = town.earns(PARTNERS, town.members())?;
        let (hot, all) = self.in_turns(&hot, &all, IN_FLIGHT_HOT).await?;
        let members = town.members();
        let detail = format!("{hot} by one member, {all} by {members}, {IN_FLIGHT_HOT} in flight");
        let ratio = hot.rate() / all.rate();
        self.report.note(engine.of(HOT_MEMBER), ratio, detail);
        Ok(())
    }

    /// Two kinds of calls in turns.
    async fn in_turns(
        &self,
        one: &impl load::Caller,
        other: &impl load::Caller,
        in_flight: usize,
    ) -> anyhow::Result<(Measured, Measured)> {
        let part = self.sizes.measured / ROUNDS;
        let mut first = closed_loop(one, in_flight, part).await?;
        let mut second = closed_loop(other, in_flight, part).await?;
        for _ in 1..ROUNDS {
            first = first.and(&closed_loop(one, in_flight, part).await?)?;
            second = second.and(&closed_loop(other, in_flight, part).await?)?;
        }
        Ok((first, second))
    }

    /// Redemptions of three lots of three issuers each, in turns with earns.
    async fn redemptions(
        &mut self,
        engine: Engine,
        town: &Town,
        earn: &Measured,
    ) -> anyhow::Result<()> {
        self.now_measuring(format!("{engine}: redemptions"));
        let part = self.sizes.measured / ROUNDS;
        // As many as take about as long as the earns they are compared with.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and far below 2^32"
        )]
        let count = (earn.rate() * part.as_secs_f64() * 0.7) as usize;
        all_of(&town.joint_earns()?, IN_FLIGHT, count * ROUNDS as usize).await?;
        town.check_redemption(FUNDERS).await?;
        let earns = town.earns(PARTNERS, town.members())?;
        let redemptions = town.redemptions()?;
        let mut earned = closed_loop(&earns, IN_FLIGHT, part).await?;
        let mut redeemed = all_of(&redemptions, IN_FLIGHT, count).await?;
        for _ in 1..ROUNDS {
            earned = earned.and(&closed_loop(&earns, IN_FLIGHT, part).await?)?;
            redeemed = redeemed.and(&all_of(&redemptions, IN_FLIGHT, count).await?)?;
        }
        let detail = format!(
            "{redeemed} redemptions (p99 {:.1} ms), {earned} earns",
            redeemed.latency_ms(0.99)
        );
        let ratio = redeemed.rate() / earned.rate();
        self.report.note(engine.of(REDEEM_OVER_EARN), ratio, detail);
        Ok(())
    }

    /// One posting per transaction, eight at a time: on PostgreSQL by eight processes at once, since
    /// each posts through one connection; SQLite has one writer in any case.
    async fn single(
        &mut self,
        engine: Engine,
        setup: &Setup,
        town: &Town,
        group: &Measured,
    ) -> anyhow::Result<()> {
        self.now_measuring(format!("{engine}: one posting per transaction"));
        let setup = Setup {
            batch_commands: Some(1),
            ..setup.clone()
        };
        let (processes, each) = match engine {
            Engine::Sqlite => (1, IN_FLIGHT_SINGLE),
            Engine::Postgres => (IN_FLIGHT_SINGLE, 1),
        };
        let mut nodes = Vec::new();
        for _ in 0..processes {
            nodes.push(Node::start(&setup).await?);
        }
        let loads = nodes.iter().map(|node| async {
            let earns = town
                .through(&node.client(each)?)
                .earns(PARTNERS, town.members())?;
            closed_loop(&earns, each, self.sizes.measured).await
        });
        let singles = try_join_all(loads).await?;
        for node in nodes {
            node.stop().await?;
        }
        let single: f64 = singles.iter().map(Measured::rate).sum();
        let detail = format!("{group} in groups, {single:.0}/s one by one");
        let ratio = group.rate() / single;
        self.report.note(engine.of(GROUP_COMMIT), ratio, detail);
        Ok(())
    }

    /// What storing more does: to throughput, to the disk, to the next start.
    async fn storage(&mut self) -> anyhow::Result<()> {
        if ![GROWN, BYTES, START].iter().any(|name| self.wants(name)) {
            return Ok(());
        }
        let (few, many) = self.sizes.stored;
        self.now_measuring(format!("storing {many} earns"));
        let setup = self.setup(Engine::Sqlite, "storage")?;
        let node = Node::start(&setup).await?;
        let town = Town::furnish(&node.client(IN_FLIGHT)?, PARTNERS, self.sizes.members).await?;
        // What is stored counts once the node has put everything in its place and left.
        node.stop().await?;
        let before = bytes_below(&setup.data_dir)?;
        let node = Node::start(&setup).await?;
        let town = town.through(&node.client(IN_FLIGHT)?);
        let earns = town.earns(PARTNERS, town.members())?;
        // The first thousand find a node that has just started.
        all_of(&earns, IN_FLIGHT, WARM_UP_CALLS).await?;
        let small = all_of(&earns, IN_FLIGHT, few).await?;
        all_of(&earns, IN_FLIGHT, many.saturating_sub(2 * few)).await?;
        let grown = all_of(&earns, IN_FLIGHT, few).await?;
        node.stop().await?;
        if self.wants(GROWN) {
            let detail = format!("{small} with {few} stored, {grown} with {many}");
            self.report.note(GROWN, grown.rate() / small.rate(), detail);
        }
        if self.wants(BYTES) {
            let bytes = bytes_below(&setup.data_dir)?.saturating_sub(before);
            let stored = WARM_UP_CALLS + 2 * few + many.saturating_sub(2 * few);
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
            let each = bytes as f64 / stored as f64;
            let detail = format!("{stored} earns grew the files by {} MiB", bytes >> 20);
            self.report.note(BYTES, each, detail);
        }
        if self.wants(START) {
            self.now_measuring("starting");
            let mut starts = Vec::new();
            for _ in 0..STARTS {
                let node = Node::start(&setup).await?;
                starts.push(node.ready_after);
                node.stop().await?;
            }
            starts.sort();
            let median = starts[STARTS / 2].as_secs_f64() * 1e3;
            let detail = format!("median of {STARTS}, {many} earns stored");
            self.report.note(START, median, detail);
        }
        Ok(())
    }

    /// How long it takes to close a window, to settle it, and to verify the books, small and large.
    async fn windows(&mut self) -> anyhow::Result<()> {
        if !self.wants(CUT) && !self.wants(VERIFY) {
            return Ok(());
        }
        self.now_measuring(format!("taking in {PARTNERS_CUT} partners"));
        let setup = self.setup(Engine::Sqlite, "windows")?;
        let node = Node::start(&setup).await?;
        let client = node.client(IN_FLIGHT)?;
        let town = Town::furnish(&client, PARTNERS_CUT, MEMBERS_CUT).await?;
        let earns = town.earns(PARTNERS_CUT, town.members())?;
        let mut cuts = Vec::new();
        let mut checks = Vec::new();
        let (small, large) = self.sizes.window;
        for postings in [small, large] {
            self.now_measuring(format!("filling a window with {postings} postings"));
            all_of(&earns, IN_FLIGHT, postings).await?;
            self.now_measuring("cutting and computing");
            cuts.push((postings, cut_and_compute(&client).await?));
            self.now_measuring("verifying");
            checks.push(verify(&client).await?);
        }
        node.stop().await?;
        if self.wants(CUT) {
            let detail: Vec<String> = cuts
                .iter()
                .map(|(postings, took)| {
                    format!("{postings} postings: {:.0} ms", took.as_secs_f64() * 1e3)
                })
                .collect();
            let most = cuts
                .iter()
                .map(|(_, took)| took.as_secs_f64())
                .fold(0.0, f64::max);
            let detail = format!("{}; {PARTNERS_CUT} partners", detail.join(", "));
            self.report.note(CUT, most, detail);
        }
        if self.wants(VERIFY) {
            let detail: Vec<String> = checks
                .iter()
                .map(|(postings, took)| format!("{postings} postings: {:.2} s", took.as_secs_f64()))
                .collect();
            let Some((postings, took)) = checks.last() else {
                bail!("nothing was verified");
            };
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 postings")]
            let of_a_million = took.as_secs_f64() * 1e6 / (*postings).max(1) as f64;
            let detail = format!("{}; scaled to a million", detail.join(", "));
            self.report.note(VERIFY, of_a_million, detail);
        }
        Ok(())
    }
}

/// Cuts the open window and computes its settlement: how long both took.
async fn cut_and_compute(client: &Client) -> anyhow::Result<Duration> {
    let maker = client.caller(Who::MAKER)?;
    let mut rng = fastrand::Rng::new();
    let mut id = || fresh_id(SystemClock.now(), &mut rng);
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

/// Has the node verify its books: how many postings, and how long it took.
async fn verify(client: &Client) -> anyhow::Result<(i64, Duration)> {
    let viewer = client.caller(Who::VIEWER)?;
    let started = Instant::now();
    let mut news = viewer.verify().await?;
    while let Some(new) = news.try_next().await? {
        match new.event {
            Some(Event::Summary(summary)) if summary.balanced => {
                return Ok((summary.postings, started.elapsed()));
            }
            Some(Event::Summary(_) | Event::Finding(_)) => bail!("the books do not balance"),
            Some(Event::Progress(_)) | None => {}
        }
    }
    bail!("the check of the books ended without a summary")
}
