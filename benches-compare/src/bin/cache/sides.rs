//! What a hit is asked of: ours, and what else there is. Each holds keys and
//! values of its own.

use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use benches_compare::keys::{Maker, PREFIX};
use storage_cache::CacheConfig;
use storage_core::{ComponentId, ComponentStorage, StorageError, StorageValue, Store};
use storage_host::{StorageHost, create_component_storage};

use crate::asked::{Asked, Key};
use crate::literal::{self, Layer};

/// The component whose prefix is [`PREFIX`].
const ID: [&str; 3] = ["app", "notes", "home"];

/// How long an entry counts, where there is such a thing.
const TTL: Duration = Duration::from_secs(60);

/// What is asked.
pub(crate) trait Side: Sync {
    type Found: Found;

    /// Whether a hit copies the bytes of the value.
    const COPIES: bool = false;

    /// What is found of a key, as it is returned: it is not moved before somebody has
    /// looked at it.
    fn get(&self, key: Key<'_>) -> Self::Found;

    /// How often it asked for what it did not hold, if it can.
    fn missed(&self) -> u64 {
        0
    }
}

/// What a side returns.
pub(crate) trait Found {
    /// The bytes of the value, if it is there.
    fn bytes(&self) -> Option<&[u8]>;
}

impl<V: AsRef<[u8]>> Found for Option<V> {
    #[inline]
    fn bytes(&self) -> Option<&[u8]> {
        self.as_ref().map(AsRef::as_ref)
    }
}

impl<V: AsRef<[u8]>> Found for Result<Option<V>, StorageError> {
    #[inline]
    fn bytes(&self) -> Option<&[u8]> {
        self.as_ref().ok()?.bytes()
    }
}

/// Brings all keys in, and makes sure that each is a hit from then on and what
/// that copies.
pub(crate) fn fill<S: Side>(side: &S, asked: &Asked) -> Result<()> {
    let maker = Maker::new(asked.value_bytes());
    asked.keys().for_each(|key| drop(side.get(key)));
    let missed = side.missed();
    for key in asked.keys() {
        let (one, other) = (side.get(key), side.get(key));
        let (one, other) = (one.bytes().unwrap_or_default(), other.bytes().unwrap_or_default());
        ensure!(maker.is_value_of(key.full(), one), "{} is not there", key.full());
        // Both are held, so this is no allocation that was used again.
        let is_copied = one.as_ptr() != other.as_ptr();
        ensure!(is_copied == S::COPIES, "a hit copies, or not, against expectation");
    }
    ensure!(side.missed() == missed, "not every key is kept");
    Ok(())
}

/// quick_cache, asked with the full key: what ours stands on.
pub(crate) struct Bare(quick_cache::sync::Cache<String, StorageValue>);

impl Bare {
    pub(crate) fn new(asked: &Asked) -> Self {
        let cache = quick_cache::sync::Cache::new(room(asked));
        let maker = Maker::new(asked.value_bytes());
        asked.keys().for_each(|key| cache.insert(key.full().to_owned(), maker.make(key.full())));
        Self(cache)
    }
}

impl Side for Bare {
    type Found = Option<StorageValue>;

    #[inline]
    fn get(&self, key: Key<'_>) -> Self::Found {
        self.0.get(key.full())
    }
}

/// The same, and the full key is made for each call.
pub(crate) struct ByHand {
    prefix: String,
    bare: Bare,
}

impl ByHand {
    pub(crate) fn new(asked: &Asked) -> Self {
        Self { prefix: black_box(PREFIX.to_owned()), bare: Bare::new(asked) }
    }
}

impl Side for ByHand {
    type Found = Option<StorageValue>;

    #[inline]
    fn get(&self, key: Key<'_>) -> Self::Found {
        let own = key.own();
        let mut full = String::with_capacity(self.prefix.len() + own.len());
        full.push_str(&self.prefix);
        full.push_str(own);
        self.bare.0.get(&full)
    }
}

/// moka, asked with the full key, and then filled where that is missing.
pub(crate) struct Moka {
    cache: moka::sync::Cache<String, StorageValue>,
    maker: Maker,
}

impl Moka {
    pub(crate) fn new(asked: &Asked) -> Self {
        let builder = moka::sync::Cache::builder();
        let cache = builder.max_capacity(room(asked) as u64).time_to_live(TTL).build();
        Self { cache, maker: Maker::new(asked.value_bytes()) }
    }

    #[cold]
    fn make(&self, key: &str) -> StorageValue {
        let value = self.maker.make(key);
        self.cache.insert(key.to_owned(), value.clone());
        value
    }
}

impl Side for Moka {
    type Found = Option<StorageValue>;

    #[inline]
    fn get(&self, key: Key<'_>) -> Self::Found {
        let found = self.cache.get(key.full());
        Some(found.unwrap_or_else(|| self.make(key.full())))
    }

    fn missed(&self) -> u64 {
        self.maker.made()
    }
}

/// The document's composition.
pub(crate) struct Literal {
    storage: Box<dyn Layer>,
    maker: Arc<Maker>,
}

impl Literal {
    pub(crate) fn new(asked: &Asked) -> Self {
        let maker = Arc::new(Maker::new(asked.value_bytes()));
        let below = Arc::clone(&maker);
        let below = Box::new(move |key: &str| below.make(key).into_bytes());
        Self { storage: black_box(literal::compose(ID, TTL, below)), maker }
    }
}

impl Side for Literal {
    type Found = Result<Option<Vec<u8>>, StorageError>;
    const COPIES: bool = true;

    #[inline]
    fn get(&self, key: Key<'_>) -> Self::Found {
        self.storage.get(key.own())
    }

    fn missed(&self) -> u64 {
        self.maker.made()
    }
}

/// Ours: a component's storage, used as one of any type.
pub(crate) struct Component<P> {
    storage: P,
    maker: Arc<Maker>,
}

impl<P> Component<P> {
    /// Puts what `compose` makes above the storage that it is given.
    fn new(asked: &Asked, compose: impl FnOnce(Arc<dyn Store>, ComponentId) -> P) -> Result<Self> {
        let maker = Arc::new(Maker::new(asked.value_bytes()));
        let [namespace, name, instance] = ID;
        let id = ComponentId::new(namespace, name, instance)?;
        let storage = black_box(compose(Arc::<Maker>::clone(&maker), id));
        Ok(Self { storage, maker })
    }
}

/// Isolated and cached, as `create_component_storage` makes it.
pub(crate) fn created(asked: &Asked) -> Result<Component<Box<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| create_component_storage(id, below, private(asked)))
}

/// The chain of a host, limits and quota above the rest, with a cache of its own.
pub(crate) fn hosted(asked: &Asked) -> Result<Component<Arc<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| {
        let chain = StorageHost::builder(below).cache(private(asked)).build().component(&id);
        chain as Arc<dyn ComponentStorage>
    })
}

/// The same with a part of a cache that all components share.
pub(crate) fn sharing(asked: &Asked) -> Result<Component<Arc<dyn ComponentStorage>>> {
    Component::new(asked, |below, id| {
        let chain = StorageHost::builder(below).shared_cache(shared(asked)).build().component(&id);
        chain as Arc<dyn ComponentStorage>
    })
}

impl<P: Deref<Target = dyn ComponentStorage> + Sync> Side for Component<P> {
    type Found = Result<Option<StorageValue>, StorageError>;

    #[inline]
    fn get(&self, key: Key<'_>) -> Self::Found {
        self.storage.get(key.own())
    }

    fn missed(&self) -> u64 {
        self.maker.made()
    }
}

/// A capacity in entries that no shard of a cache runs out of.
fn room(asked: &Asked) -> usize {
    2 * asked.len()
}

/// What an entry takes besides its value, and more.
const OVERHEAD: usize = 2 << 10;

/// The defaults, and more where that is not enough for the keys.
fn private(asked: &Asked) -> CacheConfig {
    let default = CacheConfig::default();
    let bytes = room(asked) * (asked.value_bytes() + OVERHEAD);
    CacheConfig {
        max_entries: room(asked).max(default.max_entries),
        ttl: Some(TTL),
        max_size_bytes: bytes.max(default.max_size_bytes),
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
