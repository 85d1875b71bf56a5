//! Moments at which a test can hold a thread up.

/// A ledger is about to be counted: the moment of the count has come, and
/// nothing is counted yet.
#[cfg(not(test))]
pub(crate) fn before_a_count() {}

/// Everything is counted, and nobody knows yet.
#[cfg(not(test))]
pub(crate) fn after_a_count() {}

#[cfg(test)]
pub(crate) use in_tests::{after_a_count, before_a_count, hold_the_next_count};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    type Hold = Box<dyn FnOnce()>;

    thread_local! {
        static BEFORE: Cell<Option<Hold>> = const { Cell::new(None) };
        static AFTER: Cell<Option<Hold>> = const { Cell::new(None) };
    }

    pub(crate) fn before_a_count() {
        BEFORE.take().into_iter().for_each(|hold| hold());
    }

    pub(crate) fn after_a_count() {
        AFTER.take().into_iter().for_each(|hold| hold());
    }

    /// Has this thread call `hold` before its next count, and after it.
    pub(crate) fn hold_the_next_count(hold: impl Fn() + Clone + 'static) {
        BEFORE.set(Some(Box::new(hold.clone())));
        AFTER.set(Some(Box::new(hold)));
    }
}
