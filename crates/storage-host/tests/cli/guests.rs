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
