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
    pub(super) build: String,
    pub(super) version: String,
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

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            memory_mib,
            build,
            ..
        } = self;
        write!(f, "{cores} × {cpu}, {memory_mib} MiB, {build} build")
    }
}
