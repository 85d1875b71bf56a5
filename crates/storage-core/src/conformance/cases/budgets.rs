//! The budget of a commit. Bytes count user keys, without the component prefix.

use super::{Case, Subject, case};
use crate::conformance::subject::{Opened, expect, expect_that};
use crate::{Budget, Commit, StorageError};

pub(super) const CASES: &[Case] = &[
    case!(a_budget_limits_bytes_of_user_keys_and_values needs Commits, Budgets),
    case!(a_budget_limits_the_number_of_keys needs Commits, Budgets),
    case!(an_overwrite_counts_its_difference needs Commits, Budgets),
    case!(a_delete_frees_budget needs Commits, Budgets),
    case!(a_commit_counts_as_a_whole needs Commits, Budgets),
    case!(only_the_last_write_to_a_key_is_counted needs Commits, Budgets),
    case!(a_budget_refuses_only_growth needs Commits, Budgets),
    case!(a_commit_over_its_budget_changes_nothing needs Commits, Budgets),
    case!(a_failed_commit_uses_no_budget needs Commits, Budgets),
    case!(a_failed_check_is_reported_before_the_budget needs Commits, Budgets),
    case!(writes_without_a_budget_are_counted needs Commits, Budgets),
    case!(the_first_budget_counts_existing_keys needs Commits, Budgets),
    case!(each_component_has_its_own_usage needs Commits, Budgets, Components),
    case!(a_budget_covers_one_component needs Commits, Budgets, Components),
    case!(unscoped_keys_have_a_budget_too needs Commits, Budgets, Components),
];

pub(super) const fn bytes(max_bytes: u64) -> Budget {
    Budget { max_bytes, max_keys: u64::MAX }
}

const fn keys(max_keys: u64) -> Budget {
    Budget { max_bytes: u64::MAX, max_keys }
}

/// The user keys of one component.
struct Component {
    store: Opened,
    prefix: String,
}

impl Component {
    fn new(subject: &Subject<'_>) -> Self {
        Self { store: subject.open(), prefix: subject.component("one") }
    }

    fn full(&self, user_key: &str) -> String {
        format!("{}{user_key}", self.prefix)
    }

    /// A commit that sets one key within a budget.
    fn set(&self, user_key: &str, value: &str, budget: Budget) -> Commit {
        Commit::new().set(self.full(user_key), value.into()).with_budget(budget)
    }

    #[track_caller]
    fn allows(&self, commit: Commit) {
        self.store.commit(commit);
    }

    #[track_caller]
    fn exceeds(&self, commit: Commit) {
        self.store.refuses(commit, &StorageError::QuotaExceeded);
    }
}

fn a_budget_limits_bytes_of_user_keys_and_values(subject: &Subject<'_>) {
    let component = Component::new(subject);
    // 3 bytes of key and 5 of value.
    component.exceeds(component.set("key", "value", bytes(0)));
    component.exceeds(component.set("key", "value", bytes(7)));
    component.allows(component.set("key", "value", bytes(8)));
    component.exceeds(component.set("k", "", bytes(8)));
    component.allows(component.set("k", "", bytes(9)));
    component.exceeds(component.set("\u{e9}", "\u{1f600}", bytes(14)));
    component.allows(component.set("\u{e9}", "\u{1f600}", bytes(15)));
}

fn a_budget_limits_the_number_of_keys(subject: &Subject<'_>) {
    let component = Component::new(subject);
    component.exceeds(component.set("a", "", keys(0)));
    component.allows(component.set("a", "", keys(1)));
    component.exceeds(component.set("b", "", keys(1)));
    component.allows(component.set("a", "an overwrite adds no key", keys(1)));
    component.allows(component.set("b", "", keys(2)));
    component.exceeds(component.set("c", "", keys(2)));
    component.store.delete(&component.full("a"));
    component.allows(component.set("c", "", keys(2)));
    component.exceeds(component.set("a", "", keys(2)));
}

fn an_overwrite_counts_its_difference(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let budget = bytes(11);
    component.allows(component.set("k", "12345", budget));
    component.allows(component.set("k", "1234567890", budget));
    component.exceeds(component.set("k", "12345678901", budget));
    component.allows(component.set("k", "1", budget));
    component.allows(component.set("l", "12345678", budget));
    component.exceeds(component.set("k", "12", budget));
    component.allows(component.set("k", "", budget));
    component.allows(component.set("l", "123456789", budget));
    component.exceeds(component.set("l", "1234567890", budget));
}

fn a_delete_frees_budget(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let budget = bytes(6);
    component.allows(component.set("k", "12345", budget));
    component.exceeds(component.set("l", "", budget));
    component.allows(Commit::new().delete(component.full("k")).with_budget(budget));
    component.allows(component.set("l", "12345", budget));
    // Deleting a missing key frees nothing.
    component.allows(Commit::new().delete(component.full("k")).with_budget(budget));
    component.store.delete(&component.full("k"));
    component.exceeds(component.set("k", "", budget));
}

fn a_commit_counts_as_a_whole(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let (a, b, c) = (component.full("a"), component.full("b"), component.full("c"));
    let both = |budget| {
        let commit = Commit::new().set(&*a, "12".into()).set(&*b, "34".into());
        commit.with_budget(budget)
    };
    component.exceeds(both(bytes(5)));
    component.exceeds(both(keys(1)));
    component.allows(both(Budget { max_bytes: 6, max_keys: 2 }));
    // Removals and additions count together, in either order.
    let moved = Commit::new().set(&*c, "12".into()).delete(&*a);
    component.allows(moved.with_budget(Budget { max_bytes: 6, max_keys: 2 }));
    let moved = Commit::new().delete(&*c).set(&*a, "123".into());
    component.exceeds(moved.with_budget(Budget { max_bytes: 6, max_keys: 2 }));
    let swapped = Commit::new().set(&*c, "1".into()).set(&*b, "345".into());
    component.allows(swapped.with_budget(Budget { max_bytes: 6, max_keys: 2 }));
}

fn only_the_last_write_to_a_key_is_counted(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let (a, b) = (component.full("a"), component.full("b"));
    let budget = Budget { max_bytes: 3, max_keys: 1 };
    let twice = Commit::new().set(&*a, "much too long".into()).set(&*a, "12".into());
    component.allows(twice.with_budget(budget));
    let undone = Commit::new().set(&*b, "much too long".into()).delete(&*b);
    component.allows(undone.with_budget(budget));
    let redone = Commit::new().delete(&*a).set(&*a, "123".into());
    component.exceeds(redone.with_budget(budget));
    let redone = Commit::new().delete(&*a).set(&*a, "1".into());
    component.allows(redone.with_budget(budget));
    component.allows(component.set("a", "12", budget));
}

fn a_budget_refuses_only_growth(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let full = |key: &str| component.full(key);
    for key in ["a", "b", "c", "d"] {
        component.store.set(&full(key), "123456789");
    }
    // 40 bytes in 4 keys, above a budget that was lowered.
    let lowered = Budget { max_bytes: 15, max_keys: 1 };
    component.exceeds(component.set("a", "1234567890", lowered));
    component.exceeds(component.set("e", "", lowered));
    component.allows(component.set("a", "987654321", lowered));
    component.allows(component.set("a", "12345678", lowered)); // 39 in 4
    let batch = Commit::new().delete(full("a")).delete(full("none")).delete(full("b"));
    component.allows(batch.with_budget(lowered)); // 20 in 2
    let exchange = Commit::new().delete(full("c")).set(full("e"), "12".into());
    component.allows(exchange.with_budget(lowered)); // 13 in 2
    // Bytes are within the budget again and may grow; keys may not.
    component.allows(component.set("e", "1234", lowered)); // 15 in 2
    component.exceeds(component.set("e", "12345", lowered));
    component.exceeds(component.set("f", "", lowered));
    // No budget refuses a delete, or a commit that writes nothing.
    let nothing = Budget { max_bytes: 0, max_keys: 0 };
    component.allows(Commit::new().with_budget(nothing));
    component.allows(Commit::new().require_present(full("e")).with_budget(nothing));
    component.allows(Commit::new().delete(full("e")).with_budget(nothing));
    component.store.delete(&full("d"));
    component.allows(Commit::new().delete(full("d")).with_budget(nothing));
    expect("list_keys(None)", component.store.list_keys(None), vec![]);
}

fn a_failed_commit_uses_no_budget(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let (a, b) = (component.full("a"), component.full("b"));
    let room = Budget { max_bytes: 20, max_keys: 2 };
    component.allows(component.set("a", "123", room));
    for _ in 0..3 {
        // Each of these would have used 15 bytes and a key.
        let commit = || Commit::new().set(&*b, "12345678901234".into()).with_budget(room);
        component
            .store
            .refuses(commit().require_absent(&*a), &StorageError::AlreadyExists(a.clone()));
        component.store.refuses(commit().require_present(&*b), &StorageError::NotFound(b.clone()));
        let other = commit().require_value(&*a, "other".into());
        component.store.refuses(other, &StorageError::Conflict(a.clone()));
        component.exceeds(commit().set(component.full("c"), "".into()));
        component.exceeds(commit().set(&*a, "12345".into()));
    }
    component.allows(component.set("b", "123456789012345", room));
    component.exceeds(component.set("b", "1234567890123456", room));
}

fn a_commit_over_its_budget_changes_nothing(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let (a, b, c) = (component.full("a"), component.full("b"), component.full("c"));
    component.store.set(&a, "old");
    component.store.set(&b, "old");
    let commit = Commit::new().delete(&*a).set(&*b, "x".into()).set(&*c, "much too long".into());
    component.exceeds(commit.clone().with_budget(bytes(15)));
    // It is not counted either.
    component.allows(component.set("d", "123456", bytes(15)));
    component.exceeds(component.set("e", "", bytes(15)));
    component.allows(commit.with_budget(Budget::UNLIMITED));
}

fn a_failed_check_is_reported_before_the_budget(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let key = component.full("key");
    component.store.set(&key, "1");
    let commit = component.set("key", "12345", bytes(4));
    let error = StorageError::AlreadyExists(key.clone());
    component.store.refuses(commit.clone().require_absent(&*key), &error);
    component.exceeds(commit.clone().require_present(&*key));
    component.exceeds(commit.require_value(&*key, "1".into()));
}

fn writes_without_a_budget_are_counted(subject: &Subject<'_>) {
    let component = Component::new(subject);
    let budget = bytes(10);
    component.allows(component.set("a", "1", budget)); // 2
    component.store.set(&component.full("b"), "12"); // 5
    component.allows(component.set("c", "1234", budget)); // 10
    component.exceeds(component.set("d", "", budget));
    component.store.delete(&component.full("a")); // 8
    component.allows(component.set("d", "1", budget)); // 10
    component.exceeds(component.set("e", "", budget));
    component.store.set(&component.full("c"), "1"); // 7
    component.allows(component.set("e", "12", budget)); // 10
    component.exceeds(component.set("f", "", budget));
    let plain = Commit::new().delete(component.full("b")).set(component.full("c"), "".into());
    component.allows(plain); // 6
    component.allows(component.set("f", "123", budget)); // 10
    component.exceeds(component.set("g", "", budget));
    // The budget of an earlier commit does not limit them.
    component.store.set(&component.full("g"), "12345");
    component.allows(Commit::new().set(component.full("h"), "12345".into()));
    component.exceeds(component.set("i", "", budget));
}

fn the_first_budget_counts_existing_keys(subject: &Subject<'_>) {
    let component = Component::new(subject);
    for n in 0..5 {
        component.store.set(&component.full(&n.to_string()), "1234");
    }
    component.store.set(&component.full("0"), "12345678");
    component.store.delete(&component.full("1"));
    // 9 + 3 * 5 bytes in four keys.
    component.exceeds(component.set("x", "1", Budget { max_bytes: 25, max_keys: 9 }));
    component.exceeds(component.set("x", "1", Budget { max_bytes: 99, max_keys: 4 }));
    component.allows(component.set("x", "1", Budget { max_bytes: 26, max_keys: 5 }));
}

fn each_component_has_its_own_usage(subject: &Subject<'_>) {
    let store = subject.open();
    let components = ["a/b/001/", "a/b/0011/", "a/b/00/", "a/b/001-/"];
    for component in components {
        // The component prefix is not counted.
        let commit = Commit::new().set(format!("{component}k"), "12345".into());
        store.commit(commit.with_budget(bytes(6)));
    }
    store.set("a/b/001", "an unscoped key belongs to no component");
    for component in components {
        let commit =
            |budget| Commit::new().set(format!("{component}l"), "".into()).with_budget(budget);
        store.refuses(commit(bytes(6)), &StorageError::QuotaExceeded);
        store.refuses(commit(keys(1)), &StorageError::QuotaExceeded);
        store.commit(commit(Budget { max_bytes: 7, max_keys: 2 }));
    }
}

fn a_budget_covers_one_component(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("a/b/c/1", "x");
    let before = store.contents();
    let commits = [
        Commit::new().set("a/b/c/1", "y".into()).set("a/b/d/1", "y".into()),
        Commit::new().set("a/b/c/1", "y".into()).set("unscoped", "y".into()),
        Commit::new().require_absent("a/b/d/1").set("a/b/c/1", "y".into()),
        Commit::new().delete("a/b/c/1").delete("a/b/d/1"),
    ];
    for commit in commits {
        let what = format!("commit({commit:?}) with a budget");
        let found = store.storage().commit(commit.with_budget(Budget::UNLIMITED)).err();
        let refused = matches!(found, Some(StorageError::InvalidKey(_)));
        expect_that(format_args!("{what} to be an invalid key, not {found:?}"), refused);
    }
    expect("what is stored after the refused commits", store.contents(), before);
}

fn unscoped_keys_have_a_budget_too(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("a/b/c/large", "a component's keys do not count");
    let commit = |key: &str, budget| Commit::new().set(key, "1".into()).with_budget(budget);
    store.commit(commit("a", bytes(6)));
    store.refuses(commit("a/b", bytes(5)), &StorageError::QuotaExceeded);
    store.commit(commit("a/b", bytes(6)));
    store.refuses(commit("c", keys(2)), &StorageError::QuotaExceeded);
}
