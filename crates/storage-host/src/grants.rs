//! Grants: access of one component to keys of another.
//!
//! Nothing is granted by default. A grant lets one component read, or read and
//! write, the keys of another that begin with a prefix. Access goes through the
//! owner's chain, so there is no second cache of the owner's keys, and the owner's
//! quota counts what is written.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use storage_core::{
    Commit, ComponentId, ComponentStorage, KeyPage, PageRequest, Revision, StorageError,
    StorageValue, Usage, VersionedValue, forward_storage, join_key, validate_key,
};

use crate::component_chain::{Chain, ComponentChain};
#[cfg(feature = "wasmtime")]
use crate::limits::LimitedStorage;
use crate::observed::Observed;
use crate::settings::by_prefix;

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read, list and count.
    Read,
    /// Read, list, count, write and delete.
    ReadWrite,
}

/// Gives a component access to some keys of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The component that owns the keys.
    pub owner: ComponentId,
    /// The prefix of the user keys; `""` for all keys.
    pub prefix: String,
    /// What is allowed.
    pub access: Access,
}

/// All grants of a host.
#[derive(Debug, Default)]
pub(crate) struct Grants(RwLock<HashMap<Pair, Arc<Allowed>>>);

/// The component that has access, and the owner.
type Pair = (ComponentId, ComponentId);

impl Grants {
    /// Adds a grant. Replaces one for the same prefix.
    pub(crate) fn add(&self, to: &ComponentId, grant: Grant) {
        let pair = (to.clone(), grant.owner);
        let mut grants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        grants.entry(pair).or_default().change(|prefixes| {
            prefixes.retain(|(prefix, _)| *prefix != grant.prefix);
            prefixes.push((grant.prefix, grant.access));
        });
    }

    /// Revokes a grant, including for open handles. Returns whether it existed.
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

    /// Returns the grants of a component, ordered by owner and prefix.
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

    /// Returns the grants of all components, each ordered by owner and prefix.
    pub(crate) fn all(&self) -> BTreeMap<ComponentId, Vec<Grant>> {
        all_of(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces all grants. `change` gets the old ones and changes what must take effect
    /// together with the new ones: no call sees some grants of before and some of after it.
    pub(crate) fn replace<R>(
        &self,
        wanted: &BTreeMap<ComponentId, Vec<Grant>>,
        change: impl FnOnce(BTreeMap<ComponentId, Vec<Grant>>) -> R,
    ) -> R {
        let mut rules: HashMap<Pair, Rules> = HashMap::new();
        for (to, grants) in wanted {
            let mut owners: BTreeMap<ComponentId, Vec<(String, Access)>> = BTreeMap::new();
            for ((owner, prefix), access) in by_prefix(grants) {
                owners.entry(owner).or_default().push((prefix, access));
            }
            let pairs = owners.into_iter();
            rules.extend(pairs.map(|(owner, all)| ((to.clone(), owner), Rules::of(all))));
        }
        let mut grants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = all_of(&grants);
        for pair in rules.keys() {
            if !grants.contains_key(pair) {
                grants.insert(pair.clone(), Arc::default());
            }
        }
        let mut locked: Vec<_> = grants
            .iter()
            .map(|(pair, allowed)| {
                (pair, allowed.0.write().unwrap_or_else(PoisonError::into_inner))
            })
            .collect();
        let result = change(old);
        for (pair, allowed) in &mut locked {
            **allowed = Arc::new(rules.remove(*pair).unwrap_or_default());
        }
        drop(locked);
        grants.retain(|_, allowed| !allowed.rules().granted.is_empty());
        result
    }

    /// Returns what `to` may do with the keys of `owner`; `None` if nothing.
    pub(crate) fn between(&self, to: &ComponentId, owner: &ComponentId) -> Option<Arc<Allowed>> {
        let grants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        grants.get(&(to.clone(), owner.clone())).cloned()
    }
}

fn all_of(grants: &HashMap<Pair, Arc<Allowed>>) -> BTreeMap<ComponentId, Vec<Grant>> {
    let mut all: BTreeMap<ComponentId, Vec<Grant>> = BTreeMap::new();
    for ((to, owner), allowed) in grants {
        let of = |(prefix, access): &(String, Access)| Grant {
            owner: owner.clone(),
            prefix: prefix.clone(),
            access: *access,
        };
        all.entry(to.clone()).or_default().extend(allowed.rules().granted.iter().map(of));
    }
    for grants in all.values_mut() {
        grants.sort_by(|a, b| (&a.owner, &a.prefix).cmp(&(&b.owner, &b.prefix)));
    }
    all
}

/// What one component may do with the keys of another. Changes with the grants.
#[derive(Debug, Default)]
pub(crate) struct Allowed(RwLock<Arc<Rules>>);

impl Allowed {
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the granted prefixes and returns their new number.
    fn change(&self, change: impl FnOnce(&mut Vec<(String, Access)>)) -> usize {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut granted = rules.granted.clone();
        change(&mut granted);
        let count = granted.len();
        *rules = Arc::new(Rules::of(granted));
        count
    }
}

/// The prefixes of all grants from one component to another.
#[derive(Debug, Default)]
struct Rules {
    granted: Vec<(String, Access)>,
    /// Sorted and disjoint: no prefix begins with another one, and the keys of one prefix
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

    /// The prefixes that select the readable keys that begin with `prefix`, in order.
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

/// The error contains only valid keys, whose length is limited.
fn denied(key: &str) -> StorageError {
    let key = if validate_key(key).is_ok() { key } else { "" };
    StorageError::AccessDenied(key.to_owned())
}

fn covers(prefixes: &[String], key: &str) -> bool {
    prefixes.iter().any(|prefix| key.starts_with(&**prefix))
}

fn disjoint(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort();
    // In this order a prefix directly follows the ones that it begins with.
    prefixes.dedup_by(|next, kept| next.starts_with(&**kept));
    prefixes
}

/// The storage of another component, restricted to what is granted.
///
/// Takes the owner's user keys. Keys outside of the grants do not exist: reads,
/// listings and counts omit them without a call of the cache or the store. Writing
/// such a key, or a key that is granted for reading only, is
/// [`StorageError::AccessDenied`]. So is every call once all grants are revoked.
///
/// A call is one of the component that has the grant: its rate limit applies, and its metrics
/// count it. The limits and the quota of the owner apply.
#[derive(Clone)]
pub struct GrantedStorage {
    storage: Arc<Observed<GrantedKeys>>,
    /// Whose calls these are. Its account lives as long as its chain.
    _caller: Arc<ComponentChain>,
}

impl GrantedStorage {
    pub(crate) fn new(
        caller: Arc<ComponentChain>,
        owner: Arc<ComponentChain>,
        allowed: Arc<Allowed>,
    ) -> Self {
        let account = Arc::clone(caller.account());
        let storage = Arc::new(Observed::new(GrantedKeys { owner, allowed }, account));
        Self { storage, _caller: caller }
    }

    /// The component that owns the keys.
    pub fn owner(&self) -> &ComponentId {
        self.storage.inner().owner()
    }

    /// The same for a guest: within the limits of the caller, too. The caller's chain must live
    /// as long.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn for_guest(&self) -> Observed<LimitedStorage<GrantedKeys>> {
        let keys = self.storage.inner().clone();
        let account = self.storage.account();
        let accounts = [Arc::clone(account), Arc::clone(keys.owner.account())];
        Observed::new(LimitedStorage::lower(keys, accounts), Arc::clone(account))
    }
}

impl fmt::Debug for GrantedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedStorage")
            .field("owner", self.owner())
            .field("allowed", &self.storage.inner().allowed)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for GrantedStorage {
    forward_storage!(self => *self.storage);
}

/// The keys of another component that are granted.
#[derive(Debug, Clone)]
pub(crate) struct GrantedKeys {
    owner: Arc<ComponentChain>,
    allowed: Arc<Allowed>,
}

impl GrantedKeys {
    pub(crate) fn owner(&self) -> &ComponentId {
        self.owner.id()
    }

    /// The owner's storage.
    fn storage(&self) -> &Chain {
        self.owner.unobserved()
    }

    /// Returns the current grants; an error if there are none.
    fn rules(&self, key: &str) -> Result<Arc<Rules>, StorageError> {
        let rules = self.allowed.rules();
        if rules.granted.is_empty() { Err(denied(key)) } else { Ok(rules) }
    }

    /// The same for a read. An invalid key is an error and not a missing key, which
    /// callers might cache.
    fn rules_to_read(&self, key: &str) -> Result<Arc<Rules>, StorageError> {
        let rules = self.rules(key)?;
        validate_key(key)?;
        Ok(rules)
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for GrantedKeys {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        if self.rules_to_read(key)?.can_read(key) { self.storage().get(key) } else { Ok(None) }
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.rules(key)?.check_write(key)?;
        self.storage().set(key, value)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.rules(key)?.check_write(key)?;
        self.storage().delete(key)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        if self.rules_to_read(key)?.can_read(key) { self.storage().exists(key) } else { Ok(false) }
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let prefix = prefix.unwrap_or_default();
        let mut keys = Vec::new();
        for granted in self.rules(prefix)?.readable_under(prefix) {
            keys.append(&mut self.storage().list_keys(Some(granted))?);
        }
        Ok(keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let mut page = KeyPage::default();
        for prefix in self.rules(request.prefix)?.readable_under(request.prefix) {
            let limit = request.limit - page.keys.len();
            let mut part = self.storage().list_page(PageRequest { prefix, limit, ..request })?;
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
        let readable: Vec<&str> = keys.iter().copied().filter(|key| rules.can_read(key)).collect();
        if readable.is_empty() {
            return Ok(vec![None; keys.len()]);
        }
        let mut found = self.storage().get_many(&readable)?.into_iter();
        let value = |key: &&str| if rules.can_read(key) { found.next().flatten() } else { None };
        Ok(keys.iter().map(value).collect())
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let prefix = prefix.unwrap_or_default();
        let rules = self.rules(prefix)?;
        let parts = rules.readable_under(prefix).map(|granted| self.storage().usage(Some(granted)));
        parts.into_iter().try_fold(Usage::default(), |sum, part| Ok(sum + part?))
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let key = join_key(prefix, key);
        if self.rules_to_read(&key).ok()?.can_read(&key) {
            self.storage().try_get("", &key)
        } else {
            Some(None)
        }
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        if self.rules_to_read(key)?.can_read(key) {
            self.storage().get_versioned(key)
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
            // The result of the check would reveal what is stored.
            if !rules.can_read(&check.key) {
                return Err(denied(&check.key));
            }
        }
        self.storage().commit(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_begin_with_another_are_dropped() {
        let prefixes = ["b", "a/x", "a/", "a/x/y", "", "c"].map(str::to_owned).to_vec();
        assert_eq!(disjoint(prefixes[..4].to_vec()), ["a/", "b"]);
        assert_eq!(disjoint(prefixes), [""]);
        assert_eq!(disjoint(Vec::new()), Vec::<String>::new());
    }

    #[test]
    fn a_prefix_is_narrowed_to_the_grants() {
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
