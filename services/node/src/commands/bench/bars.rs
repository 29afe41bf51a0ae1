//! What is measured, what must be reached, and how it is shown.
//!
//! The figures are those of the performance targets: a ratio that must be at least something, or a
//! time or size that must be at most something, each with an aim beyond.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// A database engine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The embedded one.
    Sqlite,
    /// The one for many processes.
    Postgres,
}

impl Engine {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

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
    /// The size that the bound was set for, where the figure has one.
    size: &'static str,
    /// Whether a short look on a busy machine can tell that it is not reached.
    steady: bool,
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
/// What throughput is left when more is stored, each beside empty calls of its own time.
pub(super) const GROWN: [&str; 2] = [
    "throughput_grown_over_small",
    "throughput_grown_over_small_postgres",
];
/// How much an earn takes on disk.
pub(super) const BYTES: [&str; 2] = ["bytes_per_earn", "bytes_per_earn_postgres"];
/// How long it takes to cut a window and to compute its settlement.
pub(super) const CUT: [&str; 2] = ["cut_plus_compute_s", "cut_plus_compute_s_postgres"];
/// How much longer that takes where only the postings are more: between the same few partners.
pub(super) const CUT_GROWN: [&str; 2] = [
    "cut_plus_compute_grown_over_small",
    "cut_plus_compute_grown_over_small_postgres",
];
/// How long it takes to verify a million postings.
pub(super) const VERIFY: [&str; 2] = ["verify_1m_postings_s", "verify_1m_postings_s_postgres"];
/// How much memory a node takes that has nothing to do.
pub(super) const MEMORY_IDLE: [&str; 2] = ["memory_idle_mib", "memory_idle_mib_postgres"];
/// How much it has taken at most under full load.
pub(super) const MEMORY_LOAD: [&str; 2] = ["memory_load_mib", "memory_load_mib_postgres"];
/// How long a node takes to be ready on an existing database.
pub(super) const START: [&str; 2] = ["start_to_ready_ms", "start_to_ready_ms_postgres"];

const fn bar(name: &'static str, bound: Bound, aim: f64, unit: &'static str) -> Bar {
    Bar {
        name,
        engine: Engine::Sqlite,
        bound,
        aim,
        unit,
        size: "",
        steady: false,
    }
}

const fn on_postgres(bar: Bar) -> Bar {
    let engine = Engine::Postgres;
    Bar { engine, ..bar }
}

/// Holds even where a machine is busy and the look is short.
const fn steady(bar: Bar) -> Bar {
    let steady = true;
    Bar { steady, ..bar }
}

/// Set for figures at this size.
const fn at(size: &'static str, bar: Bar) -> Bar {
    Bar { size, ..bar }
}

const MEMBERS: &str = "100,000 members";
const STORED: &str = "10,000 and 10,000,000 stored";
const WINDOW: &str = "1,000,000 postings, 1,000 partners";
const LARGE: &str = "1,000,000 postings";

/// All bars, in the order in which they are shown.
pub(super) const BARS: [Bar; 28] = {
    use Bound::{AtLeast, AtMost};
    [
        bar(EARN_OVER_EMPTY[0], AtLeast(0.20), 0.35, ""),
        on_postgres(bar(EARN_OVER_EMPTY[1], AtLeast(0.15), 0.30, "")),
        bar(REDEEM_OVER_EARN[0], AtLeast(0.5), 0.7, ""),
        on_postgres(bar(REDEEM_OVER_EARN[1], AtLeast(0.5), 0.7, "")),
        bar(GROUP_COMMIT[0], AtLeast(8.0), 15.0, ""),
        on_postgres(bar(GROUP_COMMIT[1], AtLeast(8.0), 15.0, "")),
        bar(P99[0], AtMost(20.0), 8.0, "ms"),
        on_postgres(bar(P99[1], AtMost(20.0), 8.0, "ms")),
        at(MEMBERS, bar(HOT_MEMBER[0], AtLeast(0.5), 0.9, "")),
        at(
            MEMBERS,
            on_postgres(bar(HOT_MEMBER[1], AtLeast(0.5), 0.9, "")),
        ),
        bar(ONE_PARTNER[0], AtLeast(0.8), 1.0, ""),
        on_postgres(bar(ONE_PARTNER[1], AtLeast(0.8), 1.0, "")),
        at(STORED, bar(GROWN[0], AtLeast(0.8), 0.95, "")),
        at(STORED, on_postgres(bar(GROWN[1], AtLeast(0.8), 0.95, ""))),
        steady(bar(BYTES[0], AtMost(1_024.0), 600.0, "B")),
        // Pages of two dozen tables and indexes: a few thousand earns do not even them out.
        on_postgres(bar(BYTES[1], AtMost(1_024.0), 600.0, "B")),
        at(WINDOW, steady(bar(CUT[0], AtMost(2.0), 0.2, "s"))),
        at(
            WINDOW,
            on_postgres(steady(bar(CUT[1], AtMost(2.0), 0.2, "s"))),
        ),
        // Flat would be 1; in step with the postings, 100 (with smaller sizes, 10).
        at(LARGE, bar(CUT_GROWN[0], AtMost(4.0), 1.5, "")),
        at(LARGE, on_postgres(bar(CUT_GROWN[1], AtMost(4.0), 1.5, ""))),
        at(LARGE, bar(VERIFY[0], AtMost(10.0), 2.0, "s")),
        at(LARGE, on_postgres(bar(VERIFY[1], AtMost(10.0), 2.0, "s"))),
        steady(bar(MEMORY_IDLE[0], AtMost(60.0), 30.0, "MiB")),
        on_postgres(steady(bar(MEMORY_IDLE[1], AtMost(60.0), 30.0, "MiB"))),
        steady(bar(MEMORY_LOAD[0], AtMost(250.0), 120.0, "MiB")),
        on_postgres(steady(bar(MEMORY_LOAD[1], AtMost(250.0), 120.0, "MiB"))),
        steady(bar(START[0], AtMost(1_000.0), 200.0, "ms")),
        on_postgres(steady(bar(START[1], AtMost(1_000.0), 200.0, "ms"))),
    ]
};

/// At which size a figure was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// At that of the bar, or the bar has none.
    Full,
    /// At a smaller one.
    Smaller(String),
}

/// A bar with what it came to.
#[derive(Clone, Debug)]
struct Measured {
    bar: Bar,
    value: f64,
    size: Size,
    /// Whether it counts: a short look prints some figures only.
    enforced: bool,
    /// The figures behind it.
    detail: String,
}

impl Measured {
    fn falls_short(&self) -> bool {
        self.enforced && !self.bar.bound.is_met_by(self.value)
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Report {
    machine: Machine,
    /// Whether only bars count that hold on a busy machine.
    quick: bool,
    /// Whether the disk alone took longer than a bar asks for.
    disk_is_slow: bool,
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
    /// Whether `--check` fails where it is not met.
    enforced: bool,
    /// The size that the bar was set for.
    #[serde(skip_serializing_if = "str::is_empty")]
    set_for: &'a str,
    /// The size that it was measured at, if that is smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    smaller_size: Option<&'a str>,
    detail: &'a str,
}

impl Report {
    pub(super) fn new(machine: Machine, quick: bool) -> Self {
        Self {
            machine,
            quick,
            disk_is_slow: false,
            measured: Vec::new(),
        }
    }

    /// Notes what a bar came to, at its own size.
    pub(super) fn note(&mut self, name: &str, value: f64, detail: String) {
        self.note_at(name, value, Size::Full, detail);
    }

    /// Notes what a bar came to.
    pub(super) fn note_at(&mut self, name: &str, value: f64, size: Size, detail: String) {
        if let Some(bar) = BARS.iter().find(|bar| bar.name == name) {
            // Three digits are more than a machine repeats.
            let value = (value * 1_000.0).round() / 1_000.0;
            self.measured.push(Measured {
                bar: *bar,
                value,
                size,
                enforced: bar.steady || !self.quick,
                detail,
            });
        }
    }

    /// Notes a latency, beside what the disk alone takes for it, if that is known: where it is longer
    /// than the bar asks for, the figure tells of the disk, and does not count.
    pub(super) fn note_beside(
        &mut self,
        name: &str,
        ms: f64,
        disk_ms: Option<f64>,
        detail: String,
    ) {
        self.note(name, ms, detail);
        if let Some(last) = self.measured.last_mut()
            && last.bar.name == name
            && disk_ms.is_some_and(|disk_ms| !last.bar.bound.is_met_by(disk_ms))
        {
            last.enforced = false;
            self.disk_is_slow = true;
        }
    }

    /// The bars that count and are not reached.
    pub(super) fn short(&self) -> Vec<&'static str> {
        self.measured
            .iter()
            .filter(|measured| measured.falls_short())
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
                enforced: measured.enforced,
                set_for: measured.bar.size,
                smaller_size: match &measured.size {
                    Size::Full => None,
                    Size::Smaller(size) => Some(size),
                },
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
        for measured in self.sorted() {
            let Measured {
                bar, value, detail, ..
            } = measured;
            let must = match bar.bound {
                Bound::AtLeast(least) => format!("≥ {least}"),
                Bound::AtMost(most) => format!("≤ {most}"),
            };
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let (verdict, colour) = verdict(measured);
            let detail = match &measured.size {
                Size::Full => detail.clone(),
                Size::Smaller(size) => format!("at {size}, set for {}: {detail}", bar.size),
            };
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
        let mut said = format!("{table}\n{}", self.machine);
        if self
            .measured
            .iter()
            .any(|measured| measured.size != Size::Full)
        {
            said.push_str(
                "\n* at a smaller size than the bar was set for; --full measures at that size",
            );
        }
        if self.quick {
            said.push_str(
                "\n(…) printed only: two seconds on a busy machine cannot tell; --check holds the \
                 others. Without --quick it holds all.",
            );
        }
        if self.disk_is_slow {
            said.push_str(
                "\n(…) printed only: the disk alone takes longer than the bar asks for, with nothing \
                 else going on; on such a disk nobody's answer can be sooner.",
            );
        }
        said
    }
}

/// What a figure is worth, in a word, and its colour.
fn verdict(measured: &Measured) -> (String, Color) {
    let Measured { bar, value, .. } = measured;
    let aimed = match bar.bound {
        Bound::AtLeast(_) => Bound::AtLeast(bar.aim),
        Bound::AtMost(_) => Bound::AtMost(bar.aim),
    };
    let (word, colour) = if aimed.is_met_by(*value) {
        ("aim", Color::Green)
    } else if bar.bound.is_met_by(*value) {
        ("met", Color::Yellow)
    } else {
        ("short", Color::Red)
    };
    let smaller = if measured.size == Size::Full { "" } else { "*" };
    if measured.enforced {
        (format!("{word}{smaller}"), colour)
    } else {
        (format!("({word}{smaller})"), colour)
    }
}

/// Three digits.
pub(super) fn shown(value: f64) -> String {
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
        let mut report = Report::new(Machine::this(1, 10), false);
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
    fn a_short_look_holds_only_what_is_steady() {
        let mut report = Report::new(Machine::this(1, 10), true);
        report.note(P99[0], 25.0, String::new());
        report.note(BYTES[0], 2_000.0, String::new());
        assert_eq!(report.short(), [BYTES[0]]);
        let table = report.table(false);
        assert!(table.contains("(short)") && table.contains("printed only"));
    }

    #[test]
    fn a_disk_that_is_slower_than_the_bar_is_told_and_holds_nothing() {
        let mut report = Report::new(Machine::this(1, 10), false);
        report.note_beside(P99[0], 25.0, Some(3.0), String::new());
        report.note_beside(P99[1], 85.0, Some(120.0), String::new());
        assert_eq!(report.short(), [P99[0]]);
        let table = report.table(false);
        assert!(table.contains("(short)") && table.contains("the disk alone"));
        // A disk that nobody knows excuses nothing.
        report.note_beside(P99[1], 85.0, None, String::new());
        assert_eq!(report.short(), P99);
    }

    #[test]
    fn a_smaller_size_is_told() {
        let mut report = Report::new(Machine::this(1, 10), false);
        let size = Size::Smaller("5,000 postings".to_owned());
        report.note_at(VERIFY[0], 1.5, size, "in 8 ms".to_owned());
        let table = report.table(false);
        assert!(table.contains("aim*"), "{table}");
        let words = "at 5,000 postings, set for 1,000,000 postings: in 8 ms";
        assert!(table.contains(words), "{table}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["bars"][0]["smaller_size"], "5,000 postings");
        assert_eq!(json["bars"][0]["set_for"], "1,000,000 postings");
    }

    #[test]
    fn every_name_is_there_once() {
        for bar in &BARS {
            let same = BARS.iter().filter(|other| other.name == bar.name);
            assert_eq!(same.count(), 1, "{}", bar.name);
        }
    }
}
