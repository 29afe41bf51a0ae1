//! Where something was measured: every report says it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) system: String,
    /// What the system lets gather before it writes it out, in MiB; none: it does not tell.
    pub(super) writes_behind_mib: Option<u64>,
    pub(super) build: String,
    pub(super) version: String,
    pub(super) seconds_per_figure: u64,
    pub(super) members: usize,
}

impl Machine {
    /// This machine, as far as it tells.
    pub(super) fn this(seconds_per_figure: u64, members: usize) -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory_mib(),
            system: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            writes_behind_mib: writes_behind_mib(),
            build: if cfg!(debug_assertions) {
                "debug".to_owned()
            } else {
                "release".to_owned()
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds_per_figure,
            members,
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What a file of the system says under a name.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The memory of this machine, in MiB; 0 where it does not tell.
pub(super) fn memory_mib() -> u64 {
    of_memory_mib("MemTotal")
}

fn of_memory_mib(name: &str) -> u64 {
    let memory = field("/proc/meminfo", name);
    let memory_kib = memory.split(' ').next().and_then(|kib| kib.parse().ok());
    memory_kib.unwrap_or(0_u64) / 1_024
}

/// What Linux lets gather before it writes it out: so many bytes, or a share of the memory that is to
/// be had.
fn writes_behind_mib() -> Option<u64> {
    let set = |name: &str| {
        let text = read(&format!("/proc/sys/vm/dirty_background_{name}"));
        text.trim().parse::<u64>().ok()
    };
    match set("bytes")? {
        0 => Some(of_memory_mib("MemAvailable").saturating_mul(set("ratio")?) / 100),
        bytes => Some(bytes.div_ceil(1_024 * 1_024)),
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            memory_mib,
            writes_behind_mib,
            build,
            ..
        } = self;
        write!(f, "{cores} × {cpu}, {memory_mib} MiB")?;
        if let Some(mib) = writes_behind_mib {
            write!(f, " (written out from {mib} MiB on)")?;
        }
        write!(f, ", {build} build")
    }
}
