//! Whose the cores were: what the system has counted for each process. See `proc_pid_stat(5)` and
//! `proc_stat(5)`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// What the thread is called that SQLite's writer and readers run on.
const SQLITE_THREAD: &str = "sqlx-sqlite-";
/// What every process of a PostgreSQL server is called.
const POSTGRES: &str = "postgres";

/// What the system had counted at an instant, in ticks.
#[derive(Clone, Debug)]
pub(super) struct Cores {
    at: Instant,
    load: u64,
    node: u64,
    sqlite: u64,
    postgres: u64,
    idle: u64,
    disk: u64,
    stolen: u64,
    all: u64,
}

impl Cores {
    /// Now, for the node of this process id; the load is this process.
    pub(super) fn now(node: u32) -> anyhow::Result<Self> {
        let machine = Machine::read(&read("/proc/stat")?)?;
        let threads = ticks_below(&format!("/proc/{node}/task"), SQLITE_THREAD)?;
        Ok(Self {
            at: Instant::now(),
            load: ticks_of(&read("/proc/self/stat")?)?.1,
            node: ticks_of(&read(&format!("/proc/{node}/stat"))?)?.1,
            sqlite: threads,
            postgres: ticks_below("/proc", POSTGRES)?,
            idle: machine.idle,
            disk: machine.disk,
            stolen: machine.stolen,
            all: machine.all,
        })
    }

    /// What was spent from here to `later`.
    pub(super) fn spent_until(&self, later: &Self) -> Spent {
        let spent = |of: fn(&Self) -> u64| of(later).saturating_sub(of(self)) * tick_micros();
        let sqlite = spent(|cores| cores.sqlite);
        let mine = [
            ("load", spent(|cores| cores.load)),
            (
                "node: calls",
                spent(|cores| cores.node).saturating_sub(sqlite),
            ),
            ("node: SQLite", sqlite),
            ("PostgreSQL", spent(|cores| cores.postgres)),
        ];
        let rest = [
            ("waiting for the disk", spent(|cores| cores.disk)),
            ("idle", spent(|cores| cores.idle)),
            ("taken by the host", spent(|cores| cores.stolen)),
        ];
        let all = spent(|cores| cores.all);
        let known: u64 = mine.iter().chain(&rest).map(|(_, spent)| spent).sum();
        let mut by_whom = mine.to_vec();
        by_whom.push(("the system, others", all.saturating_sub(known)));
        by_whom.extend(rest);
        Spent {
            wall: later.at.duration_since(self.at),
            by_whom,
            all,
        }
    }
}

/// What was spent between two instants, in microseconds of a core.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    wall: Duration,
    by_whom: Vec<(&'static str, u64)>,
    all: u64,
}

impl Spent {
    pub(super) const fn wall(&self) -> Duration {
        self.wall
    }

    /// By whom; together they are all.
    pub(super) fn by_whom(&self) -> Vec<(&'static str, u64)> {
        self.by_whom.clone()
    }

    /// By all cores.
    pub(super) const fn all(&self) -> u64 {
        self.all
    }
}

/// Ticks of all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    idle: u64,
    disk: u64,
    pub(super) stolen: u64,
    pub(super) all: u64,
}

impl Machine {
    /// Now, where the system tells.
    pub(super) fn now() -> Option<Self> {
        Self::read(&read("/proc/stat").ok()?).ok()
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal, and two that are part of the first.
    fn read(text: &str) -> anyhow::Result<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks: Vec<u64> = line
            .unwrap_or_default()
            .split_whitespace()
            .map_while(|ticks| ticks.parse().ok())
            .take(8)
            .collect();
        let tick = |place: usize| ticks.get(place).copied();
        let read = || {
            Some(Self {
                idle: tick(3)?,
                disk: tick(4)?,
                stolen: tick(7)?,
                all: ticks.iter().sum(),
            })
        };
        read().context("the system does not tell what its cores did")
    }

    /// The part that other guests of the machine's host took from it.
    pub(super) fn percent_stolen_until(self, later: Self) -> f64 {
        let stolen = later.stolen.saturating_sub(self.stolen);
        super::stock::ratio(
            stolen.saturating_mul(100),
            later.all.saturating_sub(self.all),
        )
    }
}

/// Microseconds of a tick.
fn tick_micros() -> u64 {
    1_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// Ticks of all processes or threads in `folder` whose name begins so.
fn ticks_below(folder: &str, name: &str) -> anyhow::Result<u64> {
    let mut all = 0;
    for entry in Path::new(folder)
        .read_dir()
        .with_context(|| format!("cannot read {folder}"))?
    {
        // One that has just ended is not counted.
        let Ok(text) = std::fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        let Ok((found, ticks)) = ticks_of(&text) else {
            continue;
        };
        if found.starts_with(name) {
            all += ticks;
        }
    }
    Ok(all)
}

/// The name of a process or thread, and the ticks that it had in its own code and in the system's.
fn ticks_of(text: &str) -> anyhow::Result<(String, u64)> {
    let read = || {
        // A name may hold anything, a bracket too.
        let (before, after) = text.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        let mut fields = after.split(' ').skip(11);
        let own: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some((name.to_owned(), own + system))
    };
    read().with_context(|| format!("{text:?} is no state of a process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_whatever_the_name() {
        let text = "25 (a ) b) S 1 25 25 0 -1 4194560 500 0 0 0 17 5 0 0 20 0 4 0 100 200 300\n";
        assert_eq!(ticks_of(text).unwrap(), ("a ) b".to_owned(), 22));
        assert!(ticks_of("25").is_err());
    }

    #[test]
    fn what_the_cores_did_is_read() {
        let before = Machine::read("cpu  10 0 5 80 5 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let after = Machine::read("cpu  20 0 10 140 10 0 0 20 0 0\n").unwrap();
        assert!((before.percent_stolen_until(after) - 20.0).abs() < 1e-9);
        assert!(Machine::read("cpu  1 2 3\n").is_err());
    }

    #[test]
    fn this_process_spends_on_the_load() {
        let before = Cores::now(std::process::id()).unwrap();
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {}
        let spent = before.spent_until(&Cores::now(std::process::id()).unwrap());
        let by_whom = spent.by_whom();
        assert!(by_whom[0].1 >= 20_000, "{by_whom:?}");
        assert!(spent.wall() >= Duration::from_millis(60));
    }
}
