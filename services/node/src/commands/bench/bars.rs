//! What is measured, what must be reached, and how it is shown.
//!
//! The figures are those of the performance targets: a ratio that must be at least something, or a
//! time or size that must be at most something, each with an aim beyond.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use serde::Serialize;

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The one of two bars that is this engine's.
    pub(super) const fn of(self, bars: [&'static str; 2]) -> &'static str {
        let [sqlite, postgres] = bars;
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// What must be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) name: &'static str,
    pub(super) engine: Engine,
    bound: Bound,
    aim: f64,
    unit: &'static str,
}

/// What an `Earn` costs beside an empty call.
pub(super) const EARN_OVER_EMPTY: [&str; 2] =
    ["earn_over_empty_sqlite", "earn_over_empty_postgres"];
/// What a `Redeem` of three lots of three issuers costs beside an `Earn`.
pub(super) const REDEEM_OVER_EARN: [&str; 2] = ["redeem_over_earn", "redeem_over_earn_postgres"];
/// What group commit gains over one posting per transaction, eight at a time.
pub(super) const GROUP_COMMIT: [&str; 2] = [
    "group_commit_over_single",
    "group_commit_over_single_postgres",
];
/// How long the slowest hundredth waits at half of the greatest rate.
pub(super) const P99: [&str; 2] = ["p99_at_half_rate_ms", "p99_at_half_rate_ms_postgres"];
/// What the hottest possible member costs.
pub(super) const HOT_MEMBER: [&str; 2] =
    ["hot_member_over_spread", "hot_member_over_spread_postgres"];
/// What the hottest possible partner costs.
pub(super) const ONE_PARTNER: [&str; 2] = ["one_partner_over_100", "one_partner_over_100_postgres"];
/// What throughput is left when more is stored.
pub(super) const GROWN: &str = "throughput_grown_over_small";
/// How much an earn takes on disk.
pub(super) const BYTES: &str = "bytes_per_earn";
/// How long it takes to cut a window and to compute its settlement.
pub(super) const CUT: &str = "cut_plus_compute_s";
/// How long it takes to verify a million postings.
pub(super) const VERIFY: &str = "verify_1m_postings_s";
/// How much memory a node takes that has nothing to do.
pub(super) const MEMORY_IDLE: &str = "memory_idle_mib";
/// How much it has taken at most under full load.
pub(super) const MEMORY_LOAD: &str = "memory_load_mib";
/// How long a node takes to be ready on an existing database.
pub(super) const START: &str = "start_to_ready_ms";

const fn bar(name: &'static str, bound: Bound, aim: f64, unit: &'static str) -> Bar {
    let engine = Engine::Sqlite;
    Bar {
        name,
        engine,
        bound,
        aim,
        unit,
    }
}

const fn on_postgres(bar: Bar) -> Bar {
    let engine = Engine::Postgres;
    Bar { engine, ..bar }
}

/// All bars, in the order in which they are shown.
pub(super) const BARS: [Bar; 19] = [
    bar(EARN_OVER_EMPTY[0], Bound::AtLeast(0.20), 0.35, ""),
    on_postgres(bar(EARN_OVER_EMPTY[1], Bound::AtLeast(0.15), 0.30, "")),
    bar(REDEEM_OVER_EARN[0], Bound::AtLeast(0.5), 0.7, ""),
    on_postgres(bar(REDEEM_OVER_EARN[1], Bound::AtLeast(0.5), 0.7, "")),
    bar(GROUP_COMMIT[0], Bound::AtLeast(8.0), 15.0, ""),
    on_postgres(bar(GROUP_COMMIT[1], Bound::AtLeast(8.0), 15.0, "")),
    bar(P99[0], Bound::AtMost(20.0), 8.0, "ms"),
    on_postgres(bar(P99[1], Bound::AtMost(20.0), 8.0, "ms")),
    bar(HOT_MEMBER[0], Bound::AtLeast(0.5), 0.9, ""),
    on_postgres(bar(HOT_MEMBER[1], Bound::AtLeast(0.5), 0.9, "")),
    bar(ONE_PARTNER[0], Bound::AtLeast(0.8), 1.0, ""),
    on_postgres(bar(ONE_PARTNER[1], Bound::AtLeast(0.8), 1.0, "")),
    bar(GROWN, Bound::AtLeast(0.8), 0.95, ""),
    bar(BYTES, Bound::AtMost(1_024.0), 600.0, "B"),
    bar(CUT, Bound::AtMost(2.0), 0.2, "s"),
    bar(VERIFY, Bound::AtMost(10.0), 2.0, "s"),
    bar(MEMORY_IDLE, Bound::AtMost(60.0), 30.0, "MiB"),
    bar(MEMORY_LOAD, Bound::AtMost(250.0), 120.0, "MiB"),
    bar(START, Bound::AtMost(1_000.0), 200.0, "ms"),
];

/// A bar with what it came to.
#[derive(Clone, Debug)]
struct Measured {
    bar: Bar,
    value: f64,
    /// The figures behind it.
    detail: String,
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) system: String,
    pub(super) build: &'static str,
    pub(super) version: &'static str,
    pub(super) seconds_per_figure: u64,
    pub(super) members: usize,
}

impl Machine {
    /// This machine, as far as it tells.
    pub(super) fn this(seconds_per_figure: u64, members: usize) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory_kib
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory_kib.unwrap_or(0) / 1_024,
            system: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            version: env!("CARGO_PKG_VERSION"),
            seconds_per_figure,
            members,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Report {
    machine: Machine,
    measured: Vec<Measured>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    machine: &'a Machine,
    bars: Vec<JsonBar<'a>>,
}

#[derive(Serialize)]
struct JsonBar<'a> {
    name: &'a str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    aim: f64,
    detail: &'a str,
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            measured: Vec::new(),
        }
    }

    /// Notes what a bar came to.
    pub(super) fn note(&mut self, name: &str, value: f64, detail: String) {
        if let Some(bar) = BARS.iter().find(|bar| bar.name == name) {
            // Three digits are more than a machine repeats.
            let value = (value * 1_000.0).round() / 1_000.0;
            self.measured.push(Measured {
                bar: *bar,
                value,
                detail,
            });
        }
    }

    /// The bars that are not reached.
    pub(super) fn short(&self) -> Vec<&'static str> {
        self.measured
            .iter()
            .filter(|measured| !measured.bar.bound.is_met_by(measured.value))
            .map(|measured| measured.bar.name)
            .collect()
    }

    /// In the order of the bars.
    fn sorted(&self) -> impl Iterator<Item = &Measured> {
        BARS.iter().flat_map(|bar| {
            self.measured
                .iter()
                .filter(|found| found.bar.name == bar.name)
        })
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        let bars = self.sorted().map(|measured| {
            let (at_least, at_most) = match measured.bar.bound {
                Bound::AtLeast(least) => (Some(least), None),
                Bound::AtMost(most) => (None, Some(most)),
            };
            JsonBar {
                name: measured.bar.name,
                value: measured.value,
                at_least,
                at_most,
                aim: measured.bar.aim,
                detail: &measured.detail,
            }
        });
        serde_json::to_string_pretty(&JsonReport {
            machine: &self.machine,
            bars: bars.collect(),
        })
    }

    pub(super) fn table(&self, is_terminal: bool) -> String {
        let mut table = Table::new();
        if is_terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if console::colors_enabled() {
            table.enforce_styling();
        }
        table
            .load_style(comfy_table::presets::UTF8_FULL_CONDENSED)
            .set_header(["bar", "measured", "must be", "aim", "", "behind it"]);
        for Measured { bar, value, detail } in self.sorted() {
            let must = match bar.bound {
                Bound::AtLeast(least) => format!("≥ {least}"),
                Bound::AtMost(most) => format!("≤ {most}"),
            };
            let aimed = match bar.bound {
                Bound::AtLeast(_) => Bound::AtLeast(bar.aim),
                Bound::AtMost(_) => Bound::AtMost(bar.aim),
            };
            let (verdict, colour) = if aimed.is_met_by(*value) {
                ("aim", Color::Green)
            } else if bar.bound.is_met_by(*value) {
                ("met", Color::Yellow)
            } else {
                ("short", Color::Red)
            };
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(bar.name),
                right(
                    format!("{} {}", shown(*value), bar.unit)
                        .trim_end()
                        .to_owned(),
                ),
                right(must),
                right(bar.aim.to_string()),
                Cell::new(verdict).fg(colour),
                Cell::new(detail),
            ]);
        }
        let Machine {
            cpu,
            cores,
            memory_mib,
            build,
            ..
        } = &self.machine;
        format!("{table}\n{cores} × {cpu}, {memory_mib} MiB, {build} build")
    }
}

/// Three digits.
fn shown(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new(Machine::this(1, 10));
        report.note(P99[0], 25.0, "at 2,000/s".to_owned());
        report.note(
            EARN_OVER_EMPTY[0],
            0.230_04,
            "4,600/s over 20,000/s".to_owned(),
        );
        report
    }

    #[test]
    fn what_falls_short_is_named() {
        assert_eq!(report().short(), [P99[0]]);
    }

    #[test]
    fn json_has_the_bars_in_order_with_their_bounds() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert!(json["machine"]["cores"].is_u64());
        assert_eq!(json["bars"][0]["name"], "earn_over_empty_sqlite");
        assert_eq!(json["bars"][0]["value"], 0.23);
        assert_eq!(json["bars"][0]["at_least"], 0.2);
        assert_eq!(json["bars"][0]["aim"], 0.35);
        assert_eq!(json["bars"][1]["at_most"], 20.0);
        assert!(json["bars"][1].get("at_least").is_none());
    }

    #[test]
    fn every_name_is_there_once() {
        for bar in &BARS {
            let same = BARS.iter().filter(|other| other.name == bar.name);
            assert_eq!(same.count(), 1, "{}", bar.name);
        }
    }
}
