//! The memory of all instances together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of an element of a table.
const ELEMENT: usize = size_of::<usize>();

/// The bytes that instances have taken.
#[derive(Debug, Default)]
pub(super) struct TakenBytes(AtomicUsize);

impl TakenBytes {
    /// Takes bytes, unless more than `max` were then taken.
    fn take(&self, bytes: usize, max: usize) -> bool {
        let sum = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= max);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// What the instances of a server may take.
#[derive(Debug)]
pub(super) struct InstanceMemory {
    taken: Arc<TakenBytes>,
    max: usize,
    /// The most that those of one component may take.
    component_max: usize,
}

impl InstanceMemory {
    /// Allows this many bytes in all. One of several components gets half of it, so that it
    /// leaves the others something.
    pub(super) fn new(max: usize, components: usize) -> Self {
        let component_max = if components > 1 { max / 2 } else { max };
        Self { taken: Arc::default(), max, component_max }
    }

    /// The memory of a new instance. `component` is what the instances of its component take.
    pub(super) fn of_instance(&self, component: &Arc<TakenBytes>) -> TakenMemory {
        TakenMemory {
            own: Arc::clone(component),
            own_max: self.component_max,
            all: Arc::clone(&self.taken),
            max: self.max,
            bytes: 0,
            refused: None,
        }
    }
}

/// What an instance has taken. Dropping it returns everything.
#[derive(Debug)]
pub(super) struct TakenMemory {
    /// By its component.
    own: Arc<TakenBytes>,
    own_max: usize,
    /// By all components.
    all: Arc<TakenBytes>,
    max: usize,
    bytes: usize,
    /// The limit that was reached, if one was.
    refused: Option<usize>,
}

impl TakenMemory {
    /// The limit above which it was refused memory, if it was.
    pub(super) fn refused(&self) -> Option<usize> {
        self.refused
    }

    /// Takes what a memory grows by. If it then fails to grow, the bytes stay taken.
    pub(super) fn grow(&mut self, current: usize, desired: usize) -> bool {
        let bytes = desired.saturating_sub(current);
        if !self.own.take(bytes, self.own_max) {
            self.refused = Some(self.own_max);
            return false;
        }
        if !self.all.take(bytes, self.max) {
            self.own.give_back(bytes);
            self.refused = Some(self.max);
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }

    /// The same for a table, in elements.
    pub(super) fn grow_table(&mut self, current: usize, desired: usize) -> bool {
        self.grow(current.saturating_mul(ELEMENT), desired.saturating_mul(ELEMENT))
    }
}

impl Drop for TakenMemory {
    fn drop(&mut self) {
        self.own.give_back(self.bytes);
        self.all.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_what_is_left_and_return_it() {
        let memory = InstanceMemory::new(100, 2);
        let [one, other] = [(); 2].map(|()| Arc::<TakenBytes>::default());
        let mut first = memory.of_instance(&one);
        assert!(first.grow(0, 10) && first.grow(10, 30));
        // Its component has 20 more.
        assert!(!first.grow(30, 51));
        assert_eq!(first.refused(), Some(50));
        let mut second = memory.of_instance(&one);
        assert!(!second.grow(0, 21) && second.grow(0, 20));
        assert!(!first.grow(30, 31));
        // A refusal takes nothing.
        let mut third = memory.of_instance(&other);
        for _ in 0..10 {
            assert!(!third.grow(0, 51));
        }
        assert!(third.grow(0, 50));
        drop(first);
        assert!(second.grow(20, 50));
        drop((second, third));
        let taken = |bytes: &TakenBytes| bytes.0.load(Ordering::SeqCst);
        assert_eq!((taken(&one), taken(&other), taken(&memory.taken)), (0, 0, 0));
    }

    #[test]
    fn all_components_together_have_a_limit() {
        let memory = InstanceMemory::new(100, 3);
        let components = [(); 3].map(|()| Arc::<TakenBytes>::default());
        let mut instances = components.each_ref().map(|one| memory.of_instance(one));
        let [first, second, third] = &mut instances;
        assert!(first.grow(0, 50) && second.grow(0, 49));
        assert!(!third.grow(0, 2));
        assert_eq!(third.refused(), Some(100));
        assert!(third.grow(0, 1));
        assert!(!third.grow(1, usize::MAX));
    }

    #[test]
    fn the_only_component_gets_everything() {
        let memory = InstanceMemory::new(100, 1);
        let mut instance = memory.of_instance(&Arc::default());
        assert!(instance.grow(0, 100) && !instance.grow(100, 101));
    }

    #[test]
    fn elements_of_tables_count_with_their_size() {
        let memory = InstanceMemory::new(100 * ELEMENT, 1);
        let mut instance = memory.of_instance(&Arc::default());
        assert!(!instance.grow_table(0, 101) && instance.grow_table(0, 99));
        assert!(!instance.grow_table(99, usize::MAX) && instance.grow_table(99, 100));
    }
}
