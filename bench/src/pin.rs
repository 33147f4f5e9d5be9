//! Cores: the measured process has core 0 for itself, everything else runs on core 1.

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the measured process.
pub(crate) const SUBJECT_CORE: usize = 0;

/// The core of the load generator, the origins and the stub gateway.
pub(crate) const DRIVER_CORE: usize = 1;

/// Pins this process (threads that start later inherit it). On a machine with one core both sides
/// share it; the caller says so in the table's heading.
pub(crate) fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core.min(cores() - 1));
    sched_setaffinity(None, &set).map_err(|e| format!("cannot pin to core {core}: {e}"))
}

/// How many cores there are. Read it before pinning: it honours the affinity of the process.
pub(crate) fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
