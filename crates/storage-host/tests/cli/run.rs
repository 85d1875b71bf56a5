//! `run`: what a component gets, and how it ends.

use std::fs;

use crate::guests::{HTTP, command, exporting, importing, labelled};
use crate::support::{TestDir, guest};

#[test]
fn unrunnable_components_create_no_store() {
    let dir = TestDir::with_file_store();
    let whole = fs::read(guest("notes")).unwrap();
    let (core, library) = (wat::parse_str("(module)"), wat::parse_str("(component)"));
    for (name, bytes) in [
        ("core", &*core.unwrap()),
        ("truncated", &whole[..5_000]),
        ("text", b"(component)"),
        ("empty", b""),
        ("page", b"<html>404 Not Found</html>"),
        ("library", &library.unwrap()),
    ] {
        dir.file(&format!("{name}.wasm"), bytes);
    }
    let function = |instance: &str, name: &str| {
        format!(r#"(import "{instance}" (instance (export "{name}" (func))))"#)
    };
    let invalid = "(core module (func (result i32)))";
    for (name, parts) in [
        // Reported before anything is compiled.
        ("uncompiled", &*(function("acme:gpu/compute@1.0.0", "go") + invalid)),
        ("invalid", invalid),
        ("plain", r#"(import "go" (func))"#),
        ("async", "(core func (canon subtask.drop))"),
        ("preview3", &function("wasi:cli/exit@0.3.0", "exit")),
        ("gpu", &function("acme:gpu/compute@1.0.0", "go")),
        ("function", &function("airssys:core/storage@1.0.0", "shred")),
        ("version", &function("airssys:core/storage@2.0.0", "get")),
        ("draft", &function("wasi:keyvalue/store@0.2.0-draft9", "open")),
        ("shape", &function("wasi:keyvalue/batch@0.2.0-draft2", "get-many")),
    ] {
        dir.file(&format!("{name}.wasm"), &command(parts, "(i32.const 0)", ""));
    }
    dir.assert_transcript("run_not_runnable");
}

#[test]
fn all_missing_imports_are_listed_with_advice() {
    let dir = TestDir::with_file_store();
    for (file, names) in [
        ("nothing", &[][..]),
        ("library", &["acme:math/add@1.0.0", "acme:math/div@1.0.0"]),
        ("http", &["wasi:http/incoming-handler@0.2.3"]),
        ("http3", &["wasi:http/handler@0.3.0"]),
        ("newer", &["wasi:cli/run@0.3.0"]),
        ("candidate", &["wasi:cli/run@0.2.0-rc-2023-12-05"]),
    ] {
        dir.file(&format!("{file}.wasm"), &exporting(names));
    }
    for (file, names) in [
        (
            "several",
            &["acme:gpu/compute@1.0.0", "wasi:io/streams@0.2.0", "acme:gpu/memory@1.0.0"][..],
        ),
        (
            "candidates",
            &["wasi:cli/stdout@0.2.0-rc-2023-12-05", "wasi:io/poll@0.2.0-rc-2023-11-10"],
        ),
        ("unknown", &["wasi:clocks/timezone@0.2.0", "wasi:tls/types@0.2.0"]),
        ("functions", &["wasi:io/poll@0.2.0", "airssys:core/storage@1.0.0", "wasi:cli/exit@0.2.0"]),
        ("by-name", &["[implements=<wasi:keyvalue/store@0.2.0-draft>]hot", "acme:gpu/a@1.0.0"]),
    ] {
        dir.file(&format!("{file}.wasm"), &importing(names));
    }
    dir.file("labelled.wasm", &labelled());
    let core = r#"(module (import "wasi_snapshot_preview1" "fd_write"
        (func (param i32 i32 i32 i32) (result i32))) (memory 1))"#;
    dir.file("preview 1.wasm", &wat::parse_str(core).unwrap());
    dir.assert_transcript("run_lacks");
}

#[test]
fn unused_http_imports_are_linked() {
    let dir = TestDir::with_file_store();
    dir.file("unused.wasm", &command(HTTP, "(i32.const 0)", "fields"));
    dir.file("used.wasm", &command(HTTP, "(call $fields)", "fields"));
    let newer = r#"(import "wasi:http/types@0.3.0" (instance (export "go" (func))))"#;
    dir.file("preview3.wasm", &command(newer, "(i32.const 0)", ""));
    dir.assert_transcript("run_http");
}

#[test]
fn a_trap_after_refused_memory_names_the_limit() {
    let dir = TestDir::with_file_store();
    // 512 MiB are 8,192 pages.
    let grow = |pages| format!("(drop (memory.grow (i32.const {pages}))) (unreachable)");
    dir.file("more.wasm", &command("", &grow(8_192), ""));
    dir.file("enough.wasm", &command("", &grow(8_191), ""));
    dir.assert_transcript("run_memory");
}

#[test]
fn a_failure_without_a_message_is_logged() {
    let dir = TestDir::with_file_store();
    dir.file("error.wasm", &command("", "(i32.const 1)", ""));
    let grow = "(drop (memory.grow (i32.const 8192))) (i32.const 1)";
    dir.file("memory.wasm", &command("", grow, ""));
    dir.assert_transcript("run_silent_failure");
}

#[test]
fn a_component_gets_no_environment() {
    let dir = TestDir::with_file_store();
    dir.component("environment");
    assert_eq!(dir.printed(&["run", "--id", "a/b/c", "environment.wasm"]), "");
}

#[test]
fn the_timeout_ends_a_component() {
    let dir = TestDir::with_file_store();
    dir.component("endless");
    dir.component("waits");
    dir.assert_transcript("run_timeout");
}
