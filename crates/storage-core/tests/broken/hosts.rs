//! The connection of one of several hosts, with a defect.

use std::sync::{Arc, Mutex};

use storage_core::conformance::{HostConnection, SharedReference};
use storage_core::{
    Change, Commit, ComponentStorage, Revision, SharedStore, StorageError, StorageValue, Store,
    StoreProperties, Watcher, forward_storage,
};

pub(crate) struct BrokenHost {
    defect: &'static str,
    connection: HostConnection,
    reports: Arc<Reports>,
}

/// Passes changes on, with a defect.
struct Reports {
    defect: &'static str,
    watchers: Mutex<Vec<Arc<dyn Watcher>>>,
    last_own: Mutex<Option<Revision>>,
}

impl BrokenHost {
    pub(crate) fn new(defect: &'static str, store: &SharedReference) -> Self {
        let connection = match defect {
            "each host has its own keys" => SharedReference::new().connect(),
            _ => store.connect(),
        };
        let reports =
            Arc::new(Reports { defect, watchers: Mutex::default(), last_own: Mutex::default() });
        connection.watch(reports.clone());
        Self { defect, connection, reports }
    }

    fn is(&self, defect: &str) -> bool {
        self.defect == defect
    }

    /// Makes a call during which nothing is reported.
    fn unreported<T>(&self, call: impl FnOnce() -> T) -> T {
        let watchers = std::mem::take(&mut *self.reports.watchers.lock().unwrap());
        let result = call();
        *self.reports.watchers.lock().unwrap() = watchers;
        result
    }
}

impl Reports {
    fn report(&self, change: &Change) {
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher.changed(change));
    }
}

impl Watcher for Reports {
    fn changed(&self, change: &Change) {
        let mut change = change.clone();
        match self.defect {
            "own commits are not reported" if change.is_own => return,
            "changes follow nothing" => change.previous = None,
            "one change for all components" if !change.prefix.is_empty() => return,
            "changes follow the last own one" if change.is_own => {
                let mut last_own = self.last_own.lock().unwrap();
                change.previous = last_own.replace(change.revision);
            }
            "no change names keys" => change.keys = None,
            "changes of other hosts follow nothing" if !change.is_own => change.previous = None,
            _ => {}
        }
        self.report(&change);
    }
}

impl SharedStore for BrokenHost {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        let mut watchers = self.reports.watchers.lock().unwrap();
        if !self.is("every watcher is called") {
            watchers.clear();
        }
        watchers.push(watcher);
    }

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        let mut found = self.connection.component_revisions(prefixes)?;
        match self.defect {
            "revisions are sorted" => found.sort(),
            "unknown components have revision 0" => {
                found.iter_mut().for_each(|one| *one = one.or(Some(Revision::new(0))));
            }
            "revisions count own commits only" => {
                let last_own = *self.reports.last_own.lock().unwrap();
                found.iter_mut().for_each(|one| *one = last_own);
            }
            _ => {}
        }
        Ok(found)
    }
}

#[expect(clippy::missing_trait_methods, reason = "a known value is never needed")]
impl ComponentStorage for BrokenHost {
    forward_storage!(self => self.connection; get, exists, list_keys, list_page, get_many, usage);
    forward_storage!(self => self.connection; get_versioned);

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        if self.is("only commits are reported") {
            return self.unreported(|| self.connection.set(key, value));
        }
        self.connection.set(key, value)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.connection.delete(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let result = self.connection.commit(commit);
        if result.is_err() && self.is("failed commits are reported") {
            self.reports.report(&Change {
                prefix: "a/b/c/".to_owned(),
                previous: None,
                revision: Revision::new(1),
                keys: None,
                is_own: true,
            });
        }
        result
    }
}

#[expect(clippy::missing_trait_methods, reason = "the others have defects in another type")]
impl Store for BrokenHost {
    fn properties(&self) -> StoreProperties {
        let denied = self.is("the properties deny other hosts");
        self.connection.properties().with_shared_with_other_hosts(!denied)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut storage_core::SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        self.connection.read_snapshot(prefix, after, visit)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}
