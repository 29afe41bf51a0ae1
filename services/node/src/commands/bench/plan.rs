//! The measurements, one after the other.
//!
//! Figures that a ratio compares are taken in turns, several times each, so that a machine that gets
//! slower or faster meanwhile does so for both.

use std::time::Duration;

use futures::future::try_join_all;

use super::Sizes;
use super::bars::{
    BYTES, CUT, CUT_GROWN, EARN_OVER_EMPTY, Engine, GROUP_COMMIT, GROWN, HOT_MEMBER, MEMORY_IDLE,
    MEMORY_LOAD, ONE_PARTNER, P99, REDEEM_OVER_EARN, Report, START, Size, VERIFY,
};
use super::disk::Disk;
use super::furnish::{Empty, FUNDERS, Town};
use super::ground::Ground;
use super::load::{Measured, Seen, all_of, closed_loop, open_loop};
use super::machine::Machine;
use super::process::{Node, Setup};
use super::stock::{IN_FLIGHT, Stock, in_turns, ratio};
use crate::client::Client;

/// Calls in flight for the hottest member.
const IN_FLIGHT_HOT: usize = 1_000;
/// Calls at once of many callers: more of them wait in a batch, so that it is worth its while.
const IN_FLIGHT_MANY: usize = 1_024;

/// Calls in flight while each has a transaction of its own.
const IN_FLIGHT_SINGLE: usize = 8;

/// How often figures that are compared take turns.
const ROUNDS: u32 = 3;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

/// Partners where more postings must be all that grows: so few that every pair of them meets in a
/// small window already.
const PARTNERS_FEW: usize = 10;
/// Purchases of each of their members in a small window: the first earn what later ones spend.
const PURCHASES: u64 = 10;
/// Windows of each size that are cut: the shorter time counts, since a cut takes no longer than some
/// stalls of a disk.
const CUTS: usize = 2;

/// Time after which a node that has nothing to do has come to rest.
const REST: Duration = Duration::from_secs(1);

/// The sizes that bars were set for.
const FULL_MEMBERS: usize = 100_000;
const FULL_PARTNERS: usize = 1_000;
const FULL_WINDOW: u64 = 1_000_000;
const FULL_STORED: (u64, u64) = (10_000, 10_000_000);

/// Runs the measurements.
pub(super) struct Bench<'a> {
    ground: &'a Ground,
    sizes: Sizes,
    only: Vec<String>,
    report: Report,
}

impl<'a> Bench<'a> {
    pub(super) fn new(ground: &'a Ground, sizes: Sizes, only: Vec<String>, quick: bool) -> Self {
        let machine = Machine::this(sizes.measured.as_secs(), sizes.members);
        Self {
            ground,
            sizes,
            only,
            report: Report::new(machine, quick),
        }
    }

    pub(super) fn into_report(self) -> Report {
        self.ground.progress.finish_and_clear();
        self.report
    }

    /// Measures what is wanted.
    pub(super) async fn run(&mut self, engines: &[Engine]) -> anyhow::Result<()> {
        for engine in engines.iter().copied() {
            self.idle(engine).await?;
            self.calls(engine).await?;
            self.growth(engine).await?;
            self.cuts_grown(engine).await?;
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn wants_any(&self, engine: Engine, bars: &[[&'static str; 2]]) -> bool {
        bars.iter().any(|bar| self.wants(engine.of(*bar)))
    }

    /// Notes a figure if it is wanted.
    fn note(&mut self, name: &str, value: f64, size: Size, detail: String) {
        if self.wants(name) {
            self.report.note_at(name, value, size, detail);
        }
    }

    fn now_measuring(&self, what: impl Into<String>) {
        self.ground.now(what);
    }

    /// A node that has nothing to do.
    async fn idle(&mut self, engine: Engine) -> anyhow::Result<()> {
        if !self.wants(engine.of(MEMORY_IDLE)) {
            return Ok(());
        }
        self.now_measuring(format!("{engine}: a node at rest"));
        let node = Node::start(&self.ground.setup(engine)?).await?;
        tokio::time::sleep(REST).await;
        let idle = node.memory_mib()?;
        node.stop().await?;
        let detail = "resident, freshly started".to_owned();
        self.report.note(engine.of(MEMORY_IDLE), idle, detail);
        Ok(())
    }

    /// What calls cost.
    async fn calls(&mut self, engine: Engine) -> anyhow::Result<()> {
        let figures = [
            EARN_OVER_EMPTY,
            REDEEM_OVER_EARN,
            GROUP_COMMIT,
            P99,
            HOT_MEMBER,
            ONE_PARTNER,
            MEMORY_LOAD,
        ];
        if !self.wants_any(engine, &figures) {
            return Ok(());
        }
        self.now_measuring(format!(
            "{engine}: taking in {} members",
            self.sizes.members
        ));
        let setup = self.ground.setup(engine)?;
        let node = Node::start(&setup).await?;
        let client = node.client(IN_FLIGHT)?;
        let town = Town::furnish(&client, PARTNERS, self.sizes.members).await?;

        let (earn, greatest) = self.earns(engine, &node, &client, &town).await?;
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
            self.single(engine, &setup, &town, &greatest).await?;
        }
        Ok(())
    }

    /// Earns: at full speed beside empty calls, and at half of it. Full speed is the greatest of some
    /// callers and of many, for either kind of call. Answers the rate of some, and the greatest.
    async fn earns(
        &mut self,
        engine: Engine,
        node: &Node,
        client: &Client,
        town: &Town,
    ) -> anyhow::Result<(Measured, Measured)> {
        let measured = self.sizes.measured;
        let spread = town.earns(PARTNERS, town.members())?;
        self.now_measuring(format!("{engine}: empty calls and earns"));
        let empty = Empty(client.clone());
        let (empty, earn) = in_turns(&empty, &spread, IN_FLIGHT, measured).await?;
        self.now_measuring(format!("{engine}: empty calls and earns of many callers"));
        let client = node.client(IN_FLIGHT_MANY)?;
        let of_many = town.through(&client).earns(PARTNERS, town.members())?;
        let many = in_turns(&Empty(client), &of_many, IN_FLIGHT_MANY, measured).await?;
        let peak = node.memory_peak_mib()?;
        let detail = format!("at most, under {IN_FLIGHT_MANY} earns in flight");
        self.note(engine.of(MEMORY_LOAD), peak, Size::Full, detail);
        let (empty_callers, empty) = faster(empty, many.0);
        let (callers, greatest) = faster(earn.clone(), many.1);
        let name = engine.of(EARN_OVER_EMPTY);
        if self.wants(name) {
            let detail = format!(
                "{greatest} earns with {callers} in flight (p50 {:.1} ms, p99 {:.1} ms), {empty} \
                 empty with {empty_callers}; with {IN_FLIGHT} {earn} earns (p50 {:.1} ms, p99 {:.1} \
                 ms)",
                greatest.latency_ms(0.5),
                greatest.latency_ms(0.99),
                earn.latency_ms(0.5),
                earn.latency_ms(0.99)
            );
            let ratio = greatest.rate() / empty.rate();
            self.report.note(name, ratio, detail);
        }
        let name = engine.of(P99);
        if self.wants(name) {
            let half = greatest.rate() / 2.0;
            let before = self.ground.disk_alone(engine, measured).await?;
            self.now_measuring(format!("{engine}: {half:.0} earns a second"));
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(open_loop(&spread, half, measured, &mut Seen::default()).await?);
            }
            let after = self.ground.disk_alone(engine, measured).await?;
            let disk = Disk::both(before, after)?;
            let p99 = |round: &Measured| round.latency_ms(0.99);
            rounds.sort_by(|one, other| p99(one).total_cmp(&p99(other)));
            let calm = &rounds[rounds.len() / 2];
            let mut detail = format!(
                "{calm} earns, p50 {:.1} ms; the middle of {ROUNDS} rounds, {:.1} to {:.1} ms",
                calm.latency_ms(0.5),
                rounds.first().map_or(0.0, p99),
                rounds.last().map_or(0.0, p99)
            );
            if let Some(disk) = &disk {
                detail = format!("{detail}; {disk}");
            }
            let disk_ms = disk.map(|disk| disk.wait_ms(0.99));
            self.report.note_beside(name, p99(calm), disk_ms, detail);
        }
        Ok((earn, greatest))
    }

    /// Earns at a single partner beside earns at all.
    async fn one_partner(&mut self, engine: Engine, town: &Town) -> anyhow::Result<()> {
        self.now_measuring(format!("{engine}: earns at one partner"));
        let one = town.earns(1, town.members())?;
        let all = town.earns(PARTNERS, town.members())?;
        let (one, all) = in_turns(&one, &all, IN_FLIGHT, self.sizes.measured).await?;
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
        let (hot, all) = in_turns(&hot, &all, IN_FLIGHT_HOT, self.sizes.measured).await?;
        let members = town.members();
        let detail = format!("{hot} by one member, {all} by {members}, {IN_FLIGHT_HOT} in flight");
        let ratio = hot.rate() / all.rate();
        let size = if members >= FULL_MEMBERS {
            Size::Full
        } else {
            Size::Smaller(format!("{members} members"))
        };
        self.note(engine.of(HOT_MEMBER), ratio, size, detail);
        Ok(())
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
        let count = (earn.rate() * part.as_secs_f64() * 0.9) as usize;
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

    /// What storing more does: to throughput, to the disk, to cuts, to checks, to the next start.
    async fn growth(&mut self, engine: Engine) -> anyhow::Result<()> {
        let figures = [GROWN, BYTES, CUT, VERIFY, START];
        if !self.wants_any(engine, &figures) {
            return Ok(());
        }
        let Sizes {
            measured,
            members,
            partners,
            small,
            window,
            large,
            ..
        } = self.sizes;
        let ground = self.ground;
        let mut stock = Stock::found(ground, engine, partners, members).await?;
        stock.fill_to(ground, small).await?;
        let calls = self.wants_any(engine, &[GROWN, BYTES]);
        let mut first = None;
        if calls {
            self.now_measuring(format!("{engine}: earns with {small} stored"));
            first = Some((stock.stored, stock.throughput(measured).await?));
        }
        self.now_measuring(format!("{engine}: cutting and computing"));
        let few = stock.cut_and_compute().await?;
        if self.wants_any(engine, &[CUT, VERIFY]) {
            stock.fill_to(ground, stock.stored + window).await?;
        }
        self.now_measuring(format!("{engine}: cutting and computing"));
        let many = stock.cut_and_compute().await?;
        self.note_cuts(engine, few, many);
        if self.wants(engine.of(VERIFY)) {
            self.now_measuring(format!("{engine}: verifying"));
            let checked = stock.verify().await?;
            let of_a_million = checked.took.as_secs_f64() * 1e6 / ratio(checked.postings, 1);
            let detail = format!(
                "{} postings in {:.2} s, scaled in proportion to 1,000,000; {:.0} MiB at most",
                checked.postings,
                checked.took.as_secs_f64(),
                checked.memory_peak_mib
            );
            let size = smaller_than(checked.postings, FULL_WINDOW, "postings");
            self.note(engine.of(VERIFY), of_a_million, size, detail);
        }
        if self.wants_any(engine, &[GROWN, START]) {
            stock.fill_to(ground, large).await?;
        }
        if let Some((stored, small)) = first {
            self.now_measuring(format!("{engine}: earns with {large} stored"));
            let grown_stored = stock.stored;
            let grown = stock.throughput(measured).await?;
            let detail = format!(
                "{} with {stored} stored, {} with {grown_stored} (empty calls {} and {})",
                small.earn, grown.earn, small.empty, grown.empty
            );
            let size = if stored <= FULL_STORED.0 && grown_stored >= FULL_STORED.1 {
                Size::Full
            } else {
                Size::Smaller(format!("{stored} and {grown_stored} stored"))
            };
            // Minutes lie between the two: each beside the empty calls of its own time.
            let left = grown.earn_over_empty() / small.earn_over_empty();
            self.note(engine.of(GROWN), left, size, detail);
            let detail = format!(
                "over {} earns after {grown_stored} postings; {:.0} B a posting over all",
                grown.earn.made,
                stock.bytes_per_posting()?
            );
            self.note(engine.of(BYTES), grown.bytes_per_earn, Size::Full, detail);
        }
        if self.wants(engine.of(START)) {
            self.now_measuring(format!("{engine}: starting"));
            let median = stock.start_to_ready().await?.as_secs_f64() * 1e3;
            let detail = format!("median, {} postings stored", stock.stored);
            self.note(engine.of(START), median, Size::Full, detail);
        }
        Ok(())
    }

    /// Of cuts of two windows, each with its postings.
    fn note_cuts(&mut self, engine: Engine, few: Cut, many: Cut) {
        let partners = self.sizes.partners;
        let detail = format!("{}, {}; {partners} partners", cut(few), cut(many));
        let size = if partners >= FULL_PARTNERS {
            smaller_than(
                many.0,
                FULL_WINDOW,
                &format!("postings, {partners} partners"),
            )
        } else {
            Size::Smaller(format!("{} postings, {partners} partners", many.0))
        };
        let longer = few.1.max(many.1).as_secs_f64();
        self.note(engine.of(CUT), longer, size, detail);
    }

    /// What more postings alone do to a cut: a window's totals are as many here whether small or large.
    async fn cuts_grown(&mut self, engine: Engine) -> anyhow::Result<()> {
        if !self.wants(engine.of(CUT_GROWN)) {
            return Ok(());
        }
        let (ground, Sizes { small, window, .. }) = (self.ground, self.sizes);
        let members = usize::try_from(small / PURCHASES).unwrap_or(1);
        let mut stock = Stock::found(ground, engine, PARTNERS_FEW, members).await?;
        let few = stock.shorter_cut(ground, small, CUTS).await?;
        let many = stock.shorter_cut(ground, window, CUTS).await?;
        let detail = format!("{}, {}; {PARTNERS_FEW} partners", cut(few), cut(many));
        let size = smaller_than(many.0, FULL_WINDOW, "postings");
        let grown = many.1.as_secs_f64() / few.1.as_secs_f64();
        self.note(engine.of(CUT_GROWN), grown, size, detail);
        Ok(())
    }
}

/// The postings of a window, and how long its cut and settlement took.
type Cut = (u64, Duration);

fn cut((postings, took): Cut) -> String {
    format!("{postings} postings: {:.0} ms", took.as_secs_f64() * 1e3)
}

/// The size, where it is below that of a bar.
fn smaller_than(size: u64, full: u64, of: &str) -> Size {
    if size >= full {
        Size::Full
    } else {
        Size::Smaller(format!("{size} {of}"))
    }
}

/// The faster of some callers and of many, and how many those are.
fn faster(some: Measured, many: Measured) -> (usize, Measured) {
    if many.rate() > some.rate() {
        (IN_FLIGHT_MANY, many)
    } else {
        (IN_FLIGHT, some)
    }
}
