//! What this thread is doing below a cache, so that a storage that calls the
//! cache above it never waits for itself.

use std::cell::RefCell;

use crate::sync::thread_local;

thread_local! {
    static BELOW: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// A call of the storage below that this thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    /// The cache that made it, by its address.
    cache: usize,
    doing: Doing,
}

/// What the cache holds while it calls the storage below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doing {
    /// The places of keys that others may wait for.
    Filling,
    /// Stripes.
    Locked,
}

/// As long as it lives, this thread is below a cache.
#[derive(Debug)]
pub(crate) struct Below(());

impl Below {
    pub(crate) fn enter<C>(cache: &C, doing: Doing) -> Self {
        let call = Call { cache: address(cache), doing };
        // A thread that is ending remembers nothing; nor does it call back.
        let _ = BELOW.try_with(|below| below.borrow_mut().push(call));
        Self(())
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // Calls end in the reverse order.
        let _ = BELOW.try_with(|below| below.borrow_mut().pop());
    }
}

/// What this thread is doing below a cache; of several things the gravest.
pub(crate) fn doing_below<C>(cache: &C) -> Option<Doing> {
    let cache = address(cache);
    let doing = |below: &RefCell<Vec<Call>>| {
        let below = below.borrow();
        below.iter().filter(|call| call.cache == cache).map(|call| call.doing).max()
    };
    BELOW.try_with(doing).ok().flatten()
}

fn address<C>(cache: &C) -> usize {
    std::ptr::from_ref(cache).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cache_has_its_own_calls_and_a_panic_ends_them() {
        let (one, other) = (1_u8, 2_u8);
        let outer = Below::enter(&one, Doing::Locked);
        let inner = Below::enter(&one, Doing::Filling);
        assert_eq!(doing_below(&one), Some(Doing::Locked));
        assert_eq!(doing_below(&other), None);
        drop(inner);
        let panicked = std::panic::catch_unwind(|| {
            let _call = Below::enter(&other, Doing::Filling);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(doing_below(&other), None);
        assert_eq!(doing_below(&one), Some(Doing::Locked));
        drop(outer);
        assert_eq!(doing_below(&one), None);
    }
}
