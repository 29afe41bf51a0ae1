//! What a PostgreSQL server did beside: checkpoints and vacuums, read from its log.

use jiff::Timestamp;

/// Something that the server did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chore {
    /// What it was.
    pub(super) what: String,
    /// From when to when, in microseconds since 1970.
    pub(super) from: i64,
    pub(super) to: i64,
}

/// The chores in a log whose times are in UTC; one that has not ended goes on to the end of time.
pub(super) fn chores(log: &str) -> Vec<Chore> {
    let mut all: Vec<Chore> = Vec::new();
    let mut last_at = 0;
    let mut vacuum = None;
    for line in log.lines() {
        if let Some((at, said)) = entry(line) {
            last_at = at;
            vacuum = None;
            if let Some(why) = said.strip_prefix("checkpoint starting: ") {
                all.push(Chore {
                    what: format!("a checkpoint ({why})"),
                    from: at,
                    to: i64::MAX,
                });
            } else if said.starts_with("checkpoint complete") {
                if let Some(open) = all.iter_mut().rev().find(|chore| chore.to == i64::MAX) {
                    open.to = at;
                }
            } else if let Some(rest) = said.strip_prefix("automatic ") {
                vacuum = rest.split(':').next().map(str::to_owned);
            }
        }
        // How long it took stands some lines below.
        if let Some(seconds) = elapsed(line)
            && let Some(what) = vacuum.take()
        {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "far fewer than 2^52 microseconds"
            )]
            let took = (seconds * 1e6) as i64;
            all.push(Chore {
                what: format!("an automatic {what}"),
                from: last_at.saturating_sub(took),
                to: last_at,
            });
        }
    }
    all
}

/// When a line was logged, in microseconds since 1970, and what.
fn entry(line: &str) -> Option<(i64, &str)> {
    let (time, rest) = line.split_once(" UTC ")?;
    let (_, said) = rest.split_once("LOG:  ")?;
    let at: Timestamp = format!("{}Z", time.replace(' ', "T")).parse().ok()?;
    Some((at.as_microsecond(), said))
}

fn elapsed(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("elapsed: ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_and_vacuums_are_found() {
        let log = "\
2026-01-02 03:04:05.000 UTC [7] LOG:  database system is ready to accept connections
2026-01-02 03:04:06.500 UTC [9] LOG:  checkpoint starting: wal
2026-01-02 03:04:08.000 UTC [8] LOG:  automatic vacuum of table \"b.public.members\": index scans: 1
\tpages: 0 removed, 10 remain
\tsystem usage: CPU: user: 0.01 s, system: 0.00 s, elapsed: 0.25 s
2026-01-02 03:04:09.500 UTC [9] LOG:  checkpoint complete: wrote 42 buffers (0.3%); write=2.9 s
2026-01-02 03:04:30.000 UTC [9] LOG:  checkpoint starting: time
";
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let start = start.as_microsecond();
        let found = chores(log);
        let found: Vec<(&str, i64, i64)> = found
            .iter()
            .map(|chore| (chore.what.as_str(), chore.from - start, chore.to))
            .collect();
        assert_eq!(
            found,
            [
                ("a checkpoint (wal)", 1_500_000, start + 4_500_000),
                (
                    "an automatic vacuum of table \"b.public.members\"",
                    2_750_000,
                    start + 3_000_000
                ),
                ("a checkpoint (time)", 25_000_000, i64::MAX),
            ]
        );
    }
}
