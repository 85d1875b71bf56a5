//! What a hit is asked of: ours, and what else there is. Each holds the same keys
//! and values of its own.

use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use benches_compare::keys::{Maker, PREFIX};
use storage_cache::CacheConfig;
use storage_core::{ComponentId, ComponentStorage, StorageValue};
use storage_host::{StorageHost, create_component_storage};

use crate::asked::Asked;
use crate::literal::{self, Layer};

/// The component whose prefix is [`PREFIX`].
const ID: [&str; 3] = ["app", "notes", "home"];

/// How long an entry counts, where there is such a thing.
const TTL: Duration = Duration::from_secs(60);

/// What is asked.
pub(crate) trait Side: Sync {
    type Value: AsRef<[u8]>;

    /// The value of the key of an operation.
    fn get(&self, operation: usize) -> Option<Self::Value>;

    /// The bytes of a key.
    fn bytes(&self, own: &str, full: &str) -> Option<Vec<u8>>;

    /// How often it asked for what it did not hold, if it could.
    fn missed(&self) -> u64 {
        0
    }

    /// Whether two hits of a key return one allocation, so that neither has copied
    /// a byte.
    fn shares(&self, _: &str) -> Option<bool> {
        None
    }
}

/// Brings all keys in, and makes sure that each is a hit from then on.
pub(crate) fn fill(side: &impl Side, asked: &Asked) -> Result<()> {
    let maker = Maker::new(asked.value_bytes());
    asked.keys().for_each(|(own, full)| drop(side.bytes(own, full)));
    let missed = side.missed();
    for (own, full) in asked.keys() {
        let found = side.bytes(own, full);
        ensure!(found.is_some_and(|found| maker.is_value_of(full, &found)), "{full} is not there");
        ensure!(side.shares(own) != Some(false), "a hit has copied the value of {full}");
    }
    ensure!(side.missed() == missed, "not every key is kept");
    Ok(())
}

/// quick_cache, asked with the full key: what ours stands on.
pub(crate) struct Bare<'a> {
    asked: &'a Asked,
    cache: quick_cache::sync::Cache<String, StorageValue>,
}

impl<'a> Bare<'a> {
    pub(crate) fn new(asked: &'a Asked) -> Self {
        let cache = quick_cache::sync::Cache::new(room(asked.len()));
        let maker = Maker::new(asked.value_bytes());
        asked.keys().for_each(|(_, key)| cache.insert(key.to_owned(), maker.make(key)));
        Self { asked, cache }
    }
}

impl Side for Bare<'_> {
    type Value = StorageValue;

    #[inline]
    fn get(&self, operation: usize) -> Option<StorageValue> {
        self.cache.get(self.asked.full(operation))
    }

    fn bytes(&self, _: &str, full: &str) -> Option<Vec<u8>> {
        self.cache.get(full).map(StorageValue::into_bytes)
    }
}

/// The same, and the full key is made for each call.
pub(crate) struct ByHand<'a> {
    prefix: String,
    bare: Bare<'a>,
}

impl<'a> ByHand<'a> {
    pub(crate) fn new(asked: &'a Asked) -> Self {
        Self { prefix: black_box(PREFIX.to_owned()), bare: Bare::new(asked) }
    }

    #[inline]
    fn get_own(&self, own: &str) -> Option<StorageValue> {
        let mut full = String::with_capacity(self.prefix.len() + own.len());
        full.push_str(&self.prefix);
        full.push_str(own);
        self.bare.cache.get(&full)
    }
}

impl Side for ByHand<'_> {
    type Value = StorageValue;

    #[inline]
    fn get(&self, operation: usize) -> Option<StorageValue> {
        self.get_own(self.bare.asked.own(operation))
    }

    fn bytes(&self, own: &str, _: &str) -> Option<Vec<u8>> {
        self.get_own(own).map(StorageValue::into_bytes)
    }
}

/// moka, asked with the full key.
pub(crate) struct Moka<'a> {
    asked: &'a Asked,
    cache: moka::sync::Cache<String, StorageValue>,
}

impl<'a> Moka<'a> {
    pub(crate) fn new(asked: &'a Asked) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(room(asked.len()) as u64)
            .time_to_live(TTL)
            .build();
        let maker = Maker::new(asked.value_bytes());
        asked.keys().for_each(|(_, key)| cache.insert(key.to_owned(), maker.make(key)));
        Self { asked, cache }
    }
}

impl Side for Moka<'_> {
    type Value = StorageValue;

    #[inline]
    fn get(&self, operation: usize) -> Option<StorageValue> {
        self.cache.get(self.asked.full(operation))
    }

    fn bytes(&self, _: &str, full: &str) -> Option<Vec<u8>> {
        self.cache.get(full).map(StorageValue::into_bytes)
    }
}

/// The document's composition.
pub(crate) struct Literal<'a> {
    asked: &'a Asked,
    storage: Box<dyn Layer>,
    maker: Arc<Maker>,
}

impl<'a> Literal<'a> {
    pub(crate) fn new(asked: &'a Asked) -> Self {
        let maker = Arc::new(Maker::new(asked.value_bytes()));
        let below = Arc::clone(&maker);
        let below = Box::new(move |key: &str| below.make(key).into_bytes());
        Self { asked, storage: black_box(literal::compose(ID, TTL, below)), maker }
    }
}

impl Side for Literal<'_> {
    type Value = Vec<u8>;

    #[inline]
    fn get(&self, operation: usize) -> Option<Vec<u8>> {
        self.storage.get(self.asked.own(operation))
    }

    fn bytes(&self, own: &str, _: &str) -> Option<Vec<u8>> {
        self.storage.get(own)
    }

    fn missed(&self) -> u64 {
        self.maker.made()
    }
}

/// Ours: a component's storage, used as one of any type.
pub(crate) struct Component<'a, P> {
    asked: &'a Asked,
    storage: P,
    maker: Arc<Maker>,
}

impl<'a, P: Deref<Target = dyn ComponentStorage>> Component<'a, P> {
    /// Puts what `compose` makes above the storage that it is given.
    fn new(
        asked: &'a Asked,
        compose: impl FnOnce(Arc<dyn ComponentStorage>, ComponentId) -> P,
    ) -> Result<Self> {
        let maker = Arc::new(Maker::new(asked.value_bytes()));
        let [namespace, name, instance] = ID;
        let id = ComponentId::new(namespace, name, instance)?;
        let storage = black_box(compose(Arc::<Maker>::clone(&maker), id));
        Ok(Self { asked, storage, maker })
    }
}

/// Isolated and cached, as `create_component_storage` makes it.
pub(crate) fn created(asked: &Asked) -> Result<Component<'_, Box<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| create_component_storage(id, below, private(asked)))
}

/// The chain of a host, limits and quota above the rest, with a cache of its own.
pub(crate) fn hosted(asked: &Asked) -> Result<Component<'_, Arc<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| {
        let chain = StorageHost::builder(below).cache(private(asked)).build().component(&id);
        chain as Arc<dyn ComponentStorage>
    })
}

/// The same with a part of a cache that all components share.
pub(crate) fn sharing(asked: &Asked) -> Result<Component<'_, Arc<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| {
        let chain = StorageHost::builder(below).shared_cache(shared(asked)).build().component(&id);
        chain as Arc<dyn ComponentStorage>
    })
}

impl<P: Deref<Target = dyn ComponentStorage> + Sync> Side for Component<'_, P> {
    type Value = StorageValue;

    #[inline]
    fn get(&self, operation: usize) -> Option<StorageValue> {
        self.storage.get(self.asked.own(operation)).ok()?
    }

    fn bytes(&self, own: &str, _: &str) -> Option<Vec<u8>> {
        self.storage.get(own).ok().flatten().map(StorageValue::into_bytes)
    }

    fn missed(&self) -> u64 {
        self.maker.made()
    }

    fn shares(&self, own: &str) -> Option<bool> {
        let shared = || self.storage.get(own).ok().flatten().map(StorageValue::into_shared);
        Some(shared().zip(shared()).is_some_and(|(one, other)| Arc::ptr_eq(&one, &other)))
    }
}

/// A capacity in entries that no shard of a cache runs out of.
fn room(keys: usize) -> usize {
    2 * keys
}

/// What an entry takes besides its value, and more.
const OVERHEAD: usize = 2 << 10;

/// The defaults, and more where that is not enough for the keys.
fn private(asked: &Asked) -> CacheConfig {
    let entries = room(asked.len());
    let default = CacheConfig::default();
    CacheConfig {
        max_entries: entries.max(default.max_entries),
        ttl: Some(TTL),
        max_size_bytes: (entries * (asked.value_bytes() + OVERHEAD)).max(default.max_size_bytes),
    }
}

/// The same for each of the eight parts of which a component can fill one.
fn shared(asked: &Asked) -> CacheConfig {
    let private = private(asked);
    CacheConfig {
        max_entries: 8 * private.max_entries,
        max_size_bytes: 8 * private.max_size_bytes,
        ..private
    }
}
