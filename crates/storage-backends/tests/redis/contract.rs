//! The conformance suite.

use storage_core::conformance::{Feature, Implementation, Outcome, cases, run};

use super::*;

/// A prefix whose store must be undamaged at the end, usage counters included, and have no
/// values left that were kept for snapshots.
struct VerifiedAtTheEnd(TestStore);

impl Drop for VerifiedAtTheEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // A case may have opened nothing.
        if let Ok(store) = RedisStorage::open_read_only(&self.0.options) {
            assert_eq!(verifying::problems(&store), []);
        }
        for kind in ["r:", "o:", "x:", "t:"] {
            let left: Vec<_> =
                self.0.names().into_iter().filter(|name| name.starts_with(kind)).collect();
            assert_eq!(left, Vec::<String>::new());
        }
    }
}

fn implementation(name: &str, new: fn() -> Option<TestStore>) -> Implementation {
    Implementation::persistent(name, move || {
        let store = VerifiedAtTheEnd(new().unwrap());
        move || store.0.open()
    })
}

#[test]
fn on_one_server() {
    if TestStore::single().is_some() {
        run(&implementation("redis", TestStore::single).several_hosts());
    }
}

#[test]
fn on_one_server_under_a_namespace() {
    if TestStore::single().is_some() {
        run(&implementation("redis", TestStore::single).namespaced());
    }
}

#[test]
fn on_a_cluster_under_a_namespace() {
    if TestStore::cluster().is_some() {
        run(&implementation("redis cluster", TestStore::cluster).namespaced());
    }
}

/// Cases with a commit to components of several shards, which a cluster refuses. The same cases
/// pass on a cluster under a namespace, where all keys are in one component.
const SEVERAL_COMPONENTS: [&str; 11] = [
    "a_commit_covers_several_components",
    "a_commit_may_delete_missing_keys",
    "a_commit_over_components_is_reported_for_each",
    "a_failed_commit_changes_nothing",
    "commits_are_persistent",
    "commits_over_components_are_isolated",
    "component_revisions_are_those_of_the_last_changes",
    "listings_and_usage_follow_a_commit",
    "random_operations_agree_when_opened_again",
    "random_operations_agree_with_an_ordered_map",
    "the_last_write_to_a_key_counts",
];

#[test]
fn on_a_cluster() {
    if TestStore::cluster().is_none() {
        return;
    }
    let cluster = implementation("redis cluster", TestStore::cluster);
    let cluster = cluster.several_hosts().without(Feature::Snapshots);
    let mut refused = Vec::new();
    for case in cases() {
        match case.run(&cluster) {
            Outcome::Passed | Outcome::Skipped(Feature::Snapshots) => {}
            Outcome::Failed(text) if text.contains("no commits to several components") => {
                refused.push(case.name());
            }
            outcome => panic!("{}: {outcome:?}", case.name()),
        }
    }
    refused.sort_unstable();
    assert_eq!(refused, SEVERAL_COMPONENTS);
}
