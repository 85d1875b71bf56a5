//! Every case of the suite can fail: each runs on a storage with a defect that it must
//! detect, and on the same storage without the defect.

#![allow(clippy::panic, reason = "a helper of tests")]

mod commits;
mod storage;

use std::collections::BTreeSet;
use std::sync::Arc;

use storage::Broken;
use storage_core::conformance::{Case, Feature, Implementation, Outcome, cases, run};

/// A case and a defect that it must detect.
const DETECTED: &[(&str, &str)] = &[
    // One key.
    ("a_missing_key_is_none", "a missing key reads as empty"),
    ("a_value_is_read_as_it_was_set", "values are folded"),
    ("the_last_value_that_was_set_counts", "set keeps the first value"),
    ("a_deleted_key_is_missing", "delete does nothing"),
    ("deleting_a_missing_key_succeeds", "deleting a missing key fails"),
    ("a_deleted_key_can_be_set_again", "a deleted key stays dead"),
    ("an_empty_value_is_present", "exists is false for an empty value"),
    ("an_empty_value_is_present", "an empty value reads as missing"),
    ("every_byte_can_be_in_a_value", "values end at a zero byte"),
    ("every_byte_can_be_in_a_value", "values are trimmed"),
    ("a_value_may_have_a_mebibyte", "values are cut at 64 KiB"),
    ("exists_agrees_with_get", "exists stays true"),
    ("keys_with_a_common_prefix_are_independent", "delete takes every key that begins so"),
    ("get_many_returns_values_in_the_order_of_the_keys", "get_many returns byte order"),
    ("try_get_agrees_with_get", "try_get knows of no writes"),
    ("try_get_agrees_with_get", "try_get ignores its prefix"),
    ("flush_changes_nothing", "flush forgets a key"),
    // Keys.
    ("keys_of_every_form_are_distinct", "keys are folded"),
    ("keys_of_every_form_are_distinct", "keys are trimmed"),
    ("keys_of_every_form_are_distinct", "keys are decoded"),
    ("keys_of_every_form_are_distinct", "keys are normalised"),
    ("keys_of_every_form_are_distinct", "paths are refused"),
    ("keys_of_every_form_are_listed_byte_for_byte", "listings fold their keys"),
    ("a_component_may_have_keys_of_every_form", "user keys are folded"),
    ("a_key_may_be_as_long_as_the_limit", "long keys are refused"),
    ("component_prefixes_of_any_form_are_distinct", "dots in component prefixes are resolved"),
    ("a_refused_key_changes_nothing", "there are no rules for keys"),
    ("a_commit_with_a_refused_key_changes_nothing", "a commit's keys have no rules"),
    ("one_refused_key_fails_get_many", "get_many skips refused keys"),
    // Listings.
    ("an_empty_storage_lists_nothing", "a lock file is listed"),
    ("keys_are_listed_in_ascending_byte_order", "listings are reversed"),
    ("keys_are_listed_in_ascending_byte_order", "listings ignore case"),
    ("keys_are_listed_in_ascending_byte_order", "listings are in the order of UTF-16"),
    ("a_prefix_selects_the_keys_that_begin_with_it", "prefixes are ignored"),
    ("a_prefix_is_not_a_pattern", "prefixes are patterns"),
    ("an_empty_prefix_selects_every_key", "an empty prefix selects nothing"),
    ("a_prefix_may_end_anywhere_in_a_key", "prefixes end at a slash"),
    ("an_overwritten_key_is_listed_once", "overwritten keys are listed again"),
    ("a_deleted_key_is_not_listed", "deleted keys are listed"),
    ("a_listing_follows_every_write", "listings are remembered"),
    ("a_component_prefix_selects_only_its_keys", "a prefix loses its last slash"),
    // Pages.
    ("a_page_has_the_first_keys_of_its_request", "limits are ignored"),
    ("a_page_begins_after_a_key_that_need_not_exist", "`after` is inclusive"),
    ("a_page_begins_after_a_key_that_need_not_exist", "`after` must exist"),
    ("a_page_combines_prefix_and_after", "`after` drops the prefix"),
    ("a_page_of_an_empty_storage_is_the_last", "an empty page has more"),
    ("a_page_with_limit_zero_shows_whether_there_are_keys", "a page of no keys has no more"),
    ("a_page_says_whether_more_keys_follow", "more is always false"),
    ("a_page_says_whether_more_keys_follow", "more means a full page"),
    ("pages_of_every_size_add_up_to_the_listing", "large pages lose a key"),
    ("pages_cross_components_in_byte_order", "listings are grouped by component"),
    (
        "paging_neither_skips_nor_repeats_keys_during_writes",
        "a key is skipped when `after` is gone",
    ),
    // Components and usage.
    ("an_empty_storage_has_no_components", "there is always a component"),
    ("a_component_ends_at_the_third_slash", "components end at the second slash"),
    ("components_are_listed_once_and_in_byte_order", "components are listed for each key"),
    ("unscoped_keys_belong_to_no_component", "unscoped keys are a component"),
    ("components_continue_after_the_last_one_seen", "components continue with the last one"),
    ("a_component_without_keys_is_not_listed", "empty components are listed"),
    ("an_empty_storage_uses_nothing", "an empty storage uses something"),
    ("usage_counts_bytes_of_keys_and_values", "usage counts characters"),
    ("usage_follows_every_write", "usage never shrinks"),
    ("usage_of_a_prefix_counts_only_its_keys", "usage ignores its prefix"),
    ("verify_counts_keys_and_components", "verify counts unscoped keys as a component"),
    // Snapshots.
    ("a_snapshot_has_every_key_and_value_in_order", "a snapshot ignores its prefix"),
    ("a_snapshot_begins_after_a_key_that_need_not_exist", "a snapshot begins at the front"),
    ("a_snapshot_stops_at_the_visitors_error", "a snapshot does not stop"),
    ("a_snapshot_shows_commits_as_a_whole", "a snapshot reads key after key"),
    ("a_snapshot_shows_no_later_write_without_an_earlier_one", "a snapshot is made of two reads"),
    // Revisions.
    ("put_stores_as_set_does", "put keeps the first value"),
    ("a_missing_key_has_no_revision", "a missing key has a revision"),
    ("the_revision_read_is_that_of_the_write", "put returns the revision before"),
    ("a_later_write_has_a_larger_revision", "the same value keeps its revision"),
    ("revisions_grow_across_keys_and_components", "each key counts its own revisions"),
    ("a_write_leaves_the_revisions_of_other_keys", "every key has the last revision"),
    ("a_key_that_was_deleted_gets_a_new_revision", "a deleted key starts again"),
    ("the_revision_of_a_commit_is_that_of_its_keys", "a commit returns another revision"),
    ("revisions_grow_across_kinds_of_writes", "an empty commit has no revision"),
    // Commits.
    ("a_commit_applies_all_of_its_writes", "a commit forgets its deletes"),
    ("a_commit_without_checks_always_applies", "a commit only creates"),
    ("a_check_for_absence_fails_on_a_present_key", "absence is not checked"),
    ("a_check_for_absence_fails_on_a_present_key", "an empty value counts as absent"),
    ("a_check_for_presence_fails_on_a_missing_key", "presence is not checked"),
    ("a_check_of_a_value_fails_on_another_value", "values are compared by their length"),
    ("a_check_of_a_revision_fails_on_another_revision", "an older revision will do"),
    ("a_value_written_again_has_another_revision", "the same value keeps its revision"),
    ("a_failed_commit_changes_nothing", "a failed commit keeps its first write"),
    ("the_first_failed_check_is_reported", "the last check that fails is reported"),
    ("checks_see_the_state_before_the_writes", "checks look at the state behind the writes"),
    ("the_last_write_to_a_key_counts", "the first write to a key counts"),
    ("an_empty_commit_succeeds", "an empty commit fails"),
    ("a_commit_of_checks_only_changes_nothing", "checks alone create their keys"),
    ("a_commit_may_delete_missing_keys", "a commit cannot delete a missing key"),
    ("a_commit_covers_several_components", "commits cover one component"),
    ("a_commit_covers_several_components", "a check in another component is forgotten"),
    ("a_commit_may_have_many_writes", "only 100 writes are applied"),
    ("listings_and_usage_follow_a_commit", "commits are not listed"),
    // Budgets.
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget allows one byte more"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget refuses the last byte"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget counts full keys"),
    ("a_budget_limits_bytes_of_user_keys_and_values", "a budget counts characters"),
    ("a_budget_limits_the_number_of_keys", "a budget allows one key more"),
    ("a_budget_limits_the_number_of_keys", "a budget of keys is forgotten"),
    ("an_overwrite_counts_its_difference", "an overwrite counts in full"),
    ("a_delete_frees_budget", "deletes make no room"),
    ("a_commit_counts_as_a_whole", "a budget is checked write by write"),
    ("only_the_last_write_to_a_key_is_counted", "every write to a key is counted"),
    ("a_component_above_its_budget_may_shrink", "above its budget a component is stuck"),
    ("a_budget_never_refuses_deletes", "deletes are refused above a budget"),
    ("a_budget_allows_writes_that_do_not_grow", "what does not grow is refused"),
    ("a_commit_over_its_budget_changes_nothing", "a commit over its budget deletes all the same"),
    ("a_batch_of_deletes_succeeds_above_a_lowered_budget", "above its budget a component is stuck"),
    ("a_failed_commit_uses_no_budget", "what a failed commit asked for is kept"),
    ("usage_follows_applied_and_failed_commits", "usage never shrinks"),
    ("a_failed_check_is_reported_before_the_budget", "the budget comes before the checks"),
    ("writes_without_a_budget_are_counted", "writes without a budget are not counted"),
    ("writes_without_a_budget_have_no_limit", "writes without a budget keep to the last one"),
    ("the_first_budget_counts_existing_keys", "a budget begins to count with its first commit"),
    ("each_commit_has_its_own_budget", "the first budget stays"),
    ("each_component_has_its_own_usage", "all components share a budget"),
    ("a_budget_covers_one_component", "a budget covers any components"),
    ("unscoped_keys_have_a_budget_too", "unscoped keys have no budget"),
    ("a_budget_without_writes_is_never_exceeded", "a budget without writes is checked"),
    ("an_unlimited_budget_allows_everything", "unlimited is taken for nothing"),
    // Reopening.
    ("an_empty_storage_opens_again", "a lock file is found when it is opened again"),
    ("values_are_persistent", "nothing is persistent"),
    ("values_are_persistent", "empty values are not persistent"),
    ("overwrites_and_deletes_are_persistent", "deletes are not persistent"),
    ("keys_of_every_component_are_persistent", "unscoped keys are not persistent"),
    ("flushed_writes_are_persistent", "flushed writes are lost"),
    ("commits_are_persistent", "commits are not persistent"),
    ("revisions_are_persistent", "keys have new revisions when opened"),
    ("revisions_keep_growing", "revisions start again when opened"),
    (
        "a_revision_is_not_reused_after_its_key_is_deleted",
        "revisions continue from the largest that is stored",
    ),
    ("a_revision_can_be_checked_after_reopening", "keys have new revisions when opened"),
    ("a_budget_counts_what_was_stored_before", "the usage counter is not persistent"),
    // Concurrency.
    ("a_thread_reads_its_own_writes", "a write loses what came meanwhile"),
    ("a_read_returns_a_whole_value", "values are written in two halves"),
    ("writers_of_different_keys_lose_nothing", "a write loses what came meanwhile"),
    ("a_listing_is_in_order_during_writes", "a listing is made of two reads"),
    ("no_revision_is_assigned_twice", "each key counts its own revisions"),
    ("the_last_write_to_a_key_has_its_largest_revision", "revisions are taken before the lock"),
    ("a_value_is_read_with_its_own_revision", "values and revisions are read apart"),
    ("increments_by_revision_are_all_counted", "a commit lets go between checks and writes"),
    ("increments_by_value_are_all_counted", "a commit lets go between checks and writes"),
    ("one_of_many_creators_succeeds", "a commit lets go between checks and writes"),
    ("commits_to_the_same_keys_are_isolated", "a commit locks each key alone"),
    ("commits_over_components_are_isolated", "a commit locks each key alone"),
    ("writers_never_exceed_a_budget", "a commit lets go between checks and writes"),
    ("a_race_leaves_the_budget_exact", "writes without a budget are not counted"),
    ("the_first_budget_counts_concurrent_writes", "writes without a budget are not counted"),
    // Random operations.
    ("random_operations_agree_with_an_ordered_map", "usage ignores its prefix"),
    ("random_operations_agree_with_an_ordered_map", "a budget refuses the last byte"),
    ("random_operations_agree_when_opened_again", "revisions start again when opened"),
];

/// Cases that only an implementation that lacks a feature can fail.
const LACKING_FEATURES: [&str; 2] =
    ["lacking_features_are_unsupported", "lacking_features_change_nothing"];

fn broken(defect: &'static str) -> Implementation {
    Implementation::persistent(format!("a storage in which {defect}"), move || {
        let storage = Arc::new(Broken::new(defect));
        move || {
            storage.open_again();
            Arc::clone(&storage)
        }
    })
}

fn case(name: &str) -> &'static Case {
    cases().find(|case| case.name() == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

#[test]
fn every_case_passes_without_a_defect() {
    let report = run(&broken(""));
    assert_eq!(report.skipped, []);
    assert_eq!(report.passed.len(), cases().count());
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
}

#[test]
fn each_case_detects_a_defect() {
    let tried: BTreeSet<&str> =
        DETECTED.iter().map(|(name, _)| *name).chain(LACKING_FEATURES).collect();
    let all: BTreeSet<&str> = cases().map(Case::name).collect();
    let differing: Vec<_> = tried.symmetric_difference(&all).collect();
    assert!(differing.is_empty(), "without a defect, or without a case: {differing:?}");
}

#[test]
fn a_lacking_feature_must_be_unsupported() {
    for feature in [Feature::Revisions, Feature::Commits, Feature::Budgets, Feature::Snapshots] {
        // It has the feature.
        let sound = broken("").without(feature);
        // These only read.
        let reads = matches!(feature, Feature::Revisions | Feature::Snapshots);
        let detected_by = LACKING_FEATURES.iter().take(if reads { 1 } else { 2 });
        for name in detected_by {
            let outcome = case(name).run(&sound);
            assert!(
                matches!(outcome, Outcome::Failed(_)),
                "{name} without {feature:?}: {outcome:?}"
            );
        }
    }
}

#[test]
fn a_failed_run_names_every_case_that_failed() {
    let implementation = broken("`after` is inclusive");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&implementation)));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.starts_with("a storage in which `after` is inclusive does not keep the contract")
    );
    assert!(
        message.contains("\n  a_page_begins_after_a_key_that_need_not_exist: list_page("),
        "{message}"
    );
    assert!(message.contains("\n  pages_of_every_size_add_up_to_the_listing: "), "{message}");
    assert!(message.contains(": expected [") && message.contains("], found ["), "{message}");
}
