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
    BYTES, CUT, EARN_OVER_EMPTY, Engine, GROUP_COMMIT, HOT_MEMBER, MEMORY_IDLE, MEMORY_LOAD,
    Machine, ONE_PARTNER, P99, REDEEM_OVER_EARN, Report, START, VERIFY,
};
use super::furnish::{Empty, Town, fresh_id};
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

    /// What calls cost.
    async fn calls(&mut self, engine: Engine) -> anyhow::Result<()> {
        let of = |names: [&'static str; 2]| match engine {
            Engine::Sqlite => names[0],
            Engine::Postgres => names[1],
        };
        let figures = [
            EARN_OVER_EMPTY,
            REDEEM_OVER_EARN,
            GROUP_COMMIT,
            P99,
            HOT_MEMBER,
            ONE_PARTNER,
        ];
        let memory =
            engine == Engine::Sqlite && (self.wants(MEMORY_IDLE) || self.wants(MEMORY_LOAD));
        if !memory && !figures.iter().any(|names| self.wants(of(*names))) {
            return Ok(());
        }
        let engine_name = match engine {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
        };
        self.now_measuring(format!("{engine_name}: starting a node"));
        let setup = self.setup(engine, &format!("calls-{engine_name}"))?;
        let node = Node::start(&setup).await?;
        if memory && self.wants(MEMORY_IDLE) {
            tokio::time::sleep(REST).await;
            let idle = node.memory_mib()?;
            self.report
                .note(MEMORY_IDLE, idle, "resident, freshly started".to_owned());
        }
        let idle_only = !self.wants(MEMORY_LOAD) || !memory;
        if idle_only && !figures.iter().any(|names| self.wants(of(*names))) {
            return node.stop().await;
        }
        let client = node.client(IN_FLIGHT)?;
        self.now_measuring(format!(
            "{engine_name}: taking in {} members",
            self.sizes.members
        ));
        let town = Town::furnish(&client, PARTNERS, self.sizes.members).await?;

        self.now_measuring(format!("{engine_name}: empty calls and earns"));
        let spread = town.earns(PARTNERS, town.members())?;
        let (empty, earn) = self
            .in_turns(&Empty(client.clone()), &spread, IN_FLIGHT)
            .await?;
        if memory && self.wants(MEMORY_LOAD) {
            let peak = node.memory_peak_mib()?;
            let detail = format!("at most, under {IN_FLIGHT} earns in flight");
            self.report.note(MEMORY_LOAD, peak, detail);
        }
        if self.wants(of(EARN_OVER_EMPTY)) {
            let detail = format!(
                "{earn} earns (p50 {:.1} ms, p99 {:.1} ms), {empty} empty",
                earn.latency_ms(0.5),
                earn.latency_ms(0.99)
            );
            self.report
                .note(of(EARN_OVER_EMPTY), earn.rate() / empty.rate(), detail);
        }
        if self.wants(of(P99)) {
            let half = earn.rate() / 2.0;
            self.now_measuring(format!("{engine_name}: {half:.0} earns a second"));
            let calm = open_loop(&spread, half, self.sizes.measured).await?;
            let detail = format!("at {half:.0}/s; p50 {:.1} ms", calm.latency_ms(0.5));
            self.report.note(of(P99), calm.latency_ms(0.99), detail);
        }
        if self.wants(of(ONE_PARTNER)) {
            self.now_measuring(format!("{engine_name}: earns at one partner"));
            let one = town.earns(1, town.members())?;
            let (one, many) = self.in_turns(&one, &spread, IN_FLIGHT).await?;
            let detail = format!("{one} at one, {many} over {PARTNERS}");
            self.report
                .note(of(ONE_PARTNER), one.rate() / many.rate(), detail);
        }
        if self.wants(of(HOT_MEMBER)) {
            self.now_measuring(format!("{engine_name}: earns by one member"));
            let crowd = town.through(&node.client(IN_FLIGHT_HOT)?);
            let hot = crowd.earns(PARTNERS, 1)?;
            let spread = crowd.earns(PARTNERS, town.members())?;
            let (hot, spread) = self.in_turns(&hot, &spread, IN_FLIGHT_HOT).await?;
            let detail = format!(
                "{hot} by one member, {spread} by {}, {IN_FLIGHT_HOT} in flight",
                town.members()
            );
            self.report
                .note(of(HOT_MEMBER), hot.rate() / spread.rate(), detail);
        }
        if self.wants(of(REDEEM_OVER_EARN)) {
            self.now_measuring(format!("{engine_name}: redemptions"));
            self.redemptions(of(REDEEM_OVER_EARN), &town, &earn).await?;
        }
        if self.wants(of(GROUP_COMMIT)) {
            self.now_measuring(format!("{engine_name}: one posting per transaction"));
            self.single(engine, of(GROUP_COMMIT), &setup, node, &town, &earn)
                .await
        } else {
            node.stop().await
        }
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
        name: &str,
        town: &Town,
        earn: &Measured,
    ) -> anyhow::Result<()> {
        let part = self.sizes.measured / ROUNDS;
        // As many as take about as long as the earns they are compared with.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and far below 2^32"
        )]
        let count = (earn.rate() * part.as_secs_f64() * 0.7) as usize;
        all_of(&town.joint_earns()?, IN_FLIGHT, count * ROUNDS as usize).await?;
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
        self.report
            .note(name, redeemed.rate() / earned.rate(), detail);
        Ok(())
    }

    /// One posting per transaction, eight at a time: on PostgreSQL by eight processes at once, since
    /// each posts through one connection; SQLite has one writer in any case.
    async fn single(
        &mut self,
        engine: Engine,
        name: &str,
        setup: &Setup,
        node: Node,
        town: &Town,
        group: &Measured,
    ) -> anyhow::Result<()> {
        node.stop().await?;
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
        self.report.note(name, group.rate() / single, detail);
        Ok(())
    }

    /// What an earn takes on disk, and how long a start takes where there is something on disk.
    async fn storage(&mut self) -> anyhow::Result<()> {
        if !self.wants(BYTES) && !self.wants(START) {
            return Ok(());
        }
        self.now_measuring(format!("storing {} earns", self.sizes.stored));
        let setup = self.setup(Engine::Sqlite, "storage")?;
        let node = Node::start(&setup).await?;
        let town = Town::furnish(&node.client(IN_FLIGHT)?, PARTNERS, self.sizes.members).await?;
        // What is stored counts once the node has put everything in its place and left.
        node.stop().await?;
        let before = bytes_below(&setup.data_dir)?;
        let node = Node::start(&setup).await?;
        let earns = town
            .through(&node.client(IN_FLIGHT)?)
            .earns(PARTNERS, town.members())?;
        all_of(&earns, IN_FLIGHT, self.sizes.stored).await?;
        node.stop().await?;
        let grown = bytes_below(&setup.data_dir)?.saturating_sub(before);
        if self.wants(BYTES) {
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
            let each = grown as f64 / self.sizes.stored as f64;
            let detail = format!(
                "{} earns grew the files by {} KiB",
                self.sizes.stored,
                grown / 1_024
            );
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
            let detail = format!("median of {STARTS}, {} earns stored", self.sizes.stored);
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
