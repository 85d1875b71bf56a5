//! The calls that both drafts of `wasi:keyvalue` have.

/// Implements the calls with the bindings of a draft: `atomics`, `batch` and `store`.
#[macro_export]
macro_rules! bind_keyvalue {
    () => {
        thread_local! {
            static BUCKET: OnceCell<Option<store::Bucket>> = const { OnceCell::new() };
        }

        /// Calls `call` with the component's own bucket, which it opens once.
        pub(crate) fn with_bucket<R>(call: impl FnOnce(&store::Bucket) -> Option<R>) -> Option<R> {
            BUCKET.with(|bucket| call(bucket.get_or_init(|| store::open("").ok()).as_ref()?))
        }

        impl $crate::Calls for store::Bucket {
            fn get(&self, key: &str) -> Option<Vec<u8>> {
                store::Bucket::get(self, key).ok()?
            }

            fn exists(&self, key: &str) -> Option<bool> {
                store::Bucket::exists(self, key).ok()
            }

            fn set(&self, key: &str, value: &[u8]) -> Option<()> {
                store::Bucket::set(self, key, value).ok()
            }

            fn increment(&self, key: &str) -> Option<()> {
                atomics::increment(self, key, 1).ok().map(drop)
            }

            fn get_many(&self, keys: &[String]) -> Option<usize> {
                let found = batch::get_many(self, keys).ok()?;
                found.iter().map(|pair| Some(pair.as_ref()?.1.len())).sum()
            }

            fn list_keys(&self) -> Option<usize> {
                Some(store::Bucket::list_keys(self, None).ok()?.keys.len())
            }
        }
    };
}
