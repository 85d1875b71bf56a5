//! Tests the suite: each case must fail on a storage with a certain defect, and pass
//! without the defect.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod commits;
mod hosts;
mod storage;

use std::collections::BTreeSet;
use std::sync::Arc;

use hosts::BrokenHost;
use storage::Broken;
use storage_core::conformance::{
    Case, Feature, Implementation, Outcome, SharedReference, cases, run,
};

/// A case and a defect that it must detect.
const DETECTED: &[(&str, &str)] = &[
    // One key.
    ("a_missing_key_is_none", "a missing key reads as empty"),
    ("a_value_may_contain_any_byte", "values are lowercased"),
    ("a_set_replaces_the_value", "set keeps the first value"),
    ("a_deleted_key_is_missing", "delete does nothing"),
    ("deleting_a_missing_key_succeeds", "deleting a missing key fails"),
    ("a_deleted_key_is_missing", "a deleted key cannot be set again"),
    ("an_empty_value_is_present", "exists is false for an empty value"),
    ("a_value_of_one_mebibyte_is_stored", "values are cut at 64 KiB"),
    ("a_deleted_key_is_missing", "exists stays true"),
    ("keys_with_a_common_prefix_are_independent", "delete removes every key with this prefix"),
    ("get_many_returns_values_in_the_order_of_the_keys", "get_many returns byte order"),
    ("keys_with_a_common_prefix_are_independent", "try_get reports every key as missing"),
    ("keys_with_a_common_prefix_are_independent", "try_get ignores its prefix"),
    ("flush_changes_nothing", "flush removes a key"),
    ("compacting_keeps_every_key", "compacting drops empty values"),
    // Keys.
    ("keys_of_every_form_are_distinct", "keys are lowercased"),
    ("keys_of_every_form_are_distinct", "keys are normalised"),
    ("keys_of_every_form_are_listed_byte_for_byte", "listings lowercase their keys"),
    ("a_component_may_have_keys_of_every_form", "user keys are lowercased"),
    ("a_key_may_be_as_long_as_the_limit", "long keys are refused"),
    ("component_prefixes_of_any_form_are_distinct", "dots in component prefixes are resolved"),
    ("a_refused_key_changes_nothing", "keys are not validated"),
    ("a_commit_with_a_refused_key_changes_nothing", "a commit does not validate its keys"),
    ("one_refused_key_fails_get_many", "get_many skips refused keys"),
    // Listings.
    ("an_empty_storage_lists_nothing", "a lock file is listed"),
    ("keys_are_listed_in_ascending_byte_order", "listings are in the order of UTF-16"),
    ("a_prefix_selects_the_keys_that_begin_with_it", "prefixes are ignored"),
    ("a_prefix_is_not_a_pattern", "prefixes are patterns"),
    ("a_prefix_may_end_anywhere_in_a_key", "an empty prefix selects nothing"),
    ("a_prefix_may_end_anywhere_in_a_key", "prefixes end at a slash"),
    ("a_listing_follows_every_write", "the first listing is cached"),
    ("a_component_prefix_selects_only_its_keys", "a prefix loses its last slash"),
    // Pages.
    ("a_page_has_the_first_keys_of_its_request", "limits are ignored"),
    ("a_page_begins_after_any_key_present_or_not", "`after` is inclusive"),
    ("a_page_combines_prefix_and_after", "`after` drops the prefix"),
    ("a_page_of_an_empty_storage_is_the_last", "an empty page has more"),
    ("a_page_has_the_first_keys_of_its_request", "more is true for every full page"),
    ("pages_of_any_size_add_up_to_the_listing", "large pages lose a key"),
    ("pages_cross_components_in_byte_order", "listings are grouped by component"),
    (
        "paging_neither_skips_nor_repeats_keys_during_writes",
        "a key is skipped if `after` is missing",
    ),
    // Components and usage.
    ("an_empty_storage_has_no_components", "a missing component is listed"),
    ("a_component_ends_at_the_third_slash", "components end at the second slash"),
    ("components_are_listed_once_and_in_byte_order", "components are listed for each key"),
    ("unscoped_keys_belong_to_no_component", "unscoped keys are a component"),
    ("a_page_of_components_begins_after_any_text", "components repeat `after`"),
    ("a_component_without_keys_is_not_listed", "components without keys are listed"),
    ("usage_counts_bytes_of_keys_and_values", "usage counts characters"),
    ("usage_follows_every_write", "usage never shrinks"),
    ("usage_of_a_prefix_counts_only_its_keys", "usage ignores its prefix"),
    ("verify_counts_keys_and_components", "verify counts unscoped keys as a component"),
    // Snapshots.
    ("a_snapshot_has_every_key_and_value_in_order", "a snapshot ignores its prefix"),
    ("a_snapshot_begins_after_a_key_that_need_not_exist", "a snapshot ignores `after`"),
    ("a_snapshot_stops_at_the_visitors_error", "a snapshot does not stop"),
    ("a_snapshot_shows_commits_as_a_whole", "a snapshot reads each key separately"),
    ("a_snapshot_shows_no_later_write_without_an_earlier_one", "a snapshot consists of two reads"),
    // Revisions.
    ("put_stores_as_set_does", "put keeps the first value"),
    ("a_missing_key_has_no_revision", "a missing key has a revision"),
    ("the_revision_read_is_that_of_the_write", "put returns the previous revision"),
    ("every_write_has_a_larger_revision", "the same value keeps its revision"),
    ("every_write_has_a_larger_revision", "each key counts its own revisions"),
    ("a_write_leaves_the_revisions_of_other_keys", "every key has the last revision"),
    ("every_write_has_a_larger_revision", "revisions restart after a delete"),
    ("the_revision_of_a_commit_is_that_of_its_keys", "a commit returns another revision"),
    ("every_write_has_a_larger_revision", "an empty commit has no revision"),
    // Commits.
    ("a_commit_applies_all_of_its_writes", "a commit ignores its deletes"),
    ("a_commit_applies_all_of_its_writes", "a commit only creates"),
    ("a_check_for_absence_fails_on_a_present_key", "absence is not checked"),
    ("a_check_for_absence_fails_on_a_present_key", "an empty value counts as absent"),
    ("a_check_for_presence_fails_on_a_missing_key", "presence is not checked"),
    ("a_check_of_a_value_fails_on_another_value", "values are compared by their length"),
    ("a_check_of_a_revision_fails_on_another_revision", "a newer revision passes the check"),
    ("a_check_of_a_revision_fails_after_any_write", "the same value keeps its revision"),
    ("a_failed_commit_changes_nothing", "a failed commit keeps its first write"),
    ("the_first_failed_check_is_reported", "the last check that fails is reported"),
    ("checks_see_the_state_before_the_writes", "checks see the writes"),
    ("the_last_write_to_a_key_counts", "the first write to a key counts"),
    ("an_empty_commit_succeeds", "an empty commit fails"),
    ("a_commit_of_checks_only_changes_nothing", "checks create their keys"),
    ("a_commit_may_delete_missing_keys", "a commit cannot delete a missing key"),
    ("a_commit_covers_several_components", "commits cover one component"),
    ("a_commit_may_have_many_writes", "only 100 writes are applied"),
    ("listings_and_usage_follow_a_commit", "commits are not listed"),
    // Budgets.
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget allows one byte more"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget refuses the last byte"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget counts full keys"),
    ("a_budget_limits_the_number_of_keys", "a budget allows one key more"),
    ("a_budget_limits_the_number_of_keys", "the limit of keys is ignored"),
    ("an_overwrite_counts_its_difference", "an overwrite counts in full"),
    ("a_delete_frees_budget", "deletes free no budget"),
    ("a_commit_counts_as_a_whole", "a budget is checked after each write"),
    ("only_the_last_write_to_a_key_is_counted", "every write to a key is counted"),
    ("a_budget_refuses_only_growth", "a component above its budget cannot shrink"),
    ("a_budget_refuses_only_growth", "deletes are refused above a budget"),
    ("a_commit_over_its_budget_changes_nothing", "a commit over its budget still deletes"),
    ("a_failed_commit_uses_no_budget", "a failed commit uses budget"),
    ("a_failed_check_is_reported_before_the_budget", "the budget is checked first"),
    ("writes_without_a_budget_are_counted", "writes without a budget are not counted"),
    ("writes_without_a_budget_are_counted", "writes without a budget are limited by the first one"),
    ("the_first_budget_counts_existing_keys", "existing keys are not counted"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "the first budget applies to all commits"),
    ("each_component_has_its_own_usage", "all components share a budget"),
    ("a_budget_covers_one_component", "a budget covers any components"),
    ("unscoped_keys_have_a_budget_too", "unscoped keys have no budget"),
    // Reopening.
    ("an_empty_storage_opens_again", "a lock file is listed after reopening"),
    ("values_are_persistent", "nothing is persistent"),
    ("overwrites_and_deletes_are_persistent", "deletes are not persistent"),
    ("keys_of_every_component_are_persistent", "unscoped keys are not persistent"),
    ("flushed_writes_are_persistent", "flushed writes are lost"),
    ("commits_are_persistent", "commits are not persistent"),
    ("revisions_are_persistent", "reopening changes the revisions of keys"),
    ("revisions_keep_growing", "revisions restart after reopening"),
    ("revisions_keep_growing", "revisions continue from the largest stored one"),
    ("a_budget_counts_what_was_stored_before", "the usage counter is not persistent"),
    // Concurrency.
    ("a_thread_reads_its_own_writes", "a write overwrites concurrent writes"),
    ("a_read_returns_a_whole_value", "values are written in two halves"),
    ("writers_of_different_keys_lose_nothing", "a write overwrites concurrent writes"),
    ("a_listing_is_in_order_during_writes", "a listing consists of two reads"),
    ("no_revision_is_assigned_twice", "each key counts its own revisions"),
    ("the_last_write_to_a_key_has_its_largest_revision", "revisions are assigned before the lock"),
    ("a_value_is_read_with_its_own_revision", "values and revisions are read separately"),
    ("increments_by_revision_are_all_counted", "a commit unlocks between checks and writes"),
    ("increments_by_value_are_all_counted", "a commit unlocks between checks and writes"),
    ("one_of_many_creators_succeeds", "a commit unlocks between checks and writes"),
    ("commits_to_the_same_keys_are_isolated", "a commit locks one key at a time"),
    ("commits_over_components_are_isolated", "a commit locks one key at a time"),
    ("writers_never_exceed_a_budget", "a commit unlocks between checks and writes"),
    ("a_race_leaves_the_budget_exact", "writes without a budget are not counted"),
    ("the_first_budget_counts_concurrent_writes", "writes without a budget are not counted"),
    // Random operations.
    ("random_operations_agree_with_an_ordered_map", "usage ignores its prefix"),
    ("random_operations_agree_with_an_ordered_map", "a budget refuses the last byte"),
    ("random_operations_agree_when_opened_again", "revisions restart after reopening"),
];

/// A case of several hosts and a defect that it must detect.
const DETECTED_WITH_SEVERAL_HOSTS: &[(&str, &str)] = &[
    ("several_hosts_see_the_same_keys", "each host has its own keys"),
    ("several_hosts_see_the_same_keys", "the properties deny other hosts"),
    ("a_commit_is_reported_to_its_host_before_it_returns", "own commits are not reported"),
    ("a_commit_is_reported_to_its_host_before_it_returns", "only commits are reported"),
    ("a_commit_is_reported_to_its_host_before_it_returns", "changes follow nothing"),
    ("a_commit_over_components_is_reported_for_each", "one change for all components"),
    ("a_change_follows_that_of_another_host", "changes follow the last own one"),
    ("a_failed_commit_is_not_reported", "failed commits are reported"),
    ("a_change_of_one_key_names_it", "no change names keys"),
    ("component_revisions_are_those_of_the_last_changes", "revisions are sorted"),
    ("component_revisions_are_those_of_the_last_changes", "unknown components have revision 0"),
    ("component_revisions_include_commits_of_other_hosts", "revisions count own commits only"),
    ("changes_of_other_hosts_arrive", "changes of other hosts follow nothing"),
    ("the_last_watcher_replaces_the_others", "every watcher is called"),
];

/// The case that only an implementation that lacks a feature can fail.
const MISSING_FEATURES: &str = "missing_features_are_unsupported";

fn broken(defect: &'static str) -> Implementation {
    Implementation::persistent(format!("a storage in which {defect}"), move || {
        let storage = Arc::new(Broken::new(defect));
        move || {
            storage.open_again();
            Arc::clone(&storage)
        }
    })
}

fn broken_hosts(defect: &'static str) -> Implementation {
    Implementation::persistent(format!("hosts of which {defect}"), move || {
        let store = SharedReference::new();
        move || BrokenHost::new(defect, &store)
    })
    .several_hosts()
}

fn case(name: &str) -> &'static Case {
    cases().find(|case| case.name() == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

#[test]
fn every_case_passes_without_a_defect() {
    let report = run(&broken(""));
    assert!(report.skipped.iter().all(|(_, missing)| *missing == Feature::SeveralHosts));
    assert_eq!(report.passed.len() + report.skipped.len(), cases().count());
    assert_eq!(run(&broken_hosts("")).skipped, []);
}

/// A race shows a defect in most runs, not in all.
const TRIES: usize = 50;

fn detects(case: &Case, defect: &'static str) -> bool {
    (0..TRIES).any(|_| matches!(case.run(&broken(defect)), Outcome::Failed(_)))
}

#[test]
fn each_defect_is_detected() {
    let missed: Vec<_> =
        DETECTED.iter().filter(|(name, defect)| !detects(case(name), defect)).collect();
    assert!(missed.is_empty(), "no failure in {missed:#?}");
    let missed: Vec<_> = DETECTED_WITH_SEVERAL_HOSTS
        .iter()
        .filter(|(name, defect)| {
            !matches!(case(name).run(&broken_hosts(defect)), Outcome::Failed(_))
        })
        .collect();
    assert!(missed.is_empty(), "no failure in {missed:#?}");
}

#[test]
fn each_case_detects_a_defect() {
    let tried: BTreeSet<&str> = DETECTED
        .iter()
        .chain(DETECTED_WITH_SEVERAL_HOSTS)
        .map(|(name, _)| *name)
        .chain([MISSING_FEATURES])
        .collect();
    let all: BTreeSet<&str> = cases().map(Case::name).collect();
    let differing: Vec<_> = tried.symmetric_difference(&all).collect();
    assert!(differing.is_empty(), "without a defect, or without a case: {differing:?}");
}

#[test]
fn a_missing_feature_must_be_unsupported() {
    for feature in [Feature::Revisions, Feature::Commits, Feature::Budgets, Feature::Snapshots] {
        // It has the feature.
        let sound = broken("").without(feature);
        let outcome = case(MISSING_FEATURES).run(&sound);
        assert!(matches!(outcome, Outcome::Failed(_)), "without {feature:?}: {outcome:?}");
    }
}

#[test]
fn a_failed_run_names_every_case_that_failed() {
    let implementation = broken("`after` is inclusive");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&implementation)));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("a storage in which `after` is inclusive violates the contract"));
    assert!(
        message.contains("\n  a_page_begins_after_any_key_present_or_not: list_page("),
        "{message}"
    );
    assert!(message.contains("\n  pages_of_any_size_add_up_to_the_listing: "), "{message}");
    assert!(message.contains(": expected [") && message.contains("], found ["), "{message}");
}
