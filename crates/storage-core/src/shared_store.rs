//! What a store that several hosts use tells each of them about the writes of the others.

use std::sync::Arc;

use crate::{Revision, StorageError};

/// A store that other hosts may write to, as the cache of one host sees it.
///
/// A host learns of the writes of others in two ways. Changes arrive soon after the write, but
/// may be lost, late, repeated or out of order. [`component_revisions`](Self::component_revisions)
/// is exact, and costs a read of the store. The revisions of a component grow in the order
/// in which its commits take effect.
///
/// [`Store::shared`](crate::Store::shared) returns it.
pub trait SharedStore: Send + Sync {
    /// Calls `watcher` with each change from now on, until the store is dropped.
    ///
    /// A commit of this host is reported before it returns, if its outcome is known. Those of
    /// other hosts are reported from a thread of the store. Both are reported only once every
    /// read of this host that begins then sees the commit. The store holds no lock that one of
    /// its other calls needs. A store has one watcher; a second call replaces it.
    fn watch(&self, watcher: Arc<dyn Watcher>);

    /// Returns the revision of the last commit that wrote to each component, or `None` for a
    /// component that was never written.
    ///
    /// It is the revision of the last [`Change`] of the component: a commit that is not
    /// reported, such as one of checks only, does not change it. Includes every commit that was
    /// acknowledged to any host, or reported to this one, before the call. The result has the
    /// order of `prefixes`, which are component prefixes such as `app/notes/home/`, or `""` for
    /// unscoped keys.
    ///
    /// # Errors
    /// [`StorageError::IoError`] or [`StorageError::Unavailable`].
    fn component_revisions(&self, prefixes: &[&str])
    -> Result<Vec<Option<Revision>>, StorageError>;

    /// Checks that the servers still hold the store that was opened. If they do not, because one
    /// was emptied or holds another store, later reads fail, too, instead of finding nothing.
    ///
    /// Costs a small read. A host calls it after each poll. Default: succeeds, for stores whose
    /// reads notice it themselves.
    ///
    /// # Errors
    /// As [`component_revisions`](Self::component_revisions).
    fn check_identity(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Is told of the commits to a [`SharedStore`].
pub trait Watcher: Send + Sync {
    /// Handles one change. Must return soon and must not call the store.
    fn changed(&self, change: &Change);
}

/// One commit to one component of a [`SharedStore`].
///
/// A commit to several components is reported as one change for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The component prefix; `""` for unscoped keys.
    pub prefix: String,
    /// The revision of the component's change before this one; `None` if this is its first. If
    /// it is not the last one that was reported to a host, the host has missed a change.
    pub previous: Option<Revision>,
    /// The revision of this commit.
    pub revision: Revision,
    /// The full keys that were written; `None` if there are too many to name, so that any key
    /// of the component may have changed. A change of one key names it.
    pub keys: Option<Vec<String>>,
    /// Whether this host made the commit.
    pub is_own: bool,
}
