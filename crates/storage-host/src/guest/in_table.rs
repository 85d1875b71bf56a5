//! A component's state in a table of the embedder, for hosts whose own state has no place for
//! a [`ComponentState`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::{Resource, ResourceTable};

use super::state::ComponentState;
use crate::component_chain::ComponentChain;

/// The storage of guests, whose states are entries of tables.
#[derive(Debug)]
pub(crate) struct StorageInTable {
    chain: Arc<ComponentChain>,
    /// Why a guest must not use it.
    refusal: Option<String>,
    /// Where the state was found last. Only a hint, because several tables may have a state
    /// of the same storage.
    last: AtomicU32,
}

impl StorageInTable {
    pub(crate) fn new(chain: Arc<ComponentChain>, refusal: Option<String>) -> Self {
        Self { chain, refusal, last: AtomicU32::new(0) }
    }

    pub(crate) fn chain(&self) -> &Arc<ComponentChain> {
        &self.chain
    }

    /// The state in a table. The first call adds it, beyond the table's capacity if need be.
    fn state<'a>(&self, table: &'a mut ResourceTable) -> &'a mut ComponentState {
        let mut at = self.last.load(Ordering::Relaxed);
        if !self.is_at(table, at) {
            at = self.find_or_add(table);
            self.last.store(at, Ordering::Relaxed);
        }
        #[expect(clippy::expect_used, reason = "it was found or added")]
        table.get_mut(&Resource::new_borrow(at)).expect("a state")
    }

    fn is_at(&self, table: &ResourceTable, at: u32) -> bool {
        table.get(&Resource::<ComponentState>::new_borrow(at)).is_ok_and(|state| self.is_of(state))
    }

    fn is_of(&self, state: &ComponentState) -> bool {
        Arc::ptr_eq(state.storage(), &self.chain)
    }

    #[cold]
    fn find_or_add(&self, table: &mut ResourceTable) -> u32 {
        let mut entries = table.iter_mut();
        let is_there = entries.any(|entry| entry.downcast_ref().is_some_and(|it| self.is_of(it)));
        drop(entries);
        if is_there {
            return (0..u32::MAX).find(|at| self.is_at(table, *at)).unwrap_or_default();
        }
        let mut state = ComponentState::new(Arc::clone(&self.chain));
        state.refusal.clone_from(&self.refusal);
        // The embedder's capacity is for other entries.
        table.set_max_capacity(table.max_capacity().saturating_add(1));
        #[expect(clippy::expect_used, reason = "memory ends before the numbers of entries do")]
        let added = table.push(state).expect("room for a state");
        added.rep()
    }
}

/// The storage of a guest and the table with its state, for the duration of one call.
#[derive(Debug)]
pub struct WasiKeyValue<'a> {
    storage: &'a StorageInTable,
    table: &'a mut ResourceTable,
}

impl<'a> WasiKeyValue<'a> {
    pub(crate) fn of(storage: &'a StorageInTable, table: &'a mut ResourceTable) -> Self {
        Self { storage, table }
    }

    pub(super) fn state(self) -> &'a mut ComponentState {
        self.storage.state(self.table)
    }
}

#[cfg(test)]
mod tests {
    use storage_core::conformance::ReferenceStorage;

    use super::*;
    use crate::StorageHost;

    #[test]
    fn each_table_keeps_one_state_of_each_storage() {
        let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
        let storages = ["a/b/1", "a/b/2"]
            .map(|id| StorageInTable::new(host.component(&id.parse().unwrap()), None));
        let mut tables = [ResourceTable::new(), ResourceTable::new()];
        // The states have different places in the tables, and the first table is full.
        tables[0].set_max_capacity(0);
        for _ in 0..3 {
            tables[1].push(()).unwrap();
        }
        for (number, table) in [0, 1, 0, 1].into_iter().enumerate() {
            for storage in &storages {
                let state = storage.state(&mut tables[table]);
                assert!(storage.is_of(state));
                state.handles_mut().push(number).unwrap();
            }
        }
        for (table, others) in tables.iter_mut().zip([0, 3]) {
            assert_eq!(table.iter_mut().count(), others + storages.len());
            for storage in &storages {
                assert_eq!(storage.state(table).handles_mut().iter_mut().count(), 2);
            }
        }
        assert!(tables[0].push(()).is_err(), "the capacity for other entries is what it was");
    }
}
