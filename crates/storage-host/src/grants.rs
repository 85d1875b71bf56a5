//! What a component may do with another's keys.
//!
//! Nothing is granted by default. A grant lets one component read, or read and
//! write, those keys of another that begin with a prefix. It resolves to the
//! owner's own chain behind a filter, so there is no second cache over the
//! owner's keys, and the owner's quota pays for what is written.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use storage_core::{
    Commit, ComponentId, ComponentStorage, KeyPage, PageRequest, Revision, StorageError,
    StorageValue, Usage, VersionedValue, join_key, validate_key,
};

use crate::host::ComponentChain;
#[cfg(feature = "wasmtime")]
use crate::limits::Limits;

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading, listing and counting.
    Read,
    /// The same, and writing and deleting.
    ReadWrite,
}

/// Lets a component at some of another's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose keys.
    pub owner: ComponentId,
    /// Those that begin with this; `""` for all of them.
    pub prefix: String,
    /// What may be done with them.
    pub access: Access,
}

/// All grants of a host.
#[derive(Debug, Default)]
pub(crate) struct Grants(RwLock<HashMap<Pair, Arc<Allowed>>>);

/// Who may, and whose keys.
type Pair = (ComponentId, ComponentId);

impl Grants {
    /// Adds a grant; one for the same prefix is replaced.
    pub(crate) fn add(&self, to: &ComponentId, grant: Grant) {
        let pair = (to.clone(), grant.owner);
        let mut grants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        grants.entry(pair).or_default().change(|prefixes| {
            prefixes.retain(|(prefix, _)| *prefix != grant.prefix);
            prefixes.push((grant.prefix, grant.access));
        });
    }

    /// Takes a grant back; handles that are open lose it with their next call.
    /// `false` if there was none.
    pub(crate) fn remove(&self, to: &ComponentId, owner: &ComponentId, prefix: &str) -> bool {
        let pair = (to.clone(), owner.clone());
        let mut grants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(allowed) = grants.get(&pair) else { return false };
        let mut found = false;
        let left = allowed.change(|prefixes| {
            let before = prefixes.len();
            prefixes.retain(|(granted, _)| granted != prefix);
            found = prefixes.len() < before;
        });
        if left == 0 {
            grants.remove(&pair);
        }
        found
    }

    /// What a component has been granted, in the order of owners and prefixes.
    pub(crate) fn of(&self, to: &ComponentId) -> Vec<Grant> {
        let grants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Grant> = Vec::new();
        for ((_, owner), allowed) in grants.iter().filter(|((grantee, _), _)| grantee == to) {
            let rules = allowed.rules();
            found.extend(rules.granted.iter().map(|(prefix, access)| Grant {
                owner: owner.clone(),
                prefix: prefix.clone(),
                access: *access,
            }));
        }
        found.sort_by(|a, b| (&a.owner, &a.prefix).cmp(&(&b.owner, &b.prefix)));
        found
    }

    /// What `to` may do with the keys of `owner`; `None` if nothing.
    pub(crate) fn between(&self, to: &ComponentId, owner: &ComponentId) -> Option<Arc<Allowed>> {
        let grants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        grants.get(&(to.clone(), owner.clone())).cloned()
    }
}

/// What one component may do with another's keys, now.
#[derive(Debug, Default)]
pub(crate) struct Allowed(RwLock<Arc<Rules>>);

impl Allowed {
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the granted prefixes; answers how many there are then.
    fn change(&self, change: impl FnOnce(&mut Vec<(String, Access)>)) -> usize {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut granted = rules.granted.clone();
        change(&mut granted);
        let count = granted.len();
        *rules = Arc::new(Rules::of(granted));
        count
    }
}

/// The prefixes of all grants between two components.
#[derive(Debug, Default)]
struct Rules {
    granted: Vec<(String, Access)>,
    /// Those of which none begins with another, in order: the keys behind one
    /// come before those of the next.
    readable: Vec<String>,
    writable: Vec<String>,
}

impl Rules {
    fn of(granted: Vec<(String, Access)>) -> Self {
        let all = granted.iter().map(|(prefix, _)| prefix.clone());
        let readable = disjoint(all.collect());
        let writes = granted.iter().filter(|(_, access)| *access == Access::ReadWrite);
        let writable = disjoint(writes.map(|(prefix, _)| prefix.clone()).collect());
        Self { granted, readable, writable }
    }

    fn can_read(&self, key: &str) -> bool {
        covers(&self.readable, key)
    }

    fn check_write(&self, key: &str) -> Result<(), StorageError> {
        if covers(&self.writable, key) {
            return Ok(());
        }
        Err(denied(key))
    }

    /// The prefixes of the readable keys that begin with `prefix`, in order.
    fn readable_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.readable.iter().filter_map(move |granted| {
            if prefix.starts_with(granted) {
                Some(prefix)
            } else {
                granted.starts_with(prefix).then_some(&**granted)
            }
        })
    }
}

/// Names the key, if it is one: anything else may be as long as it likes.
fn denied(key: &str) -> StorageError {
    let key = if validate_key(key).is_ok() { key } else { "" };
    StorageError::AccessDenied(key.to_owned())
}

fn covers(prefixes: &[String], key: &str) -> bool {
    prefixes.iter().any(|prefix| key.starts_with(&**prefix))
}

fn disjoint(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort();
    // What begins with another comes right behind it, or behind others that do.
    prefixes.dedup_by(|next, kept| next.starts_with(&**kept));
    prefixes
}

/// Another component's storage, as far as it is granted.
///
/// Keys are named as their owner names them. What lies outside of the grants does
/// not exist: reads, listings and counts leave it out, and neither the cache nor
/// the backend is asked about it. Writing there, or where only reading is
/// granted, is [`StorageError::AccessDenied`]. So is every call once all grants
/// were taken back.
#[derive(Debug, Clone)]
pub struct GrantedStorage {
    owner: Arc<ComponentChain>,
    allowed: Arc<Allowed>,
}

impl GrantedStorage {
    pub(crate) fn new(owner: Arc<ComponentChain>, allowed: Arc<Allowed>) -> Self {
        Self { owner, allowed }
    }

    /// Whose keys they are.
    pub fn owner(&self) -> &ComponentId {
        self.owner.id()
    }

    /// What the owner's calls are held to, and so are those by grants.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn owner_limits(&self) -> &Limits {
        self.owner.limits()
    }

    /// What is granted now.
    fn rules(&self, key: &str) -> Result<Arc<Rules>, StorageError> {
        let rules = self.allowed.rules();
        if rules.granted.is_empty() { Err(denied(key)) } else { Ok(rules) }
    }

    /// What is granted now, for a read of a key: what is no key is refused, lest
    /// somebody keep it as one that does not exist.
    fn rules_to_read(&self, key: &str) -> Result<Arc<Rules>, StorageError> {
        let rules = self.rules(key)?;
        validate_key(key)?;
        Ok(rules)
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for GrantedStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        if self.rules_to_read(key)?.can_read(key) { self.owner.get(key) } else { Ok(None) }
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.rules(key)?.check_write(key)?;
        self.owner.set(key, value)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.rules(key)?.check_write(key)?;
        self.owner.delete(key)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        if self.rules_to_read(key)?.can_read(key) { self.owner.exists(key) } else { Ok(false) }
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let prefix = prefix.unwrap_or_default();
        let mut keys = Vec::new();
        for granted in self.rules(prefix)?.readable_under(prefix) {
            keys.append(&mut self.owner.list_keys(Some(granted))?);
        }
        Ok(keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let mut page = KeyPage::default();
        for prefix in self.rules(request.prefix)?.readable_under(request.prefix) {
            let limit = request.limit - page.keys.len();
            let mut part = self.owner.list_page(PageRequest { prefix, limit, ..request })?;
            page.keys.append(&mut part.keys);
            if part.more {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let rules = self.rules(keys.first().copied().unwrap_or_default())?;
        for key in keys {
            validate_key(key)?;
        }
        let asked: Vec<&str> = keys.iter().copied().filter(|key| rules.can_read(key)).collect();
        if asked.is_empty() {
            return Ok(vec![None; keys.len()]);
        }
        let mut found = self.owner.get_many(&asked)?.into_iter();
        let answer = |key: &&str| if rules.can_read(key) { found.next().flatten() } else { None };
        Ok(keys.iter().map(answer).collect())
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let prefix = prefix.unwrap_or_default();
        let rules = self.rules(prefix)?;
        let parts = rules.readable_under(prefix).map(|granted| self.owner.usage(Some(granted)));
        parts.into_iter().try_fold(Usage::default(), |sum, part| Ok(sum + part?))
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let key = join_key(prefix, key);
        if self.rules_to_read(&key).ok()?.can_read(&key) {
            self.owner.try_get("", &key)
        } else {
            Some(None)
        }
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        if self.rules_to_read(key)?.can_read(key) {
            self.owner.get_versioned(key)
        } else {
            Ok(None)
        }
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let rules = self.rules("")?;
        for write in &commit.writes {
            rules.check_write(&write.key)?;
        }
        for check in &commit.checks {
            // It cannot hold or fail without telling what is there.
            if !rules.can_read(&check.key) {
                return Err(denied(&check.key));
            }
        }
        self.owner.commit(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_others_begin_with_are_enough() {
        let prefixes = ["b", "a/x", "a/", "a/x/y", "", "c"].map(str::to_owned).to_vec();
        assert_eq!(disjoint(prefixes[..4].to_vec()), ["a/", "b"]);
        assert_eq!(disjoint(prefixes), [""]);
        assert_eq!(disjoint(Vec::new()), Vec::<String>::new());
    }

    #[test]
    fn a_prefix_is_narrowed_to_what_is_granted() {
        let rules = Rules::of(vec![
            ("shared/a".into(), Access::Read),
            ("shared/b".into(), Access::ReadWrite),
            ("x".into(), Access::Read),
        ]);
        let under = |prefix| rules.readable_under(prefix).collect::<Vec<_>>();
        assert_eq!(under(""), ["shared/a", "shared/b", "x"]);
        assert_eq!(under("shared/"), ["shared/a", "shared/b"]);
        assert_eq!(under("shared/a/deep"), ["shared/a/deep"]);
        assert_eq!(under("y"), Vec::<&str>::new());
        assert!(rules.check_write("shared/b1").is_ok());
        assert!(rules.check_write("shared/a1").is_err());
    }
}
