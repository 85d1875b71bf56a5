//! `check` of a component.

use std::fs;

use crate::guests::{HTTP, command, exporting, importing, labelled};
use crate::support::{TestDir, guest};

#[test]
fn check_shows_what_a_component_needs() {
    let dir = TestDir::new();
    fs::copy(guest("notes"), dir.path().join("notes.wasm")).unwrap();
    dir.file(
        "lacks.wasm",
        &importing(&[
            "acme:gpu/compute@1.0.0",
            "wasi:keyvalue/store@0.2.0-draft9",
            "wasi:clocks/timezone@0.2.0",
            "wasi:cli/exit@0.3.0",
            "wasi:io/poll@0.2.0",
        ]),
    );
    dir.file("labelled.wasm", &labelled());
    // By its first bytes.
    dir.file("http.component", &command(HTTP, "(i32.const 0)", "fields"));
    dir.file("library.wasm", &exporting(&["acme:math/add@1.0.0"]));
    dir.file(
        "functions.wasm",
        &command(
            r#"(import "airssys:core/storage@1.0.0" (instance (export "shred" (func))))"#,
            "(i32.const 0)",
            "",
        ),
    );
    dir.assert_transcript("check_component");
    assert!(!dir.has_store());
}

#[test]
fn check_refuses_what_is_not_a_component() {
    let dir = TestDir::new();
    let whole = fs::read(guest("notes")).unwrap();
    dir.file("core.wasm", &wat::parse_str("(module)").unwrap());
    dir.file("core", &wat::parse_str("(module)").unwrap());
    dir.file("truncated.wasm", &whole[..5_000]);
    dir.file("begun.wasm", &whole[..6]);
    dir.file("text.wat", b"(component)");
    dir.file("page.wasm", b"<html>404 Not Found</html>");
    dir.file("binary.wasm", b"\x7fELF\xff");
    dir.file("empty.wasm", b"");
    dir.file("invalid.wasm", &command("(core module (func (result i32)))", "(i32.const 0)", ""));
    dir.assert_transcript("check_cannot");
}

#[test]
fn check_ignores_the_variable_for_a_component() {
    let dir = TestDir::new();
    let mut command = dir.command(&["check", &guest("notes")]);
    assert!(command.env("STORAGE_HOST_STORE", "nowhere").status().unwrap().success());
}
