//! What a commit sees and changes while its components are locked.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockWriteGuard};

use storage_core::{CommitView, StorageError, VersionedValue, split_full_key};

use super::component::Component;
use super::write;

/// The locked components of a commit.
pub(super) struct Locked<'a> {
    has_budget: bool,
    components: Components<'a>,
}

enum Components<'a> {
    /// The only one, and its prefix: the usual case.
    One(&'a str, &'a mut Component),
    /// By prefix.
    Several(BTreeMap<&'a str, RwLockWriteGuard<'a, Component>>),
}

impl<'a> Locked<'a> {
    /// A component that the caller has locked.
    pub(super) fn one(prefix: &'a str, component: &'a mut Component, has_budget: bool) -> Self {
        Self { has_budget, components: Components::One(prefix, component) }
    }

    /// Locks several components in the order of their prefixes. Returns `None` if one was
    /// removed meanwhile.
    pub(super) fn several(
        components: &'a BTreeMap<&'a str, Arc<RwLock<Component>>>,
        has_budget: bool,
    ) -> Option<Self> {
        let lock = |(prefix, component): (&&'a str, &'a Arc<RwLock<Component>>)| {
            let component = write(component);
            (!component.removed).then_some((*prefix, component))
        };
        let components = components.iter().map(lock).collect::<Option<_>>()?;
        Some(Self { has_budget, components: Components::Several(components) })
    }

    pub(super) fn component(&self, prefix: &str) -> Option<&Component> {
        match &self.components {
            Components::One(own, component) => (*own == prefix).then_some(&**component),
            Components::Several(components) => components.get(prefix).map(|found| &**found),
        }
    }

    pub(super) fn component_mut(&mut self, prefix: &str) -> Option<&mut Component> {
        match &mut self.components {
            Components::One(own, component) => (*own == prefix).then_some(&mut **component),
            Components::Several(components) => components.get_mut(prefix).map(|found| &mut **found),
        }
    }

    fn stored(&self, key: &str) -> Option<&VersionedValue> {
        let (prefix, user_key) = split_full_key(key);
        self.component(prefix)?.get(user_key)
    }

    /// The prefixes of the components that hold no key.
    pub(super) fn empty(&self) -> Vec<&'a str> {
        match &self.components {
            Components::One(prefix, component) => {
                component.is_empty().then_some(*prefix).into_iter().collect()
            }
            Components::Several(components) => {
                let empty = components.iter().filter(|(_, component)| component.is_empty());
                empty.map(|(prefix, _)| *prefix).collect()
            }
        }
    }
}

impl CommitView for Locked<'_> {
    type Error = StorageError;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Ok(self.stored(key).cloned())
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, StorageError> {
        Ok(self.stored(key).map(|found| found.value.len()))
    }

    fn is_counted(&mut self, _component_prefix: &str) -> Result<bool, StorageError> {
        Ok(self.has_budget)
    }
}
