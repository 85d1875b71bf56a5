//! The memory of this process.

use std::fs;

use crate::ALLOCATED;

/// The memory when an attack began.
pub(crate) struct Baseline {
    allocated: usize,
    resident: Option<u64>,
    guests_own: u64,
}

/// The peaks since then, of the allocator and of resident pages.
pub(crate) struct Peaks {
    pub(crate) allocated: u64,
    pub(crate) resident: Option<u64>,
}

impl Baseline {
    /// `guests_own` is what the guests' memories may grow by.
    pub(crate) fn new(guests_own: u64) -> Self {
        ALLOCATED.reset_peak_usage();
        // Resets the kernel's peak of resident pages.
        let resident = fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| status("VmRSS:"));
        Self { allocated: ALLOCATED.current_usage(), resident, guests_own }
    }

    pub(crate) fn peaks(&self) -> Peaks {
        let allocated = ALLOCATED.peak_usage().saturating_sub(self.allocated) as u64;
        let resident = self.resident.and_then(|before| {
            Some(status("VmHWM:")?.saturating_sub(before).saturating_sub(self.guests_own))
        });
        Peaks { allocated, resident }
    }
}

fn status(field: &str) -> Option<u64> {
    kilobytes("/proc/self/status", field)
}

/// The available memory of the machine.
pub(crate) fn available_memory() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

fn kilobytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}
