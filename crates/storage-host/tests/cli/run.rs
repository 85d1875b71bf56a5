//! `run`: what a component gets, and how it ends.

use std::fs;

use rstest::rstest;

use crate::guests::{HTTP, command, exporting, importing, labelled};
use crate::support::{Done, TestDir, guest};

#[test]
fn components_keep_their_data_apart() {
    let dir = TestDir::with_file_store();
    let notes = guest("notes");
    let text = dir.transcripts(&[
        &["run", "--id", "app/notes/home", &notes, "add", "buy milk"],
        &["run", "--id", "app/notes/home", &notes, "list"],
        &["run", "--id", "app/notes/work", &notes, "list"],
        &["run", "--id", "app/notes/home", &notes, "add", "--json", "-x", "--help"],
        &["run", "--id", "app/notes/home", &notes, "list"],
        &["keys", "app/notes/home", "--json"],
        &["run", "--id", "app/notes/home", &notes, "remove", "9"],
        &["run", "--id", "app/notes/home", &notes, "burn"],
        &["components"],
    ]);
    dir.assert_snapshot("run_notes", &text);
}

#[rstest]
#[case(0)]
#[case(7)]
#[case(255)]
fn the_exit_code_is_that_of_the_component(#[case] status: i32) {
    let dir = TestDir::with_file_store();
    let args = ["run", "--id", "a/b/c", &guest("probe"), "exit", &status.to_string()];
    assert_eq!(dir.run(&args).code, status);
}

#[test]
fn a_trap_is_one_line_and_keeps_earlier_writes() {
    let dir = TestDir::with_file_store();
    let probe = guest("probe");
    let text = dir.transcripts(&[
        &["run", "--id", "a/b/c", &probe, "trap"],
        &["get", "a/b/c", "before-trap"],
        &["--json", "run", "--id", "a/b/c", &probe, "trap"],
        &["run", "--id", "a/b/c", &probe, "set-size", "big", "40000000"],
        &["keys", "a/b/c"],
    ]);
    dir.assert_snapshot("run_trap", &text);

    let mut command = dir.command(&["run", "--id", "a/b/c", &probe, "trap"]);
    let output = command.env("STORAGE_HOST_LOG", "debug").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("wasm backtrace"), "the log has it: {stderr}");
}

#[test]
fn a_component_sees_errors_of_its_own_calls() {
    let dir = TestDir::with_file_store();
    let probe = guest("probe");
    let text = dir.transcripts(&[
        &["run", "--id", "a/b/c", &probe, "set-size", "big", "1048577"],
        &["run", "--id", "a/b/c", &probe, "set", "", "x"],
        &["run", "--id", "a/b/c", &probe, "set", "tab\there", "x"],
        &["run", "--id", "a/b/c", &probe, "get", "missing"],
        &["run", "--id", "a/b/c", &probe, "usage"],
    ]);
    dir.assert_snapshot("run_errors", &text);
}

#[test]
fn unrunnable_components_create_no_store() {
    let dir = TestDir::with_file_store();
    let whole = fs::read(guest("notes")).unwrap();
    dir.file("core.wasm", &wat::parse_str("(module)").unwrap());
    dir.file("truncated.wasm", &whole[..5_000]);
    dir.file("text.wasm", b"(component)");
    dir.file("empty.wasm", b"");
    dir.file("page.wasm", b"<html>404 Not Found</html>");
    dir.file("library.wasm", &wat::parse_str("(component)").unwrap());
    let import = |text: &str| command(text, "(i32.const 0)", "");
    dir.file(
        // Reported before anything is compiled.
        "uncompiled.wasm",
        &import(
            r#"(import "acme:gpu/compute@1.0.0" (instance (export "go" (func))))
            (core module (func (result i32)))"#,
        ),
    );
    dir.file("plain.wasm", &import(r#"(import "go" (func))"#));
    dir.file(
        "preview3.wasm",
        &import(r#"(import "wasi:cli/exit@0.3.0" (instance (export "exit" (func))))"#),
    );
    dir.file("async.wasm", &import("(core func (canon subtask.drop))"));
    dir.file("invalid.wasm", &import("(core module (func (result i32)))"));
    dir.file(
        "gpu.wasm",
        &import(r#"(import "acme:gpu/compute@1.0.0" (instance (export "go" (func))))"#),
    );
    dir.file(
        "function.wasm",
        &import(r#"(import "airssys:core/storage@1.0.0" (instance (export "shred" (func))))"#),
    );
    dir.file(
        "version.wasm",
        &import(r#"(import "airssys:core/storage@2.0.0" (instance (export "get" (func))))"#),
    );
    dir.file(
        "draft.wasm",
        &import(r#"(import "wasi:keyvalue/store@0.2.0-draft9" (instance (export "open" (func))))"#),
    );
    dir.file(
        "shape.wasm",
        &import(
            r#"(import "wasi:keyvalue/batch@0.2.0-draft2" (instance (export "get-many" (func))))"#,
        ),
    );
    let mut text = String::new();
    let files = "missing core truncated text empty page library gpu \
                 function version draft shape uncompiled plain preview3 async invalid";
    for file in files.split(' ') {
        text += &dir.transcript(&["run", "--id", "a/b/c", &format!("{file}.wasm")]);
        text += "\n";
    }
    text += &dir.transcript(&["run", "--id", "a/b/c", "."]);
    text += &dir.transcript(&["--json", "run", "--id", "a/b/c", "core.wasm"]);
    dir.assert_snapshot("run_not_runnable", &text);
    assert!(!dir.has_store());
}

#[test]
fn all_missing_imports_are_listed_with_advice() {
    let dir = TestDir::with_file_store();
    dir.file("nothing.wasm", &exporting(&[]));
    dir.file("library.wasm", &exporting(&["acme:math/add@1.0.0", "acme:math/div@1.0.0"]));
    dir.file("http.wasm", &exporting(&["wasi:http/incoming-handler@0.2.3"]));
    dir.file("http3.wasm", &exporting(&["wasi:http/handler@0.3.0"]));
    dir.file("newer.wasm", &exporting(&["wasi:cli/run@0.3.0"]));
    dir.file("candidate.wasm", &exporting(&["wasi:cli/run@0.2.0-rc-2023-12-05"]));
    dir.file(
        "several.wasm",
        &importing(&["acme:gpu/compute@1.0.0", "wasi:io/streams@0.2.0", "acme:gpu/memory@1.0.0"]),
    );
    dir.file(
        "candidates.wasm",
        &importing(&["wasi:cli/stdout@0.2.0-rc-2023-12-05", "wasi:io/poll@0.2.0-rc-2023-11-10"]),
    );
    dir.file("unknown.wasm", &importing(&["wasi:clocks/timezone@0.2.0", "wasi:tls/types@0.2.0"]));
    dir.file(
        "functions.wasm",
        &importing(&["wasi:io/poll@0.2.0", "airssys:core/storage@1.0.0", "wasi:cli/exit@0.2.0"]),
    );
    dir.file("labelled.wasm", &labelled());
    dir.file(
        "by-name.wasm",
        &importing(&["[implements=<wasi:keyvalue/store@0.2.0-draft>]hot", "acme:gpu/a@1.0.0"]),
    );
    let core = r#"(module (import "wasi_snapshot_preview1" "fd_write"
        (func (param i32 i32 i32 i32) (result i32))) (memory 1))"#;
    dir.file("preview 1.wasm", &wat::parse_str(core).unwrap());
    let mut text = String::new();
    let names = "nothing,library,http,http3,newer,candidate,several,candidates,\
                 unknown,functions,labelled,by-name,preview 1";
    for name in names.split(',') {
        text += &dir.transcript(&["run", "--id", "a/b/c", &format!("{name}.wasm")]);
        text += "\n";
    }
    // check says the same.
    let manifest = "store = \"file:data\"\n[[component]]\nid = \"a/b/c\"\nwasm = \"several.wasm\"";
    dir.file("storage.toml", manifest.as_bytes());
    text += &dir.transcript(&["check", "storage.toml"]);
    dir.assert_snapshot("run_lacks", &text);
    assert!(!dir.has_store());
}

#[test]
fn unused_http_imports_are_linked() {
    let dir = TestDir::with_file_store();
    dir.file("unused.wasm", &command(HTTP, "(i32.const 0)", "fields"));
    dir.file("used.wasm", &command(HTTP, "(call $fields)", "fields"));
    dir.file(
        "preview3.wasm",
        &command(
            r#"(import "wasi:http/types@0.3.0" (instance (export "go" (func))))"#,
            "(i32.const 0)",
            "",
        ),
    );
    let text = dir.transcripts(&[
        &["run", "--id", "a/b/c", "unused.wasm"],
        &["run", "--id", "a/b/c", "used.wasm"],
        &["run", "--id", "a/b/c", "preview3.wasm"],
    ]);
    dir.assert_snapshot("run_http", &text);
}

#[test]
fn a_trap_after_refused_memory_names_the_limit() {
    let dir = TestDir::with_file_store();
    // 512 MiB are 8,192 pages.
    let grow = |pages| format!("(drop (memory.grow (i32.const {pages}))) (unreachable)");
    dir.file("more.wasm", &command("", &grow(8_192), ""));
    dir.file("enough.wasm", &command("", &grow(8_191), ""));
    let text = dir.transcripts(&[
        &["run", "--id", "a/b/c", "more.wasm"],
        &["run", "--id", "a/b/c", "enough.wasm"],
    ]);
    dir.assert_snapshot("run_memory", &text);
}

#[test]
fn a_failure_without_a_message_is_logged() {
    let dir = TestDir::with_file_store();
    dir.file("error.wasm", &command("", "(i32.const 1)", ""));
    let grow = "(drop (memory.grow (i32.const 8192))) (i32.const 1)";
    dir.file("memory.wasm", &command("", grow, ""));
    let mut said = String::new();
    for file in ["error.wasm", "memory.wasm"] {
        for level in ["error", "info"] {
            let mut command = dir.command(&["run", "--id", "a/b/c", file]);
            let output = command.env("STORAGE_HOST_LOG", level).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let stderr = String::from_utf8(output.stderr).unwrap();
            let lines = stderr.lines().filter(|line| line.contains("a/b/c"));
            said.extend(lines.map(|line| format!("{level}: {}\n", line.trim_start())));
        }
    }
    assert_eq!(
        said,
        "info: INFO a/b/c returned an error without a status\n\
         info: INFO a/b/c returned an error without a status; the host refused it memory above the \
         limit of 536870912 bytes\n"
    );
}

/// A command that ends well if it sees no environment variable.
const NO_ENVIRONMENT: &str = r#"(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $environment "get-environment")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core module $main
    (import "memory" "memory" (memory 1))
    (import "environment" "get" (func $get (param i32)))
    (func (export "run") (result i32)
      (call $get (i32.const 16))
      (i32.ne (i32.load (i32.const 20)) (i32.const 0))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "environment" (instance (export "get" (func $get))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;

#[test]
fn a_component_gets_no_environment() {
    let dir = TestDir::with_file_store();
    dir.file("environment.wasm", &wat::parse_str(NO_ENVIRONMENT).unwrap());
    assert_eq!(dir.printed(&["run", "--id", "a/b/c", "environment.wasm"]), "");
}

#[test]
fn components_run_without_a_cache() {
    let dir = TestDir::with_file_store();
    let file = dir.file("a-file", b"");
    let notes = guest("notes");
    let add = ["run", "--id", "app/notes/home", &notes, "add", "x"];
    let mut without = dir.command(&add);
    without.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    let mut unwritable = dir.command(&add);
    unwritable.env("XDG_CACHE_HOME", format!("{file}/cache"));
    let mut relative = dir.command(&add);
    relative.env("XDG_CACHE_HOME", "cache").env("HOME", "home");
    for (number, mut command) in [without, unwritable, relative].into_iter().enumerate() {
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.stderr, "");
        assert_eq!(done.stdout, format!("added note {}\n", number + 1));
    }
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a-file", "storage-data"]);
}

#[test]
fn components_that_were_built_for_other_hosts_run() {
    let dir = TestDir::with_file_store();
    let program = guest("keyvalue-main");
    let args = ["run", "--id", "a/b/c", "--preset", "atomics_key=5", &program];
    assert_eq!(dir.printed(&args), "");
    assert_eq!(dir.printed(&["keys", "a/b/c"]), "a2\natomics_key\n");
    assert_eq!(dir.printed(&["get", "a/b/c", "atomics_key"]), "6");
    // Both types of `get-many`, each for the component that imports it.
    for guest_name in ["keyvalue-draft2", "keyvalue-spin"] {
        let cases = guest(guest_name);
        let table = dir.printed(&["--store", "memory:", "run", "--id", "a/b/c", &cases]);
        let get_many = table.lines().filter(|line| line.starts_with("get-many"));
        assert_eq!(get_many.count(), 14, "{guest_name}: {table}");
        assert!(table.ends_with(" as the specification asks\n"), "{guest_name}: {table}");
    }
}

#[test]
fn a_component_runs_on_a_store_that_ends_with_it() {
    let dir = TestDir::with_file_store();
    let counter = guest("counter");
    for _ in 0..2 {
        let args = ["--store", "memory:", "run", "--id", "a/b/c", &counter];
        assert_eq!(dir.printed(&args), "run 1\n");
    }
    assert!(!dir.has_store());
}

/// A command that runs without end, and one that waits so long.
pub(crate) const ENDLESS: &str = r#"(component
  (core module $main (func (export "run") (result i32) (loop $again (br $again)) i32.const 0))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;
const WAITS: &str = r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $own (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core module $main
    (import "wasi" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "wasi" "block" (func $block (param i32)))
    (func (export "run") (result i32)
      (call $block (call $subscribe (i64.const 3600000000000)))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "wasi" (instance
    (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;

#[test]
fn the_timeout_ends_a_component() {
    let dir = TestDir::with_file_store();
    dir.file("endless.wasm", &wat::parse_str(ENDLESS).unwrap());
    dir.file("waits.wasm", &wat::parse_str(WAITS).unwrap());
    dir.file(
        "storage.toml",
        br#"
store = "file:./data"
timeout = 1

[[component]]
id = "a/endless/1"
wasm = "endless.wasm"

[[component]]
id = "a/waits/1"
wasm = "waits.wasm"
timeout = "none"
presets = { key = "value" }
"#,
    );
    let notes = guest("notes");
    let text = dir.transcripts(&[
        &["run", "--id", "a/b/c", "--timeout", "1", "endless.wasm"],
        &["--json", "run", "--id", "a/b/c", "--timeout", "1", "endless.wasm"],
        &["run", "--id", "a/b/c", "--timeout", "1", "--instances", "3", "endless.wasm"],
        &["run", "--id", "a/b/c", "--timeout", "1", "waits.wasm"],
        &["--json", "run", "--id", "a/b/c", "--timeout", "1", "waits.wasm"],
        &["run", "--config", "storage.toml", "a/endless/1"],
        // The command line wins over the manifest.
        &["run", "--config", "storage.toml", "--timeout", "1", "a/waits/1"],
        &["--store", "file:./data", "get", "a/waits/1", "key"],
        &["run", "--id", "a/b/c", "--timeout", "0", "endless.wasm"],
        // What ends in time is not touched.
        &["run", "--id", "a/b/c", "--timeout", "3600", &notes, "add", "x"],
    ]);
    dir.assert_snapshot("run_timeout", &text);
}
