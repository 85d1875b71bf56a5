//! Moments at which a test can hold a thread up.

/// A ledger is about to be counted: the moment of the count has come, and
/// nothing is counted yet.
#[cfg(not(test))]
pub(crate) fn before_a_count() {}

#[cfg(test)]
pub(crate) use in_tests::{before_a_count, hold_the_next_count};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    type Hold = Box<dyn FnOnce()>;

    thread_local! {
        static NEXT: Cell<Option<Hold>> = const { Cell::new(None) };
    }

    pub(crate) fn before_a_count() {
        if let Some(hold) = NEXT.take() {
            hold();
        }
    }

    /// Has this thread call `hold` at its next count.
    pub(crate) fn hold_the_next_count(hold: impl FnOnce() + 'static) {
        NEXT.set(Some(Box::new(hold)));
    }
}
