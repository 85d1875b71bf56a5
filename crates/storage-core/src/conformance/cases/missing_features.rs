//! Methods of features that an implementation does not have.

use super::{Case, Feature, Subject, case};
use crate::conformance::subject::expect;
use crate::{Budget, Commit, Revision, StorageError};

pub(super) const CASES: &[Case] = &[case!(missing_features_are_unsupported)];

fn unsupported<T>(what: &str, result: Result<T, StorageError>) {
    let found = result.err();
    let shown = found.as_ref().map_or_else(|| "success".to_owned(), ToString::to_string);
    let expected = matches!(found, Some(StorageError::Unsupported(_)));
    expect(format_args!("whether {what} is unsupported (it was: {shown})"), expected, true);
}

fn missing_features_are_unsupported(subject: &Subject<'_>) {
    let store = subject.open();
    let storage = store.storage();
    store.set("key", "value");
    let before = store.contents();
    if !subject.has(Feature::Revisions) {
        unsupported("get_versioned", storage.get_versioned("key"));
        unsupported("get_versioned of a missing key", storage.get_versioned("missing"));
    }
    if subject.has(Feature::Store) && !subject.has(Feature::Snapshots) {
        let result = store.store().read_snapshot("", None, &mut |_, _| Ok(()));
        unsupported("read_snapshot", result);
    }
    if !subject.has(Feature::Commits) {
        unsupported("commit", storage.commit(Commit::new().set("new", "x".into()).delete("key")));
        unsupported("an empty commit", storage.commit(Commit::new()));
    } else {
        if !subject.has(Feature::Revisions) {
            let check = Commit::new().require_revision("key", Revision::new(1));
            unsupported("a check of a revision", storage.commit(check));
        }
        if !subject.has(Feature::Budgets) {
            let commit = Commit::new().set("key", "x".into()).with_budget(Budget::UNLIMITED);
            unsupported("a budget", storage.commit(commit));
        }
    }
    expect("the contents after unsupported calls", store.contents(), before);
}
