//! Components that are made for a test.

/// A command of these parts, whose result is this instruction's. Its module may
/// call what `with` gives it from the instance `host`.
pub(crate) fn command(parts: &str, result: &str, with: &str) -> Vec<u8> {
    let (import, with) = match with {
        "" => (String::new(), String::new()),
        name => (
            format!(r#"(import "host" "{name}" (func ${name} (result i32)))"#),
            format!(r#"(with "host" (instance (export "{name}" (func ${name}))))"#),
        ),
    };
    let text = format!(
        r#"(component
  {parts}
  (core module $main
    {import}
    (memory 1)
    (func (export "run") (result i32) {result}))
  (core instance $main (instantiate $main {with}))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#
    );
    wat::parse_str(text).unwrap()
}

/// A command that imports these interfaces, each with one function.
pub(crate) fn importing(names: &[&str]) -> Vec<u8> {
    let go = |name: &&str| format!(r#"(import "{name}" (instance (export "go" (func))))"#);
    let imports: Vec<String> = names.iter().map(go).collect();
    command(&imports.concat(), "(i32.const 0)", "")
}

/// A component that exports these instances, all of them empty.
pub(crate) fn exporting(names: &[&str]) -> Vec<u8> {
    let export = |name: &&str| format!(r#"(export "{name}" (instance $nothing))"#);
    let exports: Vec<String> = names.iter().map(export).collect();
    wat::parse_str(format!("(component (instance $nothing) {})", exports.join(" "))).unwrap()
}

/// A section of a component that imports an empty instance under a label.
pub(crate) fn labelled() -> Vec<u8> {
    let interface = b"wasi:keyvalue/store@0.2.0-draft";
    let mut import = vec![1, 2, 3];
    import.extend(b"hot");
    import.extend([1, 0, u8::try_from(interface.len()).unwrap()]);
    import.extend(interface);
    // An instance of the first type.
    import.extend([5, 0]);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    // The type of an instance of nothing, then the import.
    component.extend([7, 3, 1, 0x42, 0]);
    component.extend([10, u8::try_from(import.len()).unwrap()]);
    component.extend(import);
    component
}

/// The import that tools for JavaScript add: with new resources and those of WASI in
/// another version.
pub(crate) const HTTP: &str = r#"
  (import "wasi:io/error@0.2.1" (instance $io
    (export "error" (type (sub resource)))
    (export "[method]error.to-debug-string" (func
      (param "self" (borrow 0)) (result string)))))
  (alias export $io "error" (type $error))
  (import "wasi:http/types@0.2.1" (instance $http
    (alias outer 1 $error (type $outer))
    (export "io-error" (type $io-error (eq $outer)))
    (export "fields" (type $fields (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "is-http-error" (func (param "error" (borrow $io-error)) (result bool)))))
  (core func $fields (canon lower (func $http "[constructor]fields")))"#;

/// A command that counts: it sets the key `count` to each number from 1 on, eight digits
/// long, and prints each number, a line each, once the store has acknowledged it.
///
/// It continues if its output cannot be written, and traps if the store fails.
pub(crate) fn counter() -> Vec<u8> {
    wat::parse_str(COUNTER).unwrap()
}

const COUNTER: &str = r#"(component
  (import "airssys:core/errors@1.0.0" (instance $errors
    (type $variant (variant
      (case "not-found" string) (case "already-exists" string) (case "quota-exceeded")
      (case "invalid-key" string) (case "io-error" string)))
    (export "storage-error" (type (eq $variant)))))
  (alias export $errors "storage-error" (type $error))
  (import "airssys:core/storage@1.0.0" (instance $storage
    (alias outer 1 $error (type $outer))
    (export "storage-error" (type $own (eq $outer)))
    (export "set" (func (param "key" string) (param "value" (list u8))
      (result (result (error $own)))))))
  (import "wasi:io/error@0.2.0" (instance $io
    (export "error" (type (sub resource)))))
  (alias export $io "error" (type $io-error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $io-error (type $outer))
    (export "error" (type $own-error (eq $outer)))
    (type $stream-error (variant (case "last-operation-failed" (own $own-error)) (case "closed")))
    (export "stream-error" (type $stream-error-named (eq $stream-error)))
    (export "output-stream" (type $stream (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $stream)) (param "contents" (list u8))
      (result (result (error $stream-error-named)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $own (eq $outer)))
    (export "get-stdout" (func (result (own $own))))))

  (core module $memory
    (memory (export "memory") 1)
    ;; The text of an error is overwritten, and never read.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (core func $set (canon lower (func $storage "set")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "stdout" (func $stdout (result i32)))
    (data (i32.const 0) "count")
    (data (i32.const 16) "00000000\n")
    ;; Adds one to the eight digits.
    (func $next (local $at i32)
      (local.set $at (i32.const 23))
      (loop $carry
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 57))
          (then
            (i32.store8 (local.get $at) (i32.const 48))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (br $carry))
          (else
            (i32.store8 (local.get $at)
              (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))))))
    (func (export "run") (result i32) (local $out i32)
      (local.set $out (call $stdout))
      (loop $again
        (call $next)
        (call $set (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 8) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then (unreachable)))
        (call $write (local.get $out) (i32.const 16) (i32.const 9) (i32.const 128))
        (br $again))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "set" (func $set))
    (export "write" (func $write))
    (export "stdout" (func $get-stdout))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;
