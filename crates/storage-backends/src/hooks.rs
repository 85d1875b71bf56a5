//! Points at which a test can block a thread.

/// The snapshot of a count exists, and nothing is counted yet.
#[cfg(not(test))]
pub(crate) fn before_count() {}

/// Everything is counted, and the result is not published yet.
#[cfg(not(test))]
pub(crate) fn after_count() {}

#[cfg(test)]
pub(crate) use in_tests::{after_count, before_count, hold_the_next_count};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    type Hold = Box<dyn FnOnce()>;

    thread_local! {
        static BEFORE: Cell<Option<Hold>> = const { Cell::new(None) };
        static AFTER: Cell<Option<Hold>> = const { Cell::new(None) };
    }

    pub(crate) fn before_count() {
        BEFORE.take().into_iter().for_each(|hold| hold());
    }

    pub(crate) fn after_count() {
        AFTER.take().into_iter().for_each(|hold| hold());
    }

    /// Makes this thread call `hold` before and after its next count.
    pub(crate) fn hold_the_next_count(hold: impl Fn() + Clone + 'static) {
        BEFORE.set(Some(Box::new(hold.clone())));
        AFTER.set(Some(Box::new(hold)));
    }
}
