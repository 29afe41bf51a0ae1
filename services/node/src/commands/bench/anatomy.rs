//! `coalition bench anatomy`: where the time of a durable earn goes, or of a redemption.
//!
//! Two questions of one run. How a batch spends its time: the node tells of each ([`super::slow`]).
//! And whose the cores are meanwhile: what the system has counted for each process ([`super::cores`]),
//! beside what an empty call through the same gateway takes of them.

use std::process::ExitCode;
use std::time::Duration;

use coalition_ledger::Clock as _;
use coalition_store::SystemClock;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::bars::{Engine, shown};
use super::cores::{Cores, Spent};
use super::furnish::{Empty, FUNDERS};
use super::ground::{Ground, on_each};
use super::load::{Measured, all_of, closed_loop};
use super::machine::Machine;
use super::process::{Node, Setup};
use super::screen;
use super::slow::SlowBatch;
use super::stock::{IN_FLIGHT, Stock};
use crate::Config;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

const EXAMPLES: &str = "\
Examples:
  coalition bench anatomy                        ten seconds on each engine
  coalition bench anatomy --engine sqlite --in-flight 512
  coalition bench anatomy --of redemptions       of three lots of three issuers each
  coalition bench anatomy --json

The first table says how batches spend their time, one after the other: \"between\" is what is left
of the time, in which the posting of this node waited for calls. The second says whose the cores
were: what is left is idle, or waited for the disk.";

/// What is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// Earns, here and there.
    Earns,
    /// Redemptions of three lots of three issuers, by each member in turn.
    Redemptions,
}

impl Calls {
    const fn one(self) -> &'static str {
        match self {
            Self::Earns => "an earn",
            Self::Redemptions => "a redemption",
        }
    }

    const fn many(self) -> &'static str {
        match self {
            Self::Earns => "earns",
            Self::Redemptions => "redemptions",
        }
    }
}

/// How long, how much, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// What is taken apart
    #[arg(
        long,
        value_name = "earns|redemptions",
        hide_possible_values = true,
        default_value = "earns"
    )]
    pub of: Calls,
    /// Measure on this engine only; may be given more than once
    #[arg(long, value_name = "sqlite|postgres", hide_possible_values = true)]
    pub engine: Vec<Engine>,
    /// How long it is measured; redemptions, as many as earns come to in this time
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Calls at once
    #[arg(long, value_name = "COUNT", default_value_t = IN_FLIGHT, value_parser = in_flight)]
    pub in_flight: usize,
    /// How many members the load is spread over
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub members: u32,
    /// Postings that are stored before
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub stored: u64,
}

fn in_flight(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4_096) => Ok(count),
        _ => Err("1 to 4096 calls".to_owned()),
    }
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    of: Calls,
    in_flight: usize,
    engines: Vec<Anatomy>,
}

/// What a call is made of on one engine.
#[derive(Serialize)]
struct Anatomy {
    engine: Engine,
    calls_per_s: f64,
    empty_calls_per_s: f64,
    batches: usize,
    commands_per_batch: f64,
    steps: Vec<Step>,
    cores: Vec<Share>,
}

/// A step of a batch, on average.
#[derive(Serialize)]
struct Step {
    #[serde(rename = "step")]
    name: &'static str,
    us_per_batch: f64,
    us_per_call: f64,
    percent_of_time: f64,
}

/// What somebody had of the cores.
#[derive(Serialize)]
struct Share {
    who: &'static str,
    core_us_per_call: f64,
    percent_of_cores: f64,
    core_us_per_empty_call: f64,
}

/// Measures.
///
/// # Errors
///
/// A node cannot be started, or calls fail under load.
pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let measured = on_each(&config, &args.engine, async |ground, engine| {
        measure(ground, engine, &args).await
    });
    let (engines, ended) = measured.await?;
    let report = Report {
        machine: Machine::this(args.seconds, args.members as usize),
        of: args.of,
        in_flight: args.in_flight,
        engines,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", shown_on_screen(&report));
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(ground: &Ground, engine: Engine, args: &Args) -> anyhow::Result<Anatomy> {
    let measured = Duration::from_secs(args.seconds);
    let mut stock = Stock::found(ground, engine, PARTNERS, args.members as usize).await?;
    stock.fill_to(ground, args.stored).await?;
    let setup = Setup {
        // Of every batch.
        slow_batch_ms: Some(0),
        ..stock.setup.clone()
    };
    let node = Node::start(&setup).await?;
    let town = stock.town.through(&node.client(args.in_flight)?);
    let empty = Empty(node.client(args.in_flight)?);
    ground.now(format!("{engine}: empty calls"));
    let (empty, empty_cores) =
        watched(&node, closed_loop(&empty, args.in_flight, measured / 2)).await?;
    let what = args.of.many();
    let began;
    let (calls, cores) = match args.of {
        Calls::Earns => {
            let earns = town.earns(PARTNERS, args.members as usize)?;
            ground.now(format!("{engine}: {what}"));
            began = SystemClock.now().micros();
            watched(&node, closed_loop(&earns, args.in_flight, measured)).await?
        }
        Calls::Redemptions => {
            ground.now(format!("{engine}: earns to redeem"));
            let earned = closed_loop(&town.joint_earns()?, args.in_flight, measured).await?;
            town.check_redemption(FUNDERS).await?;
            ground.now(format!("{engine}: {what}"));
            let count = usize::try_from(earned.calls)?;
            began = SystemClock.now().micros();
            watched(&node, all_of(&town.redemptions()?, args.in_flight, count)).await?
        }
    };
    let batches = node.slow_batches();
    node.stop().await?;
    let batches: Vec<SlowBatch> = batches
        .into_iter()
        .filter(|batch| batch.ended >= began)
        .collect();
    Ok(Anatomy {
        engine,
        calls_per_s: calls.rate(),
        empty_calls_per_s: empty.rate(),
        batches: batches.len(),
        commands_per_batch: per(
            batches.iter().map(|batch| batch.commands).sum(),
            batches.len() as u64,
        ),
        steps: steps(&batches, calls.made, cores.wall()),
        cores: shares(&cores, calls.made, &empty_cores, empty.made),
    })
}

/// What load came to, and whose the cores were meanwhile, its warm-up included.
async fn watched(
    node: &Node,
    load: impl Future<Output = anyhow::Result<Measured>>,
) -> anyhow::Result<(Measured, Spent)> {
    let before = Cores::now(node.id()?)?;
    let calls = load.await?;
    Ok((calls, before.spent_until(&Cores::now(node.id()?)?)))
}

/// How much of one there is per one of the other.
fn per(of: u64, to: u64) -> f64 {
    super::stock::ratio(of, to)
}

fn steps(batches: &[SlowBatch], calls: u64, wall: Duration) -> Vec<Step> {
    let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
    let step = |name, spent: u64| Step {
        name,
        us_per_batch: per(spent, batches.len() as u64),
        us_per_call: per(spent, calls),
        percent_of_time: per(spent.saturating_mul(100), wall),
    };
    let mut steps: Vec<Step> = Vec::new();
    for (place, (name, _)) in SlowBatch::default().spent.steps().into_iter().enumerate() {
        let spent = batches.iter().map(|batch| batch.spent.steps()[place].1);
        steps.push(step(name, spent.sum()));
    }
    // The last is beside the next batch, and takes none of the time.
    steps.pop();
    let sync: u64 = batches.iter().map(|batch| batch.spent.sync).sum();
    let all: u64 = batches.iter().map(SlowBatch::own).sum();
    let busy = all.saturating_sub(sync);
    steps.push(step("between", wall.saturating_sub(busy)));
    steps.push(step("sync, beside the next batch", sync));
    steps
}

fn shares(load: &Spent, calls: u64, empty: &Spent, empty_calls: u64) -> Vec<Share> {
    load.by_whom()
        .into_iter()
        .zip(empty.by_whom())
        .map(|((who, spent), (_, spent_on_empty))| Share {
            who,
            core_us_per_call: per(spent, calls),
            percent_of_cores: per(spent.saturating_mul(100), load.all()),
            core_us_per_empty_call: per(spent_on_empty, empty_calls),
        })
        .collect()
}

fn shown_on_screen(report: &Report) -> String {
    let right = |mut table: Table, first: usize| {
        for column in table.column_iter_mut().skip(first) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    };
    let (one, many) = (report.of.one(), report.of.many());
    let mut text = Vec::new();
    for anatomy in &report.engines {
        text.push(format!(
            "{}: {:.0} {many} a second, {:.0} empty calls a second (a ratio of {:.2}); {} in \
             flight; {} batches of {:.0} {many}",
            anatomy.engine,
            anatomy.calls_per_s,
            anatomy.empty_calls_per_s,
            anatomy.calls_per_s / anatomy.empty_calls_per_s.max(f64::EPSILON),
            report.in_flight,
            anatomy.batches,
            anatomy.commands_per_batch,
        ));
        let us_per_call = format!("µs {one}");
        let mut steps =
            screen::table(["step of a batch", "µs a batch", &us_per_call, "of the time"]);
        for step in &anatomy.steps {
            steps.add_row([
                step.name.to_owned(),
                shown(step.us_per_batch),
                shown(step.us_per_call),
                format!("{:.0} %", step.percent_of_time),
            ]);
        }
        text.push(right(steps, 1).to_string());
        let core_us_per_call = format!("core-µs {one}");
        let mut cores = screen::table([
            "whose the cores were",
            &core_us_per_call,
            "of the cores",
            "core-µs an empty call",
        ]);
        for share in &anatomy.cores {
            cores.add_row([
                share.who.to_owned(),
                shown(share.core_us_per_call),
                format!("{:.0} %", share.percent_of_cores),
                shown(share.core_us_per_empty_call),
            ]);
        }
        text.push(right(cores, 1).to_string());
    }
    text.push(report.machine.to_string());
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::slow::Spent;
    use super::*;

    #[test]
    fn the_steps_of_all_batches_fill_the_time() {
        let batch = |write, commit| SlowBatch {
            commands: 50,
            spent: Spent {
                write,
                commit,
                ..Spent::default()
            },
            ..SlowBatch::default()
        };
        let batches = [batch(2_000, 1_000), batch(4_000, 3_000)];
        let steps = steps(&batches, 100, Duration::from_millis(20));
        let of = |name| {
            let step = steps.iter().find(|step| step.name == name).unwrap();
            (step.us_per_batch, step.us_per_call, step.percent_of_time)
        };
        assert_eq!(of("write"), (3_000.0, 60.0, 30.0));
        assert_eq!(of("commit"), (2_000.0, 40.0, 20.0));
        assert_eq!(of("between"), (5_000.0, 100.0, 50.0));
        let own = steps.iter().filter(|step| !step.name.starts_with("sync"));
        let all: f64 = own.map(|step| step.percent_of_time).sum();
        assert!((all - 100.0).abs() < 1e-9);
    }
}
