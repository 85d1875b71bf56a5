//! Commands and what they print: each test repeats the commands of a file in `snapshots`.
//! To add one, write it into the file and accept the snapshot.

use rstest::rstest;

use crate::support::TestDir;

/// On a file store in `storage-data`.
#[rstest]
#[rustfmt::skip]
fn transcript(
    #[values(
        "copy", "copy_damaged", "data_base64", "data_bytes", "data_hyphens", "data_invalid_ids", "data_json",
        "data_limit", "data_missing", "data_output", "data_pages", "data_store_choice",
        "data_text", "export", "import", "run_errors", "run_keyvalue", "run_memory_store", "run_notes", "run_trap",
        "run_without_cache", "store_flipped", "store_is_none", "store_newer", "verify",
        "verify_foreign_files", "wipe"
    )]
    name: &str,
) {
    TestDir::with_file_store().assert_transcript(name);
}

/// On the default store, or those that the commands name.
#[cfg(feature = "redb")]
#[rstest]
#[rustfmt::skip]
fn transcript_without_a_variable(
    #[values(
        "check_async", "compact", "completions", "config_all_wrong", "config_cannot", "config_instances", "config_no_store", "config_override",
        "config_presets", "config_run", "config_warnings", "config_wrong", "demo", "demo_cannot",
        "doctor_choice", "earlier_default", "help", "help_commands", "help_nothing", "help_short",
        "import_config", "log_level", "paths_environment", "paths_notes", "paths_unexpanded", "policy", "policy_limit", "policy_refused",
        "policy_store_choice", "privacy", "secrets", "serve_wrong", "wrong_usage"
    )]
    name: &str,
) {
    TestDir::new().assert_transcript(name);
}

/// With links, names that are not UTF-8, streams that other systems open differently, a terminal
/// and failing system calls.
#[cfg(all(feature = "redb", target_os = "linux"))]
#[rstest]
#[rustfmt::skip]
fn transcript_on_linux(
    #[values(
        "check_pipe", "copy_paths", "link", "paths_not_utf8", "strace", "streams_input", "streams_output",
        "terminal", "verify_link"
    )]
    name: &str,
) {
    let dir = TestDir::with_file_store();
    let needed = match name {
        "strace" => "strace -qq -o /dev/null true",
        "terminal" => "bash --version && script --version",
        _ => "true",
    };
    let works = dir.shell(needed).output().unwrap();
    if !works.status.success() {
        return println!("SKIPPED {name}: {needed}: {works:?}");
    }
    dir.assert_transcript(name);
}
