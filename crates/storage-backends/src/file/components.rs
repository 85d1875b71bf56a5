//! The components that the store keeps in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use storage_core::split_full_key;

use super::component::Component;
use super::index::{IndexBudget, KeyIndex};
use super::layout::Layout;

/// How many components to keep before idle ones are dropped: about 2 MB.
const MIN_SHRINK_AT: usize = 4096;

/// A full key with its component and the path of its file, resolved once per call.
#[derive(Debug)]
pub(super) struct ResolvedKey<'a> {
    pub(super) full: &'a str,
    pub(super) user: &'a str,
    pub(super) component: Arc<Component>,
    pub(super) file: PathBuf,
}

/// The components in memory, and the memory budget of their indexes.
#[derive(Debug)]
pub(super) struct Components {
    layout: Layout,
    index_budget: Arc<IndexBudget>,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    by_prefix: HashMap<Box<str>, Arc<Component>>,
    /// How many there may be before idle ones are dropped.
    shrink_at: usize,
}

impl Components {
    pub(super) fn new(layout: Layout, index_budget_bytes: usize) -> Self {
        let table = Table { by_prefix: HashMap::new(), shrink_at: MIN_SHRINK_AT };
        Self {
            layout,
            index_budget: Arc::new(IndexBudget::new(index_budget_bytes)),
            table: RwLock::new(table),
        }
    }

    pub(super) fn index_budget_bytes(&self) -> usize {
        self.index_budget.max_bytes()
    }

    pub(super) fn resolve<'a>(&self, full_key: &'a str) -> ResolvedKey<'a> {
        let (prefix, user) = split_full_key(full_key);
        let component = self.get(prefix);
        let file = component.file(user);
        ResolvedKey { full: full_key, user, component, file }
    }

    /// The component with a prefix.
    pub(super) fn get(&self, prefix: &str) -> Arc<Component> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = table.by_prefix.get(prefix) {
            component.mark_used();
            return Arc::clone(component);
        }
        drop(table);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Table { by_prefix, shrink_at } = &mut *table;
        if by_prefix.len() >= *shrink_at {
            // Every user of a component has an `Arc` from this table.
            by_prefix.retain(|_, one| Arc::strong_count(one) > 1 || one.is_worth_keeping());
            by_prefix.shrink_to(by_prefix.len().saturating_mul(2));
            // Twice what is in use, so that this loop stays rare.
            *shrink_at = by_prefix.len().saturating_mul(2).max(MIN_SHRINK_AT);
        }
        let create = || Arc::new(Component::new(prefix, &self.layout));
        Arc::clone(by_prefix.entry(prefix.into()).or_insert_with(create))
    }

    /// Runs `remove` unless a component with this directory is in memory. During that
    /// time no component is added, and none in use is dropped from memory. The prefix is
    /// `None` if the directory's name is hashed.
    pub(super) fn if_unused(&self, prefix: Option<&str>, directory: &Path, remove: impl FnOnce()) {
        let table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let is_used = match prefix {
            Some(prefix) => table.by_prefix.contains_key(prefix),
            None => table.by_prefix.values().any(|one| one.directory == directory),
        };
        if !is_used {
            remove();
        }
    }

    /// An empty index that counts against the memory budget.
    pub(super) fn new_index(&self) -> KeyIndex {
        KeyIndex::new(Arc::clone(&self.index_budget))
    }

    /// Drops the least recently used indexes, except that of `in_use`, until the others
    /// fit the memory budget.
    pub(super) fn shed_indexes(&self, in_use: &Component) {
        if !self.index_budget.is_exceeded() {
            return;
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut others: Vec<(u64, Arc<Component>)> = table
            .by_prefix
            .values()
            .filter(|one| one.prefix != in_use.prefix)
            .filter_map(|one| Some((one.index_used_at()?, Arc::clone(one))))
            .collect();
        drop(table);
        others.sort_by_key(|(used_at, _)| *used_at);
        for (_, other) in others {
            if !self.index_budget.is_exceeded() {
                return;
            }
            other.drop_index();
        }
    }
}
