//! The disk by itself: how long a small write takes to be on it, with nothing else going on.
//!
//! Whoever is answered only once it is on disk waits for at least that. The disk of a shared machine may
//! stall all by itself, for a fifth of a second at a time; then no figure above it can be better, and a
//! bar that asks for better says nothing of what is measured. By itself means: what the system holds
//! back of earlier work is written out before.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::load::{histogram, micros, quantile_ms};

/// How often something is written: about as often as batches are committed.
const INTERVAL: Duration = Duration::from_millis(5);

/// How much is written at a time, in bytes: about as much as a batch.
const WRITE_BYTES: usize = 64 * 1024;

/// How often, until it is written in the same places again: like the log of a database, the file is
/// there already.
const PLACES: u64 = 256;

/// Has everything brought to the disk that was written before to the file system of `folder`, so that
/// nothing measured waits for it.
pub(super) async fn settle(folder: &Path) -> anyhow::Result<()> {
    let folder = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let settled = tokio::task::spawn_blocking(move || rustix::fs::syncfs(folder)).await;
    let settled = settled.context("bringing everything to the disk broke down")?;
    settled.context("what was written cannot be brought to the disk")
}

/// How long a disk takes.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// Of writes that come every [`INTERVAL`], those included that had to wait for the one before.
    waits_us: Histogram<u64>,
}

impl Disk {
    /// Has the disk that holds `folder` take small writes, and nothing else, for so long.
    pub(super) async fn alone(folder: &Path, measured: Duration) -> anyhow::Result<Self> {
        settle(folder).await?;
        let path = folder.join("disk");
        let probed = tokio::task::spawn_blocking(move || probe(&path, measured));
        probed.await.context("a probe broke down")?
    }

    /// A quantile, in milliseconds.
    pub(super) fn wait_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.waits_us, quantile)
    }

    /// Both together, where both are known.
    pub(super) fn both(before: Option<Self>, after: Option<Self>) -> anyhow::Result<Option<Self>> {
        let (Some(mut both), Some(after)) = (before, after) else {
            return Ok(None);
        };
        let added = both.waits_us.add(&after.waits_us);
        added.context("adding histograms")?;
        Ok(Some(both))
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk alone: p50 {:.1} ms, p99 {:.1} ms, worst {:.0} ms",
            self.wait_ms(0.5),
            self.wait_ms(0.99),
            self.wait_ms(1.0)
        )
    }
}

fn probe(path: &Path, measured: Duration) -> anyhow::Result<Disk> {
    let refused = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).open(path);
    let file = file.with_context(refused)?;
    let bytes = vec![7; WRITE_BYTES];
    let place = |write: u64| write % PLACES * WRITE_BYTES as u64;
    for write in 0..PLACES {
        file.write_all_at(&bytes, place(write))
            .with_context(refused)?;
    }
    file.sync_all().with_context(refused)?;
    let mut waits_us = histogram()?;
    let end = Instant::now() + measured;
    let mut write = 0;
    loop {
        let began = Instant::now();
        if began >= end {
            break;
        }
        file.write_all_at(&bytes, place(write))
            .with_context(refused)?;
        file.sync_data().with_context(refused)?;
        let took = began.elapsed();
        waits_us
            .record_correct(micros(took), micros(INTERVAL))
            .context("a write took longer than can be told")?;
        thread::sleep(INTERVAL.saturating_sub(took));
        write += 1;
    }
    std::fs::remove_file(path).with_context(refused)?;
    Ok(Disk { waits_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_is_heard_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::alone(folder.path(), Duration::from_millis(50));
        let disk = disk.await.unwrap();
        assert!(disk.wait_ms(0.5) > 0.0 && disk.wait_ms(1.0) >= disk.wait_ms(0.5));
        assert!(disk.to_string().contains("p99"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("nowhere");
        assert!(Disk::alone(&nowhere, Duration::ZERO).await.is_err());
    }

    #[test]
    fn whoever_comes_while_it_stalls_waits_too() {
        let mut waits_us = histogram().unwrap();
        for _ in 0..90 {
            waits_us.record_correct(1_000, 5_000).unwrap();
        }
        waits_us.record_correct(500_000, 5_000).unwrap();
        let disk = Disk { waits_us };
        // A hundred writes would have come meanwhile.
        assert!(disk.wait_ms(0.6) > 50.0, "{disk}");
    }
}
