//! Errors and keys from below: a component sees user keys only, and nothing of other
//! components.

use StorageError::{AlreadyExists, Conflict, InvalidKey, IoError, Locked, NotFound, Unsupported};
use rstest::rstest;
use storage_core::conformance::{FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{
    Commit, ComponentStorage, KeyPage, NamespacedStorage, PageRequest, StorageError,
    forward_storage,
};

const PREFIX: &str = "app/notes/home/";

fn corrupt(key: Option<&str>, detail: &str) -> StorageError {
    StorageError::Corrupt { key: key.map(str::to_owned), detail: detail.to_owned() }
}

fn unavailable(key: Option<&str>, detail: &str) -> StorageError {
    StorageError::Unavailable { key: key.map(str::to_owned), detail: detail.to_owned() }
}

fn of(kind: fn(String) -> StorageError, text: &str) -> StorageError {
    kind(text.to_owned())
}

fn over(limit: &'static str) -> StorageError {
    StorageError::LimitExceeded { limit, max: 1, actual: 2 }
}

/// An error of a store, and what the component sees.
#[rstest]
#[case(of(NotFound, "app/notes/home/k"), of(NotFound, "k"))]
#[case(of(AlreadyExists, "app/notes/home/k"), of(AlreadyExists, "k"))]
#[case(of(Conflict, "app/notes/home/k"), of(Conflict, "k"))]
#[case(corrupt(Some("app/notes/home/k"), "torn"), corrupt(Some("k"), "torn"))]
#[case(corrupt(None, "no format"), corrupt(None, "no format"))]
#[case(unavailable(Some("app/notes/home/k"), "busy"), unavailable(Some("k"), "busy"))]
#[case(unavailable(None, "busy"), unavailable(None, "busy"))]
// In text too.
#[case(
    of(IoError, "cannot write app/notes/home/k: disk full"),
    of(IoError, "cannot write k: disk full")
)]
#[case(of(InvalidKey, "\"app/notes/home/k\" and app/notes/home/l"), of(InvalidKey, "\"k\" and l"))]
#[case(of(Unsupported, "no commit of app/notes/home/k"), of(Unsupported, "no commit of k"))]
#[case(of(Locked, "\"app/notes/home/k\" by 7"), of(Locked, "\"k\" by 7"))]
#[case(corrupt(Some("app/notes/home/k"), "has app/notes/home/l"), corrupt(Some("k"), "has l"))]
#[case(unavailable(Some("app/notes/home/k"), "(app/notes/home/k)"), unavailable(Some("k"), "(k)"))]
// A path stays whole, for the operator.
#[case(
    of(IoError, "cannot open /data/app/notes/home/k"),
    of(IoError, "cannot open /data/app/notes/home/k")
)]
// A key of another component is not shown.
#[case(of(NotFound, "app/notes/work/k"), of(NotFound, ""))]
#[case(of(Conflict, "app/notes/homes/k"), of(Conflict, ""))]
#[case(corrupt(Some("app/notes/work/k"), "torn"), corrupt(Some(""), "torn"))]
// Errors without a key are unchanged.
#[case(StorageError::QuotaExceeded, StorageError::QuotaExceeded)]
#[case(StorageError::ReadOnly, StorageError::ReadOnly)]
#[case(over("bytes of a value"), over("bytes of a value"))]
fn an_error_names_the_user_key(#[case] below: StorageError, #[case] own: StorageError) {
    let backend = FailingStorage::new(ReferenceStorage::new());
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), &backend);
    backend.inject(Fault::error(below));
    let results: [Result<(), StorageError>; 10] = [
        component.get("k").map(drop),
        component.set("k", "v".into()),
        component.delete("k"),
        component.exists("k").map(drop),
        component.list_keys(None).map(drop),
        component.list_page(PageRequest::new(1)).map(drop),
        component.get_many(&["k"]).map(drop),
        component.usage(None).map(drop),
        component.get_versioned("k").map(drop),
        component.commit(Commit::new().set("k", "v".into())).map(drop),
    ];
    // `try_get` has no errors.
    assert_eq!(results.len() + 1, Method::ALL.len() - Method::STORE.len());
    assert_eq!(component.try_get("", "k"), None);
    for result in results {
        assert_eq!(result, Err(own.clone()));
    }
}

/// A store that lists keys of other components.
struct Leaky(Vec<&'static str>, ReferenceStorage);

#[expect(clippy::missing_trait_methods, reason = "its listings are what is tested")]
impl ComponentStorage for Leaky {
    forward_storage!(self => self.1; get, set, delete, exists);

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Ok(self.0.iter().map(|key| (*key).to_owned()).collect())
    }

    fn list_page(&self, _: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        Ok(KeyPage { keys: self.list_keys(None)?, more: false })
    }
}

#[rstest]
#[case::the_neighbour(vec!["app/notes/home/k", "app/notes/homes/secret"])]
#[case::behind(vec!["app/notes/work/secret"])]
#[case::before(vec!["a/secret", "app/notes/home/k"])]
#[case::the_prefix_without_its_slash(vec!["app/notes/home"])]
#[case::no_component(vec!["secret"])]
fn a_foreign_key_from_below_is_an_error(#[case] keys: Vec<&'static str>) {
    let component = NamespacedStorage::new(
        "app/notes/home".parse().unwrap(),
        Leaky(keys, ReferenceStorage::new()),
    );
    let results = [
        component.list_keys(None).map(drop),
        component.list_keys(Some("k")).map(drop),
        component.list_page(PageRequest::new(10)).map(drop),
    ];
    for result in results {
        let Err(StorageError::IoError(message)) = &result else {
            panic!("passed through: {result:?}");
        };
        assert!(!message.contains("secret") && !message.contains(PREFIX), "{message}");
    }
}

#[test]
fn keys_of_the_component_are_listed() {
    let keys = vec!["app/notes/home/a", "app/notes/home/app/notes/home/b"];
    let component = NamespacedStorage::new(
        "app/notes/home".parse().unwrap(),
        Leaky(keys, ReferenceStorage::new()),
    );
    // The prefix is stripped once.
    assert_eq!(component.list_keys(None).unwrap(), ["a", "app/notes/home/b"]);
}
