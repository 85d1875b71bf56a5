//! The store when the disk fails, or is full, at every single step.

use std::cell::RefCell;
use std::io;

/// What happens to the calling thread's accesses to the disk.
#[derive(Debug, Clone)]
enum Plan {
    /// All succeed; they are counted.
    Count,
}

thread_local! {
    static PLAN: RefCell<(Plan, usize)> = const { RefCell::new((Plan::Count, 0)) };
}

/// Asked before every access to the disk.
pub(super) fn fault_point(operation: &str) -> io::Result<()> {
    let _ = operation;
    PLAN.with_borrow_mut(|(_, seen)| {
        *seen += 1;
        Ok(())
    })
}
