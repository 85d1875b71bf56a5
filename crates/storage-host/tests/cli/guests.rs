//! Components that are made for a test.

/// A command of these parts, which returns the result of this instruction. Its module
/// may call the functions of the instance `host` that `with` names.
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
